"""One life's way back to its worker: what the daemon tells it unasked, and tasks that end with it."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import trio

from supervisor.channel import Channel
from supervisor.core.plugin import Plugin
from supervisor.worker.discretion import Discretion

_LARGE_ANSWERS: Final = 4


class WorkerLink:
    """Given to the host with each request of the worker."""

    def __init__(self, plugin: Plugin, channel: Channel, life: trio.Nursery, discretion: Discretion) -> None:
        self.plugin = plugin
        self.discretion = discretion
        """Learns a secret before the worker is answered with it."""
        self.subscriptions: dict[int, trio.CancelScope] = {}
        """The worker's event subscriptions by their numbers; the host's business."""
        self.numbers = itertools.count(1)
        """For the next ones."""
        self._channel = channel
        self._life = life
        self._large = trio.CapacityLimiter(_LARGE_ANSWERS)

    async def notify(self, method: str, params: dict[str, Any]) -> None:
        """Tell the worker; waits while it is slow to read.

        Raises:
            SupervisorError: the connection is gone.
        """
        await self._channel.notify(method, [params])

    @asynccontextmanager
    async def large_answer(self) -> AsyncIterator[None]:
        """Make an answer that may be large in here: a few at a time, and only for a worker that takes them."""
        async with self._large:
            await self._channel.wait_room()
            yield

    def start_soon(self, work: Callable[[], Awaitable[None]], *, name: str) -> None:
        """Run a task that is cancelled when this life ends. It must not raise."""
        self._life.start_soon(work, name=name)

    async def start(self, work: Callable[..., Awaitable[None]], *, name: str) -> Any:
        """As `start_soon`, and return what the task has started with."""
        return await self._life.start(work, name=name)
