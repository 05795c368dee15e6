"""What people do with jobs: list, next, run, pause, resume, runs, cancel."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
import trio

from supervisor.clock import to_ms
from supervisor.core.errors import Conflict, FailedPrecondition, InvalidParams, NotFound
from supervisor.core.lifecycle import Status
from tests.jobs.world import NOON, OpenWorld, World, job, never_answer

NAME = "acme.weather/refresh"


async def test_a_job_as_it_is_shown(autojump_clock: Any, world: World) -> None:
    plugin = await world.install_ready("acme.weather", job(timezone="Europe/Berlin"), job("often", None, every="90s"))
    await trio.sleep(301)
    shown, often = await world.operator.list(), await world.operator.get("acme.weather/often")
    assert [each["job"] for each in shown] == ["acme.weather/often", NAME]
    assert often["schedule"] == "every 90s"
    stored = await world.jobs.get(NAME)
    assert shown[1] == {
        "id": stored.id,
        "job": NAME,
        "plugin": "acme.weather",
        "key": "refresh",
        "display_name": "Refresh",
        "schedule": "*/5 * * * *",
        "timezone": "Europe/Berlin",
        "paused": False,
        "active": True,
        "scheduled": True,
        "next_due_ms": to_ms(NOON) + 600_000,
        "last_due_ms": to_ms(NOON) + 300_000,
        "last_run_ms": to_ms(NOON) + 300_000,
        "last_state": "succeeded",
        "running": 0,
        "progress": [],
    }
    assert await world.operator.get(stored.id) == await world.operator.get(f"{plugin.id}/refresh") == shown[1]
    await world.set_status(plugin, Status.DISABLED)
    await world.coordinator.wait_settled()
    disabled = await world.operator.get(NAME)
    assert (disabled["active"], disabled["scheduled"], disabled["next_due_ms"]) == (True, False, None)
    await world.set_status(plugin, Status.READY)
    await world.set_status(plugin, Status.UNINSTALLED)
    await world.coordinator.wait_settled()
    assert await world.operator.list() == []
    assert len(await world.operator.list(plugin_id=plugin.id, include_inactive=True)) == 2


async def test_next_times_carry_the_zones_offset_over_a_change(autojump_clock: Any, world: World) -> None:
    await world.install("acme.other")
    await world.install_ready(
        "acme.weather",
        job(schedule="30 1 * * *", timezone="Europe/Berlin"),
        job("hand", None),
        job("boot", "@reboot"),
    )
    await trio.sleep(1)
    world.clock.step(datetime(2026, 3, 28) - datetime(2026, 3, 1, 12))
    found = await world.operator.next(NAME, 3)
    assert found == {
        "job": NAME,
        "timezone": "Europe/Berlin",
        "times": ["2026-03-28T01:30:00+01:00", "2026-03-29T01:30:00+01:00", "2026-03-30T01:30:00+02:00"],
    }
    for name in ("hand", "boot"):
        assert (await world.operator.next(f"acme.weather/{name}"))["times"] == []
    for count in (0, 101, -1):
        with pytest.raises(InvalidParams, match="count must be from 1 to 100"):
            await world.operator.next(NAME, count)


@pytest.mark.parametrize("name", ["acme.weather/none", "none/refresh", "", "/", "nothing"])
async def test_what_is_not_there(autojump_clock: Any, world: World, name: str) -> None:
    await world.install_ready("acme.weather", job())
    await world.coordinator.wait_settled()
    for ask in (world.operator.get, world.operator.next, world.operator.run, world.operator.pause):
        with pytest.raises(NotFound, match="there is no job"):
            await ask(name)
    with pytest.raises(NotFound, match="there is no run"):
        await world.operator.cancel(name)


async def test_running_by_hand(autojump_clock: Any, world: World) -> None:
    world.workers.handlers["refresh"] = never_answer
    plugin = await world.install_ready("acme.weather", job(timeout_s=50))
    await world.coordinator.wait_settled()
    first = await world.operator.run(NAME)
    assert (first["trigger"], first["state"]) == ("manual", "queued")
    with pytest.raises(Conflict) as refused:
        await world.operator.run(NAME)
    assert refused.value.details["run"] == first["id"]
    await world.runner.wait_ended(first["id"])
    second = await world.operator.run(NAME, wait=True)
    assert second["state"] == "timed_out"
    await world.set_status(plugin, Status.DISABLED)
    with pytest.raises(FailedPrecondition, match="is disabled: enable the plugin first"):
        await world.operator.run(NAME)


async def test_two_who_run_it_at_once(autojump_clock: Any, world: World) -> None:
    world.workers.handlers["refresh"] = never_answer
    await world.install_ready("acme.weather", job())
    await world.coordinator.wait_settled()
    outcomes: list[str] = []

    async def ask() -> None:
        try:
            outcomes.append((await world.operator.run(NAME))["state"])
        except Conflict as error:
            outcomes.append(error.code)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask)
    assert sorted(outcomes) == ["CONFLICT"] * 4 + ["queued"]
    assert len(await world.history()) == 1


async def test_who_stops_waiting_does_not_stop_the_run(autojump_clock: Any, world: World) -> None:
    async def slow(_: dict[str, Any]) -> str:
        await trio.sleep(20)
        return "done"

    world.workers.handlers["refresh"] = slow
    await world.install_ready("acme.weather", job())
    await world.coordinator.wait_settled()
    with trio.move_on_after(5) as scope:
        await world.operator.run(NAME, wait=True)
    assert scope.cancelled_caught
    await trio.sleep(20)
    assert await world.states() == ["succeeded"]


async def test_pause_and_resume_replay_nothing(autojump_clock: Any, world: World) -> None:
    plugin = await world.install_ready("acme.weather", job())
    await trio.sleep(301)
    assert (await world.operator.pause(NAME))["scheduled"] is False
    with pytest.raises(FailedPrecondition, match="paused already"):
        await world.operator.pause(NAME)
    await trio.sleep(3600)
    await world.set_status(plugin, Status.DISABLED)
    await world.set_status(plugin, Status.READY)
    await trio.sleep(3600)
    assert len(await world.history()) == 1
    assert (await world.operator.run(NAME, wait=True))["state"] == "succeeded"  # by hand it still runs
    resumed = await world.operator.resume(NAME)
    assert resumed["next_due_ms"] == to_ms(NOON + timedelta(seconds=7200 + 600))
    with pytest.raises(FailedPrecondition, match="not paused"):
        await world.operator.resume(NAME)
    await trio.sleep(300)
    assert [str(run.trigger) for run in await world.history()] == ["schedule", "manual", "schedule"]


async def test_resume_while_the_plugin_is_not_ready(autojump_clock: Any, world: World) -> None:
    plugin = await world.install_ready("acme.weather", job())
    await world.coordinator.wait_settled()
    await world.operator.pause(NAME)
    await world.set_status(plugin, Status.DISABLED)
    await world.coordinator.wait_settled()
    assert (await world.operator.resume(NAME))["next_due_ms"] is None
    await world.set_status(plugin, Status.READY)
    await world.coordinator.wait_settled()
    assert (await world.operator.get(NAME))["scheduled"] is True


async def test_a_pause_survives_the_daemon(autojump_clock: Any, open_world: OpenWorld) -> None:
    async with open_world() as world, trio.open_nursery() as nursery:
        await world.serve(nursery)
        await world.install_ready("acme.weather", job())
        await world.coordinator.wait_settled()
        await world.operator.pause(NAME)
        nursery.cancel_scope.cancel()
    async with open_world() as world, trio.open_nursery() as nursery:
        await world.serve(nursery)
        await trio.sleep(3600)
        assert (await world.operator.get(NAME))["paused"] is True
        assert await world.history() == []
        nursery.cancel_scope.cancel()


async def test_history_is_filtered_and_paged(autojump_clock: Any, world: World) -> None:
    plugin = await world.install_ready("acme.weather", job(), job("hourly", "0 * * * *"))
    await world.install_ready("acme.other", job())
    await trio.sleep(3601)
    runs = world.operator.runs
    assert len(await runs(limit=100)) == 12 + 1 + 12
    assert {run["plugin"] for run in await runs(plugin_id=plugin.id)} == {"acme.weather"}
    assert len(await runs(job="acme.weather/hourly")) == 1
    assert await runs(state="failed") == []
    pages: list[int] = []
    while page := await runs(job=NAME, limit=5, before_ms=pages[-1] if pages else None):
        pages += [run["created_ms"] for run in page]
    assert pages == sorted(pages, reverse=True)
    assert len(pages) == 12
    with pytest.raises(InvalidParams, match="state must be one of"):
        await runs(state="lost")
    with pytest.raises(InvalidParams, match="limit must be"):
        await runs(limit=0)
    with pytest.raises(NotFound):
        await runs(job="acme.weather/none")


async def test_cancelling_what_has_ended(autojump_clock: Any, world: World) -> None:
    await world.install_ready("acme.weather", job())
    await world.coordinator.wait_settled()
    run = await world.operator.run(NAME, wait=True)
    with pytest.raises(FailedPrecondition, match="has ended already: succeeded"):
        await world.operator.cancel(run["id"])


async def test_pages_of_history_lose_no_run_of_a_tick(autojump_clock: Any, world: World) -> None:
    await world.install_ready("acme.weather", *(job(f"j{n}") for n in range(7)))
    await trio.sleep(601)
    pages: list[str] = []
    while page := await world.operator.runs(limit=3, before=pages[-1] if pages else None):
        pages += [run["id"] for run in page]
    assert len(pages) == len(set(pages)) == 14
    with pytest.raises(NotFound):
        await world.operator.runs(before="gone")
