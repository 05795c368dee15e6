"""The socket that NOTIFY_SOCKET names: on it a worker says READY=1 and STATUS=…, as it would say to systemd.

Made before the spawn, so that its `address` can be in the worker's environment; then `run` as a task for as long as the
worker lives, for a program whose notifications nobody reads blocks in the next one; then closed.
"""

from __future__ import annotations

import os
import secrets
import socket
import struct
from math import inf
from types import TracebackType
from typing import Final

import trio

from supervisor.log import get_logger
from supervisor.worker.procfs import read_stat

NOTIFY_VARIABLE: Final = "NOTIFY_SOCKET"
STATUS_CHARACTERS: Final = 500
_MAX_BYTES: Final = 4096
"""systemd's own limit; it too ignores what is longer."""
_LONGEST_EXTENSION_S: Final = 3600.0
_PAUSE_S: Final = 0.01
"""After each datagram of a worker, so that a flood of them costs whoever sends it."""
_CREDENTIALS: Final = struct.Struct("iII")  # pid, uid, gid
# No room for anything but credentials: the kernel then drops file descriptors that are sent along, as for BARRIER=1,
# where their closing says that all before it has been read.
_ANCILLARY_BYTES: Final = socket.CMSG_SPACE(_CREDENTIALS.size)
_MOST_ANCESTORS: Final = 64


class NotifySocket:
    """An abstract address with a random name: of one length wherever the state is kept, and nothing to clean up.

    Anybody on this host may send to it, so it is the kernel's word about the sender that decides.
    """

    def __init__(self) -> None:
        """
        Raises:
            OSError: no socket can be had.
        """
        self.address: Final = f"@plugind/{secrets.token_hex(16)}"
        """For NOTIFY_SOCKET."""
        self.ready: Final = trio.Event()
        """It has sent READY=1."""
        self.status: str | None = None
        """Its latest STATUS=, as the worker wrote it; at most 500 characters."""
        self.extended_until = -inf
        """In trio's time: EXTEND_TIMEOUT_USEC asks to be given until then to become ready."""
        made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            made.bind(f"\0{self.address[1:]}")
        except OSError:
            made.close()
            raise
        self._socket = trio.socket.from_stdlib_socket(made)

    def __enter__(self) -> NotifySocket:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Later notifications fail where they are sent; `run` returns."""
        self._socket.close()

    async def run(self, leader: int) -> None:
        """Hear the worker whose session `leader`, a pid, leads, until cancelled or closed."""
        try:
            while True:
                data, ancillary, flags, _ = await self._socket.recvmsg(_MAX_BYTES, _ANCILLARY_BYTES)
                pid, uid = _sender(ancillary)
                if not _belongs(pid, uid, leader):
                    get_logger().debug("notify.stranger_ignored", pid=pid, uid=uid, worker=leader)
                    continue
                if flags & socket.MSG_TRUNC:
                    get_logger().debug("notify.too_long", pid=pid, worker=leader)
                else:
                    self._hear(data)
                await trio.sleep(_PAUSE_S)
        except (OSError, trio.ClosedResourceError):
            if self._socket.fileno() >= 0:
                raise

    def _hear(self, data: bytes) -> None:
        """What it says besides is for systemd, and no business of ours."""
        for line in data.split(b"\n"):
            name, _, value = line.partition(b"=")
            if name == b"READY" and value == b"1":
                self.ready.set()
            elif name == b"STATUS":
                self.status = value.decode("utf-8", "backslashreplace")[:STATUS_CHARACTERS]
            elif name == b"EXTEND_TIMEOUT_USEC" and value.isdigit() and len(value) < 20:
                asked_s = min(int(value) / 1e6, _LONGEST_EXTENSION_S)
                self.extended_until = max(self.extended_until, trio.current_time() + asked_s)


def _sender(ancillary: list[tuple[int, int, bytes]]) -> tuple[int, int]:
    """Pid and uid; the pid is 0 where the sender has none that could be seen from here."""
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS) and len(data) == _CREDENTIALS.size:
            pid, uid, _ = _CREDENTIALS.unpack(data)
            return pid, uid
    return 0, -1


def _belongs(pid: int, uid: int, leader: int) -> bool:
    """Whether the sender is in the worker's session, or descends from a process in it.

    It may be gone already, as the `systemd-notify` of a shell script is: then its uid has to do. Of one that still
    lives the uid does not matter, since a worker of root's may have given up its privileges.
    """
    if pid == 0:
        return False
    if (found := read_stat(pid)) is None:
        return uid in (0, os.getuid())
    for _ in range(_MOST_ANCESTORS):
        if found.sid == leader:
            return True
        if (found := read_stat(found.ppid)) is None:
            return False
    return False
