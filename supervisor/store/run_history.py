"""History that stays bounded: ended runs are deleted by age and by number, in short transactions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from supervisor.store.database import Database, Transaction
from supervisor.store.tables import current

KEEP_RUNS: Final = 1_000
KEEP_MS: Final = 30 * 86_400_000
_TRIM_AT_ONCE: Final = 5_000
"""Rows deleted in one transaction: others are not held up for long."""
_JOBS_AT_ONCE: Final = 1_000
"""Looked at in one read, each by a seek or two in an index."""
# What has not ended or is to be tried again stays, however old.
_ENDED: Final = "state NOT IN ('queued', 'running') AND retry_at_ms IS NULL"
_TRIM_OLD: Final = (
    "DELETE FROM job_run WHERE rowid IN (SELECT rowid FROM job_run"  # noqa: S608 - constants only
    f" WHERE created_ms < ? AND {_ENDED} ORDER BY created_ms LIMIT ?)"
)
_LAST_ROW: Final = "SELECT max(rowid) FROM (SELECT rowid FROM job WHERE rowid > ? ORDER BY rowid LIMIT ?)"
_CROWDED: Final = (
    "SELECT id FROM job WHERE rowid > ? AND rowid <= ?"
    " AND EXISTS (SELECT 1 FROM job_run WHERE job_id = job.id ORDER BY created_ms LIMIT 1 OFFSET ?)"
)
_TRIM_MANY: Final = (
    "DELETE FROM job_run WHERE rowid IN (SELECT rowid FROM job_run WHERE job_id = ?"  # noqa: S608 - constants only
    f" ORDER BY created_ms DESC, rowid DESC LIMIT ? OFFSET ?) AND {_ENDED}"
)


async def trim(database: Database, *, keep_runs: int, keep_ms: int) -> int:
    """Delete ended runs older than `keep_ms`, and of each job all but the newest `keep_runs`; how many went.

    The search is done by the reader, a thousand jobs at a time through an index; cancelled, it has done a part.
    """
    deleted = 0
    while count := await database.transact(partial(_trim_old, keep_ms=keep_ms)):
        deleted += count
    after = 0
    while (last := await database.read(partial(_last_row, after))) is not None:
        deleted += await _trim_piece(database, after, last, keep_runs)
        after = last
    return deleted


async def _trim_piece(database: Database, after: int, last: int, keep_runs: int) -> int:
    def crowded() -> list[str]:
        return [row[0] for row in current.execute_sql(_CROWDED, (after, last, keep_runs)).fetchall()]

    deleted, jobs = 0, await database.read(crowded)
    while jobs:
        count, done = await database.transact(partial(_trim_jobs, jobs=jobs, keep_runs=keep_runs))
        deleted += count
        jobs = jobs[done:]
    return deleted


def _last_row(after: int) -> int | None:
    found: int | None = current.execute_sql(_LAST_ROW, (after, _JOBS_AT_ONCE)).fetchone()[0]
    return found


def _trim_old(tx: Transaction, *, keep_ms: int) -> int:
    return int(tx.execute(_TRIM_OLD, (tx.now_ms - keep_ms, _TRIM_AT_ONCE)).rowcount)


def _trim_jobs(tx: Transaction, *, jobs: Sequence[str], keep_runs: int) -> tuple[int, int]:
    """How many rows went, and how many of `jobs` are done: it stops where the transaction is full."""
    left = _TRIM_AT_ONCE
    for done, job_id in enumerate(jobs):
        left -= int(tx.execute(_TRIM_MANY, (job_id, left, keep_runs)).rowcount)
        if left <= 0:
            return _TRIM_AT_ONCE, done
    return _TRIM_AT_ONCE - left, len(jobs)
