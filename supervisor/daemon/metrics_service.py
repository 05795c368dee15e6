"""MetricsService: all that the daemon counts, from its start on, and the two ways to read it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial

import trio

from supervisor.clock import Clock
from supervisor.control.meters import Meters
from supervisor.control.server import ServerStatistics
from supervisor.core.event import Recorded
from supervisor.daemon.assembly import Assembly
from supervisor.daemon.metrics_events import EventCounts
from supervisor.daemon.metrics_listen import scrape_listener
from supervisor.daemon.metrics_scrape import Scrape
from supervisor.daemon.metrics_snapshot import Sources
from supervisor.daemon.settings import Settings


class MetricsService:
    """`listen`, then `start`; before that there is nothing to read, but all is counted."""

    _scrape: Scrape

    def __init__(self, clock: Clock) -> None:
        self.meters = Meters()
        self._events = EventCounts(clock.now)
        self._started_s = clock.now().timestamp()
        self._listener: socket.socket | None = None

    def note(self, event: Recorded) -> None:
        """It has been published."""
        self._events.note(event)

    def listen(self, settings: Settings, stack: AsyncExitStack) -> None:
        """Where Prometheus may scrape, if anywhere; until the stack is left.

        Raises:
            FailedPrecondition: the place cannot be used.
        """
        if settings.metrics_listen:
            place = scrape_listener(settings.metrics_listen, settings.socket_group)
            self._listener = stack.enter_context(place)

    async def start(
        self,
        nursery: trio.Nursery,
        built: Assembly,
        server: Callable[[], ServerStatistics],
        warnings: Callable[[], int],
    ) -> None:
        """From now on it can be read, until the nursery ends also by Prometheus."""
        self._scrape = Scrape(
            Sources(
                built=built,
                events=self._events,
                meters=self.meters,
                server=server,
                warnings=warnings,
                started_s=self._started_s,
            )
        )
        if self._listener is not None:
            from supervisor.daemon.metrics_http import (
                ScrapeServer,
            )  # Most daemons need no HTTP: it takes time to import.

            await nursery.start(ScrapeServer(self._listener, partial(self.text, plugins=True)).run)
            nursery.start_soon(self._scrape.warm_up)

    async def text(self, *, plugins: bool) -> str:
        """As Prometheus reads it; `plugins`: with what plugins tell of themselves."""
        return await self._scrape.text(plugins=plugins)
