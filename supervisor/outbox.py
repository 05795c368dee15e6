"""Frames on their way out of one connection: sent at once while the kernel takes them, else kept for the writer."""

from __future__ import annotations

import os
from collections import deque
from typing import Final

import trio

_ROOM_BYTES: Final = 1024 * 1024


class Outbox:
    """One task takes what is kept and sends it. Whoever asks for room first keeps that to about 1 MiB.

    While nothing is kept and nothing is being sent, a frame goes to the socket at once: that saves the turn of the
    event loop in which the writer would wake, and it cannot be cut, since there is no checkpoint in it.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._socket = stream.socket if isinstance(stream, trio.SocketStream) else None
        self._frames: deque[bytes] = deque()
        self._size = 0
        self._filled = trio.Event()
        self._emptied = trio.Event()
        self._writing = False
        self._flushed = trio.Event()
        self._closed = False

    def close(self) -> None:
        """Nobody writes any more: who waits for room waits no longer."""
        self._closed = True
        self._emptied.set()

    def put(self, frame: bytes) -> None:
        if self._socket is not None and not self._frames and not self._writing:
            sent = _send_now(self._socket, frame)
            if sent == len(frame):
                return
            frame = frame[sent:]
        self._frames.append(frame)
        self._size += len(frame)
        self._filled.set()

    async def wait_room(self) -> None:
        """No checkpoint when there is room."""
        while self._size >= _ROOM_BYTES and not self._closed:
            await self._emptied.wait()

    async def take(self) -> bytes:
        """All that is kept, as soon as there is any; `note_written` when it is sent."""
        while not self._frames:
            self._filled = trio.Event()
            await self._filled.wait()
        self._writing = True
        return self.take_nowait()

    def take_nowait(self) -> bytes:
        data = self._frames[0] if len(self._frames) == 1 else b"".join(self._frames)
        self._frames.clear()
        self._size = 0
        emptied, self._emptied = self._emptied, trio.Event()
        emptied.set()
        return data

    def note_written(self) -> None:
        """What was taken is with the kernel."""
        self._writing = False
        flushed, self._flushed = self._flushed, trio.Event()
        flushed.set()

    async def wait_flushed(self) -> None:
        """Return when the kernel has everything."""
        while self._frames or self._writing:
            await self._flushed.wait()


def _send_now(socket: trio.socket.SocketType, frame: bytes) -> int:
    """How many bytes the kernel took."""
    try:
        return os.write(socket.fileno(), frame)
    except OSError:
        # Full, or broken, or closed: the writer meets the same and says so.
        return 0
