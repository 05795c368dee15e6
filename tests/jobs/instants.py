"""Schedules as people read them: instants in place of milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from supervisor.jobs.cron import Schedule

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


def next_after(schedule: Schedule, instant: datetime) -> datetime | None:
    """`Schedule.next_ms`, from an instant in any zone to one in UTC."""
    fire_ms = schedule.next_ms((instant - _EPOCH) // _MILLISECOND)
    return None if fire_ms is None else _EPOCH + fire_ms * _MILLISECOND
