"""WorkerManager: a supervisor per plugin, in one nursery that outlives its own cancellation until all are reaped."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

import trio

from supervisor.channel import Channel, do_nothing
from supervisor.core.errors import InvalidParams, PluginError, ResourceExhausted, SupervisorError, Unavailable
from supervisor.core.plugin import Plugin, PluginId
from supervisor.core.requires import heaviest_chain
from supervisor.wire.limits import CALLS_PER_WORKER
from supervisor.worker.neighbours import Neighbours
from supervisor.worker.phase import Phase
from supervisor.worker.shutdown import longest_stop_s
from supervisor.worker.supervise import Supervisor
from supervisor.worker.tools import Tools
from supervisor.worker.turns import Turns
from supervisor.worker.view import Wish, WorkerView

_PASSED_ON: Final = frozenset(
    {"CANCELLED", "DEADLINE_EXCEEDED", "INVALID_PARAMS", "METHOD_NOT_FOUND", "PLUGIN_CRASHED"}
)
"""Codes of a worker's answer that keep their meaning for the caller; any other is its own affair: PLUGIN_ERROR."""
_NEVER_SEEN: Final = WorkerView()
_REAPING_S: Final = 1.0
"""From the end of a worker's process to the next thing that is done about it, generously."""


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
        self._running: set[PluginId] = set()
        self._lives: trio.Nursery | None = None
        self._closing = False
        self._closed = trio.Event()
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
        for supervisor in self._supervisors.values():
            supervisor.close()
        self._closed.set()

    def kill_all(self) -> None:
        """Kill every worker now; each is reaped, and judged, as if it had ended by itself."""
        for supervisor in self._supervisors.values():
            supervisor.kill()

    def longest_stop_s(self) -> float:
        """Seconds that it takes to stop all workers that there are, at most."""
        plugins = [s.plugin for s in self._supervisors.values() if s.plugin is not None]
        stops_s = {p.key: longest_stop_s(p.manifest.worker, self._tools.graces) + _REAPING_S for p in plugins}
        return heaviest_chain(stops_s, {plugin.key: plugin.manifest.requires for plugin in plugins})

    # What is to be.

    def want(self, plugin: Plugin, *, first_try_only: bool = False, queued: bool = False) -> None:
        """The plugin is to have a worker: it is kept, or started, with `queued` in its turn."""
        if self._lives is None or self._closing:
            raise Unavailable("the daemon is stopping")
        supervisor = self._supervisor(plugin.id)
        if plugin.id not in self._running:
            self._running.add(plugin.id)
            self._lives.start_soon(supervisor.run, name=f"worker {plugin.key}")
        supervisor.want(Wish(plugin=plugin, first_try_only=first_try_only, queued=queued))

    def unwant(self, plugin_id: PluginId) -> None:
        """The plugin is to have none: it is drained and stopped, after all that require it.

        Those stay wanted, and are started again when it is up again.
        """
        self._supervisor(plugin_id).unwant()

    def forget(self, plugin_id: PluginId) -> None:
        """The plugin is gone for good, and so is its worker."""
        self._running.discard(plugin_id)
        if supervisor := self._supervisors.pop(plugin_id, None):
            supervisor.close()
            if supervisor.plugin is not None:
                self._neighbours.remove(supervisor.plugin)

    # What is.

    def view(self, plugin_id: PluginId) -> WorkerView:
        supervisor = self._supervisors.get(plugin_id)
        return supervisor.view() if supervisor else _NEVER_SEEN

    def phase(self, plugin_id: PluginId) -> Phase:
        supervisor = self._supervisors.get(plugin_id)
        return supervisor.phase if supervisor else Phase.STOPPED

    def pids(self) -> set[int]:
        """Of all children that a supervisor will reap."""
        return {s.pid for s in self._supervisors.values() if s.pid is not None}

    def wanted(self, plugin_id: PluginId) -> bool:
        """Whether there is to be a worker, up or not."""
        supervisor = self._supervisors.get(plugin_id)
        return supervisor is not None and supervisor.wanted

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
        await self._supervisor(plugin_id).wait_running(patient=False)

    async def wait_running(self, plugin_id: PluginId) -> None:
        """Return when the worker takes calls, over as many attempts as there will be.

        Raises:
            SupervisorError: none will follow: given up, stopped, or not wanted.
        """
        await self._supervisor(plugin_id).wait_running(patient=True)

    async def wait_stopped(self, plugin_id: PluginId) -> None:
        """Return when there is no process.

        Raises:
            WorkerUnkillable: it outlived SIGKILL.
        """
        if supervisor := self._supervisors.get(plugin_id):
            await supervisor.wait_stopped()

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
    ) -> Any:
        """Call a running worker; cancelling it tells the worker. `on_settled` as in `Channel.call`.

        Raises:
            Unavailable: it is not running.
            ResourceExhausted: 64 calls are in flight, or given up and not answered yet.
            DeadlineExceeded, PluginCrashed, CallCancelled: no answer came, and why.
            PluginError: it answered with an error; details: name, data.
        """
        try:
            channel = self._channel_for_calls(plugin_id)
        except SupervisorError:
            on_settled()
            raise
        try:
            return await channel.call(method, [params], timeout_s=timeout_s, on_settled=on_settled)
        except SupervisorError as error:
            if error.code in _PASSED_ON:
                raise
            raise PluginError(error.message, name=error.code, data=dict(error.details)) from error

    def _channel_for_calls(self, plugin_id: PluginId) -> Channel:
        supervisor = self._supervisors.get(plugin_id)
        life = supervisor.life if supervisor else None
        if life is None:
            phase = self.phase(plugin_id)
            raise Unavailable(f"the worker is not running (its phase is {phase})", phase=str(phase))
        if life.channel is None:
            raise InvalidParams('the worker takes no calls: its manifest says worker.transport = "none"')
        now = life.channel.statistics()
        # Those given up count until they are answered: the worker may still be at them, and health checks need room.
        if now.requests_out + now.unanswered_cancels >= CALLS_PER_WORKER:
            raise ResourceExhausted(
                f"{now.requests_out} calls to the worker are in flight and {now.unanswered_cancels} given up but "
                f"unanswered; at most {CALLS_PER_WORKER} may be",
                limit=CALLS_PER_WORKER,
            )
        return life.channel

    def _supervisor(self, plugin_id: PluginId) -> Supervisor:
        supervisor = self._supervisors.get(plugin_id)
        if supervisor is None:
            supervisor = self._supervisors[plugin_id] = Supervisor(
                self._tools, self._neighbours, self._turns, lambda: self._note_give_up(plugin_id)
            )
        return supervisor

    def _note_give_up(self, plugin_id: PluginId) -> None:
        self._given_up.append(plugin_id)
        self._gave_up.set()
