"""Bind the control socket: never unlink blindly what is at its path."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from supervisor.control.names import find_group
from supervisor.core.errors import AlreadyExists, FailedPrecondition
from supervisor.trust import private_group_now

_BACKLOG: Final = 4096
"""Who connects with a time limit is refused where it is full: a burst of hundreds must not keep an admin out."""
_NO_GROUP: Final = 0xFFFF_FFFF
"""As a gid it means: leave it as it is."""
_NAMED_BY: Final = "--socket or PLUGIND_SOCKET"


@contextlib.contextmanager
def bound_socket(path: Path, group: str = "", *, named_by: str = _NAMED_BY) -> Iterator[socket.socket]:
    """A listening socket at `path`, for us alone (mode 0600), or for this group too (0660); removed at the end if it is
    still ours.

    Bound under a temporary name and renamed into place, so that there is always either the old socket or the new one.

    `named_by`: the setting that the path comes from, for messages.

    Raises:
        AlreadyExists: another process listens there.
        FailedPrecondition: the path, its directory or the group cannot be used; the message says why.
    """
    gid = _number_of(group) if group else None
    _make_directory(path.parent, named_by)
    refuse_what_is_not_stale(path, named_by)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    identity: tuple[int, int] | None = None
    try:
        try:
            identity = _bind(listener, temporary, path, gid)
        except OSError as error:
            why = f"cannot listen at {path}: {error.strerror or error}; name another with {named_by}"
            raise FailedPrecondition(why, socket=str(path)) from error
        yield listener
    finally:
        listener.close()
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        if identity is not None:
            _remove_if_ours(path, identity)


def _bind(listener: socket.socket, temporary: Path, path: Path, gid: int | None) -> tuple[int, int]:
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    former = os.umask(0o177)
    try:
        listener.bind(str(temporary))
    finally:
        os.umask(former)
    if gid is not None:
        _give_to_group(temporary, gid)
    listener.listen(_BACKLOG)
    found = temporary.lstat()
    temporary.rename(path)
    return found.st_dev, found.st_ino


def _number_of(group: str) -> int:
    number = int(group) if group.isdecimal() else find_group(group)
    if number is None or number >= _NO_GROUP:
        raise FailedPrecondition(
            f"socket_group: there is no group {group!r} here: make it (groupadd {group}), or name another"
        )
    return number


def _give_to_group(path: Path, gid: int) -> None:
    try:
        os.chown(path, -1, gid, follow_symlinks=False)
    except PermissionError as error:
        raise FailedPrecondition(
            f"socket_group: uid {os.geteuid()} is no member of group {gid}, and so cannot give it the socket: "
            "make it a member, or name another group"
        ) from error
    path.chmod(0o660)


def _make_directory(directory: Path, named_by: str) -> None:
    try:
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        found = directory.stat()
    except OSError as error:
        why = f"cannot use the directory {directory} for a socket: {error.strerror}; name another with {named_by}"
        raise FailedPrecondition(why) from error
    of_others = 0o002 if private_group_now(found.st_uid, found.st_gid) else 0o022
    if found.st_mode & of_others and not found.st_mode & stat.S_ISVTX:
        raise FailedPrecondition(
            f"others may write to {directory}, and so replace the socket: chmod go-w {directory}",
        )


def refuse_what_is_not_stale(path: Path, named_by: str = _NAMED_BY) -> None:
    """Return when nothing is at `path`, or a socket of ours that nobody listens on; nothing is changed.

    Raises:
        AlreadyExists, FailedPrecondition: as `bound_socket`.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise FailedPrecondition(f"{path} is there and is no socket: move it away, or name another with {named_by}")
    if found.st_uid != os.geteuid():
        raise FailedPrecondition(f"{path} is the socket of uid {found.st_uid}: name another with {named_by}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return  # Nobody listens: a daemon that was killed left it.
        except OSError as error:
            # A full backlog, or another kind of socket: somebody is there.
            why = f"{path} belongs to a living process ({error.strerror or error}): name another with {named_by}"
            raise AlreadyExists(why) from error
    raise AlreadyExists(f"another daemon answers at {path}: stop it, or name another socket with {named_by}")


def _remove_if_ours(path: Path, identity: tuple[int, int]) -> None:
    with contextlib.suppress(FileNotFoundError):
        found = path.lstat()
        if (found.st_dev, found.st_ino) == identity:
            path.unlink()
