"""Journal: the recorded events, read a page at a time, and kept short."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from fnmatch import fnmatchcase
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
_COLUMNS: Final = "seq, at_ms, type, plugin_id, plugin_key, job, data"


_Condition = tuple[str, Sequence[Any]]
"""And its parameters."""


@dataclass(frozen=True, slots=True)
class Filters:
    """Which events are meant: those that match one of each, where there are any.

    `types` are globs (`plugin.*`), `plugins` ids, `jobs` names as <plugin>/<key>.
    """

    types: Sequence[str] = ()
    plugins: Sequence[str] = ()
    jobs: Sequence[str] = ()

    def check(self) -> None:
        """Raises:
        InvalidParams: more, or longer ones, than anybody needs; every event is held against each of them.
        """
        for what, filters in (("types", self.types), ("plugins", self.plugins), ("jobs", self.jobs)):
            if len(filters) > MAX_FILTERS:
                raise InvalidParams(f"{what} may have {MAX_FILTERS} entries, not {len(filters)}; none means all")
            if (longest := max(map(len, filters), default=0)) > MAX_FILTER_CHARS:
                raise InvalidParams(f"an entry of {what} may have {MAX_FILTER_CHARS} characters, not {longest}")
        if odd := next((glob for glob in self.types if "[^" in glob), None):
            raise InvalidParams(f"{odd!r} is no type's glob here: write [!…] for none of these characters")

    def match(self, event: Recorded) -> bool:
        if self.plugins and event.plugin_id not in self.plugins:
            return False
        if self.jobs and event.job not in self.jobs:
            return False
        return not self.types or any(fnmatchcase(event.type, glob) for glob in self.types)


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


class Journal:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, filters: Filters, span: Span, limit: int = 100) -> tuple[list[Recorded], int]:
        """Events in order, and the `last_seq` of the same instant: the oldest `limit` (at most 1,000) of a span that
        has a beginning, the newest ones of another.

        A page has about 2 MiB at most: only an empty one is the end.

        Raises:
            InvalidParams: `limit` is below 1, or the filters are too many or too long.
        """
        if limit < 1:
            raise InvalidParams(f"limit must be at least 1, not {limit}", limit=limit)
        filters.check()

        def work() -> tuple[list[Recorded], int]:
            condition, parameters = _all_of([*_within(span), *_matching(filters)])
            if span.has_beginning:
                page = _page("seq", condition, parameters, min(limit, MAX_PAGE))
            else:
                page = _page("seq DESC", condition, parameters, min(limit, MAX_PAGE))[::-1]
            return page, _last_seq()

        return await self._database.read(work)

    async def list(
        self,
        after_seq: int | None = None,
        types: Sequence[str] = (),
        plugins: Sequence[str] = (),
        limit: int = 100,
    ) -> list[Recorded]:
        """See `page`."""
        return (await self.page(Filters(types, plugins), Span(after_seq), limit))[0]

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


def _within(span: Span) -> Iterator[_Condition]:
    if span.after_seq is not None:
        yield "seq > ?", [span.after_seq]
    if span.before_seq is not None:
        yield "seq < ?", [span.before_seq]
    # Places in the order of events, not a test of each one's stamp: a clock that was set back between two events must
    # not make the later one vanish. Nothing is NULL, which compares with no number.
    if span.since_ms is not None:
        yield "seq >= (SELECT seq FROM event WHERE at_ms >= ? ORDER BY seq LIMIT 1)", [span.since_ms]
    if span.until_ms is not None:
        yield "seq <= (SELECT seq FROM event WHERE at_ms < ? ORDER BY seq DESC LIMIT 1)", [span.until_ms]


def _matching(filters: Filters) -> Iterator[_Condition]:
    """Flat, as SQLite parses parentheses only so deep."""
    if filters.types:
        # SQLite's GLOB negates with ^ where a shell has !.
        globs = [glob.replace("[!", "[^") for glob in filters.types]
        yield f"({' OR '.join(['type GLOB ?'] * len(globs))})", globs
    if filters.plugins:
        yield f"plugin_id IN ({', '.join('?' * len(filters.plugins))})", filters.plugins
    if filters.jobs:
        yield f"job IN ({', '.join('?' * len(filters.jobs))})", filters.jobs


def _all_of(conditions: Sequence[_Condition]) -> tuple[str, list[Any]]:
    condition = " AND ".join(["1", *(condition for condition, _ in conditions)])
    return condition, [value for _, values in conditions for value in values]


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
        job=row[5],
        data=unpack(row[6]),
    )
