"""RunStore: rows <-> Run. Starts and ends of runs, each by compare-and-set and each with its event."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

from supervisor.core.event import RunStarted
from supervisor.core.job import Job, Run, RunEnd, RunOutcome, RunState, Trigger
from supervisor.core.manifest import JobSpec
from supervisor.core.plugin import PluginId
from supervisor.store import run_history
from supervisor.store.database import Database, Transaction
from supervisor.store.job_rows import JOB_COLUMNS, JOIN_PLUGIN, read_job
from supervisor.store.run_history import KEEP_MS, KEEP_RUNS
from supervisor.store.run_rows import (
    RUN_COLUMNS,
    RUN_WIDTH,
    find_run,
    finish_run,
    finish_runs,
    json_list,
    read_run,
    run_named,
    said_of,
    unknown_run,
)
from supervisor.store.run_search import find_runs
from supervisor.store.tables import current

Retry = Callable[[JobSpec, Run, int], int | None]
"""A job's spec, a run of it that was cut short, now in UTC ms -> when it is tried again, if it is. Pure."""

_START: Final = (
    "UPDATE job_run SET state = 'running', started_ms = ? WHERE id IN (SELECT value FROM json_each(?))"
    " AND state = 'queued' RETURNING id"
)
# The partial index has few rows, whatever the history.
_RUNNING: Final = (
    f"SELECT {RUN_COLUMNS}, {JOB_COLUMNS} FROM job_run INDEXED BY job_run_open"  # noqa: S608 - constants only
    f" CROSS JOIN job ON job.id = job_run.job_id {JOIN_PLUGIN}"
    " WHERE job_run.state IN ('queued', 'running') AND job_run.state = 'running' ORDER BY job_run.created_ms,"
    " job_run.rowid"
)
_WAITING: Final = (
    f"SELECT {RUN_COLUMNS}, {JOB_COLUMNS} FROM job_run INDEXED BY job_run_open"  # noqa: S608 - constants only
    f" CROSS JOIN job ON job.id = job_run.job_id {JOIN_PLUGIN}"
    " WHERE job_run.state IN ('queued', 'running') AND job_run.state = 'queued' ORDER BY job_run.created_ms,"
    " job_run.rowid"
)
_OF_PLUGIN: Final = "job_id IN (SELECT id FROM job WHERE plugin_id = ?)"
_IN_STATES: Final = "state IN (SELECT value FROM json_each(?))"
_BY_TRIGGERS: Final = '"trigger" IN (SELECT value FROM json_each(?))'
_DROP_RETRY: Final = "UPDATE job_run SET retry_at_ms = NULL WHERE id = ? AND retry_at_ms IS NOT NULL"


class RunStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def start(self, runs: Sequence[Run]) -> frozenset[str]:
        """queued -> running, all in one transaction, and the ids of those that went; the others have ended already."""

        def work(tx: Transaction) -> frozenset[str]:
            rows = tx.execute(_START, (tx.now_ms, json_list([run.id for run in runs]))).fetchall()
            won = frozenset(row[0] for row in rows)
            tx.record_all([RunStarted(**said_of(run)) for run in runs if run.id in won])
            return won

        return await self._database.transact(work)

    async def finish(self, run: Run, outcome: RunOutcome, *, retry_at_ms: int | None = None) -> bool:
        """The end of a run, if its state leads there; False if it has another one already, which stays.

        Row, event and the time of the next attempt are one transaction.
        """
        return await self._database.transact(lambda tx: finish_run(tx, run, outcome, retry_at_ms=retry_at_ms))

    async def finish_all(self, ends: Sequence[RunEnd]) -> frozenset[str]:
        """The same for many runs, all in one transaction; the ids of those that end by this."""
        return await self._database.transact(lambda tx: finish_runs(tx, ends))

    async def interrupt_leftovers(self, retry: Retry) -> int:
        """End what a former daemon left running, and say how many. At boot, before anything runs.

        What is queued stays so: it was never handed to anybody; see `waiting`.
        """

        def work(tx: Transaction) -> int:
            left = [(read_run(row), read_job(row[RUN_WIDTH:])) for row in current.execute_sql(_RUNNING).fetchall()]
            outcome = RunOutcome(state=RunState.INTERRUPTED, error="the daemon ended while the run was running")
            return len(finish_runs(tx, [RunEnd(run, outcome, retry(job.spec, run, tx.now_ms)) for run, job in left]))

        return await self._database.transact(work)

    async def waiting(self) -> list[tuple[Run, Job]]:
        """All queued runs with their jobs, the oldest first, whatever became of the job or its plugin."""

        def work() -> list[tuple[Run, Job]]:
            rows = current.execute_sql(_WAITING).fetchall()
            return [(read_run(row), read_job(row[RUN_WIDTH:])) for row in rows]

        return await self._database.read(work)

    async def drop_retry(self, run_id: str) -> bool:
        """The run is not tried again; False if it was not to be, or is being already."""
        return await self._database.transact(lambda tx: bool(tx.execute(_DROP_RETRY, (run_id,)).rowcount))

    async def get(self, run_id: str) -> Run:
        """Raises:
        NotFound: there is no such run, or not any more.
        """
        run = await self._database.read(lambda: find_run(run_id))
        if run is None:
            raise unknown_run(run_id)
        return run

    async def named(self, name: str) -> Run:
        """A run by its id, or by the beginning of it, from LEAST_NAME characters on.

        Raises:
            NotFound: there is no such run, or not any more.
            InvalidParams: several begin so; details: runs, some of them.
        """
        return await self._database.read(lambda: run_named(name))

    async def list(
        self,
        *,
        job_id: str | None = None,
        plugin_id: PluginId | None = None,
        state: RunState | None = None,
        trigger: Trigger | None = None,
        since_ms: int | None = None,
        before_ms: int | None = None,
        before: str | None = None,
        limit: int = 50,
        states: Collection[RunState] = (),
        triggers: Collection[Trigger] = (),
    ) -> list[Run]:
        """Newest first. `before` pages on from the last one's id and leaves nothing out.

        With `states` and `triggers` only runs in one of these.

        `since_ms` and `before_ms` keep to runs created not before, and before, that instant; the latter leaves out
        all of that very millisecond.

        Raises:
            NotFound: there is no run `before`, or not any more.
        """
        scope: dict[str, Any] = {
            "job_id = ?": job_id,
            _OF_PLUGIN: plugin_id,
            "created_ms >= ?": since_ms,
            "created_ms < ?": before_ms,
        }
        few: dict[str, Any] = {
            "state = ?": None if state is None else str(state),
            '"trigger" = ?': None if trigger is None else str(trigger),
            _IN_STATES: json_list(states) if states else None,
            _BY_TRIGGERS: json_list(triggers) if triggers else None,
        }
        if plugin_id is not None:
            # Its jobs' runs are found job by job and sorted then: to do so for each piece would cost more.
            scope, few = scope | few, {}
        return await find_runs(self._database, _given(scope), _given(few), before, limit)

    async def trim(self, *, keep_runs: int = KEEP_RUNS, keep_ms: int = KEEP_MS) -> int:
        """Delete ended runs older than `keep_ms`, and of each job all but the newest `keep_runs`; how many.

        Never those that have not ended or are to be tried again.
        """
        return await run_history.trim(self._database, keep_runs=keep_runs, keep_ms=keep_ms)


def _given(conditions: dict[str, Any]) -> dict[str, Any]:
    return {condition: value for condition, value in conditions.items() if value is not None}
