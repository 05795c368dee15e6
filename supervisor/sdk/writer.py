"""Frames out of a descriptor, from many threads: one writes at a time, in order.

A thread waits until its frame is written: that is its back-pressure. The reader and the event loop must not wait; what
they cannot write at once stays in the queue, and the reader writes it when there is room.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

_ROOM_BYTES: Final = 256 * 1024
"""While so many bytes are unsent, who must not wait is told that there is no room."""


class Writer:
    """`wake` lets the reader look again; `lost` is told why nothing can be written any more."""

    def __init__(self, fd: int, *, wake: Callable[[], None], lost: Callable[[OSError], None]) -> None:
        self._fd = fd
        self._wake = wake
        self._lost = lost
        self._queue: deque[memoryview] = deque()
        self._put_bytes = 0
        self._written_bytes = 0
        self._turn = threading.Lock()
        """Whoever holds it writes."""
        self._unwaiting: set[int] = set()
        self._room_lock = threading.Lock()
        self._room_waiters: list[Callable[[], None]] = []
        self._over = False

    @property
    def pending(self) -> bool:
        return bool(self._queue)

    @property
    def has_room(self) -> bool:
        return self._over or self._put_bytes - self._written_bytes < _ROOM_BYTES

    @property
    def may_wait(self) -> bool:
        return threading.get_ident() not in self._unwaiting

    def never_wait(self) -> None:
        """From now on this thread does not wait for room."""
        self._unwaiting.add(threading.get_ident())

    def put(self, frame: bytes) -> None:
        """Queue a frame; one caller at a time. `flush` sends it."""
        self._put_bytes += len(frame)
        self._queue.append(memoryview(frame))

    def when_room(self, call: Callable[[], None]) -> None:
        """Call it once there is room, in whatever thread makes it; at once if there is."""
        with self._room_lock:
            if not self.has_room:
                self._room_waiters.append(call)
                return
        call()

    def flush(self) -> None:
        """Write what is queued; who must not wait writes what goes at once and leaves the rest to the reader."""
        if self.may_wait:
            self._flush(wait=True)
        elif not self._flush(wait=False):
            self._wake()

    def flush_nowait(self) -> None:
        self._flush(wait=False)

    def flush_for(self, seconds: float) -> None:
        """Write what is left, for so long at most."""
        room = select.poll()
        room.register(self._fd, select.POLLOUT)
        deadline = time.monotonic() + seconds
        while self._queue and (left := deadline - time.monotonic()) > 0:
            room.poll(left * 1000)
            self._flush(wait=False)

    def end(self) -> None:
        """Nothing new will be queued: who waits for room goes on and finds that out by itself."""
        self._over = True
        self._tell_room()

    def close(self) -> None:
        """The descriptor is about to be closed: from now on its number may be somebody else's."""
        self._fd = -1
        self.flush_nowait()

    def _flush(self, *, wait: bool) -> bool:
        # Again after giving up the turn: what another thread has added meanwhile may have found it taken.
        while self._queue and self._turn.acquire(blocking=wait):
            try:
                written = self._write_out(wait=wait)
            finally:
                self._turn.release()
            self._tell_room()
            if not written:
                return False
        return True

    def _write_out(self, *, wait: bool) -> bool:
        while self._queue:
            view = self._queue[0]
            try:
                written = os.write(self._fd, view)
            except BlockingIOError:
                if not wait:
                    return False
                self._tell_room()
                room = select.poll()
                room.register(self._fd, select.POLLOUT)
                room.poll()
                continue
            except OSError as error:
                self._queue.clear()
                self._lost(error)
                return True
            self._written_bytes += written
            if written == len(view):
                self._queue.popleft()
            else:
                self._queue[0] = view[written:]
        return True

    def _tell_room(self) -> None:
        with self._room_lock:
            if not self._room_waiters or not self.has_room:
                return
            waiters, self._room_waiters = self._room_waiters, []
        for call in waiters:
            call()
