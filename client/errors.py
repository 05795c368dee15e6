"""What clients raise: the daemon's own error classes by name, and the ways in which a connection fails."""

from __future__ import annotations

import errno

from supervisor.core.errors import (
    ActivationFailed,
    AlreadyExists,
    ApprovalRequired,
    CallCancelled,
    Conflict,
    DeadlineExceeded,
    FailedPrecondition,
    InternalError,
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

__all__ = [
    "ActivationFailed",
    "AlreadyExists",
    "ApprovalRequired",
    "CallCancelled",
    "Conflict",
    "ConnectionLost",
    "DaemonNotRunning",
    "DeadlineExceeded",
    "FailedPrecondition",
    "InternalError",
    "InvalidParams",
    "InvalidRequest",
    "InvalidTransition",
    "LocalProtocolError",
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


class DaemonNotRunning(Unavailable):
    """Nobody answers at the socket. Details: socket."""


class ConnectionLost(Unavailable):
    """The connection ended while it was in use. Details: socket, and method where a call was under way."""


def cannot_connect(error: OSError, path: str) -> SupervisorError:
    """What a failed connect means, and the way out."""
    if error.errno in {errno.EACCES, errno.EPERM}:
        return PermissionDenied(
            f"may not connect to {path}: only root and the user that plugind runs as may; try again as one of them",
            socket=path,
        )
    if error.errno in {errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR}:
        return DaemonNotRunning(
            f"plugind is not running: nobody answers at {path}; start it with `systemctl start plugind`, "
            f"or `plugind` by hand, or name another socket with --socket or PLUGIND_SOCKET",
            socket=path,
        )
    return Unavailable(f"cannot connect to {path}: {error.strerror or error}", socket=path)


def connection_lost(path: str, method: str, *, repeatable: bool) -> ConnectionLost:
    """The connection ended before the answer to `method` came."""
    doubt = "" if repeatable else "; whether it was carried out is unknown, so look before you repeat it"
    return ConnectionLost(
        f"the connection to plugind at {path} was lost before {method} was answered{doubt}",
        socket=path,
        method=method,
    )
