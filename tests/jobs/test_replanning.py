"""The wall clock was turned back, was ahead for a while, or was never set: what runs again, and what never does."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trio

from supervisor.clock import to_ms
from supervisor.core.errors import PluginError
from supervisor.log import Logger
from tests.jobs.world import NOON, OpenWorld, World, job, never_answer
from tests.store.jobs_world import execute

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
UNSET = datetime(1970, 1, 1, 0, 1, tzinfo=UTC)


def due_times(world: World) -> Counter[int]:
    return Counter(call.params["scheduled_at_ms"] for call in world.workers.calls)


async def fail(_: Any) -> Any:
    await trio.lowlevel.checkpoint()
    raise PluginError("no")


@pytest.mark.parametrize("ahead", [10 * MINUTE, DAY, 2 * DAY, 400 * DAY], ids=str)
async def test_a_job_of_one_date_outlives_a_clock_that_was_ahead(
    autojump_clock: Any, world: World, ahead: timedelta
) -> None:
    """It was missed in a future that had not happened, and was due no more."""
    await world.install_ready("acme.weather", job("once", None, at="2026-03-01T18:00:00Z"))
    await trio.sleep(5)
    for step in (ahead, -ahead):
        world.clock.step(step)
        await trio.sleep(5)
    await trio.sleep(8 * 3600)
    assert world.workers.times("once") == [NOON + 6 * HOUR]
    assert await world.states() == ["succeeded"]


async def test_a_date_that_ran_while_the_clock_was_ahead_runs_no_more(autojump_clock: Any, world: World) -> None:
    await world.install_ready("acme.weather", job("once", None, at="2026-03-01T18:00:00Z"))
    await trio.sleep(5)
    world.clock.step(6 * HOUR - MINUTE)
    await trio.sleep(120)
    world.clock.step(-5 * HOUR)
    await trio.sleep(8 * 3600)
    assert await world.states() == ["succeeded"]
    assert len(world.workers.calls) == 1


async def test_a_due_time_runs_once_though_its_row_is_deleted_by_now(autojump_clock: Any, world: World) -> None:
    """Before and after a pause: what was served has a gap, so it is not told by its ends."""
    await world.install_ready("acme.weather", job("tick", None, every="1s"))
    await trio.sleep(120.5)
    await world.operator.holds.pause_job("acme.weather/tick")
    await trio.sleep(10)
    await world.operator.holds.resume_job("acme.weather/tick")
    await trio.sleep(30)
    assert await world.runs.trim(keep_runs=50) == 100
    world.clock.step(-2 * MINUTE)
    await trio.sleep(130)
    assert set(due_times(world).values()) == {1}
    # Of the pause, which is passed through once more, nobody knows; all others are there.
    assert len(due_times(world)) == 120 + 30 + 10 + 10


async def test_what_a_wrong_clock_served_and_history_lost_stops_nothing(autojump_clock: Any, world: World) -> None:
    await world.install_ready("acme.weather", job("tick", None, every="1s"))
    await trio.sleep(10.5)
    world.clock.step(400 * DAY)
    await trio.sleep(100)
    before = len(world.workers.calls)
    assert await world.runs.trim(keep_runs=20) > 80
    world.clock.step(-400 * DAY)
    await trio.sleep(60)
    assert len(world.workers.calls) == before + 60
    assert set(due_times(world).values()) == {1}


async def test_history_keeps_what_runs_now_and_what_tells_of_a_future_that_was(
    autojump_clock: Any, world: World
) -> None:
    await world.install_ready("acme.weather", job("tick", None, every="1s", catch_up="skip"))
    await trio.sleep(10.5)
    world.clock.step(5 * MINUTE)
    await trio.sleep(60)
    world.clock.step(-6 * MINUTE)
    await trio.sleep(30)
    now_ms = world.now_ms()
    deleted = await world.runs.trim(keep_runs=25)
    assert deleted > 0
    left = [run.due_ms for run in await world.history() if run.due_ms <= now_ms]
    assert left[-25:] == list(range(now_ms - now_ms % 1000 - 24_000, now_ms + 1, 1000))
    await trio.sleep(400)
    assert set(due_times(world).values()) == {1}
    # Four came at the very instant of the step, and were skipped beside the one that ran.
    assert len(due_times(world)) == 10 + 30 + 400 - 4


async def test_a_retry_dated_by_a_clock_that_was_ahead(autojump_clock: Any, world: World) -> None:
    world.workers.handlers["flaky"] = fail
    await world.install_ready("acme.weather", job("flaky", "0 * * * *", retries=1, retry_backoff_s=30))
    world.clock.step(365 * DAY)
    await trio.sleep(3605)
    world.clock.step(-365 * DAY)
    await trio.sleep(3500)
    assert [run.trigger for run in await world.history()][-1] == "schedule"
    await trio.sleep(200)
    [retry] = [run for run in await world.history() if run.trigger == "retry"]
    assert (str(retry.state), retry.attempt) == ("failed", 2)


async def test_a_retry_that_is_near_keeps_its_time(autojump_clock: Any, world: World) -> None:
    world.workers.handlers["flaky"] = fail
    await world.install_ready("acme.weather", job("flaky", "0 * * * *", retries=1, retry_backoff_s=600))
    await trio.sleep(3605)
    [run] = await world.history()
    world.clock.step(-10 * MINUTE)
    await trio.sleep(1)
    assert (await world.runs.get(run.id)).retry_at_ms == run.retry_at_ms


# A clock that was not set


async def test_nothing_is_claimed_before_the_clock_is_set(
    autojump_clock: Any, open_world: OpenWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand works; and once it is set, the years between are nobody's outage."""
    warned: list[str] = []
    monkeypatch.setattr(Logger, "warning", lambda _, event, **fields: warned.append(event))
    async with open_world(start=UNSET) as world, trio.open_nursery() as nursery:
        await world.serve(nursery)
        await world.install_ready("acme.weather", job(), job("start", "@reboot"))
        await trio.sleep(1000)
        assert await world.history() == []
        assert (await world.operator.run("acme.weather/refresh", wait=True))["state"] == "succeeded"
        world.clock.step(NOON - world.clock.now())
        await trio.sleep(301)
        found = [(run.job_key, str(run.trigger), str(run.state)) for run in await world.history()]
        assert found == [
            ("refresh", "manual", "succeeded"),
            ("start", "schedule", "succeeded"),
            ("refresh", "schedule", "succeeded"),
        ]
        assert world.workers.times("refresh")[1:] == [NOON + 5 * MINUTE]
        assert warned == ["jobs.clock_not_set"]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("synced_anew", [False, True])
