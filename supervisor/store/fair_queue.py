"""FairQueue: between the trio thread and one that works: who asks for little does not wait behind who asks for much."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable
from typing import Final, Generic, TypeVar

T = TypeVar("T")

ITEM_BYTES: Final = 4096
"""What an item costs beside its own bytes, and what costs nobody anything counts with."""
OWN_SHARE: Final = 64
"""What belongs to nobody is the daemon's own: it goes so much before others."""


class FairQueue(Generic[T]):
    """Each owner gets the same share of the bytes, and its items in the order in which they were put.

    An item has a mark, the bytes at which its owner's share comes to it; the lowest mark is next. An owner that had
    nothing to ask for begins at the mark that is being served, so that nobody saves up. All methods may be called from
    any thread.
    """

    def __init__(self, *, max_items: int, max_bytes: int) -> None:
        """What a batch has at most; one item it always has."""
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._heap: list[tuple[float, int, int, T]] = []
        self._last: dict[str | None, float] = {}
        """Owner -> the mark of its newest item, as long as that is ahead."""
        self._now = 0.0
        self._count = 0
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._heap)

    def put(self, item: T, *, owner: str | None, size: int) -> None:
        """`size` in bytes; roughly will do. `owner` None: the daemon itself."""
        cost = (ITEM_BYTES + size) / (OWN_SHARE if owner is None else 1)
        with self._changed:
            mark = max(self._now, self._last.get(owner, 0.0)) + cost
            self._last[owner] = mark
            self._push(mark, size, item)

    def put_last(self, item: T) -> None:
        """Behind everything that is there; nothing is to be put afterwards."""
        with self._changed:
            self._push(float("inf"), 0, item)

    def take(self, is_last: Callable[[T], bool]) -> list[T]:
        """Wait for an item; it and those that go with it, in order. One that `is_last` ends the batch."""
        with self._changed:
            while not self._heap:
                self._changed.wait()
            batch: list[T] = []
            left = self._max_bytes
            while self._heap and len(batch) < self._max_items:
                mark, _, size, item = self._heap[0]
                left -= size
                if batch and left < 0:
                    break
                heapq.heappop(self._heap)
                batch.append(item)
                if is_last(item):
                    return batch
                self._now = mark
            self._forget_the_idle()
            return batch

    def _push(self, mark: float, size: int, item: T) -> None:
        self._count += 1
        heapq.heappush(self._heap, (mark, self._count, size, item))
        self._changed.notify()

    def _forget_the_idle(self) -> None:
        if not self._heap:
            self._last.clear()
            self._now = 0.0
