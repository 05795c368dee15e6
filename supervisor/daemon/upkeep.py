"""Keep the journal and the list of request ids short."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import trio

from supervisor.core.errors import SupervisorError
from supervisor.log import get_logger
from supervisor.store.journal import Journal
from supervisor.store.requests import RequestLog

_INTERVAL_S: Final = 3600.0


async def keep_short(
    journal: Journal, requests: RequestLog, *, max_events: int, max_age: timedelta, interval_s: float = _INTERVAL_S
) -> None:
    """Trim now and every `interval_s` seconds, until cancelled; a failure is logged and the next round tries again."""
    while True:
        try:
            events = await journal.trim(max_events=max_events, max_age=max_age)
            await requests.trim()
        except SupervisorError as error:
            get_logger().warning("journal.not_trimmed", why=error.message)
        else:
            get_logger().debug("journal.trimmed", events=events)
        await trio.sleep(interval_s)
