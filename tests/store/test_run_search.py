"""A search for few runs among many: in pieces, and nothing is left out or told twice."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from supervisor.core.errors import NotFound
from supervisor.core.job import Run, RunState, Trigger
from supervisor.core.plugin import Plugin
from supervisor.store import run_search
from supervisor.store.database import Database
from supervisor.store.runs import RunStore
from tests.store.jobs_world import explain, make_jobs, put, run_of

FAILED, SUCCEEDED = RunState.FAILED, RunState.SUCCEEDED


@pytest.fixture
async def made(database: Database, plugin: Plugin) -> list[Run]:
    """Forty, newest first, four at an instant; every seventh has failed, every fifth is a retry."""
    a, b = await make_jobs(database, plugin, "a", "b")
    runs = [
        run_of(
            b if n % 2 else a,
            due_ms=n,
            created_ms=n // 4,
            state=SUCCEEDED if n % 7 else FAILED,
            trigger=Trigger.MANUAL if n % 5 else Trigger.RETRY,
        )
        for n in range(40)
    ]
    await put(database, *runs)
    return runs[::-1]


@pytest.mark.parametrize("look_at", [1, 3, 39, 40, 41])
async def test_pieces_make_up_the_whole(
    database: Database, made: list[Run], monkeypatch: pytest.MonkeyPatch, look_at: int
) -> None:
    monkeypatch.setattr(run_search, "_LOOK_AT", look_at)
    runs = RunStore(database)
    for state, trigger, job_id, since_ms, start, limit in product(
        (None, FAILED), (None, Trigger.RETRY), (None, made[0].job_id), (None, 3), (None, 10), (1, 4, 50)
    ):
        before = None if start is None else made[start].id
        asked: dict[str, Any] = {"state": state, "trigger": trigger, "job_id": job_id, "since_ms": since_ms}
        found = await runs.list(**asked, before=before, limit=limit)
        expected = [
            run
            for run in made[0 if start is None else start + 1 :]
            if (state is None or run.state is state)
            and (trigger is None or run.trigger is trigger)
            and (job_id is None or run.job_id == job_id)
            and (since_ms is None or run.created_ms >= since_ms)
        ]
        assert found == expected[:limit]


async def test_a_read_looks_at_so_many_rows_and_others_come_in_between(
    database: Database, made: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_search, "_LOOK_AT", 10)
    read, reads = database.read, []

    async def counted(work: Any) -> Any:
        found = await read(work)
        reads.append(found[1])
        return found

    monkeypatch.setattr(database, "read", counted)
    assert await RunStore(database).list(state=RunState.MISSED) == []
    assert [None if place is None else place[0] for place in reads] == [7, 5, 2, 0, None]
    with pytest.raises(NotFound):
        await RunStore(database).list(before="gone")
    for where in ("TRUE", "(created_ms, rowid) < (5, 5)"):
        plan = await explain(database, f"SELECT created_ms, rowid FROM job_run WHERE {where} {run_search._ORDER}", (1,))
        assert "USING COVERING INDEX job_run_age" in plan
        assert "TEMP B-TREE" not in plan
