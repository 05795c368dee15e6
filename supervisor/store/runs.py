"""RunStore: rows <-> Run. Claims, starts and ends of runs, each by compare-and-set and each with its event."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from supervisor.core.errors import NotFound
from supervisor.core.event import RunFinished, RunStarted
from supervisor.core.job import RUN_STEPS, TERMINAL, Job, Run, RunOutcome, RunState, Trigger
from supervisor.core.plugin import PluginId
from supervisor.store.database import Database, Transaction
from supervisor.store.tables import current, pack, unpack
from supervisor.wire.codec import profile_problem

MAX_RESULT_BYTES: Final = 64 * 1024
_MAX_DEPTH: Final = 12
"""Of a result: inside a list of runs it is to stay within what may be sent."""
MAX_ERROR_CHARS: Final = 8_000
KEEP_RUNS: Final = 1_000
KEEP_MS: Final = 30 * 86_400_000
_TRIM_AT_ONCE: Final = 5_000
"""Rows deleted in one transaction: others are not held up for long."""

_COLUMNS: Final = (
    'id, job_id, plugin_id, plugin_key, job_key, "trigger", state, attempt, due_ms, created_ms, started_ms,'
    " finished_ms, error, result"
)
_RUNS: Final = f"SELECT {_COLUMNS} FROM job_run"  # noqa: S608 - constants only
_ADVANCE: Final = (
    "UPDATE job SET next_due_ms = ?, last_due_ms = ? WHERE id = ? AND next_due_ms = ? AND active = 1 AND paused = 0"
)
_INSERT: Final = (
    f"INSERT INTO job_run ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
    " ON CONFLICT (job_id, due_ms) WHERE \"trigger\" IN ('schedule', 'catch_up') DO NOTHING"
)
_START: Final = "UPDATE job_run SET state = 'running', started_ms = ? WHERE id = ? AND state = 'queued'"
_OPEN: Final = f"{_RUNS} WHERE state IN ('queued', 'running') ORDER BY created_ms, rowid"
# All claims of one tick have one created_ms: only with the rowid is there an order to page by.
_LIST: Final = (
    f"{_RUNS} WHERE (?1 IS NULL OR job_id = ?1) AND (?2 IS NULL OR plugin_id = ?2) AND (?3 IS NULL OR state = ?3)"  # noqa: S608
    " AND (?4 IS NULL OR created_ms < ?4)"
    " AND (?5 IS NULL OR (created_ms, rowid) < (SELECT created_ms, rowid FROM job_run WHERE id = ?5))"
    " ORDER BY created_ms DESC, rowid DESC LIMIT ?6"
)
_MAX_NAME: Final = 100
"""Of a run id in a message: it is whatever somebody asked for."""
_EXISTS: Final = "SELECT 1 FROM job_run WHERE id = ?"
_SOURCES: Final = {
    end: tuple(str(state) for state, steps in RUN_STEPS.items() if end in steps) for end in TERMINAL - {RunState.MISSED}
}


def _finish_sql(end: RunState) -> str:
    sources = ", ".join(f"'{state}'" for state in _SOURCES[end])
    return (
        "UPDATE job_run SET state = ?, finished_ms = ?, error = ?, result = ?"  # noqa: S608 - enum values only
        f" WHERE id = ? AND state IN ({sources}) RETURNING started_ms"
    )


_FINISH: Final = {end: _finish_sql(end) for end in _SOURCES}


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that is due, as it was looked at, and what is to become of it: `runs` are its new rows."""

    job: Job
    next_due_ms: int | None
    runs: tuple[Run, ...]


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a claim came to. `won` is False if the job was changed or claimed by somebody else meanwhile."""

    claim: Claim
    won: bool
    queued: Run | None
    """The run to carry out, its row written."""


class RunStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, claims: Sequence[Claim], on_claimed: Callable[[list[Claimed]], None]) -> list[Claimed]:
        """All claims of one tick in one transaction: each moves the job on and writes its runs, or does nothing.

        `on_claimed` gets the outcome in the trio thread, once it is durable, even if the caller is cancelled by then.
        """

        def work(tx: Transaction) -> list[Claimed]:
            outcome: list[Claimed] = []
            tx.after_commit(lambda: on_claimed(outcome))
            outcome.extend(_claim(tx, claim) for claim in claims)
            return outcome

        return await self._database.transact(work)

    async def add(self, run: Run, on_added: Callable[[], None]) -> None:
        """Write the row of a run that no schedule asked for; `on_added` as `on_claimed` above.

        Raises:
            NotFound: the job is gone, with its plugin.
        """

        def work(tx: Transaction) -> None:
            if tx.execute("SELECT 1 FROM job WHERE id = ?", (run.job_id,)).fetchone() is None:
                name = f"{run.plugin_key}/{run.job_key}"
                raise NotFound(f"job {name!r} is gone: its plugin was uninstalled with its data", job=name)
            _insert(tx, run)
            tx.after_commit(on_added)

        await self._database.transact(work)

    async def start(self, run: Run) -> bool:
        """queued -> running; False if the run has ended already."""

        def work(tx: Transaction) -> bool:
            won = bool(tx.execute(_START, (tx.now_ms, run.id)).rowcount)
            if won:
                tx.record(
                    RunStarted(
                        plugin_id=run.plugin_id,
                        plugin_key=run.plugin_key,
                        job=run.job_key,
                        run_id=run.id,
                        trigger=str(run.trigger),
                        attempt=run.attempt,
                        due_ms=run.due_ms,
                    )
                )
            return won

        return await self._database.transact(work)

    async def finish(self, run: Run, outcome: RunOutcome) -> bool:
        """The end of a run, if its state leads there; False if it has another one already, which stays."""
        return await self._database.transact(lambda tx: _finish(tx, run, outcome))

    async def interrupt_leftovers(self) -> int:
        """End what a former daemon left queued or running, and say how many. At boot, before anything runs."""

        def work(tx: Transaction) -> int:
            leftovers = [_run(row) for row in current.execute_sql(_OPEN).fetchall()]
            for run in leftovers:
                error = f"the daemon ended while the run was {run.state}"
                _finish(tx, run, RunOutcome(state=RunState.INTERRUPTED, error=error))
            return len(leftovers)

        return await self._database.transact(work)

    async def get(self, run_id: str) -> Run:
        """Raises:
        NotFound: there is no such run, or not any more.
        """
        row = await self._database.read(lambda: current.execute_sql(f"{_RUNS} WHERE id = ?", (run_id,)).fetchone())
        if row is None:
            raise _unknown(run_id)
        return _run(row)

    async def list(
        self,
        *,
        job_id: str | None = None,
        plugin_id: PluginId | None = None,
        state: RunState | None = None,
        before_ms: int | None = None,
        before: str | None = None,
        limit: int = 50,
    ) -> list[Run]:
        """Newest first. `before` pages on from the last one's id and leaves nothing out.

        `before_ms` keeps to runs created before that instant, and leaves out all of that very millisecond.

        Raises:
            NotFound: there is no run `before`, or not any more.
        """
        parameters = (job_id, plugin_id, None if state is None else str(state), before_ms, before, limit)

        def work() -> list[Run]:
            if before is not None and not current.execute_sql(_EXISTS, (before,)).fetchone():
                raise _unknown(before)
            return [_run(row) for row in current.execute_sql(_LIST, parameters).fetchall()]

        return await self._database.read(work)

    async def trim(self, *, keep_runs: int = KEEP_RUNS, keep_ms: int = KEEP_MS) -> int:
        """Delete ended runs older than `keep_ms`, and of each job all but the newest `keep_runs`; how many."""
        deleted = 0
        while (count := await self._database.transact(lambda tx: _trim_old(tx, keep_ms))) > 0:
            deleted += count
        for job_id in await self._database.read(lambda: _crowded(keep_runs)):
            deleted += await self._database.transact(partial(_trim_job, job_id=job_id, keep_runs=keep_runs))
        return deleted


def _claim(tx: Transaction, claim: Claim) -> Claimed:
    job = claim.job
    last_due_ms = max((run.due_ms for run in claim.runs), default=job.next_due_ms)
    if not tx.execute(_ADVANCE, (claim.next_due_ms, last_due_ms, job.id, job.next_due_ms)).rowcount:
        return Claimed(claim, won=False, queued=None)
    queued = None
    for run in claim.runs:
        if not _insert(tx, run):
            continue  # this due time was claimed before; the clock was turned back
        if run.state is RunState.QUEUED:
            queued = run
        else:
            _record_end(tx, run, RunOutcome(state=run.state, error=run.error), None)
    return Claimed(claim, won=True, queued=queued)


def _insert(tx: Transaction, run: Run) -> bool:
    row = (
        run.id,
        run.job_id,
        run.plugin_id,
        run.plugin_key,
        run.job_key,
        str(run.trigger),
        str(run.state),
        run.attempt,
        run.due_ms,
        run.created_ms,
        run.started_ms,
        run.finished_ms,
        run.error,
        None,
    )
    return bool(tx.execute(_INSERT, row).rowcount)


def _finish(tx: Transaction, run: Run, outcome: RunOutcome) -> bool:
    now_ms = tx.now_ms
    error = None if outcome.error is None else outcome.error[:MAX_ERROR_CHARS]
    row = (str(outcome.state), now_ms, error, _pack_result(outcome.result), run.id)
    found = tx.execute(_FINISH[outcome.state], row).fetchone()
    if found is None:
        return False
    # The wall clock may have been turned back since the start.
    duration_ms = None if found[0] is None else max(0, now_ms - found[0])
    _record_end(tx, run, RunOutcome(state=outcome.state, error=error), duration_ms)
    return True


def _record_end(tx: Transaction, run: Run, outcome: RunOutcome, duration_ms: int | None) -> None:
    tx.record(
        RunFinished(
            plugin_id=run.plugin_id,
            plugin_key=run.plugin_key,
            job=run.job_key,
            run_id=run.id,
            trigger=str(run.trigger),
            attempt=run.attempt,
            due_ms=run.due_ms,
            state=str(outcome.state),
            error=outcome.error,
            duration_ms=duration_ms,
        )
    )


def _pack_result(result: Any) -> bytes | None:
    """A result that cannot be kept never costs the run its end: a note of what it was is kept instead."""
    if result is None:
        return None
    if problem := profile_problem([result], _MAX_DEPTH):
        return pack({"omitted": f"the result cannot be shown: {problem}"})
    try:
        packed = pack(result)
    except (ValueError, TypeError, OverflowError) as error:
        return pack({"omitted": f"the result cannot be stored: {error}"[:500]})
    if len(packed) > MAX_RESULT_BYTES:
        return pack({"omitted": f"the result has {len(packed)} bytes; at most {MAX_RESULT_BYTES} are kept"})
    return packed


def _run(row: Sequence[Any]) -> Run:
    return Run(
        id=row[0],
        job_id=row[1],
        plugin_id=row[2],
        plugin_key=row[3],
        job_key=row[4],
        trigger=Trigger(row[5]),
        state=RunState(row[6]),
        attempt=row[7],
        due_ms=row[8],
        created_ms=row[9],
        started_ms=row[10],
        finished_ms=row[11],
        error=row[12],
        result=None if row[13] is None else unpack(row[13]),
    )


def _unknown(run_id: str) -> NotFound:
    shown = run_id if len(run_id) <= _MAX_NAME else run_id[:_MAX_NAME] + "…"
    return NotFound(f"there is no run {shown!r}; `pluginctl runs list` shows the runs there are", run=shown)


def _trim_old(tx: Transaction, keep_ms: int) -> int:
    sql = (
        "DELETE FROM job_run WHERE rowid IN (SELECT rowid FROM job_run"
        " WHERE created_ms < ? AND state NOT IN ('queued', 'running') LIMIT ?)"
    )
    return int(tx.execute(sql, (tx.now_ms - keep_ms, _TRIM_AT_ONCE)).rowcount)


def _crowded(keep_runs: int) -> list[str]:
    sql = "SELECT job_id FROM job_run GROUP BY job_id HAVING COUNT(*) > ?"
    return [row[0] for row in current.execute_sql(sql, (keep_runs,)).fetchall()]


def _trim_job(tx: Transaction, *, job_id: str, keep_runs: int) -> int:
    sql = (
        "DELETE FROM job_run WHERE rowid IN (SELECT rowid FROM job_run WHERE job_id = ?"
        " ORDER BY created_ms DESC, rowid DESC LIMIT -1 OFFSET ?) AND state NOT IN ('queued', 'running')"
    )
    return int(tx.execute(sql, (job_id, keep_runs)).rowcount)
