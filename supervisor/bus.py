"""EventBus: recorded events to in-process subscribers, in the journal's order, without ever blocking the publisher."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import trio

from supervisor.core.event import Recorded
from supervisor.wire.codec import packed_size

MAX_BUFFERED_BYTES: Final = 4 * 1024 * 1024
"""Of what the buffered events of one subscription say."""
_REMEMBERED: Final = 256
"""Kinds of events for which it is known who wants them."""

Wants = Callable[[Recorded], bool]
"""Whether somebody is to be given an event; judged by its type, plugin and job alone."""
_Kind = tuple[str, str, str | None]


def _everything(_: Recorded) -> bool:
    return True


def _do_nothing() -> None:
    """For who sees a gap soon enough when he comes to it."""


@dataclass(frozen=True, slots=True)
class Gap:
    """The subscriber was too slow: `missed` events that he wanted were dropped here, from `first_seq` to `last_seq`.
    Look again."""

    missed: int
    first_seq: int
    last_seq: int


class Subscription:
    """Iterate over it; each holds at most `max_buffered` events and about `max_bytes`, but one there may always be.

    When there are more, all go: who looks again, or reads the journal, finds them, and what is kept for the slowest is
    never older than what the newest `max_buffered` events are.
    """

    def __init__(self, max_buffered: int, max_bytes: int, wants: Wants, on_gap: Callable[[], None]) -> None:
        self.wants = wants
        self._on_gap = on_gap
        self._max_buffered = max_buffered
        self._max_bytes = max_bytes
        self._buffer: deque[tuple[Recorded, int]] = deque()
        self._bytes = 0
        self._gap: Gap | None = None
        self._wakeup = trio.Event()

    def _offer(self, entry: tuple[Recorded, int]) -> None:
        """One entry for all, since there may be thousands that keep it."""
        event, size = entry
        if self._gap is not None:
            # Once one is dropped all are, until the subscriber has seen the gap.
            self._gap = Gap(self._gap.missed + 1, self._gap.first_seq, event.seq)
        elif len(self._buffer) >= self._max_buffered or (self._buffer and self._bytes + size > self._max_bytes):
            self._gap = Gap(len(self._buffer) + 1, self._buffer[0][0].seq if self._buffer else event.seq, event.seq)
            self._buffer.clear()
            self._bytes = 0
            self._on_gap()
        else:
            self._buffer.append(entry)
            self._bytes += size
        self._wakeup.set()

    def __aiter__(self) -> AsyncIterator[Recorded | Gap]:
        return self

    async def __anext__(self) -> Recorded | Gap:
        while not self._buffer and self._gap is None:
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
        if self._gap is None:
            raise trio.WouldBlock
        gap, self._gap = self._gap, None
        return gap


class EventBus:
    """Publishing is synchronous: no checkpoint lies between a commit and its events. It costs what those cost who want
    the event, however many there are who do not."""

    def __init__(self) -> None:
        self._subscriptions: set[Subscription] = set()
        self._wanting: dict[_Kind, Sequence[Subscription]] = {}
        self._changes: dict[str, trio.Event] = {}
        self.last_seq = 0
        """Of the newest event published, or recorded before the daemon began."""

    def publish(self, event: Recorded) -> None:
        self.last_seq = event.seq
        if event.type.startswith("plugin."):
            self._changes.pop(event.plugin_id, trio.Event()).set()
        if wanting := self._who_wants(event):
            # Measured once for all: a thousand large events in each buffer would be the daemon's memory.
            entry = (event, packed_size(event.data))
            for subscription in wanting:
                subscription._offer(entry)

    def changed(self, plugin_id: str) -> trio.Event:
        """Set at the next event of the plugin itself (`plugin.*`); take it before you look."""
        return self._changes.setdefault(plugin_id, trio.Event())

    @contextmanager
    def subscribe(
        self,
        max_buffered: int = 1024,
        max_bytes: int = MAX_BUFFERED_BYTES,
        *,
        wants: Wants = _everything,
        on_gap: Callable[[], None] = _do_nothing,
    ) -> Iterator[Subscription]:
        """A subscription to everything that it `wants` of what is published from now on, until the block ends.

        `on_gap` is called when a gap begins, and must not raise.
        """
        subscription = Subscription(max_buffered, max_bytes, wants, on_gap)
        self._subscriptions.add(subscription)
        self._wanting.clear()
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)
            self._wanting.clear()

    def _who_wants(self, event: Recorded) -> Sequence[Subscription]:
        kind = (event.type, event.plugin_id, event.job)
        wanting = self._wanting.get(kind)
        if wanting is None:
            wanting = [subscription for subscription in self._subscriptions if subscription.wants(event)]
            if len(self._wanting) >= _REMEMBERED:
                self._wanting.clear()
            self._wanting[kind] = wanting
        return wanting
