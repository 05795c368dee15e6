"""Two lives of one plugin at the same time: one stands for it, the others are on trial, or drained."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from supervisor.core.errors import SupervisorError
from supervisor.core.plugin import Plugin, PluginId
from supervisor.worker.neighbours import stands_aside
from supervisor.worker.supervise import Supervisor
from supervisor.worker.waits import wait_stopped


class Aside:
    """The supervisors that do not stand for their plugin."""

    def __init__(self) -> None:
        self._by_plugin: dict[PluginId, list[Supervisor]] = {}

    def __iter__(self) -> Iterator[Supervisor]:
        return (supervisor for supervisors in self._by_plugin.values() for supervisor in supervisors)

    def of(self, plugin_id: PluginId) -> tuple[Supervisor, ...]:
        return tuple(self._by_plugin.get(plugin_id, ()))

    def add(self, plugin_id: PluginId, supervisor: Supervisor) -> None:
        self._by_plugin.setdefault(plugin_id, []).append(supervisor)

    def discard(self, plugin_id: PluginId, supervisor: Supervisor) -> None:
        """It stands for its plugin now, or is over."""
        left = [other for other in self._by_plugin.pop(plugin_id, ()) if other is not supervisor]
        if left:
            self._by_plugin[plugin_id] = left


class Successor:
    """A worker that has come up beside the one that stands for its plugin, and may take its place."""

    def __init__(
        self, plugin: Plugin, supervisor: Supervisor, hand_over: Callable[[Plugin, Supervisor], Supervisor | None]
    ) -> None:
        self.plugin = plugin
        self.took_over = False
        self._supervisor = supervisor
        self._hand_over = hand_over
        self._former: Supervisor | None = None

    @property
    def failure(self) -> SupervisorError | None:
        """Why it cannot take over: it ended by itself (ActivationFailed), or a plugin that it requires was, or is
        being, stopped (FailedPrecondition)."""
        if self.took_over:
            return None
        if self._supervisor.stands_aside or self._supervisor.gives_way:
            return stands_aside(self.plugin)
        return self._supervisor.history.failure

    @property
    def up(self) -> bool:
        """Whether it may take over."""
        return self.failure is None

    @property
    def pid(self) -> int | None:
        return self._supervisor.pid

    def take_over(self, plugin: Plugin | None = None) -> bool:
        """From now on calls, phase, pid and restarts are this one's; the former worker drains and stops meanwhile.
        `plugin`: as it is from now on, where the exchange has changed it.

        Whether it has taken over. Where there is a `failure` it does not: then the former goes on, and leaving the
        block raises that. Does not raise, and there is no checkpoint in it: it may be what a transaction does
        once it is committed. A second time does nothing.
        """
        if self.up and not self.took_over:
            self.plugin = plugin or self.plugin
            self._former = self._hand_over(self.plugin, self._supervisor)
            self.took_over = True
        return self.took_over

    async def wait_former_gone(self) -> None:
        """Return when the process of the worker before has been reaped; at once if there is none.

        Raises:
            WorkerUnkillable: it outlived SIGKILL.
        """
        if self._former is not None:
            await wait_stopped(self._former)
