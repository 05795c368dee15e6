"""Look: through a part of the journal, so much in one read that others come in between."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

from supervisor.clock import from_ms
from supervisor.core.event import Recorded
from supervisor.store.event_filters import Filters
from supervisor.store.tables import EventRow, current, unpack

_LOOK_AT: Final = 20_000
"""Events that one read looks at."""
_COMPARE: Final = 100_000
"""Globs that are held against events in one read."""
_COLUMNS: Final = "seq, at_ms, type, plugin_id, plugin_key, job, data"


@dataclass(frozen=True, slots=True)
class Span:
    """A part of the journal: after one event and before another, from the first one stamped `since_ms` or later to the
    last one stamped before `until_ms`, both in UTC milliseconds."""

    after_seq: int | None = None
    before_seq: int | None = None
    since_ms: int | None = None
    until_ms: int | None = None

    @property
    def has_beginning(self) -> bool:
        return self.after_seq is not None or self.since_ms is not None


class Look:
    """`go_on`, a read each time, until it says that this was all. What is looked at is the journal as it was when that
    began: what comes later is not told, nor counted in `last_seq`.

    A span that has a beginning is looked at from there, another from its end.
    """

    def __init__(self, filters: Filters, span: Span, *, limit: int, max_bytes: int) -> None:
        """At most `limit` events, of about `max_bytes`; one there always may be."""
        self._span = span
        self._condition, self._values = _all_of(filters)
        self._rows = min(_LOOK_AT, _COMPARE // max(1, len(filters.types)))
        self._limit = limit
        self._max_bytes = max_bytes
        self._left: tuple[int, int] | None = None
        """The first and the last event that are still to be looked at."""
        self.found: list[Recorded] = []
        """In the order in which it is looked at them."""
        self.size = 0
        """What they say, in bytes."""
        self.full = False
        """There may be more of them, and no more is taken."""
        self.through_seq = 0
        """The last that was looked at, of a span that has a beginning."""
        self.first_seq = 0
        self.last_seq = 0

    def go_on(self) -> bool:
        """Look a bit further; whether that was all. One at a time, in a read."""
        low, high = self._left or self._begin()
        if low > high:
            return True
        if self._span.has_beginning:
            end = min(high, low + self._rows - 1)
            self._left = end + 1, high
            self._take(low, end, "seq")
            self.through_seq = self.found[-1].seq if self.full else end
        else:
            begin = max(low, high - self._rows + 1)
            self._left = low, begin - 1
            self._take(begin, high, "seq DESC")
        return self.full or self._left[0] > self._left[1]

    def _begin(self) -> tuple[int, int]:
        self.first_seq, self.last_seq = low, high = first_seq(), last_seq()
        span = self._span
        if span.after_seq is not None:
            low = max(low, span.after_seq + 1)
        if span.before_seq is not None:
            high = min(high, span.before_seq - 1)
        # Places in the order of events, not a test of each one's stamp: a clock that was set back between two events
        # must not make the later one vanish.
        if span.since_ms is not None:
            low = max(low, _seq("at_ms >= ? ORDER BY seq", span.since_ms, high + 1))
        if span.until_ms is not None:
            high = min(high, _seq("at_ms < ? ORDER BY seq DESC", span.until_ms, low - 1))
        return low, high

    def _take(self, low: int, high: int, order: str) -> None:
        sql = f"SELECT {_COLUMNS} FROM event WHERE seq BETWEEN ? AND ?{self._condition} ORDER BY {order}"  # noqa: S608 - no outside text
        # Row by row, and closed: a thousand large ones are never in memory at once.
        with closing(current.execute_sql(sql, (low, high, *self._values))) as rows:
            for row in rows:
                if self.found and self.size + len(row[-1]) > self._max_bytes:
                    self.full = True
                    return
                self.size += len(row[-1])
                self.found.append(_to_recorded(row))
                if len(self.found) >= self._limit:
                    self.full = True
                    return


def first_seq() -> int:
    """In a read: of the oldest event that is kept; one more than `last_seq` when none is."""
    oldest = EventRow.select(EventRow.seq).order_by(EventRow.seq).limit(1).scalar()
    return last_seq() + 1 if oldest is None else int(oldest)


def last_seq() -> int:
    """In a read: of the newest event ever recorded."""
    # SQLite's own note, since the newest row may have been trimmed.
    row = current.execute_sql("SELECT seq FROM sqlite_sequence WHERE name = 'event'").fetchone()
    return int(row[0]) if row else 0


def _seq(place: str, stamp_ms: int, otherwise: int) -> int:
    row = current.execute_sql(f"SELECT seq FROM event WHERE {place} LIMIT 1", (stamp_ms,)).fetchone()  # noqa: S608 - no outside text
    return int(row[0]) if row else otherwise


def _all_of(filters: Filters) -> tuple[str, list[Any]]:
    conditions = list(filters.conditions())
    return "".join(f" AND {text}" for text, _ in conditions), [value for _, values in conditions for value in values]


def _to_recorded(row: Sequence[Any]) -> Recorded:
    return Recorded(
        seq=row[0],
        at=from_ms(row[1]),
        type=row[2],
        plugin_id=row[3],
        plugin_key=row[4],
        job=row[5],
        data=unpack(row[6]),
    )
