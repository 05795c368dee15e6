"""A job whose row cannot be read is off and told, and costs nobody else anything; its next sync mends it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import trio

from supervisor.core.errors import FailedPrecondition
from supervisor.core.job import RunState
from supervisor.core.lifecycle import Status
from supervisor.log import Logger
from tests.jobs.world import NOON, OpenWorld, World, job
from tests.store.jobs_world import execute, put, run_of

MINUTE = timedelta(minutes=1)
_SPECS = ['{"display_name":"x"}', "{", "[1]", "null", '{"key":"bad","display_name":"x","command":7}']


@pytest.mark.parametrize("spec", _SPECS)
async def test_a_damaged_job_is_taken_off_and_all_others_go_on(
    autojump_clock: Any, world: World, monkeypatch: pytest.MonkeyPatch, spec: str
) -> None:
    plugin = await world.install_ready("acme.weather", job("bad"), job("good"))
    await world.install_ready("acme.other", job("other"))
    await trio.sleep(20)
    told: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(Logger, "error", lambda _, event, **fields: told.append((event, fields)))
    await execute(world.database, "UPDATE job SET spec = ? WHERE key = 'bad'", spec)
    world.clock.step(-timedelta(seconds=10))  # all are planned anew
    await trio.sleep(320)
    ran = {key: world.workers.times(key) for key in ("bad", "good", "other")}
    assert ran == {"bad": [], "good": [NOON + 5 * MINUTE], "other": [NOON + 5 * MINUTE]}
    [(event, fields)] = told
    assert (event, fields["job"]) == ("job.unschedulable", "acme.weather/bad")
    assert "what is stored of it cannot be read" in fields["error"]
    assert [each.job.key for each in await world.jobs.list()] == ["other", "bad", "good"]
    with pytest.raises(FailedPrecondition, match=r"job acme\.weather/bad cannot run: what is stored of it"):
        await world.operator.run("acme.weather/bad")
    await world.set_status(plugin, Status.DISABLED)
    await world.set_status(plugin, Status.READY)
    await trio.sleep(300)
    assert world.workers.times("bad") == [NOON + 10 * MINUTE]


async def test_runs_of_a_damaged_job_are_ended_at_the_start(autojump_clock: Any, open_world: OpenWorld) -> None:
    async with open_world() as world, trio.open_nursery() as nursery:
        await world.serve(nursery)
        await world.install_ready("acme.weather", job("bad", retries=3), job("good", retries=3))
        await trio.sleep(1)
        for key in ("bad", "good"):
            found = await world.job(f"acme.weather/{key}")
            at_ms = world.now_ms()
            await put(
                world.database,
                run_of(found, state=RunState.RUNNING, due_ms=at_ms),
                run_of(found, due_ms=at_ms, created_ms=at_ms),
            )
        await execute(world.database, "UPDATE job SET spec = '{' WHERE key = 'bad'")
        nursery.cancel_scope.cancel()
    async with open_world(start=NOON + timedelta(seconds=10)) as world, trio.open_nursery() as nursery:
        await world.serve(nursery)
        await trio.sleep(5)
        ended = {(run.job_key, str(run.state)): run for run in await world.history()}
        assert set(ended) == {
            ("bad", "interrupted"),
            ("bad", "cancelled"),
            ("good", "interrupted"),
            ("good", "succeeded"),
        }
        assert ended["bad", "interrupted"].retry_at_ms is None
        assert ended["good", "interrupted"].retry_at_ms is not None
        assert "what is stored of it cannot be read" in str(ended["bad", "cancelled"].error)
        nursery.cancel_scope.cancel()


async def test_a_retry_of_a_damaged_job_is_dropped_and_told(
    autojump_clock: Any, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.install_ready("acme.weather", job("bad", "0 0 * * *"))
    await trio.sleep(1)
    failed = run_of(await world.job("acme.weather/bad"), state=RunState.RUNNING)
    await put(world.database, failed)
    await execute(world.database, "UPDATE job_run SET state = 'failed', retry_at_ms = ?", world.now_ms() + 5000)
    await execute(world.database, "UPDATE job SET spec = '{'")
    told: list[str] = []
    monkeypatch.setattr(Logger, "error", lambda _, event, **fields: told.append(f"{event} {fields['job']}"))
    world.scheduler.nudge()
    await trio.sleep(20)
    assert told == ["job.unschedulable acme.weather/bad"]
    assert [run.retry_at_ms for run in await world.history()] == [None]