async def test_a_start_before_the_clock_is_set_forgets_no_outage(
    autojump_clock: Any, open_world: OpenWorld, synced_anew: bool
) -> None:
    async with open_world() as world, trio.open_nursery() as nursery:
        await world.serve(nursery)
        await world.install_ready("acme.weather", job(schedule="0 * * * *"))
        await trio.sleep(3601)
        if synced_anew:
            await execute(world.database, "DELETE FROM job_sync")
        nursery.cancel_scope.cancel()
    async with open_world(start=UNSET) as world, trio.open_nursery() as nursery:
        await world.serve(nursery)
        await world.install_ready("acme.new", job("new", "0 * * * *"))
        await trio.sleep(100)
        assert await world.states() == ["succeeded"]
        world.clock.step(NOON + 3 * HOUR + MINUTE - world.clock.now())
        await trio.sleep(1)
        found = [(run.due_ms, str(run.state)) for run in await world.history()]
        hours = {1: "succeeded", 2: "missed", 3: "succeeded"}
        assert found == [(to_ms(NOON + n * HOUR), state) for n, state in hours.items()]
        nursery.cancel_scope.cancel()


async def test_a_clock_that_is_lost_while_the_daemon_runs(autojump_clock: Any, world: World) -> None:
    world.workers.handlers["slow"] = never_answer
    await world.install_ready("acme.weather", job())
    await trio.sleep(301)
    by = world.clock.now() - UNSET
    world.clock.step(-by)
    await trio.sleep(1000)
    assert await world.states() == ["succeeded"]
    world.clock.step(by - timedelta(seconds=1000))
    await trio.sleep(300)
    assert world.workers.times("refresh") == [NOON + 5 * MINUTE, NOON + 10 * MINUTE]


# A database of before


async def test_a_database_of_before_timings_leads_to_no_flood(autojump_clock: Any, open_world: OpenWorld) -> None:
    """The plugin is ready for a month, its history is short, and the daemon was down for a minute."""
    later = to_ms(NOON + 30 * DAY)
    async with open_world() as world, trio.open_nursery() as nursery:
        await world.serve(nursery)
        await world.install_ready("acme.weather", job(catch_up="all"), job("once", None, at="2026-03-02T00:00:00Z"))
        await trio.sleep(1)
        every = "UPDATE job SET timing = '', last_due_ms = ?1, next_due_ms = ?1 + 300000, next_fire_ms = ?1 + 300000"
        await execute(world.database, every, later)
        await execute(world.database, "UPDATE job SET next_due_ms = NULL, next_fire_ms = NULL WHERE key = 'once'")
        await execute(world.database, "UPDATE scheduler SET clock_ms = (SELECT max(last_due_ms) FROM job)")
        await execute(world.database, "DELETE FROM job_sync")
        nursery.cancel_scope.cancel()
    async with open_world(start=NOON + 30 * DAY + 6 * MINUTE) as world, trio.open_nursery() as nursery:
        await world.serve(nursery)
        await trio.sleep(1)
        assert [(run.due_ms, str(run.trigger)) for run in await world.history()] == [(later + 300_000, "catch_up")]
        nursery.cancel_scope.cancel()


async def test_a_sync_that_is_due_when_the_clock_was_turned_back_makes_up_for_nothing(
    autojump_clock: Any, open_world: OpenWorld
) -> None:
    """Before what the scheduler has done since the plugin became ready nothing is due, whatever the clock says."""
    async with open_world() as world, trio.open_nursery() as nursery:
        await world.serve(nursery)
        await world.install_ready("acme.weather", job(schedule="* * * * *"))
        await trio.sleep(1)
        await execute(world.database, "DELETE FROM job")
        await execute(world.database, "DELETE FROM job_sync")
        await world.jobs.set_clock_ms(to_ms(NOON + 400 * DAY))
        nursery.cancel_scope.cancel()
    async with open_world(start=NOON + 30 * DAY) as world, trio.open_nursery() as nursery:
        await world.serve(nursery)
        await trio.sleep(61)
        assert [run.due_ms for run in await world.history()] == [to_ms(NOON + 30 * DAY + MINUTE)]
        nursery.cancel_scope.cancel()
