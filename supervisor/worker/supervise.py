"""One plugin's worker over all its lives: start, restart after crashes, give up, stop."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from math import inf

import trio

from supervisor.core.errors import ActivationFailed, CallCancelled
from supervisor.core.event import Event, WorkerStarted
from supervisor.core.plugin import Plugin
from supervisor.log import get_logger
from supervisor.report import report_failure
from supervisor.worker.backoff import Verdict, after_crash
from supervisor.worker.crash import Crash, Reason
from supervisor.worker.ending import Ending, activation_failure, crash_event, never_lived, stop_event
from supervisor.worker.host import Host
from supervisor.worker.launch import CannotLaunch, Launch
from supervisor.worker.life import Graces, Life
from supervisor.worker.logfile import LogFile
from supervisor.worker.phase import Phase, Step, next_phase
from supervisor.worker.process import Process
from supervisor.worker.shutdown import WorkerUnkillable
from supervisor.worker.view import Wish, WorkerView


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What every supervisor needs from its surroundings."""

    host: Host
    graces: Graces
    prepare: Callable[[Plugin], Launch]
    """May raise OSError: then it counts as a crash."""
    spawn: Callable[[Launch], Process]
    open_log: Callable[[Plugin], LogFile]
    now_ms: Callable[[], int]
    random: random.Random


