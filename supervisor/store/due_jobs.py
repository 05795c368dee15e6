"""The due jobs of one claim: what each one's plan says becomes rows, and moves it on; called inside transactions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from supervisor.core.job import Job, OpenRun, Plan, PlannedRun, Run, RunState
from supervisor.store.database import Transaction
from supervisor.store.ids import ids_alike
from supervisor.store.job_rows import JOB_COLUMNS, JOB_WIDTH, JOIN_PLUGIN, read_job
from supervisor.store.new_runs import NewRun, Tick, write_runs
from supervisor.store.run_rows import open_runs
from supervisor.store.tables import current

MAX_ROWS: Final = 300
_MAX_PLANNING_S: Final = 0.05
"""A job whose plan goes beyond these is the last of its transaction."""


Decide = Callable[[Job, tuple[OpenRun, ...]], Plan]
"""A job that is due and its runs that have not ended, the oldest first -> what is to become of it. Pure."""

_DUE: Final = (
    f"SELECT {JOB_COLUMNS}, plugin.status FROM job INDEXED BY job_fire {JOIN_PLUGIN}"  # noqa: S608 - constants only
    " WHERE job.next_fire_ms > ? AND job.next_fire_ms <= ? ORDER BY job.next_fire_ms"
)
# The row was read in this very transaction, and there is one writer: nothing to compare with.
_MOVE: Final = "UPDATE job SET next_due_ms = ?, next_fire_ms = ?, last_due_ms = ?, served_from_ms = ? WHERE id = ?"
_TAKE_OFF: Final = "UPDATE job SET next_due_ms = NULL, next_fire_ms = NULL WHERE id = ?"
_VOID_SOURCE: Final = "DELETE FROM job_sync WHERE plugin_id = ?"


@dataclass(frozen=True, slots=True)
class Piece:
    """What one transaction takes: what is due in (after_ms, until_ms]."""

    tx: Transaction
    tick: Tick
    now_ms: int
    after_ms: int
    until_ms: int
    limit: int
    ends_at: float = field(default_factory=lambda: time.monotonic() + _MAX_PLANNING_S)

    def is_full(self, rows: int) -> bool:
        return rows >= MAX_ROWS or time.monotonic() >= self.ends_at


def due_jobs(piece: Piece, order: str) -> list[Any]:
    """The rows of those that the piece is about, by the time at which they are acted on: "ASC" or "DESC"."""
    sql = f"{_DUE} {order} LIMIT ?"
    found: list[Any] = piece.tx.execute(sql, (piece.after_ms, piece.until_ms, piece.limit)).fetchall()
    return found


def claim_jobs(piece: Piece, rows: Sequence[Any], decide: Decide) -> int:
    """How many rows their plans have; at least one of them is claimed."""
    opens = open_runs([row[0] for row in rows]) if rows else {}
    moves: list[tuple[Any, ...]] = []
    new: list[NewRun] = []
    off: list[Job] = []
    ids = ids_alike()
    for row in rows:
        job = read_job(row)
        if not is_scheduled(job, row[JOB_WIDTH]):
            off.append(job)
            continue
        try:
            plan = _decided(job, decide, opens.get(job.id, ()), piece.now_ms)
        except Exception as error:  # noqa: BLE001 - one job that cannot be planned must not stop all the others
            piece.tick.broken.append((job, f"{type(error).__name__}: {error}"))
            off.append(job)
            continue
        moves.append(_move(job, plan))
        _plan_rows(new, ids, job, plan, piece.now_ms)
        if piece.is_full(len(new)):
            break
    current.connection().executemany(_MOVE, moves)
    _take_off(off)
    write_runs(piece.tx, piece.tick, new)
    return len(new)


def _decided(job: Job, decide: Decide, opens: tuple[OpenRun, ...], now_ms: int) -> Plan:
    if job.damaged is not None:
        raise ValueError(job.damaged)
    plan = decide(job, opens)
    if plan.next is not None and plan.next.fire_ms <= now_ms:
        raise ValueError(f"it would be due again at {plan.next.fire_ms}, which is not after {now_ms}")
    return plan


def _take_off(jobs: Sequence[Job]) -> None:
    """Not due any more. Their plugins' jobs are not those of their sources then: only a sync brings them back."""
    current.connection().executemany(_TAKE_OFF, [(job.id,) for job in jobs])
    current.connection().executemany(_VOID_SOURCE, {(job.plugin_id,) for job in jobs})


def is_scheduled(job: Job, status: str) -> bool:
    return status == "ready" and job.active and not job.paused and not job.plugin_paused


def _move(job: Job, plan: Plan) -> tuple[Any, ...]:
    """Parameters of _MOVE."""
    due_ms, fire_ms = (None, None) if plan.next is None else (plan.next.due_ms, plan.next.fire_ms)
    last_ms, served_ms = job.last_due_ms, job.served_from_ms
    if plan.runs:
        if plan.gap or served_ms is None or last_ms is None or plan.runs[0].due_ms <= last_ms:
            served_ms = next((run.due_ms for run in plan.runs if run.state is not RunState.MISSED), None)
        last_ms = plan.runs[-1].due_ms
    return (due_ms, fire_ms, last_ms, served_ms, job.id)


def _plan_rows(new: list[NewRun], ids: Iterator[str], job: Job, plan: Plan, now_ms: int) -> None:
    for planned in plan.runs:
        run = _planned(next(ids), job, planned, now_ms)
        # Whichever of them is written first makes the room for all.
        new.append(NewRun(run, job, plan.cancel if planned.state is RunState.QUEUED else ()))


def _planned(run_id: str, job: Job, planned: PlannedRun, now_ms: int) -> Run:
    return Run(
        id=run_id,
        **job.of_run(),
        trigger=planned.trigger,
        state=planned.state,
        attempt=1,
        due_ms=planned.due_ms,
        created_ms=now_ms,
        finished_ms=None if planned.state is RunState.QUEUED else now_ms,
        error=planned.error,
        times=planned.times,
    )
