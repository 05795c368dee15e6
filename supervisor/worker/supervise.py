"""One plugin's worker over all its lives: start in its turn, restart after crashes, give up, stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf

import trio

from supervisor.core.errors import FailedPrecondition
from supervisor.core.plugin import Plugin
from supervisor.log import get_logger
from supervisor.worker.ending import Ending
from supervisor.worker.history import History
from supervisor.worker.life import Life
from supervisor.worker.logfile import LogFile
from supervisor.worker.neighbours import Neighbours, stands_aside
from supervisor.worker.phase import Phase, Step, next_phase
from supervisor.worker.shutdown import WorkerUnkillable
from supervisor.worker.start import Start
from supervisor.worker.telling import Teller
from supervisor.worker.tools import Tools
from supervisor.worker.turns import Turns
from supervisor.worker.view import Wish, WorkerView


class Supervisor:
    """`run` it as a task; `want` and `unwant` are heard in every phase, also twice, and the last one counts.

    It starts nothing while a plugin that it requires is not up, and ends nothing that a living worker requires: the
    wish waits, and `look_around` tells when that may have changed.
    """

    def __init__(
        self,
        tools: Tools,
        neighbours: Neighbours,
        turns: Turns,
        on_give_up: Callable[[], None],
        *,
        on_trial: bool = False,
    ) -> None:
        """`on_trial`: it stands for its plugin from `take_over` on. Until then it has one life and no more, and how
        that one fails is told to who waits for it."""
        self._tools = tools
        self._on_trial = on_trial
        self._neighbours = neighbours
        self._start = Start(neighbours, turns, self._notify)
        self._on_give_up = on_give_up
        self._teller = Teller(tools.host)
        self.history = History(tools.random)
        self._plugin: Plugin | None = None
        self._wish: Wish | None = None
        self._unwanted = False  # By a command, unlike one that was given up or has finished.
        self._phase = Phase.STOPPED
        self._life: Life | None = None
        self._pause = trio.CancelScope()
        self.stuck: WorkerUnkillable | None = None
        """Its process has outlived SIGKILL."""
        self._closing = False
        self._took_over_at = -inf
        self._renewed = False  # Wanted anew since the last life began: no waiting before the next.
        self.changed = trio.Event()
        """Set at the next change; take it before you look."""
        self.stands_aside = False

    # What others ask for: synchronous, so that a caller cannot be cut in the middle.

    def want(self, wish: Wish) -> None:
        """Have a worker; the count of crashes begins anew. One that runs stays, and its next life uses this wish."""
        if self._closing:
            return
        self._neighbours.place(self, wish.plugin, aside=self._on_trial)
        self._plugin, self._wish, self._unwanted = wish.plugin, wish, False
        # From elsewhere than standstill there is nothing to queue up for.
        self._start.renew(queued=wish.queued and self._phase is Phase.STOPPED)
        self.history.begin(up=self.life is not None)
        self._renewed = self._life is None or self._life.stop_asked
        self._pause.cancel(reason="a worker is wanted now")
        self._tell_neighbours()

    def unwant(self) -> None:
        """Have none: ends the wait for a start; or drains and stops it, once those that require it are stopped."""
        self._wish, self._unwanted = None, True
        self._start.give_back()
        self.history.leave()
        self._pause.cancel(reason="the worker is no longer wanted")
        self._tell_neighbours()

    def close(self) -> None:
        """As `unwant`, for good: `run` returns when the worker is gone."""
        self._closing = True
        self.unwant()

    def take_over(self, plugin: Plugin, former: Supervisor | None) -> None:
        """The trial is over: from now on it stands for the plugin, and is kept up as any other."""
        self._neighbours.place(self, plugin)
        self._on_trial, self._plugin = False, plugin
        self._took_over_at = trio.current_time()
        if self._wish is not None:
            self._wish = Wish(plugin=plugin)
        if former is not None:  # It may have been restarted since this one began.
            self.history.restarts = former.history.restarts
        self._tell_neighbours()

    def kill(self) -> None:
        """End the present life at once."""
        if (life := self._life) is not None:
            if self.leaving:
                life.ask_to_stop()  # It may still wait for those that require it; it has not crashed.
            life.kill()

    def look_around(self) -> None:
        """What the wish waits for may be so now: that nobody needs it any more, or that all it needs is up."""
        if self._life and self.leaving and not self._neighbours.leant_on(self):
            self._life.ask_to_stop()
        if self._phase is Phase.STOPPED and self._wish is not None:
            self._start.queue_up(self._wish.plugin)
        self._notify()

    # What is seen of it.

    def view(self, calls: int = 0) -> WorkerView:
        """`calls`: how many its plugin's workers were given, which nobody here has counted."""
        life, history = self._life, self.history
        channel = life.channel if life else None
        waiting = self._wish if self._phase is Phase.STOPPED else None
        return WorkerView(
            phase=self._phase,
            wanted=None if self._plugin is None and not self._unwanted else self.wanted,
            pid=life.pid if life else None,
            restarts=history.restarts,
            crashes=history.crashes,
            uptime_s=life.uptime_s if life else None,
            next_restart_in_s=history.next_start_in_s if self._phase is Phase.BACKOFF else None,
            calls=calls,
            calls_in_flight=channel.statistics().requests_out if channel else 0,
            gave_up=history.gave_up,
            last_failure=history.failure.message if history.failure else None,
            last_reason=history.reason,
            waiting_for=self._neighbours.missing(waiting.plugin) if waiting else (),
            finished=history.finished,
        )

    @property
    def plugin(self) -> Plugin | None:
        return self._plugin

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
    def alive(self) -> bool:
        return self._life is not None and self.stuck is None

    @property
    def leaving(self) -> bool:
        return self._unwanted or self.stands_aside

    @property
    def gives_way(self) -> bool:
        """On trial it is being stopped for a plugin that it requires; it has no other life, even if that one stays."""
        return self._on_trial and not self._unwanted and self._life is not None and self._life.stop_asked

    @property
    def up(self) -> bool:
        return self.wanted and self.life is not None and not self.stands_aside

    @property
    def life(self) -> Life | None:
        """The one that takes calls, if there is one."""
        life = self._life
        usable = self._phase is Phase.RUNNING and life is not None and not (life.stop_asked or life.over)
        return life if usable else None

    @property
    def ending(self) -> bool:
        """It runs, and has just failed: what follows is decided when it has been reaped."""
        return self._phase is Phase.RUNNING and self._life is not None and self._life.over

    @property
    def up_since(self) -> float | None:
        """Since when that one takes the calls of the plugin, on trio's clock; None: there is none."""
        since = self.life.up_since if self.life else None
        return None if since is None else max(since, self._took_over_at)

    def refuse_in_vain(self) -> None:
        """Raises FailedPrecondition: it waits for a plugin that nobody wants up, or for what outlived SIGKILL."""
        if (wish := self._wish) is None:
            return
        if (stuck := self.stuck) is not None:
            words = f"the worker of plugin {wish.plugin.key!r} hangs: {stuck.message}; no other starts before it ends"
            raise FailedPrecondition(words, plugin=wish.plugin.key, **stuck.details)
        if self._life is None or self.stands_aside:
            self._neighbours.refuse_in_vain(wish.plugin)

    # The task.

    async def run(self) -> None:
        """Make what is wished so, until closed."""
        while self._wish is not None or not self._closing:
            if self._wish is None:
                await self.changed.wait()
            else:
                await self._keep_up(self._tools.open_log(self._wish.plugin))

    async def _keep_up(self, log: LogFile) -> None:
        try:
            while (wish := self._wish) is not None:
                # A first look. Its files are read after it, which takes time: what it requires is looked at again then.
                if not self._may_start(wish.plugin):
                    await self.changed.wait()
                    continue
                ending = await self._live(wish, log)
                if wait_s := await self._note_end(wish, ending):
                    await self._sit_out(wait_s)
        finally:
            log.close()
        if self._phase is Phase.BACKOFF:
            self._step(Step.STOP)

    def _may_start(self, plugin: Plugin) -> bool:
        if self._phase is Phase.BACKOFF and self._neighbours.missing(plugin):
            self._step(Step.STOP)
        if self._phase is Phase.STOPPED:
            self._start.queue_up(plugin)
        return self._start.is_free

    async def _live(self, wish: Wish, log: LogFile) -> Ending:
        plugin = wish.plugin
        self._renewed = False
        self._start.begin()
        self._step(Step.SPAWN)

        async def came_up() -> None:
            await self._teller.started(plugin, self.pid or 0, self.history.restarts)
            self.history.came_up()
            self._step(Step.UP)

        self._life = self._tools.new_life(
            plugin, log, came_up=came_up, stopping=lambda: self._step(Step.STOP), stuck=self._note_stuck
        )
        return await self._tools.live(plugin, self._life, lambda: not self._neighbours.missing(plugin))

    async def _note_end(self, wish: Wish, ending: Ending) -> float:
        """Record it and say how many seconds to wait before the next life, if one is wished for."""
        # A life may also be lost to a mistake while it is being stopped.
        if ending.crash is None or self._phase is Phase.STOPPING:
            await self._teller.stopped(wish.plugin, ending)
            if self.gives_way and ending.pid is not None:
                self._wish, self.history.failure = None, stands_aside(wish.plugin)
            self._leave_life(Step.REAPED)
        elif self.history.is_done(wish, ending):
            await self._note_done(wish, ending)
        elif wait_s := await self._note_crash(wish, ending):
            # No checkpoint from here to the pause: nobody can change the wish unseen.
            return wait_s if self.wanted and not self._renewed else 0.0
        return 0.0

    async def _note_done(self, wish: Wish, ending: Ending) -> None:
        if ending.ran_s is None:
            # It was quicker than its start grace: it has been up all the same, and whoever waits for that is told so.
            await self._teller.started(wish.plugin, ending.pid or 0, self.history.restarts)
        await self._teller.stopped(wish.plugin, replace(ending, ran_s=ending.ran_s or 0.0))
        if self.wanted and not self._renewed:
            self.history.note_done(ending)
            self._wish = None
        self._leave_life(Step.FINISH)

    async def _note_crash(self, wish: Wish, ending: Ending) -> float | None:
        on_trial, wanted, renewed = self._on_trial, self.wanted, self._renewed
        verdict = self.history.note_crash(wish, ending, wanted=wanted, renewed=renewed, on_trial=on_trial)
        # The phase first: whoever sees the event looks here.
        if self.history.gave_up:
            self._wish = None
        self._leave_life(Step.GIVE_UP if self.history.gave_up else Step.CRASH)
        if self.history.gave_up:
            # Told directly: the event may not get into the journal, and the plugin must not stay dead unnoticed.
            self._on_give_up()
        if on_trial:
            await self._teller.failed_on_trial(wish.plugin, ending)
        else:
            await self._teller.crashed(wish.plugin, ending, verdict)
        return verdict.wait_s

    async def _sit_out(self, wait_s: float) -> None:
        with trio.CancelScope(deadline=trio.current_time() + wait_s) as self._pause:
            await trio.sleep_forever()

    def _note_stuck(self, error: WorkerUnkillable) -> None:
        get_logger().error("worker.unkillable", pid=error.details.get("pid"))
        self.stuck = error
        self._tell_neighbours()

    def _leave_life(self, step: Step) -> None:
        self._life, self.stuck = None, None
        self._step(step)

    def _step(self, step: Step) -> None:
        self._phase = next_phase(self._phase, step)
        if step is not Step.SPAWN:
            self._start.give_back()
        self._tell_neighbours()

    def _tell_neighbours(self) -> None:
        self._neighbours.changed(self)
        self.look_around()

    def _notify(self) -> None:
        changed, self.changed = self.changed, trio.Event()
        changed.set()
