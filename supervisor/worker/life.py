"""One life of a worker process: spawn, handshake, health, stop, reap."""

from __future__ import annotations

import signal
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import trio

from supervisor.channel import Channel
from supervisor.core.errors import PluginCrashed, SupervisorError
from supervisor.core.plugin import Plugin
from supervisor.report import report_failure
from supervisor.wire import worker as methods
from supervisor.wire.limits import WORKER
from supervisor.wire.message import Notification, Request
from supervisor.worker.crash import Crash, Reason
from supervisor.worker.ending import Ending, call_error, never_lived
from supervisor.worker.handshake import shake_hands
from supervisor.worker.health import wait_unwell
from supervisor.worker.host import Host, Stray, serve_worker
from supervisor.worker.launch import Launch
from supervisor.worker.link import WorkerLink
from supervisor.worker.logfile import Entry, LogFile
from supervisor.worker.process import Exit, Process
from supervisor.worker.relay import Tail, log_entry, relay
from supervisor.worker.shutdown import Stage, StopStep, WorkerUnkillable, stop_in_stages

_LAST_OUTPUT_S: Final = 0.1
"""How long the rest of the output is read after the process is gone; a grandchild may keep the pipe open for ever."""
_EXIT_AFTER_EOF_S: Final = 1.0
"""A worker that closes its RPC connection is given so long to exit before it counts as deaf."""
_MESSAGE_CHARACTERS: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Graces:
    """Seconds that a worker is given after SIGTERM and after SIGKILL."""

    term_s: float = 5.0
    kill_s: float = 2.0


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
    ) -> None:
        self._plugin = plugin
        self._host = host
        self._log = log
        self._graces = graces
        self._now_ms = now_ms
        self._came_up = came_up
        self._stopping = stopping
        self._stuck = stuck
        self._wanted = trio.CancelScope()
        self._tail = Tail()
        self._channel: Channel | None = None
        self._hung_up = trio.Event()
        self._hung_up_because = Crash(Reason.HUNG_UP, "closed its RPC connection")
        self._up_since: float | None = None
        self._well_until: float | None = None
        """When it was last known to be well, once it has failed its health checks."""
        self._process: Process | None = None
        self._killed = False
        self._data_dir = ""
        self.pid: int | None = None

    @property
    def channel(self) -> Channel | None:
        """To call the worker; None where it speaks no RPC."""
        return self._channel

    @property
    def uptime_s(self) -> float | None:
        return None if self._up_since is None else trio.current_time() - self._up_since

    @property
    def stop_asked(self) -> bool:
        return self._wanted.cancel_called

    def ask_to_stop(self) -> None:
        self._wanted.cancel(reason="the worker is no longer wanted")

    def kill(self) -> None:
        """Without asking."""
        self._killed = True
        if self._process:
            self._process.signal_group(signal.SIGKILL)

    async def live(self, launch: Launch, spawn: Callable[[Launch], Process]) -> Ending:
        """From spawn to reaping. Cancelling it from outside is not the way to stop it; see `ask_to_stop`."""
        try:
            process = spawn(launch)
        except OSError as error:
            why = f"cannot be started: {launch.argv[0]}: {error.strerror or error}"
            return never_lived(Crash(Reason.CANNOT_START, why))
        self._process, self.pid = process, process.pid
        self._data_dir = str(launch.cwd)
        ending = Ending(pid=process.pid, crash=None, exit=None, stage=None, ran_s=None, last_words="")
        try:
            ending = await self._attend_to_the_end(process)
        except Exception as error:  # noqa: BLE001  a mistake of ours costs this life, never the daemon
            log_id = report_failure("worker.supervision_failed", error, plugin=self._plugin.key, pid=process.pid)
            crash = Crash(Reason.INTERNAL, f"was lost to a mistake in plugind itself (log id {log_id})")
            exit_ = await self._make_sure_it_is_gone(process)
            ending = replace(
                ending, crash=crash, exit=exit_, stage=Stage.KILL, ran_s=self._ran_s(), last_words=str(self._tail)
            )
        await process.aclose()
        return replace(ending, strays=await self._forget(process.pid))

    async def _forget(self, pid: int) -> tuple[Stray, ...]:
        try:
            return tuple(await self._host.forget(self._plugin.id, pid))
        except Exception as error:  # noqa: BLE001  how the life ended is worth more than a row about it
            report_failure("worker.not_forgotten", error, plugin=self._plugin.key, pid=pid)
            return ()

    async def _attend_to_the_end(self, process: Process) -> Ending:
        stage: Stage | None = None
        crash: Crash | None = None
        async with trio.open_nursery() as body:
            body.start_soon(process.watch)
            relays = self._start_relays(process, body)
            self._open_channel(process, body)
            # Beside the handshake: a worker need not wait for its own row.
            body.start_soon(self._host.remember, self._plugin.id, process.pid)
            with self._wanted:
                crash = await self._attend(process)
            ran_s = self._ran_s()
            if crash is None:
                self._stopping()
                stage = await self._end(process, self._stop_steps(process))
            elif process.exit is None:
                stage = await self._end(process, [self._kill(process)])
            exit_ = await process.wait()
            with trio.move_on_after(_LAST_OUTPUT_S):
                await relays.wait()
            words = str(self._tail)
            ending = Ending(pid=process.pid, crash=crash, exit=exit_, stage=stage, ran_s=ran_s, last_words=words)
            if self._channel:
                self._channel.close(call_error(self._plugin, ending))
            body.cancel_scope.cancel(reason="the process is gone")
        return ending

    def _ran_s(self) -> float | None:
        # A worker that was deaf from the first has not run stably while that was being found out.
        if self._up_since is None or self._well_until is None:
            return self.uptime_s
        return self._well_until - self._up_since

    async def _make_sure_it_is_gone(self, process: Process) -> Exit | None:
        if process.exit is None:
            process.signal_group(signal.SIGKILL)
            with trio.move_on_after(self._graces.kill_s, shield=True):
                await process.watch()
        if self._channel:
            self._channel.close(PluginCrashed(f"the worker of {self._plugin.key!r} was lost"))
        return process.exit

    def _start_relays(self, process: Process, body: trio.Nursery) -> trio.Event:
        done = trio.Event()

        async def both() -> None:
            async with trio.open_nursery() as relays:
                for stream, name, level, tail in (
                    (process.stdout, "stdout", "info", None),
                    (process.stderr, "stderr", "warning", self._tail),
                ):
                    copy = partial(relay, stream, self._log, name=name, level=level, now_ms=self._now_ms, tail=tail)
                    relays.start_soon(copy)
            done.set()

        body.start_soon(both)
        return done

    def _open_channel(self, process: Process, body: trio.Nursery) -> None:
        if process.rpc is not None:
            self._channel = Channel(
                process.rpc,
                WORKER,
                on_request=lambda request: serve_worker(self._host, self._plugin, request, link),
                on_notification=self._on_notification,
                on_unexpected=self._on_unexpected,
            )
            link = WorkerLink(self._plugin, self._channel, body)
            body.start_soon(self._run_channel, self._channel)

    async def _run_channel(self, channel: Channel) -> None:
        try:
            await channel.run()
        except SupervisorError as error:
            self._hung_up_because = Crash(Reason.PROTOCOL_VIOLATION, f"broke the RPC protocol: {error.message}")
        self._hung_up.set()

    async def _attend(self, process: Process) -> Crash:
        """Return why the life ended without having been asked to."""
        causes: list[Crash] = []

        async def first(of: Callable[[], Coroutine[Any, Any, Crash]]) -> None:
            causes.append(await of())
            watchers.cancel_scope.cancel(reason="the life has ended")

        async def exits() -> Crash:
            return _exited(await process.wait())

        async with trio.open_nursery() as watchers:
            watchers.start_soon(first, exits)
            if self._channel:
                watchers.start_soon(first, partial(self._wait_deaf, process))
            watchers.start_soon(first, self._come_up_and_stay_well)
        return causes[0]

    async def _wait_deaf(self, process: Process) -> Crash:
        await self._hung_up.wait()
        with trio.move_on_after(_EXIT_AFTER_EOF_S):
            return _exited(await process.wait())
        return self._hung_up_because

    async def _come_up_and_stay_well(self) -> Crash:
        spec = self._plugin.manifest.worker
        if self._channel is None:
            await trio.sleep(spec.start_grace_s)
        elif refusal := await shake_hands(self._channel, self._plugin, self._host, data_dir=self._data_dir):
            return refusal
        self._up_since = trio.current_time()
        # So that a worker that has stopped has always started, in the journal too. It costs one commit.
        with trio.CancelScope(shield=True):
            await self._came_up()
        if self._channel is None:
            await trio.sleep_forever()
        unwell = await wait_unwell(self._channel, spec.health, self._note)
        self._well_until = unwell.well_at
        return unwell.crash

    async def _end(self, process: Process, steps: list[StopStep]) -> Stage:
        try:
            stage = await stop_in_stages(process, steps)
            return Stage.KILL if self._killed else stage
        except WorkerUnkillable as error:
            # Its successor must not run beside it: this life goes on until the kernel lets go of it.
            self._stuck(error)
            await process.wait()
            return Stage.KILL

    def _stop_steps(self, process: Process) -> list[StopStep]:
        spec = self._plugin.manifest.worker
        steps = [self._term(process), self._kill(process)]
        if self._channel and self._up_since is not None and not self._hung_up.is_set():
            drain = StopStep(
                stage=Stage.DRAIN, act=partial(self._ask_to_drain, self._channel), grace_s=spec.stop_timeout_s
            )
            steps.insert(0, drain)
        return steps

    async def _ask_to_drain(self, channel: Channel) -> None:
        """The answer is of no interest: it is the exit that is waited for."""
        grace_s = self._plugin.manifest.worker.stop_timeout_s
        try:
            await channel.call(methods.SHUTDOWN, [{"drain_s": grace_s}], timeout_s=grace_s)
        except SupervisorError as error:
            self._note(f"shutdown was not accepted: {error.code}: {error.message[:_MESSAGE_CHARACTERS]}")

    def _term(self, process: Process) -> StopStep:
        return _signal_step(process, Stage.TERM, signal.SIGTERM, self._graces.term_s)

    def _kill(self, process: Process) -> StopStep:
        return _signal_step(process, Stage.KILL, signal.SIGKILL, self._graces.kill_s)

    def _on_notification(self, notification: Notification) -> None:
        if notification.method == methods.Log.METHOD:
            self._log.write([log_entry(notification, self._now_ms())])
        else:
            self._host.told(self._plugin, notification)

    def _on_unexpected(self, request: Request, error: Exception) -> str:
        return report_failure("worker.request_failed", error, plugin=self._plugin.key, method=request.method)

    def _note(self, message: str) -> None:
        self._log.write([Entry(time_ms=self._now_ms(), stream="plugind", level="warning", message=message)])


def _exited(exit_: Exit) -> Crash:
    return Crash(Reason.EXITED if exit_.signal is None else Reason.KILLED, str(exit_))


def _signal_step(process: Process, stage: Stage, number: int, grace_s: float) -> StopStep:
    async def act() -> None:
        process.signal_group(number)

    return StopStep(stage=stage, act=act, grace_s=grace_s)
