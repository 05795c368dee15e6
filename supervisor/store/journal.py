"""Journal: the recorded events, read a page at a time, and kept short."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from datetime import timedelta
from itertools import takewhile
from typing import Any, Final

from supervisor.clock import from_ms, to_ms
from supervisor.core.errors import InvalidParams
from supervisor.core.event import Recorded
from supervisor.store.database import Database, Transaction
from supervisor.store.tables import EventRow, current, unpack

MAX_PAGE: Final = 1000
MAX_PAGE_BYTES: Final = 2 * 1024 * 1024
"""Of what the events of a page say, so that it fits into a frame; one event there always is."""
MAX_BYTES: Final = 256 * 1024 * 1024
"""Of what all events say that are kept."""
MAX_FILTERS: Final = 100
MAX_FILTER_CHARS: Final = 200
_TRIM_BATCH: Final = 1000
"""Rows deleted in one transaction, so that nobody waits long behind it."""
_COLUMNS: Final = "seq, at_ms, type, plugin_id, plugin_key, data"


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

        `types` are globs (`plugin.*`), `plugins` are ids; empty means all. A page has about 2 MiB at most: only an
        empty one is the end.

        Raises:
            InvalidParams: `limit` is below 1, or the filters are too many or too long.
        """
        if limit < 1:
            raise InvalidParams(f"limit must be at least 1, not {limit}", limit=limit)
        check_filters(types, plugins)

        def work() -> list[Recorded]:
            condition, parameters = _matching(types, plugins)
            if after_seq is None:
                return _page("seq DESC", condition, parameters, min(limit, MAX_PAGE))[::-1]
            return _page("seq", f"seq > ? AND {condition}", (after_seq, *parameters), min(limit, MAX_PAGE))

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

    @property
    def recorded_bytes(self) -> int:
        """How much the events have said that were recorded since the database was opened. It only grows."""
        return self._database.recorded.total

    async def wait_recorded(self, total: int) -> None:
        """Return once `recorded_bytes` has come to `total`."""
        await self._database.recorded.wait_for(total)

    async def trim(
        self,
        max_events: int = 100_000,
        max_age: timedelta = timedelta(days=7),
        max_bytes: int = MAX_BYTES,
    ) -> int:
        """Delete the oldest events until at most `max_events` of at most `max_bytes` are left, none beyond `max_age`.

        Returns how many went. In bounded transactions; cancelled, it has done a part.
        """
        oldest_ms = to_ms(self._database.clock.now() - max_age)
        too_much = await self._database.read(lambda: _newest_beyond(max_bytes))

        def work(_: Transaction) -> int:
            last_unwanted = max(_last_seq() - max_events, too_much)
            rows: Any = EventRow.select(EventRow.seq, EventRow.at_ms).order_by(EventRow.seq).limit(_TRIM_BATCH).tuples()
            # From the old end only, though the clock may have stepped: the journal never has holes.
            old = [seq for seq, _ in takewhile(lambda row: row[0] <= last_unwanted or row[1] < oldest_ms, rows)]
            return int(EventRow.delete().where(EventRow.seq <= old[-1]).execute()) if old else 0

        total = trimmed = await self._database.transact(work)
        while trimmed == _TRIM_BATCH:
            trimmed = await self._database.transact(work)
            total += trimmed
        return total


def check_filters(types: Sequence[str], plugins: Sequence[str]) -> None:
    """Raises:
    InvalidParams: more, or longer ones, than anybody needs; every event is held against each of them.
    """
    for what, filters in (("types", types), ("plugins", plugins)):
        if len(filters) > MAX_FILTERS:
            raise InvalidParams(f"{what} may have {MAX_FILTERS} entries, not {len(filters)}; none means all")
        if (longest := max(map(len, filters), default=0)) > MAX_FILTER_CHARS:
            raise InvalidParams(f"an entry of {what} may have {MAX_FILTER_CHARS} characters, not {longest}")


def _page(order: str, condition: str, parameters: Sequence[Any], limit: int) -> list[Recorded]:
    sql = f"SELECT {_COLUMNS} FROM event WHERE {condition} ORDER BY {order} LIMIT ?"  # noqa: S608 - no outside text
    page: list[Recorded] = []
    left = MAX_PAGE_BYTES
    # Row by row, and closed: a thousand large ones are never in memory at once.
    with closing(current.execute_sql(sql, (*parameters, limit))) as rows:
        for row in rows:
            left -= len(row[-1])
            if page and left < 0:
                break
            page.append(_to_recorded(row))
    return page


def _newest_beyond(max_bytes: int) -> int:
    """The newest event that, with all after it, says more than `max_bytes`; 0 if none does."""
    left = max_bytes
    # The length of a blob is in the row's head: what it says is not read.
    with closing(current.execute_sql("SELECT seq, length(data) FROM event ORDER BY seq DESC")) as rows:
        for seq, size in rows:
            left -= size
            if left < 0:
                return int(seq)
    return 0


def _matching(types: Sequence[str], plugins: Sequence[str]) -> tuple[str, list[str]]:
    """A condition and its parameters. Flat, as SQLite parses parentheses only so deep."""
    conditions, parameters = ["1"], list[str]()
    if types:
        conditions.append(f"({' OR '.join(['type GLOB ?'] * len(types))})")
        # SQLite's GLOB negates with ^ where a shell has !.
        parameters += [glob.replace("[!", "[^") for glob in types]
    if plugins:
        conditions.append(f"plugin_id IN ({', '.join('?' * len(plugins))})")
        parameters += plugins
    return " AND ".join(conditions), parameters


def _last_seq() -> int:
    # SQLite's own note, since the newest row may have been trimmed.
    row = current.execute_sql("SELECT seq FROM sqlite_sequence WHERE name = 'event'").fetchone()
    return int(row[0]) if row else 0


def _to_recorded(row: Sequence[Any]) -> Recorded:
    return Recorded(
        seq=row[0],
        at=from_ms(row[1]),
        type=row[2],
        plugin_id=row[3],
        plugin_key=row[4],
        data=unpack(row[5]),
    )
