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

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from typing import Any

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
    "Interrupted",
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


class Interrupted(KeyboardInterrupt):
    """Ctrl-C while plugind was installing or upgrading; it was told to stop, and its answer was waited for.

    `error` is what it answered: with CallCancelled nothing has changed. With None it was too late, and `result` is what
    has been done. ConnectionLost and DeadlineExceeded: no answer came, so look before you repeat it.
    """

    def __init__(self, error: SupervisorError | None, result: Any = None) -> None:
        super().__init__()
        self.error = error
        self.result = result


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
