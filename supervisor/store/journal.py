"""Journal: the recorded events, read a page at a time, and kept short."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from itertools import takewhile
from typing import Any, Final

from supervisor.clock import to_ms
from supervisor.core.errors import InvalidParams
from supervisor.core.event import Recorded
from supervisor.store.database import Database, Transaction
from supervisor.store.event_filters import Filters
from supervisor.store.journal_look import Look, Span, first_seq, last_seq
from supervisor.store.tables import EventRow, current

MAX_PAGE: Final = 1000
MAX_PAGE_BYTES: Final = 2 * 1024 * 1024
"""Of what the events of a page say, so that it fits into a frame; one event there always is."""
MAX_BYTES: Final = 256 * 1024 * 1024
"""Of what all events say that are kept."""
_TRIM_BATCH: Final = 1000
"""Rows deleted in one transaction, so that nobody waits long behind it."""
_READ_BYTES: Final = 256 * 1024
"""As which a look counts with the reader, which may take some 10 ms: few are between two of somebody else's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What was found behind a place."""

    events: Sequence[Recorded]
    size: int
    """About how many bytes they say."""
    through_seq: int
    """So far was looked: the place to go on from."""
    first_seq: int
    """Of the oldest event kept, in the same instant."""
    is_last: bool
    """In that instant there was nothing behind it."""


class Journal:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self, filters: Filters, span: Span, limit: int = 100, *, owner: str | None = None
    ) -> tuple[list[Recorded], int]:
        """Events in order, and the `last_seq` of the same instant: the oldest `limit` (at most 1,000) of a span that
        has a beginning, the newest ones of another. What is recorded while it is looked for is in neither.

        A page has about 2 MiB at most: only an empty one is the end. `owner` is for whom, as in `Database.read`: many
        reads may be made, and others come in between; cancelled, there are no more of them.

        Raises:
            InvalidParams: `limit` is below 1, or the filters are too many or too long.
        """
        if limit < 1:
            raise InvalidParams(f"limit must be at least 1, not {limit}", limit=limit)
        filters.check()
        look = Look(filters, span, limit=min(limit, MAX_PAGE), max_bytes=MAX_PAGE_BYTES)
        while not await self._database.read(look.go_on, owner=owner, size=_READ_BYTES):
            pass
        return look.found if span.has_beginning else look.found[::-1], look.last_seq

    async def after(self, seq: int, filters: Filters, *, limit: int, max_bytes: int, owner: str | None) -> Page:
        """The next events behind `seq`, of about `max_bytes`, as far as one read comes: there may be none, and more
        behind `through_seq`."""
        look = Look(filters, Span(seq), limit=limit, max_bytes=max_bytes)
        is_last = await self._database.read(look.go_on, owner=owner, size=_READ_BYTES) and not look.full
        return Page(
            events=look.found,
            size=look.size,
            through_seq=max(seq, look.through_seq),
            first_seq=look.first_seq,
            is_last=is_last,
        )

    async def prepare(self, filters: Filters, *, owner: str | None) -> int:
        """Make them quick to match, where nobody has to wait for it, and return `first_seq`."""

        def work() -> int:
            filters.prepare()
            return first_seq()

        return await self._database.read(work, owner=owner, size=_READ_BYTES if filters.types else 0)

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
        return await self._database.read(last_seq)

    async def first_seq(self) -> int:
        """Of the oldest event that is kept; one more than `last_seq` when none is."""
        return await self._database.read(first_seq)

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
            last_unwanted = max(last_seq() - max_events, too_much)
            rows: Any = EventRow.select(EventRow.seq, EventRow.at_ms).order_by(EventRow.seq).limit(_TRIM_BATCH).tuples()
            # From the old end only, though the clock may have stepped: the journal never has holes.
            old = [seq for seq, _ in takewhile(lambda row: row[0] <= last_unwanted or row[1] < oldest_ms, rows)]
            return int(EventRow.delete().where(EventRow.seq <= old[-1]).execute()) if old else 0

        total = trimmed = await self._database.transact(work)
        while trimmed == _TRIM_BATCH:
            trimmed = await self._database.transact(work)
            total += trimmed
        return total


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
