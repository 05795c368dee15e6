"""The daemon as workers and their supervision need it."""

from __future__ import annotations

from supervisor.core.errors import SupervisorError, Unavailable
from supervisor.core.event import Event
from supervisor.core.plugin import Plugin, PluginId
from supervisor.daemon.host_calls import Answer, HostCalls
from supervisor.daemon.strays import kill_strays, left_by
from supervisor.lifecycle.config_giver import ConfigGiver
from supervisor.log import get_logger
from supervisor.store.plugins import PluginRegistry
from supervisor.store.processes import ProcessBook
from supervisor.wire.message import Notification
from supervisor.wire.worker import HostRequest
from supervisor.worker.containment import Containment
from supervisor.worker.host import GivenConfig, Stray, read_notification
from supervisor.worker.link import WorkerLink
from supervisor.worker.procfs import boot_id, start_ticks


class StoreHost:
    """Implements `worker.host.Host`. Its `calls` are set before the first worker is started: they need the workers."""

    def __init__(
        self, registry: PluginRegistry, configs: ConfigGiver, processes: ProcessBook, containment: Containment
    ) -> None:
        self.calls: HostCalls | None = None
        self._registry = registry
        self._configs = configs
        self._processes = processes
        self._containment = containment
        self._boot_id = boot_id()
        self._alive: set[int] = set()
        """Pids of the workers that run."""

    async def config(self, plugin: Plugin) -> GivenConfig:
        return await self._configs.given_at_start(plugin)

    async def config_taken(self, plugin_id: PluginId, revision: int) -> None:
        await self._configs.taken(plugin_id, revision)

    def serve(self, plugin: Plugin, request: HostRequest, link: WorkerLink) -> Answer:
        if self.calls is None:
            raise Unavailable("the daemon is starting")
        return self.calls.answer(request, link)

    def told(self, plugin: Plugin, notification: Notification) -> None:
        try:
            request = read_notification(plugin, notification)
            if self.calls is not None:
                self.calls.tell(plugin.id, request)
        except SupervisorError as error:
            # There is nobody to answer; and it may say so a million times.
            get_logger().debug("worker.notification_dropped", plugin=plugin.key, why=error.message)

    async def record(self, event: Event) -> None:
        try:
            await self._registry.record(event)
        except SupervisorError as error:
            get_logger().error("event.not_recorded", type=event.type, plugin=event.plugin_key, why=error.message)

    async def remember(self, plugin_id: PluginId, pid: int) -> None:
        self._alive.add(pid)
        started = start_ticks(pid)
        if started is None:
            return  # It has been reaped already: there is nothing to find again.
        try:
            await self._processes.remember(plugin_id, pid, started, self._boot_id)
        except SupervisorError as error:
            # Its environment still tells whose it is.
            get_logger().error("worker.not_remembered", pid=pid, why=error.message)

    async def forget(self, plugin_id: PluginId, pid: int) -> list[Stray]:
        self._alive.discard(pid)
        strays = await self._end_what_it_left(pid)
        try:
            await self._processes.forget(plugin_id, pid)
        except SupervisorError as error:
            get_logger().error("worker.not_forgotten", pid=pid, why=error.message)
        return strays

    async def _end_what_it_left(self, pid: int) -> list[Stray]:
        """What has left the worker's process group escapes the signals to it. It is found as its descendant; as an
        orphan, which came to us, of its session, or by its environment; or it was in its cgroup, and is dead already.
        """
        ward = self._containment.ward(pid)
        known = ward.strays() if ward else []
        # Its own mark: another life of the plugin may run beside it.
        strays = await kill_strays(self._alive, which=left_by(pid, ward.mark if ward else None), known=known)
        if ward:
            strays += [Stray(pid=killed.pid, name=killed.name) for killed in ward.killed]
        if strays:
            named = ", ".join(f"{stray.pid} ({stray.name})" for stray in strays)
            get_logger().warning("worker.left_processes", pid=pid, killed=named)
        return strays
