"""WorkerManager: a supervisor per plugin, in one nursery that outlives its own cancellation until all are reaped."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from math import inf
from typing import Any, Final

import trio

from supervisor.channel import Channel, do_nothing
from supervisor.core.errors import SupervisorError, Unavailable
from supervisor.core.plugin import Plugin, PluginId
from supervisor.wire.worker import CALL, RUN_JOB
from supervisor.worker.beside import Aside, Successor
from supervisor.worker.calling import call_worker, channel_for_calls
from supervisor.worker.crash import Crash, Reason
from supervisor.worker.discretion import Discretion
from supervisor.worker.down import why_down
from supervisor.worker.neighbours import Neighbours
from supervisor.worker.phase import Phase
from supervisor.worker.shutdown import WorkerUnkillable, longest_stop_of_all_s
from supervisor.worker.supervise import Supervisor
from supervisor.worker.tools import Tools
from supervisor.worker.turns import Turns
from supervisor.worker.view import Wish, WorkerView
from supervisor.worker.waits import has_come_up, has_stopped, wait_stopped

_NEVER_SEEN: Final = WorkerView()
_WORK: Final = frozenset({CALL, RUN_JOB})
"""What a worker is there for; all else is about the worker itself."""


class WorkerManager:
    """`want`, `unwant`: what is to be; `view`: what is. The waits return when the one has become the other.

    A plugin's worker is started while those of all plugins that it requires are up, and stopped before any of them is
    stopped on purpose. `start_concurrency`: so many at most start at once that did not ask to start right now.
    """

    def __init__(self, tools: Tools, *, start_concurrency: int = 8) -> None:
        self._tools = tools
        self._neighbours = Neighbours()
        self._turns = Turns(start_concurrency)
        self._supervisors: dict[PluginId, Supervisor] = {}
        """Those that stand for a plugin."""
        self._aside = Aside()
        self._running: set[Supervisor] = set()
        self._lives: trio.Nursery | None = None
        self._closing = False
        self._closed = trio.Event()
        self._coming_back: Counter[PluginId] = Counter()
        self._calls: Counter[PluginId] = Counter()
        """Calls and runs that were given to workers."""
        self._given_up: deque[PluginId] = deque()
        self._gave_up = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep workers until cancelled; then stop them all, and return when they are reaped. That goes on in parallel,
        save that a worker is stopped before those that it requires.

        The lives are shielded, because a worker must be reaped even then. Each stop is bounded by its stages; only a
        process that hangs in the kernel is left, after the longest chain of them.
        """
        async with trio.open_nursery() as outer:
            ready = trio.Event()
            # Not `outer.start`: cancelled in there, it would wait for a shielded task that nobody closes.
            outer.start_soon(self._run_lives, ready)
            try:
                await ready.wait()
                task_status.started()
                await trio.sleep_forever()
            finally:
                self.close()

    async def _run_lives(self, ready: trio.Event) -> None:
        with trio.CancelScope(shield=True) as shield:
            async with trio.open_nursery() as self._lives:
                ready.set()
                await self._closed.wait()
                shield.deadline = trio.current_time() + self.longest_stop_s()

    def close(self) -> None:
        """Unwant all, for good."""
        self._closing = True
        for supervisor in self._everybody():
            supervisor.close()
        self._closed.set()

    def kill_all(self) -> None:
        """Kill every worker now; each is reaped, and judged, as if it had ended by itself."""
        for supervisor in self._everybody():
            supervisor.kill()

    def longest_stop_s(self) -> float:
        """Seconds that it takes to stop all workers that there are, at most."""
        return longest_stop_of_all_s((s.plugin for s in self._everybody() if s.plugin is not None), self._tools.graces)

    # What is to be.

    def want(self, plugin: Plugin, *, first_try_only: bool = False, queued: bool = False) -> None:
        """The plugin is to have a worker: it is kept, or started, with `queued` in its turn."""
        supervisor = self._supervisor(plugin.id)
        self._begin(plugin, supervisor)
        supervisor.want(Wish(plugin=plugin, first_try_only=first_try_only, queued=queued))

    def unwant(self, plugin_id: PluginId) -> None:
        """The plugin is to have none: it is drained and stopped, after all that require it.

        Those stay wanted, and are started again when it is up again.
        """
        self._supervisor(plugin_id).unwant()

    def forget(self, plugin_id: PluginId) -> None:
        """The plugin is gone for good, and so is its worker."""
        if supervisor := self._supervisors.pop(plugin_id, None):
            self._put_aside(plugin_id, supervisor)
            self._neighbours.remove(supervisor)
        del self._calls[plugin_id]

    @asynccontextmanager
    async def beside(self, plugin: Plugin) -> AsyncIterator[Successor]:
        """Start a worker for another version of the plugin, while the one that stands for it, if any, goes on.

        In the block it has come up, and may take over. It has one life until then: a failure is never tried again, and
        is no crash of the plugin's. Leaving the block without having taken over stops it, and waits for that; so does
        cancelling, which lasts as long as a stop may. Who requires the plugin notices nothing.

        Raises:
            ActivationFailed: it did not come up; or, as the block is left, it had ended by itself without taking over.
            FailedPrecondition: it requires a plugin that is not on its way up, or is being stopped.
            CallCancelled, Unavailable: the daemon is stopping.
        """
        trial = self._new_supervisor(plugin.id, on_trial=True)
        self._begin(plugin, trial)
        trial.history.restarts = self.view(plugin.id).restarts
        self._aside.add(plugin.id, trial)
        trial.want(Wish(plugin=plugin, first_try_only=True))
        successor = Successor(plugin, trial, self._hand_over)
        try:
            while not has_come_up(trial):
                await trial.changed.wait()
            yield successor
            if failure := successor.failure:
                raise failure
        finally:
            if not successor.took_over:
                await self._end_trial(plugin, trial)

    async def _end_trial(self, plugin: Plugin, trial: Supervisor) -> None:
        trial.close()
        # Also for who goes away: nothing of that version may run when its files are removed.
        limit_s = longest_stop_of_all_s([plugin], self._tools.graces)
        with trio.move_on_after(limit_s, shield=True), suppress(WorkerUnkillable):
            await wait_stopped(trial)  # What outlives SIGKILL has been logged by its supervisor, which stays with it.

    def _hand_over(self, plugin: Plugin, successor: Supervisor) -> Supervisor | None:
        former = self._supervisors.get(plugin.id)
        self._aside.discard(plugin.id, successor)
        self._supervisors[plugin.id] = successor
        successor.take_over(plugin, former)
        if former is not None:
            if former.life and former.life.channel:
                former.life.channel.turn_away()
            self._put_aside(plugin.id, former)
        return former

    def _put_aside(self, plugin_id: PluginId, supervisor: Supervisor) -> None:
        if supervisor in self._running:
            self._aside.add(plugin_id, supervisor)
        # Who waits for a change of the plugin's hears of this one, and finds the successor.
        supervisor.close()

    # What is.

    def view(self, plugin_id: PluginId) -> WorkerView:
        supervisor = self._supervisors.get(plugin_id)
        return supervisor.view(self._calls[plugin_id]) if supervisor else _NEVER_SEEN

    def phase(self, plugin_id: PluginId) -> Phase:
        supervisor = self._supervisors.get(plugin_id)
        return supervisor.phase if supervisor else Phase.STOPPED

    def pids(self) -> set[int]:
        """Of all children that a supervisor will reap."""
        return {s.pid for s in self._everybody() if s.pid is not None}

    def wanted(self, plugin_id: PluginId) -> bool:
        """Whether there is to be a worker, up or not."""
        supervisor = self._supervisors.get(plugin_id)
        return supervisor is not None and supervisor.wanted

    def up_since(self, plugin_id: PluginId) -> float | None:
        """Since when there has been the worker that takes calls now, on trio's clock; None: none does."""
        supervisor = self._supervisors.get(plugin_id)
        return supervisor.up_since if supervisor is not None and supervisor.wanted else None

    def comes_back(self, plugin_id: PluginId) -> bool:
        """Whether there is to be a worker: it is up, on its way up, or stopped only to be started again."""
        return self.wanted(plugin_id) or plugin_id in self._coming_back

    @contextmanager
    def coming_back(self, plugin_id: PluginId) -> Iterator[None]:
        """In the block the worker is stopped only to be started again: who can wait for it waits."""
        self._coming_back[plugin_id] += 1
        try:
            yield
        finally:
            self._coming_back[plugin_id] -= 1
            if not self._coming_back[plugin_id]:
                del self._coming_back[plugin_id]
            # It may not have come to that: whoever waits is to see it.
            if supervisor := self._supervisors.get(plugin_id):
                supervisor.look_around()

    def why_down(self, plugin_id: PluginId) -> str:
        """Of one that is not up, for people: "its worker is in backoff after it …; the next attempt is in 12 s"."""
        return why_down(self._supervisors.get(plugin_id))

    def hang(self, plugin_id: PluginId, why: str, *, since: float = inf) -> None:
        """The worker does not let go of what it was told to give up: end its life as a crash, so that another begins.

        `why` is what follows "the worker"; `since` is when it was given that, on trio's clock: one that has come up, or
        taken over, later is another, and is left alone. So is one that is not up.
        """
        supervisor = self._supervisors.get(plugin_id)
        if supervisor is None or supervisor.life is None:
            return
        if supervisor.up_since is not None and supervisor.up_since <= since:
            supervisor.life.give_up(Crash(Reason.RUN_STUCK, why))

    async def wait_given_up(self) -> PluginId:
        """The next plugin whose worker is not started any more; each is told once, to one caller."""
        while not self._given_up:
            self._gave_up = trio.Event()
            await self._gave_up.wait()
        return self._given_up.popleft()

    async def wait_up(self, plugin_id: PluginId) -> None:
        """Return when the worker takes calls, or has finished its work already.

        Raises:
            ActivationFailed: an attempt failed.
            FailedPrecondition: it waits for a plugin that nobody wants up, or for a process that outlived SIGKILL.
            CallCancelled: nobody wants it any more.
        """
        await self._wait_come_up(plugin_id, patient=False)

    async def wait_running(self, plugin_id: PluginId) -> None:
        """Return when the worker takes calls, over as many attempts as there will be, also those after a restart.

        Raises:
            SupervisorError: none will follow: given up, stopped, or not wanted.
        """
        while True:
            try:
                await self._wait_come_up(plugin_id, patient=True)
            except SupervisorError:
                if self.wanted(plugin_id) or plugin_id not in self._coming_back:
                    raise
                await self._supervisor(plugin_id).changed.wait()
            else:
                return

    async def _wait_come_up(self, plugin_id: PluginId, *, patient: bool) -> None:
        # Another may stand for the plugin after each wait.
        while not has_come_up(supervisor := self._supervisor(plugin_id), patient=patient):
            await supervisor.changed.wait()

    async def wait_stopped(self, plugin_id: PluginId) -> None:
        """Return when there is no process, also none that is on trial or drained.

        Raises:
            WorkerUnkillable: it outlived SIGKILL.
        """
        while alive := next((s for s in self._all_of(plugin_id) if not has_stopped(s)), None):
            await alive.changed.wait()

    def changed(self, plugin_id: PluginId) -> trio.Event:
        """Set at the next change of the worker's phase; take it before you look."""
        return self._supervisor(plugin_id).changed

    async def call(
        self,
        plugin_id: PluginId,
        method: str,
        params: dict[str, Any],
        *,
        timeout_s: float | None,
        on_settled: Callable[[], None] = do_nothing,
        secrets: Collection[str] = (),
    ) -> Any:
        """Call a running worker; cancelling it tells the worker. `on_settled` as in `Channel.call`; `secrets` are among
        the params, and are hidden from then on in what is told of the worker.

        It is answered by the worker that got it, also when another takes its place meanwhile.

        Raises:
            Unavailable: it is not running.
            ResourceExhausted: 64 calls are in flight, or given up and not answered yet.
            DeadlineExceeded, PluginCrashed, CallCancelled: no answer came, and why.
            PluginError: it answered with an error; details: name, data.
        """
        counts = method in _WORK

        def channel_now() -> tuple[Channel, Discretion]:
            nonlocal counts
            found = channel_for_calls(self._supervisors.get(plugin_id))
            if counts:
                # Once, also where another worker takes over before it was sent.
                self._calls[plugin_id] += 1
                counts = False
            return found

        return await call_worker(
            channel_now,
            method,
            params,
            timeout_s=timeout_s,
            on_settled=on_settled,
            secrets=secrets,
        )

    # Supervisors.

    def _everybody(self) -> Iterator[Supervisor]:
        yield from self._supervisors.values()
        yield from self._aside

    def _all_of(self, plugin_id: PluginId) -> Iterator[Supervisor]:
        if supervisor := self._supervisors.get(plugin_id):
            yield supervisor
        yield from self._aside.of(plugin_id)

    def _supervisor(self, plugin_id: PluginId) -> Supervisor:
        supervisor = self._supervisors.get(plugin_id)
        if supervisor is None:
            supervisor = self._supervisors[plugin_id] = self._new_supervisor(plugin_id)
        return supervisor

    def _new_supervisor(self, plugin_id: PluginId, *, on_trial: bool = False) -> Supervisor:
        def note_give_up() -> None:
            # What is on trial, or drained, is nobody's loss.
            if self._supervisors.get(plugin_id) is supervisor:
                self._given_up.append(plugin_id)
                self._gave_up.set()

        supervisor = Supervisor(self._tools, self._neighbours, self._turns, note_give_up, on_trial=on_trial)
        return supervisor

    def _begin(self, plugin: Plugin, supervisor: Supervisor) -> None:
        if self._lives is None or self._closing:
            raise Unavailable("the daemon is stopping")
        if supervisor not in self._running:
            self._running.add(supervisor)
            self._lives.start_soon(self._keep, plugin, supervisor, name=f"worker {plugin.key}")

    async def _keep(self, plugin: Plugin, supervisor: Supervisor) -> None:
        try:
            await supervisor.run()
        finally:
            self._running.discard(supervisor)
            self._aside.discard(plugin.id, supervisor)
            if self._supervisors.get(plugin.id) is not supervisor:
                self._neighbours.remove(supervisor)
