"""ClaimStore: what is due becomes rows, in the one transaction that moves its jobs on; only then is it handed over."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from supervisor.core.errors import FailedPrecondition
from supervisor.core.job import Admission, Job, OpenRun, Plan, PlannedRun, Run, RunState, Trigger
from supervisor.store.database import Database, Transaction
from supervisor.store.ids import ids_alike
from supervisor.store.job_rows import (
    JOB_COLUMNS,
    JOB_WIDTH,
    JOIN_PLUGIN,
    head_ms,
    job_of_id,
    read_job,
    unknown_job,
)
from supervisor.store.new_runs import NewRun, Tick, admitted, write_runs
from supervisor.store.run_rows import (
    RUN_COLUMNS,
    RUN_WIDTH,
    find_run,
    open_runs,
    read_run,
)
from supervisor.store.tables import current

__all__ = ["CLAIM_AT_ONCE", "Build", "ClaimStore", "Decide", "DecideRetry", "Tick"]

CLAIM_AT_ONCE: Final = 256
"""Jobs in one transaction: others are not held up for long, and the first of them starts soon."""
_MAX_ROWS: Final = 2_000
"""A job whose plan goes beyond it is the last of its transaction."""

Decide = Callable[[Job, tuple[OpenRun, ...]], Plan]
"""A job that is due and its runs that have not ended, the oldest first -> what is to become of it. Pure."""
DecideRetry = Callable[[Job, Run, tuple[OpenRun, ...]], Admission]
"""A job, the run of it that is to be tried again, its open runs -> what is to become of the next attempt. Pure."""
Build = Callable[[Job, tuple[OpenRun, ...]], tuple[Run, Admission]]
"""A job and its open runs -> the run to add, and what is to become of it. What it raises is the caller's. Pure."""

_DUE: Final = (
    f"SELECT {JOB_COLUMNS}, plugin.status FROM job INDEXED BY job_fire {JOIN_PLUGIN}"  # noqa: S608 - constants only
    " WHERE job.next_fire_ms IS NOT NULL AND job.next_fire_ms <= ? ORDER BY job.next_fire_ms LIMIT ?"
)
# The row was read in this very transaction, and there is one writer: nothing to compare with.
_MOVE: Final = "UPDATE job SET next_due_ms = ?, next_fire_ms = ?, last_due_ms = ?, served_from_ms = ? WHERE id = ?"
_TAKE_OFF: Final = "UPDATE job SET next_due_ms = NULL, next_fire_ms = NULL WHERE id = ?"
# Those of paused jobs wait until they are resumed.
_DUE_RETRIES: Final = (
    f"SELECT {RUN_COLUMNS}, {JOB_COLUMNS}, plugin.status FROM job_run INDEXED BY job_run_retry"  # noqa: S608
    f" CROSS JOIN job ON job.id = job_run.job_id {JOIN_PLUGIN}"
    " WHERE job_run.retry_at_ms IS NOT NULL AND job_run.retry_at_ms <= ? AND job.paused = 0"
    " AND job_hold.plugin_id IS NULL ORDER BY job_run.retry_at_ms LIMIT ?"
)
_TAKE_RETRY: Final = "UPDATE job_run SET retry_at_ms = NULL WHERE id = ? AND retry_at_ms IS NOT NULL"
# Of the attempts at one due time; the order in which they were made is no help, the clock may have been turned back.
_LAST_ATTEMPT: Final = (
    "SELECT max(attempt) FROM job_run INDEXED BY job_run_tried WHERE job_id = ? AND due_ms = ? AND attempt > 1"
)
_DROP_RETRIES: Final = (
    "UPDATE job_run INDEXED BY job_run_retry SET retry_at_ms = NULL"
    " WHERE retry_at_ms IS NOT NULL AND job_id = ? AND due_ms = ?"
)
_VOID_SOURCE: Final = "DELETE FROM job_sync WHERE plugin_id = ?"
_CLOCK: Final = "UPDATE scheduler SET clock_ms = ?1 WHERE clock_ms < ?1"


class ClaimStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim_due(
        self,
        now_ms: int,
        decide: Decide,
        decide_retry: DecideRetry,
        on_claimed: Callable[[Tick], None],
        *,
        limit: int = CLAIM_AT_ONCE,
    ) -> Tick:
        """Take what is due at `now_ms`, the earliest first: at most `limit` jobs and as many retries; nothing is while
        the scheduler is held.

        One transaction: each job is moved on and its rows are written. A due time that has its row already was served
        before: the job is moved on, and that is all. What is not to run by the clock any more (its plugin is not
        ready, it is paused or gone) is taken off. `decide` and `decide_retry` work in the database's thread, and a job
        for which they raise is told in `broken`. `on_claimed` gets the outcome in the trio thread, once it is
        durable, even if the caller is cancelled by then.
        """

        def work(tx: Transaction) -> Tick:
            tick = _claim_due(tx, now_ms, decide, decide_retry, limit)
            tx.after_commit(lambda: on_claimed(tick))
            return tick

        return await self._database.transact(work)

    async def add(
        self, job_id: str, build: Build, on_added: Callable[[Tick], None], *, retry_of: str | None = None
    ) -> Run:
        """Write a run that no schedule asked for, and return it; admission is decided in its transaction.

        `on_added` as `on_claimed` above. `retry_of` is the run that is tried again: the new one gets the number after
        the latest attempt at that due time, and pending retries of these are dropped, so that the attempts stay one
        chain.

        Raises:
            NotFound: the job is gone, with its plugin.
            FailedPrecondition: it is not declared any more, or its plugin is not ready.
            Exception: what `build` raised; nothing was written.
        """

        def work(tx: Transaction) -> Run:
            job = _runnable(tx, job_id)
            run, admission = build(job, open_runs([job_id]).get(job_id, ()))
            if retry_of is not None and (before := find_run(retry_of)) is not None:
                run = replace(run, attempt=_last_attempt(tx, before) + 1)
                tx.execute(_DROP_RETRIES, (before.job_id, before.due_ms))
            tick = Tick()
            [run] = write_runs(tx, tick, [NewRun(admitted(run, admission), job, admission.cancel)])
            tx.after_commit(lambda: on_added(tick))
            return run

        return await self._database.transact(work)


