"""Due times to the millisecond under a mock clock: claims, catching up, overlap, clock steps, a failing database."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
import trio

from supervisor.clock import to_ms
from supervisor.core.errors import ResourceExhausted
from supervisor.core.job import RunState
from supervisor.core.lifecycle import Status
from supervisor.core.plugin import Plugin
from supervisor.jobs.scheduler import JobScheduler
from supervisor.log import Logger, get_logger
from tests.jobs.world import NOON, FakeAlarm, OpenWorld, World, job, never_answer

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
        "params": None,
    }
    listed = await world.jobs.get("acme.weather/refresh")
    assert (listed.last_due_ms, listed.next_due_ms) == (run.due_ms, run.due_ms + 300_000)


async def test_nothing_wakes_up_while_nothing_is_due(autojump_clock: Any, world: World) -> None:
    await world.install_ready("acme.weather", job(schedule="30 20 * * *"), job("by-hand", None))
    await world.coordinator.wait_settled()
    await trio.testing.wait_all_tasks_blocked()
    rings = world.alarm.rings
    await trio.sleep(8 * 3600)
    assert world.alarm.rings == rings
    await trio.sleep(1801)
    assert world.workers.times("refresh") == [NOON + timedelta(hours=8, minutes=30)]
    assert world.alarm.rings - rings <= 2


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
    ("more", "rows"),
    [
        ({}, ["missed schedule 10", "missed schedule 20", "missed schedule 30", "succeeded catch_up 40"]),
        ({"catch_up": "skip"}, [f"missed schedule {minute}" for minute in (10, 20, 30, 40)]),
        (
            {"catch_up": "all", "misfire_grace_s": 1210.0},
            ["missed schedule 10", *(f"succeeded catch_up {minute}" for minute in (20, 30, 40))],
        ),
    ],
)
async def test_what_was_due_while_the_daemon_was_down(
    autojump_clock: Any, open_world: OpenWorld, more: dict[str, Any], rows: list[str]
) -> None:
    async with open_world() as world, trio.open_nursery() as nursery:
        await world.serve(nursery)
        await world.install_ready("acme.weather", job(schedule="*/10 * * * *", **more))
        await world.coordinator.wait_settled()
        nursery.cancel_scope.cancel()
    async with open_world(start=NOON + 40 * MINUTE + timedelta(seconds=6)) as world, trio.open_nursery() as nursery:
        await world.serve(nursery)
        await trio.sleep(1)
        found = [f"{run.state} {run.trigger} {_minute(run.due_ms)}" for run in await world.history()]
        assert found == rows
        await trio.sleep(10 * 60)
        assert (await world.states())[-1] == "succeeded"
        nursery.cancel_scope.cancel()


def _minute(due_ms: int) -> int:
    return (due_ms - to_ms(NOON)) // 60_000


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
        assert "unserved until 2026-03-01T20:00:00Z; more than misfire_grace_s" in str(run.error)
        assert world.workers.calls == []
        nursery.cancel_scope.cancel()


def another_scheduler(world: World) -> JobScheduler:
    alarm = FakeAlarm(world.clock)
    log = get_logger()
    return JobScheduler(world.jobs, world.claims, world.runner, alarm, world.clock, log, timezone="UTC")


async def test_two_schedulers_never_run_a_due_time_twice(autojump_clock: Any, world: World) -> None:
    await world.install_ready("acme.weather", *(job(f"j{n}", "* * * * *") for n in range(20)))
    async with trio.open_nursery() as nursery:
        await world.coordinator.wait_settled()
        await nursery.start(another_scheduler(world).run)
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


async def test_a_clock_turned_back_far_stops_nothing(autojump_clock: Any, world: World) -> None:
    await world.install_ready("acme.weather", job("five"), job("daily", "0 6 * * *"), job("ninety", None, every="90s"))
    await trio.sleep(301)
    world.clock.step(-timedelta(days=420))
    before = len(world.workers.calls)
    await trio.sleep(300)
    assert {call.params["job"] for call in world.workers.calls[before:]} == {"five", "ninety"}
    assert (await world.jobs.get("acme.weather/daily")).next_due_ms == to_ms(
        (NOON - timedelta(days=420)).replace(hour=6) + timedelta(days=1)
    )


async def test_a_full_disk_delays_the_new_plan_of_a_clock_turned_back(
    autojump_clock: Any, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.install_ready("acme.weather", job())
    await trio.sleep(301)
    replan, failures = world.jobs.replan, 0

    async def full_for_a_while(*given: Any, **how: Any) -> Any:
        nonlocal failures
        failures += 1
        if failures < 4:
            await trio.lowlevel.checkpoint()
            raise ResourceExhausted("the disk is full")
        return await replan(*given, **how)

    monkeypatch.setattr(world.jobs, "replan", full_for_a_while)
    world.clock.step(-timedelta(days=365))
    await trio.sleep(10)
    assert failures == 4
    assert (await world.job("acme.weather/refresh")).next_due_ms == to_ms(NOON - timedelta(days=365) + 10 * MINUTE)


async def test_small_steps_back_add_up(autojump_clock: Any, world: World) -> None:
    """Each is within what a clock is adjusted by; together they put the next due time too far away."""
    await world.install_ready("acme.weather", job(schedule="* * * * *"))
    await trio.sleep(61)
    for _ in range(200):
        world.clock.step(-timedelta(milliseconds=900))
        await trio.sleep(0.001)
    stepped = world.clock.now()
    assert stepped < NOON - MINUTE
    await trio.sleep(60)
    due = [run.due_ms for run in await world.history()]
    assert due == [to_ms(stepped.replace(second=0, microsecond=0) + MINUTE), to_ms(NOON + MINUTE)]


async def test_a_clock_turned_back_while_the_daemon_was_down_runs_nothing_again(
    autojump_clock: Any, open_world: OpenWorld
) -> None:
    """The rows of what ran are long gone: what was served is known without them."""
    async with open_world() as world, trio.open_nursery() as nursery:
        await world.serve(nursery)
        await world.install_ready("acme.weather", job(schedule="* * * * *"))
        await trio.sleep(601)
        await world.runs.trim(keep_runs=1)
        nursery.cancel_scope.cancel()
    async with open_world(start=NOON + 2 * MINUTE + timedelta(seconds=1)) as world, trio.open_nursery() as nursery:
        await world.serve(nursery)
        await trio.sleep(8 * 60 - 2)
        assert world.workers.calls == []
        await trio.sleep(60 + 2)
        assert world.workers.times("refresh") == [NOON + 11 * MINUTE]
        nursery.cancel_scope.cancel()


async def test_what_was_missed_in_a_future_that_did_not_happen_is_run(autojump_clock: Any, world: World) -> None:
    """The clock was ahead for a moment: what is missed then is due when its time really comes."""
    await world.install_ready("acme.weather", job(schedule="0 * * * *"))
    await trio.sleep(1)
    world.clock.step(timedelta(hours=3, minutes=50))
    await trio.sleep(1)
    assert await world.states() == ["missed"] * 3
    world.clock.step(-timedelta(hours=3, minutes=50))
    await trio.sleep(3600)
    assert sorted(await world.states()) == ["missed", "missed", "succeeded"]
    assert world.workers.times("refresh") == [NOON + timedelta(hours=1)]
    await trio.sleep(4 * 3600)
    assert await world.states() == ["succeeded"] * 5
    assert world.workers.times("refresh") == [NOON + timedelta(hours=n) for n in range(1, 6)]


async def test_a_suspended_machine_is_a_step_forward(autojump_clock: Any, world: World) -> None:
    """Repeated, and not in time with anything: each due time has one row."""
    await world.install_ready("acme.weather", job(schedule="*/10 * * * *", catch_up="all", misfire_grace_s=86_400))
    await world.coordinator.wait_settled()
    for minutes in (3, 47, 9, 0.5, 121):
        await trio.sleep(61)
        world.clock.step(timedelta(minutes=minutes))
    await trio.sleep(30)
    due = [run.due_ms for run in await world.history()]
    last = (world.clock.now() - NOON) // (10 * MINUTE)
    assert due == [to_ms(NOON + 10 * n * MINUTE) for n in range(1, last + 1)]
    assert set(await world.states()) == {"succeeded"}


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
    await trio.sleep(0.1)
    assert [f"{run.state} {run.trigger}" for run in await world.history()] == [
        "missed schedule",
        "missed schedule",
        "succeeded catch_up",
    ]


async def test_a_failing_database_delays_and_loses_nothing(
    autojump_clock: Any, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.install_ready("acme.weather", job())
    await world.coordinator.wait_settled()
    claim, tries = world.claims.claim_due, 0

    async def full(*_: object) -> Any:
        nonlocal tries
        tries += 1
        await trio.lowlevel.checkpoint()
        raise ResourceExhausted("the disk is full") if tries % 2 else RuntimeError("our own mistake")

    monkeypatch.setattr(world.claims, "claim_due", full)
    await trio.sleep(5 * 60 + 20)
    assert tries == 5  # after 1, 2, 4 and 8 seconds
    assert world.workers.calls == []
    monkeypatch.setattr(world.claims, "claim_due", claim)
    await trio.sleep(40)
    [run] = await world.history()
    assert (str(run.state), str(run.trigger), run.due_ms) == ("succeeded", "catch_up", to_ms(NOON + 5 * MINUTE))


async def test_a_nudge_during_a_claim_is_not_lost(
    autojump_clock: Any, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody makes a job due earlier between the claim's look at the schedule and its end."""
    await world.install_ready("acme.weather", job(schedule="0 * * * *"), job("sooner", "0 0 * * *"))
    await world.coordinator.wait_settled()
    claim = world.claims.claim_due
    sooner_ms = to_ms(NOON + timedelta(hours=1, seconds=1))

    async def meanwhile(*given: Any) -> Any:
        tick = await claim(*given)
        monkeypatch.setattr(world.claims, "claim_due", claim)
        move = "UPDATE job SET next_due_ms = ?1, next_fire_ms = ?1 WHERE key = 'sooner'"
        await world.database.transact(lambda tx: tx.execute(move, (sooner_ms,)).rowcount)
        world.scheduler.nudge()
        return tick

    monkeypatch.setattr(world.claims, "claim_due", meanwhile)
    await trio.sleep(3602)
    assert world.workers.times("sooner") == [NOON + timedelta(hours=1, seconds=1)]


