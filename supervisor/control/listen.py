"""Bind the control socket: never unlink blindly what is at its path."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from supervisor.core.errors import AlreadyExists, FailedPrecondition
from supervisor.trust import private_group_now

_BACKLOG: Final = 128


@contextlib.contextmanager
def bound_socket(path: Path) -> Iterator[socket.socket]:
    """A listening socket at `path`, for us alone (mode 0600); removed at the end if it is still ours.

    Bound under a temporary name and renamed into place, so that there is always either the old socket or the new one.

    Raises:
        AlreadyExists: another process listens there.
        FailedPrecondition: the path, or its directory, cannot be used; the message says why.
    """
    _make_directory(path.parent)
    refuse_what_is_not_stale(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        try:
            identity = _bind(listener, temporary, path)
        except OSError as error:
            why = f"cannot listen at {path}: {error.strerror or error}; name another with --socket or PLUGIND_SOCKET"
            raise FailedPrecondition(why, socket=str(path)) from error
        yield listener
    finally:
        listener.close()
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
    _remove_if_ours(path, identity)


def _bind(listener: socket.socket, temporary: Path, path: Path) -> tuple[int, int]:
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    former = os.umask(0o177)
    try:
        listener.bind(str(temporary))
    finally:
        os.umask(former)
    listener.listen(_BACKLOG)
    found = temporary.lstat()
    temporary.rename(path)
    return found.st_dev, found.st_ino


def _make_directory(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        found = directory.stat()
    except OSError as error:
        why = (
            f"cannot use the directory {directory} for the control socket: {error.strerror}; name another with --socket"
        )
        raise FailedPrecondition(why) from error
    of_others = 0o002 if private_group_now(found.st_uid, found.st_gid) else 0o022
    if found.st_mode & of_others and not found.st_mode & stat.S_ISVTX:
        raise FailedPrecondition(
            f"others may write to {directory}, and so replace the control socket: chmod go-w {directory}",
        )


def refuse_what_is_not_stale(path: Path) -> None:
    """Return when nothing is at `path`, or a socket of ours that nobody listens on; nothing is changed.

    Raises:
        AlreadyExists, FailedPrecondition: as `bound_socket`.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise FailedPrecondition(f"{path} is there and is no socket: move it away, or name another with --socket")
    if found.st_uid != os.geteuid():
        raise FailedPrecondition(f"{path} is the socket of uid {found.st_uid}: name another with --socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return  # Nobody listens: a daemon that was killed left it.
        except OSError as error:
            # A full backlog, or another kind of socket: somebody is there.
            why = f"{path} belongs to a living process ({error.strerror or error}): name another with --socket"
            raise AlreadyExists(why) from error
    raise AlreadyExists(f"another daemon answers at {path}: stop it, or name another socket with --socket")


def _remove_if_ours(path: Path, identity: tuple[int, int]) -> None:
    with contextlib.suppress(FileNotFoundError):
        found = path.lstat()
        if (found.st_dev, found.st_ino) == identity:
            path.unlink()
