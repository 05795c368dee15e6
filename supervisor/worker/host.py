"""What a worker may ask of the daemon, and the gate in front of it: its capabilities."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Protocol

from supervisor.channel import Immediate
from supervisor.core.errors import MethodNotFound, PermissionDenied
from supervisor.core.event import Event
from supervisor.core.plugin import Plugin, PluginId
from supervisor.wire.message import Request
from supervisor.wire.typed import to_request
from supervisor.wire.worker import HOST_REQUESTS, HostRequest


class Host(Protocol):
    """The rest of the daemon as workers need it; the composition root supplies it."""

    async def config(self, plugin_id: PluginId) -> dict[str, Any]: ...

    async def serve(self, plugin: Plugin, request: HostRequest) -> Any:
        """Answer what the gate has let through."""

    async def record(self, event: Event) -> None:
        """Into the journal and onto the bus. Does not raise: a full disk must not stop supervision."""

    async def remember(self, plugin_id: PluginId, pid: int) -> None:
        """So that the next daemon finds what this one may leave behind. Does not raise."""

    async def forget(self, plugin_id: PluginId, pid: int) -> None:
        """The process has been reaped. Does not raise."""


def serve_worker(host: Host, plugin: Plugin, request: Request) -> Coroutine[Any, Any, Any] | Immediate:
    """Serve one request of a plugin's worker.

    Raises:
        MethodNotFound: there is no such method.
        PermissionDenied: the plugin's approved capabilities lack the one it needs.
        InvalidParams: the params do not fit.
    """
    kind = HOST_REQUESTS.get(request.method)
    if kind is None:
        known = ", ".join(HOST_REQUESTS)
        raise MethodNotFound(f"the daemon has no method {request.method[:100]!r} for workers; there are {known}")
    if kind.CAPABILITY is not None and kind.CAPABILITY not in plugin.approved:
        raise PermissionDenied(
            f"{request.method} needs the capability {kind.CAPABILITY!r}, which {plugin.key!r} was not granted: "
            "declare it in plugin.capabilities and install again",
            capability=kind.CAPABILITY,
        )
    return host.serve(plugin, to_request(kind, request.method, request.params))
