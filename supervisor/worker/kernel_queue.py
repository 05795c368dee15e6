"""What the kernel holds of a stream between us and a worker."""

from __future__ import annotations

import fcntl
import struct
import termios

import trio

_INT = struct.Struct("i")


def bytes_standing(stream: trio.abc.ReceiveStream) -> int | None:
    """How many bytes can be read from a pipe without waiting; None where there is no pipe to ask."""
    return _ask(stream.fileno(), termios.FIONREAD) if isinstance(stream, trio.lowlevel.FdStream) else None


def is_read(stream: trio.abc.Stream) -> bool:
    """Whether the other end of a socket has taken everything that was sent to it; True where there is no socket."""
    return not isinstance(stream, trio.SocketStream) or _ask(stream.socket.fileno(), termios.TIOCOUTQ) == 0


def _ask(fd: int, what: int) -> int:
    """0 of a descriptor that has been closed."""
    if fd < 0:
        return 0
    (count,) = _INT.unpack(fcntl.ioctl(fd, what, bytes(_INT.size)))
    return int(count)
