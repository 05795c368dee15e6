"""AuditLog: who has asked for which change, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Final

from supervisor.clock import to_ms
from supervisor.store.database import Database, Transaction
from supervisor.store.meter import Meter
from supervisor.store.tables import AuditRow, current

MAX_PAGE: Final = 1000
CUT_SHORT: Final = "cut_short"
UNDER_WAY: Final = "under_way"
_TRIM_BATCH: Final = 1000
"""Rows deleted in one transaction, so that nobody waits long behind it."""
_LOOK_AT: Final = 20_000
"""Rows that one read looks at: others come in between."""
_COLUMNS: Final = "seq, at_ms, uid, pid, exe, client, role, method, target, result, message, request_id, duration_ms"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A change that somebody asks for."""

    at_ms: int
    uid: int
    pid: int
    exe: str | None
    client: str | None
    role: str
    method: str
    target: str | None
    request_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What came of it: `ok` or the name of an error, and what that said."""

    result: str
    message: str | None
    duration_ms: int
    target: str | None = None
    """What it turned out to be about; None: what was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Empty and None mean all. `methods` are globs, `targets` are texts: one of them, or what is below it, as in
    `acme.weather` and `acme.weather/refresh`."""

    methods: Sequence[str] = ()
    targets: Sequence[str] = ()
    uid: int | None = None
    result: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    """Not itself."""


class AuditLog:
    def __init__(self, database: Database) -> None:
        self._database = database
        self.written = Meter()
        """How many entries have come since the database was opened."""

    def now_ms(self) -> int:
        return to_ms(self._database.clock.now())

    async def begin(self, asked: Asked) -> int:
        """Note that it is about to begin; returns its seq once that is durable.

        It is with the writer before this first waits, and so before whatever the caller hands over next.
        """
        return await self._database.transact(lambda transaction: self._insert(transaction, asked, None))

    async def end(self, seq: int | None, asked: Asked, ended: Ended) -> None:
        """Note what came of it. What has no row, as nothing could be written when it began, gets a whole one."""

        def work(transaction: Transaction) -> None:
            if seq is None or not AuditRow.update(**_of(ended)).where(AuditRow.seq == seq).execute():
                self._insert(transaction, asked, ended)

        await self._database.transact(work)

    async def close_open(self) -> int:
        """At the start: what the daemon before had begun and not ended was cut short. Returns how many."""
        query = AuditRow.update(result=CUT_SHORT).where(AuditRow.result.is_null())
        return await self._database.transact(lambda _: int(query.execute()))

    async def list(self, only: AuditFilter, *, before: int | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """Entries by their columns, the newest first: those before the entry `before`, at most `limit`."""
        conditions, values = _matching(only)
        found: list[dict[str, Any]] = []
        place = before
        while True:
            piece = partial(_piece, conditions, values, place, limit - len(found))
            rows, place = await self._database.read(piece)
            found += rows
            if place is None or len(found) >= limit:
                return found

    async def trim(self, *, max_entries: int, max_age: timedelta) -> int:
        """Delete the oldest until at most so many are left, none beyond `max_age`; returns how many went."""
        oldest_ms = self.now_ms() - max_age // timedelta(milliseconds=1)

        def work(_: Transaction) -> int:
            newest = AuditRow.select(AuditRow.seq).order_by(AuditRow.seq.desc()).limit(1).scalar() or 0
            old = (
                AuditRow.select(AuditRow.seq)
                .where((AuditRow.seq <= newest - max_entries) | (AuditRow.at_ms < oldest_ms))
                .order_by(AuditRow.seq)
                .limit(_TRIM_BATCH)
            )
            return int(AuditRow.delete().where(AuditRow.seq.in_(old)).execute())

        total = trimmed = await self._database.transact(work)
        while trimmed == _TRIM_BATCH:
            trimmed = await self._database.transact(work)
            total += trimmed
        return total

    def _insert(self, transaction: Transaction, asked: Asked, ended: Ended | None) -> int:
        row = {name: getattr(asked, name) for name in Asked.__dataclass_fields__} | (_of(ended) if ended else {})
        transaction.after_commit(partial(self.written.add, 1))
        return int(AuditRow.insert(**row).execute())


def _of(ended: Ended) -> dict[str, Any]:
    found = {} if ended.target is None else {"target": ended.target}
    return {"result": ended.result, "message": ended.message, "duration_ms": ended.duration_ms, **found}


def _matching(only: AuditFilter) -> tuple[list[str], list[Any]]:
    """Conditions and their values."""
    conditions: list[str] = []
    values: list[Any] = []

    def add(condition: str, *given: Any) -> None:
        conditions.append(condition)
        values.extend(given)

    if only.methods:
        # SQLite's GLOB negates with ^ where a shell has !.
        add(f"({' OR '.join(['method GLOB ?'] * len(only.methods))})", *(m.replace("[!", "[^") for m in only.methods))
    if only.targets:
        one = "target = ? OR substr(target, 1, length(?) + 1) = ? || '/'"
        add(f"({' OR '.join([one] * len(only.targets))})", *(t for target in only.targets for t in (target,) * 3))
    if only.uid is not None:
        add("uid = ?", only.uid)
    if only.result == UNDER_WAY:
        add("result IS NULL")
    elif only.result is not None:
        add("result = ?", only.result)
    if only.since_ms is not None:
        add("at_ms >= ?", only.since_ms)
    if only.until_ms is not None:
        add("at_ms < ?", only.until_ms)
    return conditions, values


def _piece(
    conditions: list[str], values: list[Any], before: int | None, limit: int
) -> tuple[list[dict[str, Any]], int | None]:
    """What is found among the next so many, and where to go on; None: that was all."""
    top = (1 << 62) if before is None else before
    end = current.execute_sql(
        "SELECT seq FROM audit WHERE seq < ? ORDER BY seq DESC LIMIT 1 OFFSET ?", (top, _LOOK_AT - 1)
    ).fetchone()
    where = " AND ".join(["seq < ?", "seq >= ?", *conditions])
    cursor = current.execute_sql(
        f"SELECT {_COLUMNS} FROM audit WHERE {where} ORDER BY seq DESC LIMIT ?",  # noqa: S608  no outside text
        (top, end[0] if end else 0, *values, limit),
    )
    names = _COLUMNS.split(", ")
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()], end[0] if end else None
