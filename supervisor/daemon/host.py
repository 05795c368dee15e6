"""What workers may ask of the daemon, answered from the store."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

from supervisor.core.errors import InvalidParams, LocalProtocolError, SupervisorError
from supervisor.core.event import Event, PluginEmitted
from supervisor.core.plugin import Plugin, PluginId
from supervisor.daemon.reaper import kill_strays
from supervisor.log import get_logger
from supervisor.store.plugins import PluginRegistry
from supervisor.store.processes import ProcessBook
from supervisor.store.state import StateStore
from supervisor.wire import worker
from supervisor.wire.codec import encode, profile_problem
from supervisor.wire.message import Notification
from supervisor.worker.host import Stray
from supervisor.worker.launch import PLUGIN_ID_VARIABLE
from supervisor.worker.link import WorkerLink
from supervisor.worker.procfs import boot_id, start_ticks

_MAX_PAYLOAD_BYTES: Final = 64 * 1024
_MAX_DEPTH: Final = 12
_EVENT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


class StoreHost:
    """Implements `worker.host.Host`."""

    def __init__(self, registry: PluginRegistry, state: StateStore, processes: ProcessBook) -> None:
        self._registry = registry
        self._state = state
        self._processes = processes
        self._boot_id = boot_id()
        self._alive: set[int] = set()
        """Pids of the workers that run."""
        self._handlers: Mapping[type[worker.HostRequest], Callable[[Plugin, Any], Coroutine[Any, Any, Any]]] = {
            worker.ConfigGet: self._config_get,
            worker.StateGet: self._state_get,
            worker.StateSet: self._state_set,
            worker.StateDelete: self._state_delete,
            worker.StateList: self._state_list,
            worker.EventsEmit: self._emit,
        }

    async def config(self, plugin_id: PluginId) -> dict[str, Any]:
        return await self._registry.config(plugin_id)

    async def serve(self, plugin: Plugin, request: worker.HostRequest, link: WorkerLink) -> Any:
        return await self._handlers[type(request)](plugin, request)

    def told(self, plugin: Plugin, notification: Notification) -> None:
        """Nothing yet."""

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
        strays = await self._end_what_it_left(plugin_id, pid)
        try:
            await self._processes.forget(plugin_id, pid)
        except SupervisorError as error:
            get_logger().error("worker.not_forgotten", pid=pid, why=error.message)
        return strays

    async def _end_what_it_left(self, plugin_id: PluginId, pid: int) -> list[Stray]:
        """A process that has left the worker's session escapes the signals to its group; as orphan it came to us."""
        mark = f"{PLUGIN_ID_VARIABLE}={plugin_id}".encode()
        if strays := await kill_strays(self._alive, assignment=mark):
            get_logger().warning("worker.left_processes", pid=pid, killed=strays)
        return [Stray(pid=stray, name="") for stray in strays]

    async def _config_get(self, plugin: Plugin, _: worker.ConfigGet) -> Any:
        return {"config": await self._registry.config(plugin.id)}

    async def _state_get(self, plugin: Plugin, request: worker.StateGet) -> Any:
        found, value = await self._state.get(plugin.id, request.key)
        return {"found": found, "value": value}

    async def _state_set(self, plugin: Plugin, request: worker.StateSet) -> Any:
        # It is to fit, inside a list of others, into what may be sent.
        if problem := profile_problem([request.value], _MAX_DEPTH):
            raise InvalidParams(f"state {request.key!r} cannot be set: {problem}")
        await self._state.set(plugin.id, request.key, request.value)
        return {}

    async def _state_delete(self, plugin: Plugin, request: worker.StateDelete) -> Any:
        return {"found": await self._state.delete(plugin.id, request.key)}

    async def _state_list(self, plugin: Plugin, request: worker.StateList) -> Any:
        entries, after = await self._state.list(
            plugin.id, prefix=request.prefix, after=request.after, limit=request.limit
        )
        return {"entries": [{"key": key, "value": value} for key, value in entries], "next": after}

    async def _emit(self, plugin: Plugin, request: worker.EventsEmit) -> Any:
        if not _EVENT_NAME.fullmatch(request.name):
            raise InvalidParams(
                f"an event's name must be 1 to 100 letters, digits, '.', '_', '-', not {request.name!r}"
            )
        _check_payload(request)
        event = PluginEmitted(plugin_id=plugin.id, plugin_key=plugin.key, name=request.name, payload=request.payload)
        [recorded] = await self._registry.record(event)
        return {"seq": recorded.seq}


def _check_payload(request: worker.EventsEmit) -> None:
    """It must fit into a frame to every subscriber, and with others into a page."""
    try:
        encode(Notification(request.name, [request.payload]), max_bytes=_MAX_PAYLOAD_BYTES, max_depth=_MAX_DEPTH)
    except LocalProtocolError as error:
        raise InvalidParams(
            f"event {request.name!r} cannot be emitted: {error.message}; store what is large in the state, emit its key"
        ) from error
