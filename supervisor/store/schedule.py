"""The schedule as a whole: its order, the clock and zones it was made by, making it anew; called inside transactions
and reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from supervisor.core.job import Due, Job
from supervisor.core.manifest import JobSpec
from supervisor.core.plugin import PluginId
from supervisor.store.database import Transaction
from supervisor.store.job_rows import JOB_COLUMNS, JOB_WIDTH, JOIN_PLUGIN, SELECT_JOB, read_job, select_jobs
from supervisor.store.job_sync import note_clock, served_from
from supervisor.store.tables import current


class Keep(Enum):
    """Leave a job as it is."""

    KEEP = "keep"


KEEP: Final = Keep.KEEP

Replan = Callable[[Job], Due | Keep | None]
"""A job that may be due by the clock -> when it is; None: not at all. Pure."""

_NEXT: Final = (
    f"{SELECT_JOB} WHERE job.next_fire_ms IS NOT NULL AND (?1 IS NULL OR job.plugin_id = ?1)"
    " AND (?2 IS NULL OR job.next_fire_ms <= ?2) ORDER BY job.next_fire_ms, plugin.key, job.key LIMIT ?3"
)
_PIECE: Final = (
    f"SELECT {JOB_COLUMNS}, job.rowid, plugin.status FROM job NOT INDEXED {JOIN_PLUGIN}"  # noqa: S608 - constants only
    " WHERE job.rowid > ? ORDER BY job.rowid LIMIT ?"
)
_DAY_MS: Final = 86_400_000
# A clock that was turned back by more had been wrong: what it served then is no reason not to serve what comes now.
_NOT_TRIMMED: Final = "UPDATE job SET trimmed_to_ms = ?1 WHERE rowid > ?2 AND rowid <= ?3 AND trimmed_to_ms > ?4"
_PULL_RETRIES: Final = (
    "UPDATE job_run SET retry_at_ms = ?1 WHERE rowid IN (SELECT rowid FROM job_run INDEXED BY job_run_retry"
    " WHERE retry_at_ms IS NOT NULL AND retry_at_ms > ?1 LIMIT ?2)"
)
MAKE_DUE: Final = "UPDATE job SET next_due_ms = ?, next_fire_ms = ?, served_from_ms = ? WHERE id = ?"
# A first sieve, over the text; LIKE knows no upper and lower case.
_ON_START: Final = (
    f"SELECT {JOB_COLUMNS} FROM job {JOIN_PLUGIN} WHERE job.spec LIKE '%@reboot%' AND job.active = 1"  # noqa: S608
    " AND job.paused = 0 AND plugin.status = 'ready' AND job_hold.plugin_id IS NULL"
)


@dataclass(frozen=True, slots=True)
class Replanned:
    after_rowid: int | None
    """To go on with; None: that was the last of them."""
    jobs: int
    """Whose due time is another now."""


def next_of(plugin_id: PluginId | None, until_ms: int | None, limit: int) -> list[Job]:
    return select_jobs(_NEXT, (plugin_id, until_ms, limit))


def replan(tx: Transaction, after_rowid: int, now_ms: int, decide: Replan, limit: int) -> Replanned:
    rows = tx.execute(_PIECE, (after_rowid, limit)).fetchall()
    if not rows:
        return Replanned(None, 0)
    moves: list[tuple[Any, ...]] = []
    for row in rows:
        job = read_job(row)
        if not job.active or job.paused or job.plugin_paused or row[-1] != "ready" or job.damaged is not None:
            continue
        due = decide(job)
        if isinstance(due, Keep):
            continue
        move = moved(job, due)
        if move[:2] != (job.next_due_ms, job.next_fire_ms):
            moves.append(move)
    current.connection().executemany(MAKE_DUE, moves)
    last = rows[-1][JOB_WIDTH]
    tx.execute(_NOT_TRIMMED, (now_ms, after_rowid, last, now_ms + _DAY_MS))
    note_clock(tx, now_ms)
    return Replanned(last if len(rows) == limit else None, len(moves))


def pull_retries(tx: Transaction, latest_ms: int, limit: int) -> int:
    return int(tx.execute(_PULL_RETRIES, (latest_ms, limit)).rowcount)


def moved(job: Job, due: Due | None) -> tuple[Any, ...]:
    """Parameters of MAKE_DUE."""
    return (*((None, None) if due is None else (due.due_ms, due.fire_ms)), served_from(job, due), job.id)


def due_at_start(tx: Transaction, now_ms: int, is_on_start: Callable[[JobSpec], bool]) -> int:
    due = Due(now_ms, now_ms)
    moves = [moved(job, due) for job in select_jobs(_ON_START) if is_on_start(job.spec)]
    current.connection().executemany(MAKE_DUE, moves)
    return len(moves)


def clock_ms() -> int:
    found: int = current.execute_sql("SELECT clock_ms FROM scheduler").fetchone()[0]
    return found


def set_clock_ms(tx: Transaction, now_ms: int) -> None:
    tx.execute("UPDATE scheduler SET clock_ms = ?", (now_ms,))


def zones() -> dict[str, str]:
    found: dict[str, str] = json.loads(current.execute_sql("SELECT zones FROM scheduler").fetchone()[0])
    return found


def set_zones(tx: Transaction, new: Mapping[str, str]) -> None:
    before = zones()
    if before == new:
        return
    tx.execute("UPDATE scheduler SET zones = ?", (json.dumps(dict(new), sort_keys=True),))
    if any(new.get(name, rules) != rules for name, rules in before.items()):
        tx.execute("DELETE FROM job_sync")
