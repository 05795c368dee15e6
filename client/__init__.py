"""Talk to plugind: `Client` blocks, `AsyncClient` runs on trio; both raise the error classes that stand beside them.

The names are loaded when they are used, so a blocking program never imports trio.
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from client.async_client import AsyncClient, AsyncEventStream, AsyncLogStream
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
    from client.sync_client import Client, EventStream, LogStream

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


def __getattr__(name: str) -> object:
    if name in {"Client", "EventStream", "LogStream"}:
        from client import sync_client

        return getattr(sync_client, name)
    if name in {"AsyncClient", "AsyncEventStream", "AsyncLogStream"}:
        from client import async_client

        return getattr(async_client, name)
    if name in __all__:
        from client import errors

        return getattr(errors, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
