"""Descriptors that are opened for a child, so that none is left open when a spawn fails."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from typing import Final

_HIGH_FD: Final = 10
"""Our ends live above the numbers that a child's 0 to 3 are made from."""
_PIPE_BYTES: Final = 1024 * 1024


class Descriptors:
    """Closes what was opened, save what was given away."""

    def __init__(self) -> None:
        self._open: set[int] = set()

    def __enter__(self) -> Descriptors:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self._open:
            os.close(fd)

    def keep(self, fd: int) -> int:
        """Move it above the numbers that the child's are made from; close-on-exec, as all of ours."""
        try:
            high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _HIGH_FD)
        finally:
            os.close(fd)
        self._open.add(high)
        return high

    def give(self, fd: int) -> int:
        self._open.remove(fd)
        return fd

    def pipe(self, *, small: bool = False) -> tuple[int, int]:
        """Reading end, writing end."""
        ours, theirs = self._keep_both(*os.pipe2(os.O_CLOEXEC))
        if small:
            return ours, theirs
        try:
            fcntl.fcntl(ours, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        except OSError as error:
            # The user's share of pipe memory is used up: the default size works too, only slower.
            if error.errno != errno.EPERM:
                raise
        return ours, theirs

    def socketpair(self) -> tuple[int, int]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        return self._keep_both(ours.detach(), theirs.detach())

    def _keep_both(self, ours: int, theirs: int) -> tuple[int, int]:
        try:
            high = self.keep(ours)
        except OSError:
            os.close(theirs)
            raise
        return high, self.keep(theirs)