def _claim_due(tx: Transaction, now_ms: int, decide: Decide, decide_retry: DecideRetry, limit: int) -> Tick:
    if tx.execute("SELECT 1 FROM scheduler WHERE held_at_ms IS NOT NULL").fetchone():
        return Tick()
    tick = Tick()
    written = _claim_jobs(tx, tick, now_ms, decide, limit)
    if written < _MAX_ROWS:
        _claim_retries(tx, tick, now_ms, decide_retry, min(limit, _MAX_ROWS - written))
    tx.execute(_CLOCK, (now_ms,))
    head = head_ms()
    return replace(tick, head_ms=head, more=head is not None and head <= now_ms)


def _claim_jobs(tx: Transaction, tick: Tick, now_ms: int, decide: Decide, limit: int) -> int:
    """How many rows its plans have."""
    rows = tx.execute(_DUE, (now_ms, limit)).fetchall()
    opens = open_runs([row[0] for row in rows]) if rows else {}
    moves: list[tuple[Any, ...]] = []
    new: list[NewRun] = []
    off: list[Job] = []
    ids = ids_alike()
    for row in rows:
        job = read_job(row)
        if not _is_scheduled(job, row[JOB_WIDTH]):
            off.append(job)
            continue
        try:
            plan = decide(job, opens.get(job.id, ()))
            if plan.next is not None and plan.next.fire_ms <= now_ms:
                raise ValueError(f"it would be due again at {plan.next.fire_ms}, which is not after {now_ms}")
        except Exception as error:  # noqa: BLE001 - one job that cannot be planned must not stop all the others
            tick.broken.append((job, f"{type(error).__name__}: {error}"))
            off.append(job)
            continue
        moves.append(_move(job, plan))
        _plan_rows(new, ids, job, plan, now_ms)
        if len(new) >= _MAX_ROWS:
            break
    current.connection().executemany(_MOVE, moves)
    _take_off(off)
    write_runs(tx, tick, new)
    return len(new)


def _take_off(jobs: Sequence[Job]) -> None:
    """Not due any more. Their plugins' jobs are not those of their sources then: only a sync brings them back."""
    current.connection().executemany(_TAKE_OFF, [(job.id,) for job in jobs])
    current.connection().executemany(_VOID_SOURCE, {(job.plugin_id,) for job in jobs})


def _is_scheduled(job: Job, status: str) -> bool:
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
        job_id=job.id,
        plugin_id=job.plugin_id,
        plugin_key=job.plugin_key,
        job_key=job.key,
        trigger=planned.trigger,
        state=planned.state,
        attempt=1,
        due_ms=planned.due_ms,
        created_ms=now_ms,
        finished_ms=None if planned.state is RunState.QUEUED else now_ms,
        error=planned.error,
        times=planned.times,
    )


def _claim_retries(tx: Transaction, tick: Tick, now_ms: int, decide: DecideRetry, limit: int) -> int:
    """How many of them there were. After the jobs: what those have queued or cancelled is seen here."""
    rows = tx.execute(_DUE_RETRIES, (now_ms, limit)).fetchall()
    for row in rows:
        run, job, status = read_run(row), read_job(row[RUN_WIDTH:]), row[-1]
        tx.execute(_TAKE_RETRY, (run.id,))
        if not _is_scheduled(job, status):
            continue
        try:
            admission = decide(job, run, open_runs([job.id]).get(job.id, ()))
        except Exception as error:  # noqa: BLE001 - as above
            tick.broken.append((job, f"{type(error).__name__}: {error}"))
            continue
        write_runs(tx, tick, [NewRun(admitted(_next_attempt(tx, run, now_ms), admission), job, admission.cancel)])
    return len(rows)


def _next_attempt(tx: Transaction, run: Run, now_ms: int) -> Run:
    return Run(
        id=next(ids_alike()),
        job_id=run.job_id,
        plugin_id=run.plugin_id,
        plugin_key=run.plugin_key,
        job_key=run.job_key,
        trigger=Trigger.RETRY,
        state=RunState.QUEUED,
        attempt=_last_attempt(tx, run) + 1,
        due_ms=run.due_ms,
        created_ms=now_ms,
        params=run.params,
    )


def _last_attempt(tx: Transaction, run: Run) -> int:
    """Of the chain that `run` belongs to: an operator may have tried again meanwhile."""
    found = tx.execute(_LAST_ATTEMPT, (run.job_id, run.due_ms)).fetchone()[0]
    return max(run.attempt, found or 0)


def _runnable(tx: Transaction, job_id: str) -> Job:
    job = job_of_id(job_id)
    if job is None:
        raise unknown_job(job_id)
    if not job.active:
        raise FailedPrecondition(
            f"job {job.name} is not declared by the plugin's present version; only its history is left", job=job.name
        )
    (status,) = tx.execute("SELECT status FROM plugin WHERE id = ?", (job.plugin_id,)).fetchone()
    if status != "ready":
        raise FailedPrecondition(
            f"job {job.name} cannot run while plugin {job.plugin_key!r} is {status}: enable the plugin first",
            job=job.name,
            plugin=job.plugin_key,
            status=status,
        )
    return job
