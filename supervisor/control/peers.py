"""Who is at the other end of a Unix socket, by the kernel's word; and whether a plugin is."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple, Protocol

from supervisor.core.errors import PermissionDenied, ResourceExhausted, Unauthenticated
from supervisor.worker.badge import Badge
from supervisor.worker.procfs import ProcessStat, read_stat

_UCRED: Final = struct.Struct("iII")
_SO_PEERGROUPS: Final = 59
_SO_PEERPIDFD: Final = 77
_NO_PIDFD: Final = (errno.ENOPROTOOPT, errno.ENODATA)
"""A kernel before 6.5."""
_ENDED: Final = (errno.ESRCH, errno.EINVAL)
"""What kernels before 6.16 say of a process that has been reaped."""
_GETSOCKOPT_BYTES: Final = 1024
"""The most that Python's own getsockopt takes: 256 groups."""
_MOST_GROUPS: Final = 65_536
_MOST_ANCESTORS: Final = 256
"""Nobody honest has so many, and a plugin that builds a longer chain must not make the daemon walk it."""
_WALKS: Final = 5


class Socket(Protocol):
    """Of the standard library, or trio's."""

    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes: ...
    def fileno(self) -> int: ...


class Peer(NamedTuple):
    """As of its connect(); `pid` is 0 where it lives in a namespace that is not below ours."""

    pid: int
    uid: int
    gid: int
    groups: frozenset[int]
    """Supplementary ones, and `gid`."""
    exe: str | None
    """The program; None: it may not be looked at."""


class PluginTree:
    """The processes that plugins have started, and what an install or a job runs: all of them are below the daemon.

    They may not use the control socket though they run as its user, who is an admin: a plugin could approve itself.
    """

    def __init__(self, daemon_pid: int, own_uid: int, workers_group: str | None, badge: Badge | None = None) -> None:
        """`workers_group`: where the workers' control groups are, as /proc/<pid>/cgroup names it. `badge`: what tells
        those that a daemon before this one has left behind, who are below nobody now."""
        self.daemon_pid = daemon_pid
        self._own_uid = own_uid
        self._workers_group = workers_group
        self._badge = badge

    def why_in(self, pid: int, uid: int) -> str | None:
        """Why this process counts as a plugin's; None: it does not.

        Raises:
            Unauthenticated: it is of our own user and not to be seen.
        """
        if self._workers_group is not None and _is_in_group(pid, self._workers_group):
            return "is in the control group of a plugin"
        found = read_stat(pid)
        if found is None:
            if uid == self._own_uid:
                raise Unauthenticated(f"the process that connected has gone, or hides itself (pid {pid})", pid=pid)
            return None  # Of another user, and not ours to see.
        for _ in range(_WALKS):
            if (verdict := self._walk(found)) is not None:
                return verdict or self._why_by_badge(pid, uid)
            # It has another parent by now.
            found = read_stat(pid) or found
        return "changes its parents faster than they can be looked at"

    def _why_by_badge(self, pid: int, uid: int) -> str | None:
        # Not of other users: a daemon of theirs may have plugins that are to come here.
        if uid != self._own_uid or self._badge is None or not self._badge.tells_of(pid):
            return None
        return "has a lower limit of file locks (ulimit -H -x) than the daemon was given, as what plugins start has"

    def _walk(self, found: ProcessStat) -> str | None:
        """Empty: its ancestors lead past the daemon; None: they changed meanwhile."""
        for _ in range(_MOST_ANCESTORS):
            if found.ppid == self.daemon_pid:
                # Also what has lost its parents: the daemon is the subreaper of all below it.
                return "was started by a plugin, by a job or by an install"
            if found.ppid in (0, 1):
                return ""
            parent = read_stat(found.ppid)
            if parent is None:
                return _of_hidden(found.ppid)
            if parent.start_ticks > found.start_ticks:
                return None  # Nobody is younger than a child of his: this is another process with the same pid.
            found = parent
        return f"has more than {_MOST_ANCESTORS} processes above it"


def uid_of(sock: Socket) -> int:
    """Whose it is; that alone costs next to nothing."""
    uid: int = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))[1]
    return uid


def look_at(sock: Socket, plugins: PluginTree) -> Peer:
    """Who has connected.

    Raises:
        PermissionDenied: a plugin.
        Unauthenticated: it has gone, so that nobody can say who it was.
        ResourceExhausted: we have no descriptor left to look with.
    """
    try:
        pid, uid, gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        groups = groups_of(sock) | {gid}
        if pid in (0, plugins.daemon_pid):
            return Peer(pid, uid, gid, groups, _program(pid) if pid else None)
        with _bound_to(sock, pid) as refuse_if_gone:
            why, exe = plugins.why_in(pid, uid), _program(pid)
            # If it has ended meanwhile, what was read may have been about another one with its pid.
            refuse_if_gone()
    except OSError as error:
        raise ResourceExhausted(f"it cannot be seen now who connects ({error.strerror}): try again") from error
    if why is not None:
        raise PermissionDenied(
            f"process {pid} {why}: plugins may not use the control socket; their worker's own connection is for them",
            pid=pid,
        )
    return Peer(pid, uid, gid, groups, exe)


@contextmanager
def _bound_to(sock: Socket, pid: int) -> Iterator[_Check]:
    """With a check that the process that connected lives, and so has had its pid all the time."""
    gone = Unauthenticated(f"the process that connected has gone (pid {pid})", pid=pid)
    try:
        fd = int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD, 4), "little", signed=True)
    except OSError as error:
        if error.errno in _ENDED:
            raise gone from error
        if error.errno not in _NO_PIDFD:
            raise
        yield lambda: None
        return

    def refuse_if_gone() -> None:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        if poll.poll(0):
            raise gone

    try:
        yield refuse_if_gone
    finally:
        os.close(fd)


class _Check(Protocol):
    def __call__(self) -> None:
        """Raises:
        Unauthenticated: it has ended.
        """


def groups_of(sock: Socket) -> frozenset[int]:
    """The supplementary groups."""
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GETSOCKOPT_BYTES)
    except OSError as error:
        if error.errno != errno.ERANGE:
            raise
        return _many_groups(sock)
    return frozenset(struct.unpack(f"{len(raw) // 4}I", raw))


def _many_groups(sock: Socket) -> frozenset[int]:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    found, size = (ctypes.c_uint32 * _MOST_GROUPS)(), ctypes.c_uint32(4 * _MOST_GROUPS)
    if libc.getsockopt(sock.fileno(), socket.SOL_SOCKET, _SO_PEERGROUPS, found, ctypes.byref(size)):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return frozenset(found[: size.value // 4])


def _of_hidden(pid: int) -> str | None:
    """What is to be thought of an ancestor that /proc does not show; as `PluginTree._walk`."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return ""  # Another user's, such as sshd's or sudo's: no plugin is above it.
    return "has a process of the daemon's user above it that hides itself"


def _is_in_group(pid: int, group: str) -> bool:
    try:
        with open(f"/proc/{pid}/cgroup", "rb") as file:
            lines = file.read().splitlines()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
    below = os.fsencode(f"0::{group}/")
    return any(line.startswith(below) for line in lines)


def _program(pid: int) -> str | None:
    try:
        return os.fsencode(os.readlink(f"/proc/{pid}/exe")).decode("utf-8", "backslashreplace")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
