"""Journal: the recorded events, read a page at a time, and kept short."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import reduce
from itertools import takewhile
from operator import or_
from typing import Any, Final

from supervisor.clock import from_ms, to_ms
from supervisor.core.errors import InvalidParams
from supervisor.core.event import Recorded
from supervisor.store.database import Database, Transaction
from supervisor.store.tables import EventRow, current

MAX_PAGE: Final = 1000
_TRIM_BATCH: Final = 1000
"""Rows deleted in one transaction, so that nobody waits long behind it."""


class Journal:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(
        self,
        after_seq: int | None = None,
        types: Sequence[str] = (),
        plugins: Sequence[str] = (),
        limit: int = 100,
    ) -> list[Recorded]:
        """Events after `after_seq`, oldest first; with None, the newest `limit` (at most 1,000) of them, oldest first.

        `types` are globs (`plugin.*`), `plugins` are ids; empty means all.

        Raises:
            InvalidParams: `limit` is below 1.
        """
        if limit < 1:
            raise InvalidParams(f"limit must be at least 1, not {limit}", limit=limit)

        def work() -> list[Recorded]:
            query = _matching(types, plugins).limit(min(limit, MAX_PAGE))
            if after_seq is None:
                return [_to_recorded(row) for row in query.order_by(EventRow.seq.desc()).dicts()][::-1]
            return [_to_recorded(row) for row in query.where(EventRow.seq > after_seq).order_by(EventRow.seq).dicts()]

        return await self._database.read(work)

    async def last_seq(self) -> int:
        """Of the newest event ever recorded, trimmed or not; 0 when there was none."""
        return await self._database.read(_last_seq)

    async def first_seq(self) -> int:
        """Of the oldest event that is kept; one more than `last_seq` when none is."""

        def work() -> int:
            oldest = EventRow.select(EventRow.seq).order_by(EventRow.seq).limit(1).scalar()
            return _last_seq() + 1 if oldest is None else int(oldest)

        return await self._database.read(work)

    async def trim(self, max_events: int = 100_000, max_age: timedelta = timedelta(days=7)) -> int:
        """Delete the oldest events until at most `max_events` are left and the oldest is within `max_age`.

        Returns how many went. In bounded transactions; cancelled, it has done a part.
        """
        oldest_ms = to_ms(self._database.clock.now() - max_age)

        def work(_: Transaction) -> int:
            last_unwanted = _last_seq() - max_events
            rows: Any = EventRow.select(EventRow.seq, EventRow.at_ms).order_by(EventRow.seq).limit(_TRIM_BATCH).tuples()
            # From the old end only, though the clock may have stepped: the journal never has holes.
            old = [seq for seq, _ in takewhile(lambda row: row[0] <= last_unwanted or row[1] < oldest_ms, rows)]
            return int(EventRow.delete().where(EventRow.seq <= old[-1]).execute()) if old else 0

        total = trimmed = await self._database.transact(work)
        while trimmed == _TRIM_BATCH:
            trimmed = await self._database.transact(work)
            total += trimmed
        return total


def _matching(types: Sequence[str], plugins: Sequence[str]) -> Any:
    query = EventRow.select()
    if types:
        # peewee writes `%` as GLOB here, which negates with ^ where a shell has !.
        query = query.where(reduce(or_, (EventRow.type % glob.replace("[!", "[^") for glob in types)))
    if plugins:
        query = query.where(EventRow.plugin_id.in_(list(plugins)))
    return query


def _last_seq() -> int:
    # SQLite's own note, since the newest row may have been trimmed.
    row = current.execute_sql("SELECT seq FROM sqlite_sequence WHERE name = 'event'").fetchone()
    return int(row[0]) if row else 0


def _to_recorded(row: dict[str, Any]) -> Recorded:
    return Recorded(
        seq=row["seq"],
        at=from_ms(row["at_ms"]),
        type=row["type"],
        plugin_id=row["plugin_id"],
        plugin_key=row["plugin_key"],
        data=row["data"],
    )
