"""Clock: what time it is, as an aware UTC datetime. Durations come from `trio.current_time()` instead."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    def now(self) -> datetime: ...


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


def to_ms(instant: datetime) -> int:
    """UTC milliseconds since the Unix epoch, rounded down: how instants are stored and sent."""
    return int(instant.timestamp() * 1000)


def from_ms(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