async def test_a_schedule_that_cannot_be_computed_any_more_is_off_and_runs_by_hand(
    autojump_clock: Any, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.install_ready("acme.weather", job("bad"), job("good"))
    await world.coordinator.wait_settled()
    told: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(Logger, "error", lambda _, event, **fields: told.append((event, fields)))
    spoil = """UPDATE job SET spec = '{"key":"bad","display_name":"Bad","schedule":"* * * * *","timezone":"No/Where"}'
        WHERE key = 'bad'"""
    await world.database.transact(lambda tx: tx.execute(spoil).rowcount)
    await trio.sleep(601)
    assert world.workers.times("good") == [NOON + 5 * MINUTE, NOON + 10 * MINUTE]
    assert (await world.job("acme.weather/bad")).next_due_ms is None
    [(event, fields)] = told
    assert (event, fields["job"]) == ("job.unschedulable", "acme.weather/bad")
    assert "No/Where" in fields["error"]
    await world.operator.run("acme.weather/bad", wait=True)
    assert world.workers.times("bad") == [world.clock.now()]


async def test_at_runs_once(autojump_clock: Any, world: World) -> None:
    plugin = await world.install_ready("acme.weather", job(schedule=None, at="2026-03-01T13:00:00+00:00"))
    await trio.sleep(3601)
    assert world.workers.times("refresh") == [NOON + timedelta(hours=1)]
    await world.set_status(plugin, Status.DISABLED)
    await world.set_status(plugin, Status.READY)
    await trio.sleep(86_400)
    assert len(world.workers.calls) == 1


async def test_jitter_spreads_and_keeps_the_due_time(autojump_clock: Any, world: World) -> None:
    await world.install_ready("acme.weather", *(job(f"j{n}", "0 13 * * *", jitter_s=600.0) for n in range(50)))
    await trio.sleep(3600 + 601)
    assert {call.params["scheduled_at_ms"] for call in world.workers.calls} == {to_ms(NOON + timedelta(hours=1))}
    times = sorted(call.at - NOON for call in world.workers.calls)
    assert len(set(times)) == 50
    assert times[0] < timedelta(minutes=62)
    assert timedelta(minutes=68) < times[-1] < timedelta(minutes=70)
    for run in await world.history():
        assert run.created_ms == (await world.runs.get(run.id)).started_ms


async def test_retries_come_from_the_rows(autojump_clock: Any, world: World) -> None:
    tries = 0

    async def fails_twice(_: dict[str, Any]) -> Any:
        nonlocal tries
        tries += 1
        await trio.lowlevel.checkpoint()
        if tries < 3:
            raise ResourceExhausted("not yet")

    world.workers.handlers["refresh"] = fails_twice
    await world.install_ready("acme.weather", job(schedule="0 * * * *", retries=5, retry_backoff_s=10))
    await trio.sleep(3600 + 31)
    runs = await world.history()
    assert [f"{run.state} {run.trigger} {run.attempt}" for run in runs] == [
        "failed schedule 1",
        "failed retry 2",
        "succeeded retry 3",
    ]
    assert [call.at - NOON for call in world.workers.calls] == [timedelta(seconds=3600 + s) for s in (0, 10, 30)]


async def test_the_whole_schedule_held(autojump_clock: Any, world: World) -> None:
    await world.install_ready("acme.weather", job())
    await world.coordinator.wait_settled()
    await world.operator.holds.pause_all(0)
    rings = world.alarm.rings
    await trio.sleep(3601)
    assert world.alarm.rings - rings <= 1
    assert await world.history() == []
    await world.operator.holds.resume_all()
    await trio.sleep(300)
    assert [run.due_ms for run in await world.history()] == [to_ms(NOON + 65 * MINUTE)]


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
    # Beyond the 64 places each batch gathers for a moment.
    late = [call.at - NOON - timedelta(hours=1) for call in world.workers.calls]
    assert min(late) == timedelta(0)
    assert max(late) < timedelta(milliseconds=50)
    assert world.runner.statistics().active == world.runner.statistics().plugins == 0


async def test_more_than_one_piece_is_claimed_with_the_loop_free_in_between(
    autojump_clock: Any, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = 33
    await world.install_ready("many", *(job(f"j{n}", "0 13 * * *") for n in range(jobs)))
    await world.coordinator.wait_settled()
    claim, begun, pieces, turns = world.claims.claim_due, trio.Event(), [], 0

    async def counted(*given: Any) -> Any:
        begun.set()
        pieces.append(turns)
        return await claim(*given, limit=8)

    monkeypatch.setattr(world.claims, "claim_due", counted)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, 3601)
        await begun.wait()
        while len(pieces) < 5:
            turns += 1
            await trio.lowlevel.checkpoint()
    await trio.sleep(60)
    assert len(pieces) == 5
    assert len(set(pieces)) > 2
    assert len(world.workers.calls) == jobs


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


async def test_claims_under_way_when_the_scheduler_ends_are_carried_out(autojump_clock: Any, world: World) -> None:
    """It is cancelled while its claims are being committed: no row stays queued without a run."""
    handler: Callable[[dict[str, Any]], Awaitable[Any]] = _slow
    world.workers.handlers["refresh"] = handler
    plugin: Plugin = await world.install_ready("acme.weather", job())
    await world.coordinator.wait_settled()
    await trio.testing.wait_all_tasks_blocked()
    other = another_scheduler(world)
    on_claimed = other._on_claimed
    with trio.CancelScope() as scope:

        def stop_and_hand_over(tick: Any) -> None:
            scope.cancel()
            on_claimed(tick)

        other._on_claimed = stop_and_hand_over  # type: ignore[method-assign]
        world.clock.watchers.clear()  # the world's own one sleeps on
        world.clock.step(5 * MINUTE)
        await other.run()
    assert scope.cancelled_caught
    await trio.sleep(10)
    assert await world.states(plugin_id=plugin.id) == ["succeeded"]
