"""Deadlines: things to look at when their time has come; one task for all of them, however many there are."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable
from itertools import count
from typing import Generic, TypeVar

import trio

T = TypeVar("T", bound=Hashable)

_SLACK = 64


class Deadlines(Generic[T]):
    """Each thing has one at most; instants are of trio's clock, in seconds. `on_due` must not raise."""

    def __init__(self, on_due: Callable[[T], None]) -> None:
        self._on_due = on_due
        self._at: dict[T, float] = {}
        self._heap: list[tuple[float, int, T]] = []
        """What is in here and not in `_at` at that time is out of date."""
        self._numbers = count()
        self._earlier = trio.Event()

    def __len__(self) -> int:
        return len(self._at)

    def set(self, thing: T, at: float) -> None:
        """Instead of the one it has."""
        if not self._heap or at < self._heap[0][0]:
            self._earlier.set()
        self._at[thing] = at
        heapq.heappush(self._heap, (at, next(self._numbers), thing))
        if len(self._heap) > 2 * len(self._at) + _SLACK:
            # What is no longer awaited is not to be kept until its time has come.
            self._heap = [(when, next(self._numbers), each) for each, when in self._at.items()]
            heapq.heapify(self._heap)

    def clear(self, thing: T) -> None:
        self._at.pop(thing, None)

    async def run(self) -> None:
        """Tell what is due, until cancelled."""
        while True:
            self._earlier = trio.Event()
            with trio.move_on_at(self._heap[0][0] if self._heap else float("inf")):
                await self._earlier.wait()
            while self._heap and self._heap[0][0] <= trio.current_time():
                at, _, thing = heapq.heappop(self._heap)
                if self._at.get(thing) == at:
                    del self._at[thing]
                    self._on_due(thing)
