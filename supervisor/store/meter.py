"""Meter: counts what comes, and wakes who waits for so much. Belongs to the trio thread."""

from __future__ import annotations

import trio


class Meter:
    def __init__(self) -> None:
        self.total = 0
        """It only grows."""
        self._waiting: dict[trio.Event, int] = {}

    def add(self, count: int) -> None:
        self.total += count
        for reached, total in self._waiting.items():
            if self.total >= total:
                reached.set()

    async def wait_for(self, total: int) -> None:
        """Return once `total` has been reached."""
        reached = trio.Event()
        if self.total >= total:
            reached.set()
        self._waiting[reached] = total
        try:
            await reached.wait()
        finally:
            del self._waiting[reached]