class Supervisor:
    """`run` it as a task; `want` and `unwant` are heard in every phase, also twice, and the last one counts."""

    def __init__(self, tools: Tools, on_give_up: Callable[[], None]) -> None:
        self._tools = tools
        self._on_give_up = on_give_up
        self._wish: Wish | None = None
        self._never_wanted = True
        self._drain_s = 0.0
        self._phase = Phase.STOPPED
        self._life: Life | None = None
        self._pause = trio.CancelScope()
        self._restarts = 0
        self._crashes = 0
        self._next_start: float | None = None
        self._failure: ActivationFailed | None = None
        self._reason: Reason | None = None
        """Of the same failure."""
        self._gave_up = False
        self._stuck: WorkerUnkillable | None = None
        self._closing = False
        self._renewed = False
        """Wanted anew since the last life began: no waiting before the next."""
        self._unproven = True
        """No life has come up since it was wanted."""
        self._changed = trio.Event()

    # What others ask for: synchronous, so that a caller cannot be cut in the middle.

    def want(self, wish: Wish) -> None:
        """Have a worker; the count of crashes begins anew. One that runs stays, and its next life uses this wish."""
        if self._closing:
            return
        self._wish, self._never_wanted = wish, False
        self._drain_s = wish.plugin.manifest.worker.stop_timeout_s
        self._crashes = 0
        self._failure = None
        self._gave_up = False
        self._renewed = self._life is None or self._life.stop_asked
        self._unproven = self.life is None
        self._pause.cancel(reason="a worker is wanted now")
        self._notify()

    def unwant(self) -> None:
        """Have none: drains and stops it, or ends the wait for a restart."""
        self._wish, self._never_wanted = None, False
        self._pause.cancel(reason="the worker is no longer wanted")
        if self._life:
            self._life.ask_to_stop()
        self._notify()

    def close(self) -> None:
        """As `unwant`, for good: `run` returns when the worker is gone."""
        self._closing = True
        self.unwant()

    def kill(self) -> None:
        """End the present life at once."""
        if self._life:
            self._life.kill()

    def view(self) -> WorkerView:
        life, now, waits = self._life, trio.current_time(), self._phase is Phase.BACKOFF
        channel = life.channel if life else None
        return WorkerView(
            phase=self._phase,
            wanted=None if self._never_wanted else self._wish is not None,
            pid=life.pid if life else None,
            restarts=self._restarts,
            crashes=self._crashes,
            uptime_s=life.uptime_s if life else None,
            next_restart_in_s=max(0.0, self._next_start - now) if self._next_start is not None and waits else None,
            calls_in_flight=channel.statistics().requests_out if channel else 0,
            gave_up=self._gave_up,
            last_failure=self._failure.message if self._failure else None,
            last_reason=self._reason,
        )

    @property
    def phase(self) -> Phase:
        return self._phase

    @property
    def pid(self) -> int | None:
        return self._life.pid if self._life else None

    @property
    def wanted(self) -> bool:
        return self._wish is not None

    @property
    def drain_s(self) -> float:
        """How long the worker may take to finish what is in flight."""
        return self._drain_s

    @property
    def life(self) -> Life | None:
        """The one that takes calls, if there is one."""
        usable = self._phase is Phase.RUNNING and self._life is not None and not self._life.stop_asked
        return self._life if usable else None

    async def wait_running(self, *, patient: bool) -> None:
        """Return when the worker takes calls. With `patient`, failures are sat out as long as attempts follow.

        Raises:
            ActivationFailed: its latest attempt failed.
            CallCancelled: nobody wants it any more.
        """
        while self._wish is None or self.life is None:
            if self._failure is not None and (self._wish is None or not patient):
                raise self._failure
            if self._wish is None:
                raise CallCancelled("the worker is not wanted: it was stopped by another command, or never started")
            await self._changed.wait()

    async def wait_stopped(self) -> None:
        """Return when there is no process.

        Raises:
            WorkerUnkillable: it outlived SIGKILL.
        """
        while self._phase is not Phase.STOPPED:
            if self._stuck is not None:
                raise self._stuck
            await self._changed.wait()

    @property
    def changed(self) -> trio.Event:
        """Set at the next change of phase or wish; take it before you look."""
        return self._changed

    # The task.

    async def run(self) -> None:
        """Make what is wished so, until closed."""
        while self._wish is not None or not self._closing:
            if self._wish is None:
                await self._changed.wait()
            else:
                await self._keep_up(self._tools.open_log(self._wish.plugin))

    async def _keep_up(self, log: LogFile) -> None:
        """Life after life, until none is wished for."""
        try:
            while (wish := self._wish) is not None:
                if wish.gate is not None and not wish.gate.is_set():
                    await self._sit_out(inf, wish.gate)
                    continue
                ending = await self._live(wish, log)
                # A life may also be lost to a mistake while it is being stopped.
                if ending.cause is None or self._phase is Phase.STOPPING:
                    await self._note_stop(wish.plugin, ending)
                    continue
                wait_s = await self._note_crash(wish, ending)
                # No checkpoint from here to the pause: nobody can change the wish unseen.
                if wait_s and self._wish is not None and not self._renewed:
                    await self._sit_out(wait_s)
        finally:
            log.close()
        if self._phase is Phase.BACKOFF:
            self._step(Step.STOP)

    async def _live(self, wish: Wish, log: LogFile) -> Ending:
        plugin = wish.plugin
        self._renewed = False
        self._next_start = None
        self._step(Step.SPAWN)

        async def came_up() -> None:
            pid = self._life.pid if self._life else None
            await self._record(
                WorkerStarted(plugin_id=plugin.id, plugin_key=plugin.key, pid=pid or 0, restarts=self._restarts)
            )
            self._failure = None
            self._unproven = False
            self._step(Step.UP)
            get_logger().info("worker.started", plugin=plugin.key, pid=pid, restarts=self._restarts)

        self._life = Life(
            plugin,
            host=self._tools.host,
            log=log,
            graces=self._tools.graces,
            now_ms=self._tools.now_ms,
            came_up=came_up,
            stopping=lambda: self._step(Step.STOP),
            stuck=self._note_stuck,
        )
        try:
            return await self._life.live(self._prepare(plugin), self._tools.spawn)
        except CannotLaunch as error:
            crash = Crash(Reason.CANNOT_START, str(error))
        except Exception as error:  # noqa: BLE001  a mistake of ours costs this life, never the other workers
            log_id = report_failure("worker.start_failed", error, plugin=plugin.key)
            crash = Crash(Reason.INTERNAL, f"was lost to a mistake in plugind itself (log id {log_id})")
        return never_lived(crash)

    def _prepare(self, plugin: Plugin) -> Launch:
        try:
            return self._tools.prepare(plugin)
        except CannotLaunch:
            raise
        except OSError as error:
            raise CannotLaunch(f"cannot be started: its data directory cannot be made ready: {error}") from error

    async def _record(self, event: Event) -> None:
        """A fact that cannot be recorded has happened all the same: it must not end the supervision."""
        try:
            await self._tools.host.record(event)
        except Exception as error:  # noqa: BLE001  whatever it is, the worker goes on
            report_failure("event.not_recorded", error, type=event.type, plugin=event.plugin_key)

    async def _note_stop(self, plugin: Plugin, ending: Ending) -> None:
        if (stopped := stop_event(plugin, ending)) is not None:
            await self._record(stopped)
        get_logger().info(
            "worker.stopped", plugin=plugin.key, pid=ending.pid, stage=ending.stage, exit=str(ending.exit)
        )
        self._life, self._stuck = None, None
        self._step(Step.REAPED)

    async def _note_crash(self, wish: Wish, ending: Ending) -> float | None:
        """Record it and say how many seconds to wait before the next life; None when there is to be none."""
        verdict = self._judge(wish, ending)
        wanted = self._wish is not None
        restart_in_s = verdict.wait_s if wanted else None
        # The phase first: whoever sees the event looks here.
        self._life, self._stuck = None, None
        self._crashes, self._failure = verdict.crashes, activation_failure(wish.plugin, ending)
        self._reason = ending.crash.reason if ending.crash else None
        if wanted and verdict.wait_s is None:
            self._gave_up, self._wish = True, None
        self._step(Step.GIVE_UP if self._gave_up else Step.CRASH)
        if restart_in_s is not None:
            self._restarts += 1
            self._next_start = trio.current_time() + restart_in_s
        get_logger().warning(
            "worker.crashed",
            plugin=wish.plugin.key,
            pid=ending.pid,
            cause=ending.cause,
            ran_s=ending.ran_s,
            crashes=verdict.crashes,
            restart_in_s=restart_in_s,
        )
        if self._gave_up:
            # Told directly: the event may not get into the journal, and the plugin must not stay dead unnoticed.
            self._on_give_up()
        await self._record(crash_event(wish.plugin, ending, verdict.crashes, restart_in_s))
        return restart_in_s

    def _judge(self, wish: Wish, ending: Ending) -> Verdict:
        if wish.first_try_only and self._unproven and self._crashes == 0 and ending.ran_s is None:
            return Verdict(crashes=1, wait_s=None)
        return after_crash(
            wish.plugin.manifest.worker.restart,
            crashes=self._crashes,
            ran_s=ending.ran_s,
            spread=self._tools.random.uniform(-1, 1),
        )

    async def _sit_out(self, wait_s: float, gate: trio.Event | None = None) -> None:
        """Until the time is over, or the gate is set, or somebody has changed his mind."""
        with trio.CancelScope(deadline=trio.current_time() + wait_s) as self._pause:
            await (trio.Event() if gate is None else gate).wait()

    def _note_stuck(self, error: WorkerUnkillable) -> None:
        get_logger().error("worker.unkillable", pid=error.details.get("pid"))
        self._stuck = error
        self._notify()

    def _step(self, step: Step) -> None:
        self._phase = next_phase(self._phase, step)
        self._notify()

    def _notify(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()
