"""Finding runs in a long history: a read looks at so many rows and no more, and other reads come in between."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from supervisor.core.job import Run
from supervisor.store.database import Database
from supervisor.store.run_rows import SELECT_RUN, read_run, unknown_run
from supervisor.store.tables import current

_LOOK_AT: Final = 20_000
# All claims of one tick have one created_ms: only with the rowid is there an order to page by.
_ORDER: Final = "ORDER BY created_ms DESC, rowid DESC LIMIT ?"
_BEFORE: Final = "(created_ms, rowid) < (SELECT created_ms, rowid FROM job_run WHERE id = ?)"
_EXISTS: Final = "SELECT 1 FROM job_run WHERE id = ?"
Place = tuple[int, int]
"""created_ms and rowid."""


async def find_runs(
    database: Database, scope: Mapping[str, Any], few: Mapping[str, Any], before: str | None, limit: int
) -> list[Run]:
    """Newest first. `scope` and `few` are conditions with a value each: those of `scope` lead to runs by an index,
    those of `few` may hold for next to none of them.

    Raises:
        NotFound: there is no run `before`, or not any more.
    """
    found: list[Run] = []
    place: Place | None = None
    while True:
        piece = partial(_piece, scope, few, before if place is None else place, limit - len(found))
        runs, place = await database.read(piece)
        found += runs
        if place is None or len(found) >= limit:
            return found


def _piece(
    scope: Mapping[str, Any], few: Mapping[str, Any], before: str | Place | None, limit: int
) -> tuple[list[Run], Place | None]:
    """The runs, and where to go on; None: that was all."""
    where, values = list(scope), list(scope.values())
    if isinstance(before, str):
        if not current.execute_sql(_EXISTS, (before,)).fetchone():
            raise unknown_run(before)
        where, values = [*where, _BEFORE], [*values, before]
    elif before is not None:
        where, values = [*where, "(created_ms, rowid) < (?, ?)"], [*values, *before]
    end: Place | None = None
    if few:
        sql = f"SELECT created_ms, rowid FROM job_run WHERE {' AND '.join(where) or 'TRUE'} {_ORDER} OFFSET ?"  # noqa: S608
        end = current.execute_sql(sql, (*values, 1, _LOOK_AT - 1)).fetchone()
        where, values = [*where, *few], [*values, *few.values()]
    if end is not None:
        where, values = [*where, "(created_ms, rowid) >= (?, ?)"], [*values, *end]
    # Only what is asked for, so that each question finds its index.
    sql = f"{SELECT_RUN} WHERE {' AND '.join(where) or 'TRUE'} {_ORDER}"
    return [read_run(row) for row in current.execute_sql(sql, (*values, limit)).fetchall()], end
