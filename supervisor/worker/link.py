"""One life's way back to its worker: what the daemon tells it unasked, and tasks that end with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from supervisor.channel import Channel
from supervisor.core.plugin import Plugin


class WorkerLink:
    """Given to the host with each request of the worker."""

    def __init__(self, plugin: Plugin, channel: Channel, life: trio.Nursery) -> None:
        self.plugin = plugin
        self.subscriptions: dict[int, trio.CancelScope] = {}
        """The worker's event subscriptions by their numbers; the host's business."""
        self._channel = channel
        self._life = life

    async def notify(self, method: str, params: dict[str, Any]) -> None:
        """Tell the worker; waits while it is slow to read.

        Raises:
            SupervisorError: the connection is gone.
        """
        await self._channel.notify(method, [params])

    def start_soon(self, work: Callable[[], Awaitable[None]], *, name: str) -> None:
        """Run a task that is cancelled when this life ends. It must not raise."""
        self._life.start_soon(work, name=name)
