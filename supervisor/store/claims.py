"""ClaimStore: what is due becomes rows, in the one transaction that moves its jobs on; only then is it handed over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from supervisor.core.errors import FailedPrecondition
from supervisor.core.job import Admission, Job, OpenRun, Run, RunState, Trigger
from supervisor.store.database import Database, Transaction
from supervisor.store.due_jobs import MAX_ROWS, Decide, Piece, claim_jobs, due_jobs, is_scheduled
from supervisor.store.ids import ids_alike
from supervisor.store.job_rows import (
    JOB_COLUMNS,
    JOIN_PLUGIN,
    head_ms,
    job_of_id,
    read_job,
    unknown_job,
)
from supervisor.store.new_runs import NewRun, Tick, admitted, write_runs
from supervisor.store.run_rows import (
    CAUGHT_UP,
    RUN_COLUMNS,
    RUN_WIDTH,
    find_run,
    open_runs,
    read_run,
)
from supervisor.store.tables import current

__all__ = ["CLAIM_AT_ONCE", "ON_TIME_MS", "Build", "ClaimStore", "Decide", "DecideRetry", "Tick"]

CLAIM_AT_ONCE: Final = 256
"""Jobs in one transaction: others are not held up for long, and the first of them starts soon."""
ON_TIME_MS: Final = 5_000
"""What is acted on later is overdue: it waits for all that is on time."""
_LONG_AGO_MS: Final = -(1 << 62)

DecideRetry = Callable[[Job, Run, bool, tuple[OpenRun, ...]], Admission]
"""A job, the run of it that is to be tried again, whether that was `caught_up`, its open runs -> what is to become of
the next attempt. Pure."""
Build = Callable[[Job, tuple[OpenRun, ...]], tuple[Run, Admission]]
"""A job and its open runs -> the run to add, and what is to become of it. What it raises is the caller's. Pure."""

_OVERDUE: Final = "SELECT count(*) FROM job INDEXED BY job_fire WHERE next_fire_ms <= ?"
# Those of paused jobs wait until they are resumed, and all others until their job is not due any more: what that has
# queued or cancelled is seen then.
_DUE_RETRIES: Final = (
    f"SELECT {RUN_COLUMNS}, {JOB_COLUMNS}, plugin.status, {CAUGHT_UP} FROM job_run INDEXED BY job_run_retry"  # noqa: S608
    f" CROSS JOIN job ON job.id = job_run.job_id {JOIN_PLUGIN}"
    " WHERE job_run.retry_at_ms > ?1 AND job_run.retry_at_ms <= ?2 AND job.paused = 0"
    " AND job_hold.plugin_id IS NULL AND (job.next_fire_ms IS NULL OR job.next_fire_ms > ?3)"
    " ORDER BY job_run.retry_at_ms LIMIT ?4"
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
        """Take what is due at `now_ms`: at most `limit` jobs and as many retries; nothing is while the scheduler is
        held. What is on time goes first, the earliest before the others; only where nothing is, what is overdue does,
        the latest first: after a long outage the earliest have most to make up for.

        One transaction, bounded by what it plans and writes: each job is moved on and its rows are written. A due time
        that has its row already was served before: the job is moved on, and that is all. What is not to run by the
        clock any more (its plugin is not ready, it is paused or gone) is taken off. `decide` and `decide_retry` work in
        the database's thread, and a job for which they raise is told in `broken`. `on_claimed` gets the outcome in the
        trio thread, once it is durable, even if the caller is cancelled by then.
        """

        def work(tx: Transaction) -> Tick:
            tick = _claim_due(tx, now_ms, decide, decide_retry, limit)
            tx.after_commit(lambda: on_claimed(tick))
            return tick

        return await self._database.transact(work)

    async def overdue(self, now_ms: int) -> int:
        """How many jobs are."""
        at_ms = now_ms - ON_TIME_MS
        count: int = await self._database.read(lambda: current.execute_sql(_OVERDUE, (at_ms,)).fetchone()[0])
        return count

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
    since_ms = now_ms - ON_TIME_MS
    on_time = Piece(tx, tick, now_ms, since_ms, now_ms, limit)
    if not _claim_piece(on_time, "ASC", decide, decide_retry):
        _claim_piece(Piece(tx, tick, now_ms, _LONG_AGO_MS, since_ms, limit), "DESC", decide, decide_retry)
    tx.execute(_CLOCK, (now_ms,))
    head = head_ms()
    return replace(tick, head_ms=head, more=head is not None and head <= now_ms)


def _claim_piece(piece: Piece, order: str, decide: Decide, decide_retry: DecideRetry) -> bool:
    """Whether there was anything."""
    due = due_jobs(piece, order)
    rows = claim_jobs(piece, due, decide)
    tried = 0 if piece.is_full(rows) else _claim_retries(piece, min(piece.limit, MAX_ROWS - rows), decide_retry)
    return bool(due or tried)


def _claim_retries(piece: Piece, limit: int, decide: DecideRetry) -> int:
    """How many of them there were. After the jobs: what those have queued or cancelled is seen here."""
    tx, now_ms = piece.tx, piece.now_ms
    rows = tx.execute(_DUE_RETRIES, (piece.after_ms, piece.until_ms, now_ms, limit)).fetchall()
    for number, row in enumerate(rows, 1):
        job, status, caught_up = read_job(row[RUN_WIDTH:]), row[-2], row[-1] == 1
        tx.execute(_TAKE_RETRY, (row[0],))
        if not is_scheduled(job, status):
            continue
        try:
            if job.damaged is not None:
                raise ValueError(job.damaged)
            run = read_run(row)
            admission = decide(job, run, caught_up, open_runs([job.id]).get(job.id, ()))
        except Exception as error:  # noqa: BLE001 - as above
            piece.tick.broken.append((job, f"{type(error).__name__}: {error}"))
            continue
        new = NewRun(admitted(_next_attempt(tx, run, now_ms), admission), job, admission.cancel)
        write_runs(tx, piece.tick, [new])
        if piece.is_full(number):
            break
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
    if job.damaged is not None:
        raise FailedPrecondition(f"job {job.name} cannot run: {job.damaged}", job=job.name)
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
