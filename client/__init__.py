"""Talk to plugind: `Client` blocks, `AsyncClient` runs on trio; both raise the error classes that stand beside them.

The names are loaded when they are used, so a blocking program never imports trio.
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from client.async_client import AsyncClient
    from client.async_stream import AsyncEventStream, AsyncLogStream
    from client.errors import (
        ActivationFailed,
        AlreadyExists,
        ApprovalRequired,
        CallCancelled,
        Conflict,
        ConnectionLost,
        DaemonNotRunning,
        DeadlineExceeded,
        FailedPrecondition,
        InternalError,
        Interrupted,
        InvalidParams,
        InvalidRequest,
        InvalidTransition,
        LocalProtocolError,
        MethodNotFound,
        NotFound,
        ParseError,
        PermissionDenied,
        PluginCrashed,
        PluginError,
        RemoteProtocolError,
        ResourceExhausted,
        SupervisorError,
        Unauthenticated,
        Unavailable,
        UpgradeFailed,
    )
    from client.sync_client import Client
    from client.sync_stream import EventStream, LogStream

__all__ = [
    "ActivationFailed",
    "AlreadyExists",
    "ApprovalRequired",
    "AsyncClient",
    "AsyncEventStream",
    "AsyncLogStream",
    "CallCancelled",
    "Client",
    "Conflict",
    "ConnectionLost",
    "DaemonNotRunning",
    "DeadlineExceeded",
    "EventStream",
    "FailedPrecondition",
    "InternalError",
    "Interrupted",
    "InvalidParams",
    "InvalidRequest",
    "InvalidTransition",
    "LocalProtocolError",
    "LogStream",
    "MethodNotFound",
    "NotFound",
    "ParseError",
    "PermissionDenied",
    "PluginCrashed",
    "PluginError",
    "RemoteProtocolError",
    "ResourceExhausted",
    "SupervisorError",
    "Unauthenticated",
    "Unavailable",
    "UpgradeFailed",
]


_MODULES = {
    "AsyncClient": "async_client",
    "AsyncEventStream": "async_stream",
    "AsyncLogStream": "async_stream",
    "Client": "sync_client",
    "EventStream": "sync_stream",
    "LogStream": "sync_stream",
}
"""What is not in client.errors."""


def __getattr__(name: str) -> object:
    if name in __all__:
        module = __import__(f"client.{_MODULES.get(name, 'errors')}", fromlist=[name])
        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
