"""What clients raise: the daemon's own error classes by name, and the ways in which a connection fails.

Each has `.message` for people, `.code` (its name) and `.data` for programs.
"""

from __future__ import annotations

import errno
import os
import stat

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
    """The connection ended while it was in use. Details: socket, method where a call was under way, and request_id
    where it was made with `once()`."""


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
        return PermissionDenied(f"may not connect to {path}: {_who_may(path)}", socket=path)
    if error.errno in {errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR}:
        return DaemonNotRunning(
            f"plugind is not running: nobody answers at {path}; start it with `systemctl start plugind`, "
            f"or `plugind` by hand, or name another socket with --socket or PLUGIND_SOCKET",
            socket=path,
        )
    return Unavailable(f"cannot connect to {path}: {error.strerror or error}", socket=path)


def _who_may(path: str) -> str:
    """Who may connect, and how to become one of them."""
    import grp
    import pwd

    user, group, way_out = "the user that plugind runs as", "", "try again as one of them"
    try:
        found = os.stat(path)
        user = pwd.getpwuid(found.st_uid).pw_name
        if found.st_mode & stat.S_IWGRP:
            name = grp.getgrgid(found.st_gid).gr_name
            group, way_out = f", and members of the group {name}", f"become one with `usermod -aG {name} YOU`"
    except (OSError, KeyError):
        pass  # its directory is closed to us, or who owns it has no name: said as far as it is known
    users = "root" if user == "root" else f"root and {user}"
    return f"only {users}{group} may; {way_out}"


def connection_lost(path: str, method: str, *, repeatable: bool, said: str | None = None) -> ConnectionLost:
    """The connection ended before the answer to `method` came; `said` is what the daemon gave as the reason."""
    why = "" if said is None else f" ({said})"
    doubt = "" if repeatable else "; whether it was carried out is unknown, so look before you repeat it"
    return ConnectionLost(
        f"the connection to plugind at {path} was lost before {method} was answered{why}{doubt}",
        socket=path,
        method=method,
    )


def outcome_unknown(error: SupervisorError, method: str, request_id: str) -> SupervisorError:
    """A change was sent under a request id, no answer came, and `error`, which is none either, is the end of it."""
    way_out = f"to know what became of it, ask again under the same id: once({request_id!r})"
    details = {**error.details, "method": method, "request_id": request_id}
    if isinstance(error, DeadlineExceeded):
        return DeadlineExceeded(f"{method} was sent and not answered in time; {way_out}", **details)
    why = "" if isinstance(error, ConnectionLost | DaemonNotRunning) else f" ({error.message})"
    return ConnectionLost(
        f"the connection to plugind was lost before {method} was answered, and could not be made again in time{why}; "
        f"{way_out}",
        **details,
    )
