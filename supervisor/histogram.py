"""Histogram: how often a number fell into each of some fixed ranges; cheap enough for hot paths."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

REQUEST_S: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 300)
"""From an answer at hand to a wait."""
COMMIT_S: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
DELAY_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
RUN_S: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14_400)


@dataclass(frozen=True, slots=True)
class Distribution:
    """What a histogram has seen so far."""

    buckets: tuple[tuple[float, int], ...]
    """A bound, and how many were at most so large; the last bound is infinite, and its number that of all."""
    sum: float


class Histogram:
    """One thread observes, any may look."""

    def __init__(self, bounds: Sequence[float]) -> None:
        """`bounds` grow; each belongs to the range below it."""
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def look(self) -> Distribution:
        # A copy first: what is observed meanwhile, by another thread, is in all of it or in none.
        counts = accumulate(self._counts[:])
        return Distribution(tuple(zip((*self._bounds, float("inf")), counts, strict=True)), self._sum)
