"""What the tests of jobs' rows share: jobs to put in, runs of them, decisions to claim them by."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from supervisor.core.job import Admission, Due, Job, OpenRun, Plan, PlannedRun, Run, RunState, Trigger
from supervisor.core.manifest import JobSpec
from supervisor.core.plugin import Plugin
from supervisor.store.claims import ClaimStore, Tick
from supervisor.store.database import Database
from supervisor.store.jobs import FirstDue, JobStore
from supervisor.store.run_rows import insert_runs
from supervisor.store.tables import current

MINUTE_MS = 60_000


def spec(key: str = "refresh", **more: Any) -> JobSpec:
    return JobSpec(key=key, display_name=key.title(), **{"schedule": "* * * * *", **more})


def due_at(ms: int | None, timing: str = "minutely") -> FirstDue:
    return lambda _spec, _stored: (None if ms is None else Due(ms, ms), timing)


def due(ms: int) -> Due:
    return Due(ms, ms)


def run_of(job: Job, *, state: RunState = RunState.QUEUED, trigger: Trigger = Trigger.MANUAL, **more: Any) -> Run:
    due_ms = more.pop("due_ms", 1000)
    return Run(
        id=str(uuid.uuid4()),
        **job.of_run(),
        trigger=trigger,
        state=state,
        attempt=more.pop("attempt", 1),
        due_ms=due_ms,
        created_ms=more.pop("created_ms", due_ms),
        **more,
    )


def each_minute(job: Job, _: tuple[OpenRun, ...]) -> Plan:
    """Run what is due, whatever else goes on."""
    assert job.next_due_ms is not None
    return Plan((PlannedRun(job.next_due_ms, RunState.QUEUED),), due(job.next_due_ms + MINUTE_MS))


def admit(*_: object) -> Admission:
    return Admission()


def nothing(*_: object) -> None:
    """For those who do not want to be told."""


async def claim(claims: ClaimStore, now_ms: int, decide: Any = each_minute, retry: Any = admit, **more: Any) -> Tick:
    return await claims.claim_due(now_ms, decide, retry, nothing, **more)


async def put(database: Database, *runs: Run) -> None:
    """Write the rows as they are, whatever their state."""
    await database.transact(lambda _: insert_runs(runs))


async def execute(database: Database, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    return await database.transact(lambda tx: list(tx.execute(sql, parameters).fetchall()))


async def explain(database: Database, sql: str, parameters: tuple[Any, ...]) -> str:
    """How SQLite goes about it, a line for each step."""

    def work() -> str:
        return "\n".join(row[3] for row in current.execute_sql(f"EXPLAIN QUERY PLAN {sql}", parameters).fetchall())

    return await database.read(work)


async def make_jobs(
    database: Database, plugin: Plugin, *keys: str, at: int | None = 1000, first_due: Callable[..., Any] | None = None
) -> list[Job]:
    await execute(database, "UPDATE plugin SET status = 'ready' WHERE id = ?", plugin.id)
    specs = [spec(key) for key in keys or ("refresh",)]
    return await JobStore(database).sync(plugin.id, plugin.key, specs, first_due or due_at(at), source="v1")
