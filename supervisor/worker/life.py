"""One life of a worker process: spawn, come up, stay well, stop, reap."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any, Final

import trio

from supervisor.channel import Channel
from supervisor.core.errors import PluginCrashed
from supervisor.core.plugin import Plugin
from supervisor.report import report_failure
from supervisor.wire.message import Notification
from supervisor.worker.causes import LAST_WORDS_S, Worker, wait_deaf, wait_exit, with_state
from supervisor.worker.conversation import Conversation
from supervisor.worker.crash import Crash, Reason, is_shortage
from supervisor.worker.discretion import Discretion
from supervisor.worker.ending import Ending, call_error, most_telling, never_lived
from supervisor.worker.first import wait_first
from supervisor.worker.host import Host, Stray
from supervisor.worker.launch import Launch
from supervisor.worker.logfile import Entry, LogFile
from supervisor.worker.plain import PlainProgram
from supervisor.worker.process import Process
from supervisor.worker.relay import Output, log_entry
from supervisor.worker.shutdown import Graces, Stage, StopStep, Way, WorkerUnkillable, plan_stop, stop_in_stages

_COMMIT_S: Final = 30.0
_CLOSE_S: Final = 1.0


class Life:
    """Run it once: `live()` returns when the process is reaped. `ask_to_stop` may be called at any time."""

    def __init__(
        self,
        plugin: Plugin,
        *,
        host: Host,
        log: LogFile,
        graces: Graces,
        now_ms: Callable[[], int],
        came_up: Callable[[], Coroutine[Any, Any, None]],
        stopping: Callable[[], None],
        stuck: Callable[[WorkerUnkillable], None],
        run_id: str | None = None,
    ) -> None:
        """`run_id`: it is the command of this run, not its plugin's worker."""
        self._plugin = plugin
        self._run_id = run_id
        self._called = "worker" if run_id is None else "command"
        self._host = host
        self._log = log
        self._graces = graces
        self._now_ms = now_ms
        self._came_up = came_up
        self._stopping = stopping
        self._stuck = stuck
        self._wanted = trio.CancelScope()
        self._getting_ready = trio.CancelScope()
        self._watching = trio.CancelScope(shield=True)
        self._given_up = trio.Event()
        self._why_given_up: Crash | None = None
        self._worker: Worker | None = None
        self._output: Output | None = None
        self._up_since: float | None = None
        self._over = False
        self._well_until: float | None = None
        """When it was last known to be well, once it has failed its health checks."""
        self._process: Process | None = None
        self._killed = False
        self._unkillable = False
        self.discretion: Final = Discretion()
        """Nothing that is told of this life shows a secret that its worker was given."""
        self.pid: int | None = None

    @property
    def channel(self) -> Channel | None:
        """To call the worker; None where it speaks no RPC."""
        return self._worker.channel if self._worker else None

    @property
    def up_since(self) -> float | None:
        """On trio's clock."""
        return self._up_since

    @property
    def uptime_s(self) -> float | None:
        return None if self._up_since is None else trio.current_time() - self._up_since

    @property
    def stop_asked(self) -> bool:
        return self._wanted.cancel_called

    @property
    def over(self) -> bool:
        """It is no good any more, and is given nothing: known before it is reaped and its calls are answered."""
        deaf = self._worker is not None and not self._worker.can_be_asked
        return self._over or deaf or self._given_up.is_set()

    def ask_to_stop(self) -> None:
        self._getting_ready.cancel(reason="the worker is no longer wanted")
        self._wanted.cancel(reason="the worker is no longer wanted")

    def give_up(self, why: Crash) -> None:
        """End it as crashed: somebody else has seen that it is no good any more."""
        self._why_given_up = self._why_given_up or why
        self._given_up.set()

    def kill(self) -> None:
        """Without asking."""
        self._killed = True
        if self._process:
            self._process.kill()

    async def get_ready(
        self, prepare: Callable[[], Awaitable[Launch]], may_start: Callable[[], bool] = lambda: True
    ) -> Launch | None:
        """What to execute; None: it was asked to stop meanwhile, or it may not start any more, and there will be no
        process."""
        with self._getting_ready:
            launch = await prepare()
            if may_start():
                return launch
        self._stopping()
        return None

    async def live(self, launch: Launch, spawn: Callable[[Launch], Process]) -> Ending:
        """From spawn to reaping. Cancelling it from outside is not the way to stop it (see `ask_to_stop`): it kills."""
        with ExitStack() as held:
            try:
                if not launch.rpc:
                    self._worker = held.enter_context(
                        PlainProgram(self._plugin.manifest.worker, launch, spawn, self._note)
                    )
                    launch = self._worker.launch
                process = spawn(launch)
            except OSError as error:
                # It may also be the working directory that is not there.
                why = f"cannot be started: {error.filename or launch.argv[0]}: {error.strerror or error}"
                return never_lived(Crash(Reason.CANNOT_START, why, passing=is_shortage(error)))
            self._process, self.pid = process, process.pid
            if self._killed:
                process.kill()
            try:
                ending = await self._attend_to_the_end(process, str(launch.cwd))
            except Exception as error:  # noqa: BLE001  a mistake of ours costs this life, never the daemon
                ending = await self._lose(process, error)
            finally:
                await self._let_go(process)
        return replace(ending, strays=await self._forget(process.pid))

    async def _attend_to_the_end(self, process: Process, data_dir: str) -> Ending:
        async with trio.open_nursery() as body:
            body.start_soon(self._watch, process)
            # Beside the handshake: a worker need not wait for its own row.
            body.start_soon(self._host.remember, self._plugin.id, process.pid)
            try:
                worker = self._begin(process, data_dir, body)
                look = worker.look if isinstance(worker, PlainProgram) else None
                output = self._output = Output(
                    process,
                    self._log,
                    now_ms=self._now_ms,
                    discretion=self.discretion,
                    on_stdout=look,
                    run_id=self._run_id,
                )
                body.start_soon(output.run)
                body.start_soon(worker.run, process.pid)
                return await self._run(process, worker, output)
            except BaseException:
                # Cancelled, or a mistake of ours: it is still watched until it is gone.
                self._watching.deadline = trio.current_time() + self._graces.kill_s
                process.kill()
                raise
            finally:
                body.cancel_scope.cancel(reason="the life is over")

    async def _watch(self, process: Process) -> None:
        """Shielded, since the stages of a stop are, and wait for what this sees. It lasts as long as the process, or
        the grace period after a kill."""
        with self._watching:
            await process.watch()

    async def _run(self, process: Process, worker: Worker, output: Output) -> Ending:
        stage: Stage | None = None
        crash: Crash | None = None
        try:
            with self._wanted:
                crash = await self._attend(process, worker)
        finally:
            self._over = True
        ran_s = self._ran_s()
        if crash is None:
            self._stopping()
            process.note_kin()
            stage = await self._end(process, self._stop_steps(process, worker))
        elif process.exit is None:
            stage = await self._end(process, [self._step(process, Way(Stage.KILL, self._graces.kill_s))])
        exit_ = await process.wait()
        await self._take_last_words(worker, output)
        words = output.last_words
        crash = self._judge(crash, process.post_mortem(), words)
        ending = Ending(pid=process.pid, crash=crash, exit=exit_, stage=stage, ran_s=ran_s, last_words=words)
        if worker.channel:
            worker.channel.close(call_error(self._plugin, ending))
        return ending

    def _begin(self, process: Process, data_dir: str, body: trio.Nursery) -> Worker:
        if self._worker is None:
            assert process.rpc is not None  # noqa: S101  it was launched so
            self._worker = Conversation(
                process.rpc,
                self._plugin,
                self._host,
                body,
                data_dir=data_dir,
                discretion=self.discretion,
                on_log=self._on_log,
                note=self._note,
            )
        return self._worker

    # While it is wanted.

    async def _attend(self, process: Process, worker: Worker) -> Crash:
        """Return why the life ended without having been asked to."""
        return await wait_first(
            partial(wait_exit, process, worker, lambda: self._killed),
            partial(wait_deaf, process, worker, lambda: self._killed),
            process.wait_breach,
            partial(self._wait_given_up, process),
            partial(self._come_up_and_stay_well, process, worker),
        )

    async def _wait_given_up(self, process: Process) -> Crash:
        await self._given_up.wait()
        assert self._why_given_up is not None  # noqa: S101  it is set first
        return with_state(self._why_given_up, process.pid)

    async def _come_up_and_stay_well(self, process: Process, worker: Worker) -> Crash:
        if refusal := await worker.come_up():
            return with_state(refusal, process.pid)
        self._up_since = trio.current_time()
        # So that a worker that has stopped has always started, in the journal too. It costs one commit.
        with trio.move_on_after(_COMMIT_S, shield=True) as patience:
            await self._came_up()
        if patience.cancelled_caught:
            return Crash(Reason.INTERNAL, f"came up, which plugind could not record within {_COMMIT_S:g} s")
        unwell = await worker.wait_unwell()
        self._well_until = unwell.well_at
        return with_state(unwell.crash, process.pid)

    def _ran_s(self) -> float | None:
        # A worker that was deaf from the first has not run stably while that was being found out.
        if self._up_since is None or self._well_until is None:
            return self.uptime_s
        return self._well_until - self._up_since

    # Its end.

    def _stop_steps(self, process: Process, worker: Worker) -> list[StopStep]:
        up = self._up_since is not None and worker.can_be_asked
        plan = plan_stop(self._plugin.manifest.worker, self._graces, up=up)
        return [self._step(process, way) for way in plan]

    def _step(self, process: Process, way: Way) -> StopStep:
        async def act() -> bool:
            if way.number is not None:
                process.signal_group(way.number)
            elif way.stage is Stage.KILL:
                process.kill()
            elif self._worker:
                return await self._worker.ask_to_end()
            return True

        return StopStep(stage=way.stage, act=act, grace_s=way.grace_s)

    async def _end(self, process: Process, steps: list[StopStep]) -> Stage:
        try:
            stage = await stop_in_stages(process, steps)
            return Stage.KILL if self._killed else stage
        except WorkerUnkillable as error:
            # Its successor must not run beside it: this life goes on until the kernel lets go of it.
            self._unkillable = True
            self._stuck(error)
            await process.wait()
            return Stage.KILL

    async def _take_last_words(self, worker: Worker, output: Output) -> None:
        taken = False
        try:
            with trio.move_on_after(LAST_WORDS_S):
                async with trio.open_nursery() as last:
                    last.start_soon(output.finish)
                    last.start_soon(worker.hear_out)
                taken = True
        finally:
            if not taken:
                self._note(
                    f"gave up reading what the {self._called} had written and sent before its end: "
                    f"{output.unread_bytes} bytes of its output are not in this log"
                )

    def _judge(self, crash: Crash | None, post_mortem: Crash | None, words: str) -> Crash | None:
        if crash is not None:
            limit = self._plugin.manifest.worker.limits.memory_mb
            told = most_telling(crash, post_mortem, last_words=words, memory_mb=limit)
            return replace(told, cause=self.discretion.hide(told.cause))
        if post_mortem:
            self._note(f"while it was being stopped, the {self._called} {post_mortem.cause}")
        return None

    async def _lose(self, process: Process, error: Exception) -> Ending:
        log_id = report_failure("worker.supervision_failed", error, plugin=self._plugin.key, pid=process.pid)
        await self._make_sure_it_is_gone(process)
        return Ending(
            pid=process.pid,
            crash=Crash(Reason.INTERNAL, f"was lost to a mistake in plugind itself (log id {log_id})"),
            exit=process.exit,
            stage=Stage.KILL,
            ran_s=self._ran_s(),
            last_words=self._output.last_words if self._output else "",
        )

    async def _let_go(self, process: Process) -> None:
        """Whatever happened: kill what lives, fail the calls, close what is open."""
        try:
            if not self._unkillable:
                await self._make_sure_it_is_gone(process)
        finally:
            if self.channel:
                self.channel.close(PluginCrashed(f"the worker of {self._plugin.key!r} was lost"))
            # It waits for nothing, and has to reach all of them.
            with trio.move_on_after(_CLOSE_S, shield=True):
                await process.aclose()

    async def _make_sure_it_is_gone(self, process: Process) -> None:
        if process.exit is not None:
            return
        try:
            process.kill()
            with trio.move_on_after(self._graces.kill_s, shield=True):
                await process.watch()
        except Exception as error:  # noqa: BLE001  what it has left open and known is cleared away all the same
            report_failure("worker.not_watched", error, plugin=self._plugin.key, pid=process.pid)
        self._unkillable = process.exit is None

    async def _forget(self, pid: int) -> tuple[Stray, ...]:
        try:
            strays = tuple(await self._host.forget(self._plugin.id, pid))
        except Exception as error:  # noqa: BLE001  how the life ended is worth more than a row about it
            report_failure("worker.not_forgotten", error, plugin=self._plugin.key, pid=pid)
            return ()
        if strays:
            named = ", ".join(f"{stray.pid} ({stray.name})" if stray.name else str(stray.pid) for stray in strays)
            self._note(f"killed what the {self._called} had left running outside its process group: pid {named}")
        return strays

    def _on_log(self, notification: Notification) -> None:
        self._log.write([log_entry(notification, self._now_ms(), self.discretion)])

    def _note(self, message: str) -> None:
        words = self.discretion.hide(message)
        entry = Entry(time_ms=self._now_ms(), stream="plugind", level="warning", message=words, run_id=self._run_id)
        self._log.write([entry])
