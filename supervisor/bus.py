"""EventBus: recorded events to in-process subscribers, in the journal's order, without ever blocking the publisher."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import trio

from supervisor.core.event import Recorded
from supervisor.wire.codec import packed_size

MAX_BUFFERED_BYTES: Final = 4 * 1024 * 1024
"""Of what the buffered events of one subscription say."""


@dataclass(frozen=True, slots=True)
class Gap:
    """The subscriber was too slow: `missed` events were dropped here, the last of them `last_seq`. Look again."""

    missed: int
    last_seq: int


class Subscription:
    """Iterate over it; each holds at most `max_buffered` events and about `max_bytes`, but one there may always be."""

    def __init__(self, max_buffered: int, max_bytes: int) -> None:
        self._max_buffered = max_buffered
        self._max_bytes = max_bytes
        self._buffer: deque[tuple[Recorded, int]] = deque()
        self._bytes = 0
        self._missed = 0
        self._last_missed_seq = 0
        self._wakeup = trio.Event()

    def _offer(self, event: Recorded, size: int) -> None:
        if self._missed or len(self._buffer) >= self._max_buffered or self._is_too_much(size):
            # Once one is dropped all are, until the subscriber has seen the gap: order stays.
            self._missed += 1
            self._last_missed_seq = event.seq
        else:
            self._buffer.append((event, size))
            self._bytes += size
        self._wakeup.set()

    def _is_too_much(self, size: int) -> bool:
        return bool(self._buffer) and self._bytes + size > self._max_bytes

    def __aiter__(self) -> AsyncIterator[Recorded | Gap]:
        return self

    async def __anext__(self) -> Recorded | Gap:
        while not self._buffer and not self._missed:
            self._wakeup = trio.Event()
            await self._wakeup.wait()
        await trio.lowlevel.checkpoint()
        return self.take_nowait()

    def take_nowait(self) -> Recorded | Gap:
        """The next event or gap.

        Raises:
            trio.WouldBlock: there is none.
        """
        if self._buffer:
            event, size = self._buffer.popleft()
            self._bytes -= size
            return event
        if not self._missed:
            raise trio.WouldBlock
        gap = Gap(self._missed, self._last_missed_seq)
        self._missed = 0
        return gap


class EventBus:
    """Publishing is synchronous: no checkpoint lies between a commit and its events."""

    def __init__(self) -> None:
        self._subscriptions: set[Subscription] = set()
        self.last_seq = 0
        """Of the newest event published, or recorded before the daemon began."""

    def publish(self, event: Recorded) -> None:
        self.last_seq = event.seq
        # Measured once for all: a thousand large events in each buffer would be the daemon's memory.
        size = packed_size(event.data) if self._subscriptions else 0
        for subscription in self._subscriptions:
            subscription._offer(event, size)

    @contextmanager
    def subscribe(self, max_buffered: int = 1024, max_bytes: int = MAX_BUFFERED_BYTES) -> Iterator[Subscription]:
        """A subscription to everything published from now on, until the block ends."""
        subscription = Subscription(max_buffered, max_bytes)
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)
