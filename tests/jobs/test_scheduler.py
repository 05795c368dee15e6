"""Due times to the millisecond under a mock clock: claims, catching up, overlap, clock steps, a failing database."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
import trio

from supervisor.clock import to_ms
from supervisor.core.errors import ResourceExhausted
from supervisor.core.job import RunState
from supervisor.core.lifecycle import Status
from supervisor.jobs.scheduler import MAX_SLEEP_S, JobScheduler
from supervisor.log import get_logger
from tests.jobs.world import NOON, OpenWorld, World, job, never_answer

MINUTE = timedelta(minutes=1)


async def test_every_due_time_is_met_exactly(autojump_clock: Any, world: World) -> None:
    await world.install_ready("acme.weather", job("five"), job("ninety", None, every="90s"), job("by-hand", None))
    await trio.sleep(601)
    assert world.workers.times("five") == [NOON + 5 * MINUTE, NOON + 10 * MINUTE]
    assert world.workers.times("ninety") == [NOON + timedelta(seconds=90 * n) for n in range(1, 7)]
    assert world.workers.times("by-hand") == []
    runs = await world.history()
    assert {(str(run.state), str(run.trigger)) for run in runs} == {("succeeded", "schedule")}
    assert [call.params["scheduled_at_ms"] for call in world.workers.calls] == [
        to_ms(call.at) for call in world.workers.calls
    ]


async def test_the_worker_is_told_which_run_it_is(autojump_clock: Any, world: World) -> None:
    await world.install_ready("acme.weather", job())
    await trio.sleep(301)
    [run] = await world.history()
    [call] = world.workers.calls
    assert call.params == {
        "job": "refresh",
        "run_id": run.id,
        "trigger": "schedule",
        "scheduled_at_ms": run.due_ms,
        "attempt": 1,
    }
    listed = await world.jobs.get("acme.weather/refresh")
    assert (listed.last_due_ms, listed.next_due_ms) == (run.due_ms, run.due_ms + 300_000)


async def test_nothing_polls(autojump_clock: Any, world: World) -> None:
    """An hour until the next due time costs a look at the clock every MAX_SLEEP_S, and no job costs none."""
    looks = 0
    now = world.clock.now

    def counted() -> datetime:
        nonlocal looks
        looks += 1
        return now()

    world.clock.now = counted  # type: ignore[method-assign]
    await trio.sleep(3600)
    assert looks == 0
    await world.install_ready("acme.weather", job(schedule="30 20 * * *"))
    await world.coordinator.wait_settled()
    looks = 0
    await trio.sleep(3600)
    assert looks <= 2 * 3600 / MAX_SLEEP_S + 4


async def test_overlap_skip_and_allow(autojump_clock: Any, world: World) -> None:
    world.workers.handlers |= {"slow": never_answer, "many": never_answer}
    await world.install_ready("acme.weather", job("slow", timeout_s=299), job("many", overlap="allow", timeout_s=400))
    await trio.sleep(601)
    slow = await world.history(job_id=(await world.jobs.get("acme.weather/slow")).id)
    assert [str(run.state) for run in slow] == ["timed_out", "running"]
    many = await world.history(job_id=(await world.jobs.get("acme.weather/many")).id)
    assert len(many) == 2


async def test_a_run_that_has_not_ended_makes_the_next_one_skipped(autojump_clock: Any, world: World) -> None:
    world.workers.handlers["slow"] = never_answer
    await world.install_ready("acme.weather", job("slow", timeout_s=700))
    await trio.sleep(1201)
    first, second, third, fourth = await world.history()
    assert [str(run.state) for run in (first, second, third, fourth)] == ["timed_out", "skipped", "skipped", "running"]
    assert second.error is not None
    assert first.id in second.error
    assert (second.started_ms, second.finished_ms) == (None, second.due_ms)


@pytest.mark.parametrize(
    ("catch_up", "rows"),
    [
        ("latest", [("missed", "schedule", 10), ("succeeded", "catch_up", 60)]),
        ("skip", [("missed", "schedule", 10)]),
    ],
)
async def test_what_was_due_while_the_daemon_was_down(
    autojump_clock: Any, open_world: OpenWorld, catch_up: str, rows: list[tuple[str, str, int]]
) -> None:
    spec = job(schedule="*/10 * * * *", catch_up=catch_up)
    async with open_world() as world, trio.open_nursery() as nursery:
        await world.serve(nursery)
        await world.install_ready("acme.weather", spec)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    async with open_world(start=NOON + 62 * MINUTE) as world, trio.open_nursery() as nursery:
        await world.serve(nursery)
        await trio.sleep(1)
        found = [(str(run.state), str(run.trigger), run.due_ms) for run in await world.history()]
        assert found == [(state, trigger, to_ms(NOON + minute * MINUTE)) for state, trigger, minute in rows]
        await trio.sleep(10 * 60)
        assert (await world.states())[-1] == "succeeded"
        nursery.cancel_scope.cancel()


async def test_a_later_start_is_only_missed(autojump_clock: Any, open_world: OpenWorld) -> None:
    async with open_world() as world, trio.open_nursery() as nursery:
        await world.serve(nursery)
        await world.install_ready("acme.weather", job(schedule="0 18 * * *"))
        await world.coordinator.wait_settled()
        nursery.cancel_scope.cancel()
    async with open_world(start=NOON + timedelta(hours=8)) as world, trio.open_nursery() as nursery:
        await world.serve(nursery)
        await trio.sleep(1)
        [run] = await world.history()
        assert (run.state, run.due_ms) == (RunState.MISSED, to_ms(NOON + timedelta(hours=6)))
        assert run.error is not None
        assert run.error.startswith("1 due time from 2026-03-01T18:00:00Z")
        assert world.workers.calls == []
        nursery.cancel_scope.cancel()


async def test_two_schedulers_never_run_a_due_time_twice(autojump_clock: Any, world: World) -> None:
    plugin = await world.install_ready("acme.weather", *(job(f"j{n}", "* * * * *") for n in range(20)))
    other = JobScheduler(world.jobs, world.runs, world.runner, world.clock, get_logger())
    async with trio.open_nursery() as nursery:
        await world.coordinator.wait_settled()
        entries = list(world.scheduler._entries.values())
        other.replace_plugin(plugin.id, [(entry.job, entry.schedule) for entry in entries])
        await nursery.start(other.run)
        await trio.sleep(10 * 60 + 1)
        nursery.cancel_scope.cancel()
    runs = await world.history()
    assert len(runs) == len({(run.job_id, run.due_ms) for run in runs}) == 200
    assert {str(run.state) for run in runs} == {"succeeded"}


async def test_a_clock_turned_back_runs_nothing_again(autojump_clock: Any, world: World) -> None:
    await world.install_ready("acme.weather", job())
    await trio.sleep(601)
    world.clock.step(-timedelta(hours=1))
    await trio.sleep(3600)
    # What had not come before the job was there is due for the first time; 12:05 and 12:10 are not due again.
    due = [run.due_ms for run in await world.history()]
    assert sorted(due) == [to_ms(NOON + n * MINUTE) for n in range(-45, 11, 5)]
    await trio.sleep(300)
    due = [run.due_ms for run in await world.history()]
    assert sorted(due) == [to_ms(NOON + n * MINUTE) for n in range(-45, 16, 5)]
    assert len(world.workers.calls) == len(due)


async def test_a_clock_turned_back_by_years_stops_nothing(autojump_clock: Any, world: World) -> None:
    await world.install_ready("acme.weather", job("five"), job("daily", "0 6 * * *"), job("ninety", None, every="90s"))
    await trio.sleep(301)
    world.clock.step(-timedelta(days=3650))
    before = len(world.workers.calls)
    await trio.sleep(MAX_SLEEP_S + 300)
    assert {call.params["job"] for call in world.workers.calls[before:]} == {"five", "ninety"}
    assert (await world.jobs.get("acme.weather/daily")).next_due_ms == to_ms(
        (NOON - timedelta(days=3650)).replace(hour=6) + timedelta(days=1)
    )


async def test_a_full_disk_delays_the_new_plan_of_a_clock_turned_back(
    autojump_clock: Any, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.install_ready("acme.weather", job())
    await trio.sleep(301)
    move, failures = world.jobs.move, 0

    async def full_for_a_while(moves: Any) -> Any:
        nonlocal failures
        failures += 1
        if failures < 4:
            await trio.lowlevel.checkpoint()
            raise ResourceExhausted("the disk is full")
        return await move(moves)

    monkeypatch.setattr(world.jobs, "move", full_for_a_while)
    world.clock.step(-timedelta(days=365))
    await trio.sleep(MAX_SLEEP_S + 10)
    assert failures == 4
    due_ms = (await world.jobs.get("acme.weather/refresh")).next_due_ms
    assert due_ms == to_ms(NOON - timedelta(days=365) + 10 * MINUTE)


async def test_a_start_after_the_clock_was_turned_back(autojump_clock: Any, open_world: OpenWorld) -> None:
    async with open_world(start=NOON + timedelta(days=3650)) as world, trio.open_nursery() as nursery:
        await world.serve(nursery)
        await world.install_ready("acme.weather", job())
        await trio.sleep(301)
        nursery.cancel_scope.cancel()
    async with open_world() as world, trio.open_nursery() as nursery:
        await world.serve(nursery)
        await trio.sleep(301)
        assert world.workers.times("refresh") == [NOON + 5 * MINUTE]
        nursery.cancel_scope.cancel()


async def test_a_sync_after_the_clock_was_turned_back_runs_nothing_again(autojump_clock: Any, world: World) -> None:
    plugin = await world.install_ready("acme.weather", job())
    await trio.sleep(601)
    world.clock.step(-timedelta(hours=1))
    await world.set_status(plugin, Status.DISABLED)
    await world.set_status(plugin, Status.READY)
    await trio.sleep(3600)
    due = [run.due_ms for run in await world.history()]
    assert sorted(due) == [to_ms(NOON + n * MINUTE) for n in range(-45, 11, 5)]
    assert len(world.workers.calls) == len(due)


async def test_a_clock_put_forward_is_noticed(autojump_clock: Any, world: World) -> None:
    await world.install_ready("acme.weather", job(schedule="0 * * * *"))
    await trio.sleep(1)
    world.clock.step(timedelta(hours=3, minutes=5))
    await trio.sleep(MAX_SLEEP_S + 1)
    assert [(str(r.state), str(r.trigger)) for r in await world.history()] == [
        ("missed", "schedule"),
        ("succeeded", "catch_up"),
    ]


async def test_a_full_disk_delays_and_loses_nothing(
    autojump_clock: Any, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.install_ready("acme.weather", job())
    await world.coordinator.wait_settled()
    claim = world.runs.claim

    async def full(*_: object) -> Any:
        await trio.lowlevel.checkpoint()
        raise ResourceExhausted("the disk is full")

    monkeypatch.setattr(world.runs, "claim", full)
    await trio.sleep(5 * 60 + 20)
    assert world.workers.calls == []
    assert world.runner.active.of_job((await world.jobs.get("acme.weather/refresh")).id) == ()
    monkeypatch.setattr(world.runs, "claim", claim)
    await trio.sleep(40)
    [run] = await world.history()
    assert (str(run.state), str(run.trigger), run.due_ms) == ("succeeded", "catch_up", to_ms(NOON + 5 * MINUTE))


async def test_one_plugins_slow_jobs_delay_no_other(autojump_clock: Any, world: World) -> None:
    slow = [job(f"slow{n}", "* * * * *") for n in range(100)]
    world.workers.handlers |= {spec.key: never_answer for spec in slow}
    await world.install_ready("acme.slow", *slow)
    await world.install_ready("acme.quick", job("quick", "* * * * *"))
    await trio.sleep(241)
    assert world.workers.times("quick") == [NOON + n * MINUTE for n in range(1, 5)]
    assert world.runner.statistics().running == 8


async def test_many_due_at_once_all_run(autojump_clock: Any, world: World) -> None:
    for p in range(10):
        await world.install(f"p{p}", *(job(f"j{n}", "0 13 * * *") for n in range(20)))
    for plugin in world.plugins.all():
        await world.set_status(plugin, Status.READY)
    await trio.sleep(3601)
    assert await world.states() == ["succeeded"] * 200
    assert {call.at for call in world.workers.calls} == {NOON + timedelta(hours=1)}
    assert world.runner.statistics().active == world.runner.statistics().plugins == 0


async def test_jobs_due_when_the_daemon_starts_run_once_a_start(autojump_clock: Any, open_world: OpenWorld) -> None:
    for start in range(1, 3):
        async with open_world(start=NOON + start * timedelta(hours=1)) as world, trio.open_nursery() as nursery:
            await world.serve(nursery)
            found = world.plugins.find("acme.weather")
            plugin = found or await world.install_ready("acme.weather", job(schedule="@reboot"))
            await trio.sleep(1)
            await world.set_status(plugin, Status.DISABLED)
            await world.set_status(plugin, Status.READY)
            await trio.sleep(3600)
            assert await world.states() == ["succeeded"] * start
            nursery.cancel_scope.cancel()


async def _slow(_: dict[str, Any]) -> None:
    await trio.sleep(5)


async def test_claims_under_way_when_the_schedule_ends_are_carried_out(autojump_clock: Any, world: World) -> None:
    """The scheduler is cancelled while its claims are being committed: no row stays queued without a run."""
    handler: Callable[[dict[str, Any]], Awaitable[Any]] = _slow
    world.workers.handlers["refresh"] = handler
    plugin = await world.install("acme.other", job())
    await world.coordinator.wait_settled()
    stored = await world.jobs.sync(plugin.id, plugin.key, [job()], lambda *_: world.now_ms() + 1000)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            other = JobScheduler(world.jobs, world.runs, world.runner, world.clock, get_logger())
            await world.install_ready("acme.weather", job())
            await world.coordinator.wait_settled()
            schedule = next(iter(world.scheduler._entries.values())).schedule
            other.put(stored[0], schedule)
            settle = other._settle

            def settle_and_stop(claimed: Any) -> None:
                scope.cancel()
                settle(claimed)

            other._settle = settle_and_stop  # type: ignore[method-assign]
            await nursery.start(other.run)
    assert scope.cancelled_caught
    await trio.sleep(10)
    assert await world.states(plugin_id=plugin.id) == ["succeeded"]
