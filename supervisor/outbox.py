"""Frames on their way out of one connection: sent at once while the kernel takes them, else kept for the writer."""

from __future__ import annotations

import errno
import os
from collections import deque
from typing import Final

import trio

from supervisor.wire.budget import Share

ROOM_BYTES: Final = 1024 * 1024
_FULL: Final = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS, errno.EINTR})


class Outbox:
    """One task takes what is kept and sends it. Whoever asks for room first keeps what is unsent to about 1 MiB.

    While nothing is kept and nothing is being sent, a frame goes to the socket at once: that saves the turn of the
    event loop in which the writer would wake, and it cannot be cut, since there is no checkpoint in it.
    """

    def __init__(self, stream: trio.abc.Stream, share: Share | None = None) -> None:
        """What is unsent counts in its `share` of what is held for many peers."""
        self._share = share or Share()
        self._socket = stream.socket if isinstance(stream, trio.SocketStream) else None
        self._frames: deque[bytes] = deque()
        self._unsent = 0
        """Bytes of those frames, and of what was taken and not sent yet."""
        self._stuck_since = 0.0
        """When the peer last took anything, or when what is unsent began to wait."""
        self._filled = trio.Event()
        self._roomy = trio.Event()
        self._flushed = trio.Event()
        self._closed = False
        self.broken = False
        """The peer takes nothing any more: what is put now is never sent."""

    @property
    def unsent_bytes(self) -> int:
        return self._unsent

    @property
    def stalled_s(self) -> float:
        """Seconds since the peer last took anything; 0 while nothing waits for it."""
        return trio.current_time() - self._stuck_since if self._unsent else 0.0

    @property
    def roomy(self) -> bool:
        """Whether `wait_room` would return at once."""
        return self._unsent < ROOM_BYTES or self._closed

    def close(self) -> None:
        """Nobody writes any more: who waits for room waits no longer."""
        self._closed = True
        self._roomy.set()

    def put(self, frame: bytes) -> None:
        if self._closed:
            return
        if not self._unsent:
            if self._socket is not None:
                frame = frame[self._send_now(self._socket, frame) :]
                if not frame:
                    return
            self._stuck_since = trio.current_time()
        self._frames.append(frame)
        self._unsent += len(frame)
        self._share.add(len(frame))
        self._filled.set()

    async def wait_room(self) -> None:
        """No checkpoint when there is room."""
        while not self.roomy:
            await self._roomy.wait()

    async def take(self) -> bytes:
        """All that is kept, as soon as there is any; `note_sent` as it goes."""
        while not self._frames:
            self._filled = trio.Event()
            await self._filled.wait()
        return self.take_nowait()

    def take_nowait(self) -> bytes:
        data = self._frames[0] if len(self._frames) == 1 else b"".join(self._frames)
        self._frames.clear()
        return data

    def note_sent(self, size: int) -> None:
        """So many bytes of what was taken are with the kernel."""
        self._unsent -= size
        self._share.add(-size)
        self._stuck_since = trio.current_time()
        if self._unsent < ROOM_BYTES:
            roomy, self._roomy = self._roomy, trio.Event()
            roomy.set()
        if not self._unsent:
            flushed, self._flushed = self._flushed, trio.Event()
            flushed.set()

    async def wait_flushed(self) -> None:
        """Return when the kernel has everything."""
        while self._unsent:
            await self._flushed.wait()

    def _send_now(self, socket: trio.socket.SocketType, frame: bytes) -> int:
        """How many bytes the kernel took."""
        try:
            return os.write(socket.fileno(), frame)
        except OSError as error:
            # Full, or broken, or closed: the writer meets the same and says so.
            self.broken = error.errno not in _FULL
            return 0
