"""Keep the journal, the audit and the list of request ids short, and purge what was uninstalled long ago."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import trio

from supervisor.clock import Clock
from supervisor.core.errors import SupervisorError
from supervisor.lifecycle.manager import LifecycleManager
from supervisor.log import get_logger
from supervisor.store.audit import AuditLog
from supervisor.store.journal import Journal
from supervisor.store.requests import RequestLog

_INTERVAL_S: Final = 3600.0
_GROWTH_BYTES: Final = 32 * 1024 * 1024
"""The journal may grow by so much, over what it is trimmed to, before the interval is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    events: int
    events_age: timedelta
    audit: int
    audit_age: timedelta


async def keep_short(
    journal: Journal,
    requests: RequestLog,
    audit: AuditLog,
    keep: Callable[[], Keep],
    *,
    interval_s: float = _INTERVAL_S,
    growth_bytes: int = _GROWTH_BYTES,
) -> None:
    """Trim now, every `interval_s` seconds and whenever events have brought `growth_bytes`, until cancelled.

    What to keep is asked anew in each round. A failure is logged and the next round tries again.
    """
    while True:
        most = keep()
        enough = journal.recorded_bytes + growth_bytes
        try:
            events = await journal.trim(max_events=most.events, max_age=most.events_age)
            await requests.trim()
            await audit.trim(max_entries=most.audit, max_age=most.audit_age)
        except SupervisorError as error:
            get_logger().warning("journal.not_trimmed", why=error.message)
        else:
            get_logger().debug("journal.trimmed", events=events)
        with trio.move_on_after(interval_s):
            # No plugin that emits as fast as it can is to fill the disk meanwhile.
            await journal.wait_recorded(enough)


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
