"""Keep the journal, the audit and the list of request ids short, and purge what was uninstalled long ago."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final

import trio

from supervisor.clock import Clock
from supervisor.control.waiting import first_of
from supervisor.core.errors import SupervisorError
from supervisor.daemon.assembly import Assembly
from supervisor.daemon.settings import Settings
from supervisor.jobs.history import HistoryKeeper
from supervisor.lifecycle.manager import LifecycleManager
from supervisor.log import get_logger
from supervisor.store.audit import AuditLog
from supervisor.store.journal import Journal
from supervisor.store.requests import RequestLog

_INTERVAL_S: Final = 3600.0
_GROWTH_BYTES: Final = 32 * 1024 * 1024
"""The journal may grow by so much, over what it is trimmed to, before the interval is over."""
_GROWTH_ENTRIES: Final = 10_000
"""And the audit by so many; with it the request ids, as none is noted without an entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    events: int
    events_age: timedelta
    audit: int
    audit_age: timedelta


class Upkeep:
    """All that is trimmed and purged while the daemon runs, by the settings as they are at that instant."""

    def __init__(self, built: Assembly, clock: Clock, settings: Callable[[], Settings]) -> None:
        self._built = built
        self._clock = clock
        self._settings = settings
        self._history = HistoryKeeper(built.runs, get_logger())
        self.put_in_force(settings())

    def put_in_force(self, settings: Settings) -> None:
        """What does not ask for them when it needs them."""
        self._history.keep_runs = settings.run_keep
        self._history.keep_ms = timedelta(days=settings.run_keep_days) // timedelta(milliseconds=1)

    def start(self, nursery: trio.Nursery) -> None:
        built = self._built
        nursery.start_soon(self._history.run)
        nursery.start_soon(keep_short, built.journal, built.requests, built.audit, self._keep)
        purge = partial(purge_uninstalled, after=lambda: timedelta(days=self._settings().purge_after_days))
        nursery.start_soon(purge, built.lifecycle, self._clock)

    def _keep(self) -> Keep:
        settings = self._settings()
        return Keep(
            events=settings.event_keep,
            events_age=timedelta(days=settings.event_keep_days),
            audit=settings.audit_keep,
            audit_age=timedelta(days=settings.audit_keep_days),
        )


async def keep_short(
    journal: Journal,
    requests: RequestLog,
    audit: AuditLog,
    keep: Callable[[], Keep],
    *,
    interval_s: float = _INTERVAL_S,
    growth_bytes: int = _GROWTH_BYTES,
    growth_entries: int = _GROWTH_ENTRIES,
) -> None:
    """Trim now, every `interval_s` seconds, and whenever events have brought `growth_bytes` or changes
    `growth_entries` in the audit, until cancelled.

    What to keep is asked anew in each round. A failure is logged and the next round tries again.
    """
    while True:
        most = keep()
        recorded = partial(journal.wait_recorded, journal.recorded_bytes + growth_bytes)
        written = partial(audit.written.wait_for, audit.written.total + growth_entries)
        try:
            events = await journal.trim(max_events=most.events, max_age=most.events_age)
            await requests.trim()
            await audit.trim(max_entries=most.audit, max_age=most.audit_age)
        except SupervisorError as error:
            get_logger().warning("journal.not_trimmed", why=error.message)
        else:
            get_logger().debug("journal.trimmed", events=events)
        with trio.move_on_after(interval_s):
            # No plugin that emits, and no operator who asks, as fast as they can are to fill the disk meanwhile.
            await first_of(recorded, written)


async def purge_uninstalled(
    lifecycle: LifecycleManager,
    clock: Clock,
    *,
    after: Callable[[], timedelta],
    interval_s: float = _INTERVAL_S,
) -> None:
    """Delete what plugins have left that were uninstalled longer than `after()` ago, 0 being never; now and every
    `interval_s` seconds, until cancelled. A failure is logged and the next round tries again."""
    while True:
        try:
            if limit := after():
                await lifecycle.purge(clock.now() - limit)
        except SupervisorError as error:
            get_logger().warning("plugins.not_purged", why=error.message)
        await trio.sleep(interval_s)
