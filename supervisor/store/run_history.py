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
# What has not ended or is to be tried again stays, however old; and what lies in the future, since the clock was turned
# back: it tells that this due time was served.
_ENDED: Final = "state NOT IN ('queued', 'running') AND retry_at_ms IS NULL AND due_ms <= ?1"
_DELETE: Final = "DELETE FROM job_run WHERE rowid IN"
_TOLD: Final = "RETURNING job_id, due_ms, \"trigger\" IN ('schedule', 'catch_up')"
_TRIM_OLD: Final = (
    f"{_DELETE} (SELECT rowid FROM job_run WHERE created_ms < ?2 AND {_ENDED}"  # noqa: S608 - constants only
    f" ORDER BY created_ms LIMIT ?3) {_TOLD}"
)
_LAST_ROW: Final = "SELECT max(rowid) FROM (SELECT rowid FROM job WHERE rowid > ? ORDER BY rowid LIMIT ?)"
_CROWDED: Final = (
    "SELECT id FROM job WHERE rowid > ? AND rowid <= ?"
    " AND EXISTS (SELECT 1 FROM job_run WHERE job_id = job.id ORDER BY created_ms LIMIT 1 OFFSET ?)"
)
# The newest are those written last, whatever the clock showed.
_TRIM_MANY: Final = (
    f"{_DELETE} (SELECT rowid FROM job_run INDEXED BY job_run_of_job WHERE job_id = ?2 AND {_ENDED}"  # noqa: S608
    " AND rowid <= (SELECT rowid FROM job_run INDEXED BY job_run_of_job WHERE job_id = ?2"
    f" ORDER BY rowid DESC LIMIT 1 OFFSET ?3) ORDER BY rowid LIMIT ?4) {_TOLD}"
)
_TRIMMED_TO: Final = "UPDATE job SET trimmed_to_ms = ?1 WHERE id = ?2 AND trimmed_to_ms < ?1"


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
    return _deleted(tx.execute(_TRIM_OLD, (tx.now_ms, tx.now_ms - keep_ms, _TRIM_AT_ONCE)).fetchall())


def _trim_jobs(tx: Transaction, *, jobs: Sequence[str], keep_runs: int) -> tuple[int, int]:
    """How many rows went, and how many of `jobs` are done: it stops where the transaction is full."""
    left = _TRIM_AT_ONCE
    for done, job_id in enumerate(jobs):
        left -= _deleted(tx.execute(_TRIM_MANY, (tx.now_ms, job_id, keep_runs, left)).fetchall())
        if left <= 0:
            return _TRIM_AT_ONCE, done
    return _TRIM_AT_ONCE - left, len(jobs)


def _deleted(rows: Sequence[tuple[str, int, int]]) -> int:
    """Note with the jobs of these rows that their due times were served, and say how many rows there are."""
    latest: dict[str, int] = {}
    for job_id, due_ms, by_clock in rows:
        if by_clock:
            latest[job_id] = max(due_ms, latest.get(job_id, due_ms))
    current.connection().executemany(_TRIMMED_TO, [(due_ms, job_id) for job_id, due_ms in latest.items()])
    return len(rows)
