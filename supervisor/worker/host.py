"""What a worker may ask of the daemon, and the gate in front of it: its capabilities."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from supervisor.channel import Immediate
from supervisor.core.errors import MethodNotFound, PermissionDenied
from supervisor.core.event import Event
from supervisor.core.plugin import Plugin, PluginId
from supervisor.wire.message import Notification, Params, Request
from supervisor.wire.typed import to_request
from supervisor.wire.worker import HOST_NOTIFICATIONS, HOST_REQUESTS, HostRequest
from supervisor.worker.link import WorkerLink


class Host(Protocol):
    """The rest of the daemon as workers need it; the composition root supplies it."""

    async def config(self, plugin: Plugin) -> GivenConfig:
        """The configuration as this version's worker is told it.

        Raises:
            SupervisorError: it cannot be read; the message names what, and holds no value.
        """

    async def config_taken(self, plugin_id: PluginId, revision: int) -> None:
        """A worker has shaken hands with this configuration, which none had before. Does not raise."""

    def serve(self, plugin: Plugin, request: HostRequest, link: WorkerLink) -> Coroutine[Any, Any, Any] | Immediate:
        """Answer what the gate has let through."""

    def told(self, plugin: Plugin, notification: Notification) -> None:
        """A notification of the worker other than `log`. Does not raise: it is hostile input."""

    async def record(self, event: Event) -> None:
        """Into the journal and onto the bus. Does not raise: a full disk must not stop supervision."""

    async def remember(self, plugin_id: PluginId, pid: int) -> None:
        """So that the next daemon finds what this one may leave behind. Does not raise."""

    async def forget(self, plugin_id: PluginId, pid: int) -> Sequence[Stray]:
        """The process has been reaped: end what it left behind, and say what that was. Does not raise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenConfig:
    """`secrets` are the texts that no message may say. `is_new`: no worker has taken this revision yet."""

    config: dict[str, Any] = field(default_factory=dict, repr=False)
    secrets: frozenset[str] = field(default=frozenset(), repr=False)
    revision: int = 0
    is_new: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Stray:
    """A process that outlived its worker, having left the worker's process group; it was killed."""

    pid: int
    name: str


def serve_worker(
    host: Host, plugin: Plugin, request: Request, link: WorkerLink
) -> Coroutine[Any, Any, Any] | Immediate:
    """Serve one request of a plugin's worker.

    Raises:
        MethodNotFound: there is no such method.
        PermissionDenied: it needs a capability that was not approved, or that the version at hand does not declare.
        InvalidParams: the params do not fit.
    """
    return host.serve(plugin, _let_through(HOST_REQUESTS, plugin, request.method, request.params), link)


def read_notification(plugin: Plugin, notification: Notification) -> HostRequest:
    """What a notification of a plugin's worker says; raises as `serve_worker`."""
    return _let_through(HOST_NOTIFICATIONS, plugin, notification.method, notification.params)


def _let_through(kinds: Mapping[str, type[HostRequest]], plugin: Plugin, method: str, params: Params) -> HostRequest:
    kind = kinds.get(method)
    if kind is None:
        raise MethodNotFound(f"the daemon has no method {method[:100]!r} for workers; there are {', '.join(kinds)}")
    if kind.CAPABILITY is not None and kind.CAPABILITY not in plugin.granted:
        raise PermissionDenied(
            f"{method} needs the capability {kind.CAPABILITY!r}, which {plugin.key!r} was not granted: "
            "declare it in plugin.capabilities and install again",
            capability=kind.CAPABILITY,
        )
    return to_request(kind, method, params)
