"""Queue: how many installs may run pip at a time; the others wait for their turn, for as long as their callers do."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from supervisor.lifecycle.operation import Operation

WAITING = "waiting for its turn"
"""What an operation tells meanwhile."""


class Queue:
    """At most `most` at a time, in the order in which they came."""

    def __init__(self, most: int) -> None:
        self._places = trio.Semaphore(most)

    @asynccontextmanager
    async def phase(self, operation: Operation, name: str) -> AsyncIterator[None]:
        """`Operation.phase`, the time of which begins when its turn has come. To wait for it may be aborted too."""
        try:
            self._places.acquire_nowait()
        except trio.WouldBlock:
            with operation.phase(name, math.inf):
                operation.report(line=WAITING)
                await self._places.acquire()
        try:
            with operation.phase(name):
                yield
        finally:
            self._places.release()
