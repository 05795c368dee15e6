"""What people do with jobs: list, next times, runs by hand and again, history; pauses are in `test_holding`."""

from __future__ import annotations

from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from supervisor.clock import to_ms
from supervisor.core.errors import Conflict, FailedPrecondition, InvalidParams, NotFound
from supervisor.core.lifecycle import Status
from tests.jobs.world import NOON, OpenWorld, World, job, never_answer

NAME = "acme.weather/refresh"
NOON_MS = to_ms(NOON)


async def fail(_: dict[str, Any]) -> Any:
    await trio.lowlevel.checkpoint()
    raise FailedPrecondition("no network")


async def test_a_job_as_it_is_shown(autojump_clock: Any, world: World) -> None:
    plugin = await world.install_ready(
        "acme.weather",
        job(timezone="Europe/Berlin"),
        job("often", None, every="90s", overlap="allow"),
        job("once", None, at="2027-01-01T00:00", command=("dump", "all")),
    )
    await trio.sleep(301)
    shown, often = await world.operator.list(), await world.operator.get("acme.weather/often")
    assert [each["job"] for each in shown] == ["acme.weather/often", "acme.weather/once", NAME]
    assert (often["schedule"], often["overlap"]) == ("every 90s", "allow")
    assert (shown[1]["schedule"], shown[1]["command"]) == ("at 2027-01-01T00:00", ["dump", "all"])
    stored = await world.jobs.get(NAME)
    assert shown[2] == {
        "id": stored.id,
        "job": NAME,
        "plugin": "acme.weather",
        "key": "refresh",
        "display_name": "Refresh",
        "schedule": "*/5 * * * *",
        "timezone": "Europe/Berlin",
        "overlap": "skip",
        "command": None,
        "paused": False,
        "held_by": None,
        "active": True,
        "scheduled": True,
        "next_due_ms": NOON_MS + 600_000,
        "next_fire_ms": NOON_MS + 600_000,
        "last_due_ms": NOON_MS + 300_000,
        "last_run_ms": NOON_MS + 300_000,
        "last_state": "succeeded",
        "running": 0,
        "waiting": 0,
        "progress": [],
    }
    assert await world.operator.get(stored.id) == await world.operator.get(f"{plugin.id}/refresh") == shown[2]
    await world.set_status(plugin, Status.DISABLED)
    await world.coordinator.wait_settled()
    disabled = await world.operator.get(NAME)
    assert (disabled["active"], disabled["scheduled"], disabled["next_due_ms"]) == (True, False, None)
    await world.set_status(plugin, Status.READY)
    await world.set_status(plugin, Status.UNINSTALLED)
    await world.coordinator.wait_settled()
    assert await world.operator.list() == []
    assert len(await world.operator.list(plugin_id=plugin.id, include_inactive=True)) == 3


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("acme.weather/refersh", "did you mean 'acme.weather/refresh'?"),
        ("acme.weahter/refresh", "did you mean 'acme.weather/refresh'?"),
        ("acme.weather/nothing-alike", "its plugin has acme.weather/refresh, acme.weather/hourly"),
        ("acme.weather", "its plugin has acme.weather/refresh, acme.weather/hourly"),
        ("acme.none/x", "the plugin acme.none declares no jobs"),
        ("none/refresh", "name it <plugin>/<key>"),
        ("", "name it"),
        ("/", "name it"),
        ("nothing", "name it"),
        ("x" * 5000, "…'; name it"),
    ],
)
async def test_what_is_not_there(autojump_clock: Any, world: World, name: str, says: str) -> None:
    await world.install_ready("acme.weather", job(), job("hourly", "0 * * * *"))
    await world.install_ready("acme.none")
    await world.coordinator.wait_settled()
    operator = world.operator
    for ask in (operator.get, operator.next, operator.run, operator.holds.pause_job, operator.holds.resume_job):
        with pytest.raises(NotFound, match="there is no job") as refused:
            await ask(name)
        assert says in refused.value.message
        assert len(refused.value.message) < 500
    for ask in (operator.cancel, operator.retry, operator.get_run):
        with pytest.raises(NotFound, match="there is no run"):
            await ask(name)


# Next times


async def test_next_times_carry_the_zones_offset_over_a_change(autojump_clock: Any, world: World) -> None:
    await world.install_ready(
        "acme.weather",
        job(schedule="30 1 * * *", timezone="Europe/Berlin"),
        job("hand", None),
        job("boot", "@reboot"),
    )
    await trio.sleep(1)
    await world.operator.holds.pause_job(NAME)  # one job is told paused or not
    world.clock.step(datetime(2026, 3, 28) - datetime(2026, 3, 1, 12))
    found = await world.operator.next(NAME, 3)
    assert (found["job"], found["timezone"], found["more"]) == (NAME, "Europe/Berlin", True)
    assert found["times"] == ["2026-03-28T01:30:00+01:00", "2026-03-29T01:30:00+01:00", "2026-03-30T01:30:00+02:00"]
    assert [each["at"] for each in found["next"]] == found["times"]
    assert {each["job"] for each in found["next"]} == {NAME}
    assert (await world.operator.next(NAME, 9, hours=47))["times"] == found["times"][:2]
    for name in ("hand", "boot"):
        assert (await world.operator.next(f"acme.weather/{name}"))["times"] == []


async def test_next_times_of_all_in_order_of_time(autojump_clock: Any, world: World) -> None:
    plugin = await world.install_ready(
        "acme.weather", job(), job("hourly", "0 * * * *"), job("paused"), job("hand", None)
    )
    await world.install_ready("acme.other", job("tick", None, every="4m"))
    await world.coordinator.wait_settled()
    await world.operator.holds.pause_job("acme.weather/paused")
    found = await world.operator.next(count=6)
    minutes = [(each["job"].split("/")[1], (each["fire_ms"] - NOON_MS) // 60_000) for each in found["next"]]
    assert minutes == [("tick", 4), ("refresh", 5), ("tick", 8), ("refresh", 10), ("tick", 12), ("refresh", 15)]
    assert (found["job"], found["timezone"], found["more"]) == (None, "UTC", True)
    within = await world.operator.next(count=1000, hours=1)
    assert (len(within["next"]), within["more"]) == (15 + 12 + 1, False)
    assert within["times"][-1] == "2026-03-01T13:00:00+00:00"
    ours = await world.operator.next(count=3, plugin_id=plugin.id)
    assert [each["job"] for each in ours["next"]] == [NAME] * 3
    await world.operator.holds.pause_all(0)
    assert (await world.operator.next(count=6))["next"] == []


async def test_next_times_say_whether_they_are_kept(autojump_clock: Any, world: World) -> None:
    plugin = await world.install_ready("acme.weather", job())
    await world.coordinator.wait_settled()
    operator = world.operator

    async def facts(name: str | None = NAME) -> tuple[int, str | None, bool]:
        told = await operator.next(name, 2)
        return len(told["next"]), told["held_by"], told["scheduled"]

    assert await facts() == await facts(None) == (2, None, True)
    await operator.holds.pause_job(NAME)
    assert await facts() == (2, "job", False)
    await operator.holds.pause_plugin(plugin, 0)
    assert await facts() == (2, "plugin", False)
    await operator.holds.pause_all(0)
    assert await facts() == (2, "scheduler", False)
    assert await facts(None) == (0, "scheduler", False)
    await operator.holds.resume_all()
    await operator.holds.resume_plugin(plugin)
    await operator.holds.resume_job(NAME)
    assert await facts() == (2, None, True)
    await world.set_status(plugin, Status.DISABLED)
    await world.coordinator.wait_settled()
    assert await facts() == (2, None, False)


async def test_next_times_tell_when_a_run_really_begins(autojump_clock: Any, world: World) -> None:
    await world.install_ready("acme.weather", job(jitter_s=120))
    await world.coordinator.wait_settled()
    told = (await world.operator.next(NAME, 3))["next"]
    assert [each["due_ms"] for each in told] == [NOON_MS + 300_000 * n for n in (1, 2, 3)]
    assert all(0 <= each["fire_ms"] - each["due_ms"] < 120_000 for each in told)
    assert (await world.operator.next(count=3))["next"] == told
    await trio.sleep(1200)
    called = [to_ms(at) for at in world.workers.times("refresh")][:3]
    assert [abs(at - each["fire_ms"]) <= 1 for at, each in zip(called, told, strict=True)] == [True] * 3


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"count": 0}, "count must be from 1 to 1000"),
        ({"count": 1001}, "count must be from 1 to 1000"),
        ({"hours": 0}, "hours must be above 0"),
        ({"hours": -1}, "hours must be above 0"),
        ({"hours": float("nan")}, "hours must be above 0"),
        ({"hours": float("inf")}, "at most 8784"),
        ({"name": NAME, "plugin_id": "x"}, "leave out plugin"),
    ],
)
async def test_wrong_questions(autojump_clock: Any, world: World, params: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidParams, match=says):
        await world.operator.next(**params)


# By hand


async def test_running_by_hand(autojump_clock: Any, world: World) -> None:
    world.workers.handlers["refresh"] = never_answer
    plugin = await world.install_ready("acme.weather", job(timeout_s=50))
    await world.coordinator.wait_settled()
    first = await world.operator.run(NAME, params={"city": "Rome"})
    assert (first["trigger"], first["state"], first["params"]) == ("manual", "queued", {"city": "Rome"})
    with pytest.raises(Conflict, match=f"`pluginctl runs cancel {first['id']}`") as refused:
        await world.operator.run(NAME)
    assert refused.value.details["run"] == first["id"]
    await world.runner.wait_ended(first["id"])
    assert world.workers.calls[-1].params["params"] == {"city": "Rome"}
    second = await world.operator.run(NAME, wait=True)
    assert (second["state"], second["params"]) == ("timed_out", None)
    await world.set_status(plugin, Status.DISABLED)
    with pytest.raises(FailedPrecondition, match="is disabled: enable the plugin first"):
        await world.operator.run(NAME)


@pytest.mark.parametrize(
    ("overlap", "takes"),
    [("skip", 1), ("queue_one", 2), ("allow", 3)],
)
async def test_how_many_by_hand_at_once(autojump_clock: Any, world: World, overlap: str, takes: int) -> None:
    world.workers.handlers["refresh"] = never_answer
    await world.install_ready("acme.weather", job(schedule=None, overlap=overlap, max_running=3))
    await world.coordinator.wait_settled()
    runs = []
    for _ in range(takes):
        runs.append((await world.operator.run(NAME))["id"])
        await trio.sleep(1)
    with pytest.raises(Conflict) as refused:
        await world.operator.run(NAME)
    # The one whose end makes room for another.
    assert refused.value.details["run"] == (runs[1] if overlap == "queue_one" else runs[0])
    await world.operator.cancel(refused.value.details["run"])
    await trio.sleep(1)
    await world.operator.run(NAME)


async def test_one_by_hand_takes_the_place_of_the_one_before(autojump_clock: Any, world: World) -> None:
    world.workers.handlers["refresh"] = never_answer
    await world.install_ready("acme.weather", job(schedule=None, overlap="cancel_previous"))
    await world.coordinator.wait_settled()
    first = await world.operator.run(NAME)
    await trio.sleep(1)
    second = await world.operator.run(NAME)
    await trio.sleep(1)
    assert (await world.operator.get_run(first["id"]))["state"] == "cancelled"
    assert (await world.operator.get_run(second["id"]))["state"] == "running"
    assert world.workers.cancelled == [first["id"]]


async def test_a_second_one_behind_the_first_says_what_it_waits_for(autojump_clock: Any, world: World) -> None:
    world.workers.handlers["refresh"] = never_answer
    await world.install_ready("acme.weather", job(schedule=None, overlap="queue_one"))
    await world.coordinator.wait_settled()
    first = await world.operator.run(NAME)
    await trio.sleep(1)
    second = await world.operator.run(NAME)
    await trio.sleep(1)
    shown = await world.operator.get_run(second["id"])
    assert (shown["state"], shown["waiting_for"]) == ("queued", f"run {first['id']} of the job has not ended")
    assert (await world.operator.get_run(first["id"]))["waiting_for"] is None
    told = await world.operator.get(NAME)
    assert (told["running"], told["waiting"]) == (2, 1)


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"x": "y" * 65_536}, "65536 bytes as msgpack, not 655"),
        ({"x": [[[[[[[[[[[[1]]]]]]]]]]]]}, "nested deeper than 12 levels"),
    ],
)
async def test_params_that_cannot_be_kept(autojump_clock: Any, world: World, params: dict[str, Any], says: str) -> None:
    await world.install_ready("acme.weather", job())
    await world.coordinator.wait_settled()
    with pytest.raises(InvalidParams, match=says):
        await world.operator.run(NAME, params=params)
    assert await world.history() == []
    assert (await world.operator.run(NAME, params={}))["params"] is None


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"x": b"raw"}, "job acme.weather/backup .* cannot be written as JSON for PLUGIND_PARAMS: .*bytes"),
        ({"x": float("inf")}, "cannot be written as JSON for PLUGIND_PARAMS"),
        ({"x": "\u00e9" * 30_000}, "its params are 180009 bytes as JSON, and PLUGIND_PARAMS takes 120000: put them"),
    ],
)
async def test_params_that_no_command_can_get(
    autojump_clock: Any, world: World, params: dict[str, Any], says: str
) -> None:
    name = "acme.weather/backup"
    await world.install_ready("acme.weather", job("backup", None, command=("backup",), retries=3), job())
    await world.coordinator.wait_settled()
    with pytest.raises(InvalidParams, match=says):
        await world.operator.run(name, params=params)
    assert await world.history() == []
    assert (await world.operator.run(name, params={"x": "y"}, wait=True))["state"] == "succeeded"
    assert (await world.operator.run(NAME, params=params, wait=True))["state"] == "succeeded"  # its worker can


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


async def test_who_waits_is_answered_when_the_daemon_stops(autojump_clock: Any, open_world: OpenWorld) -> None:
    """While there is a connection to answer on: the run may go on until the drain is over."""
    async with open_world() as world, trio.open_nursery() as nursery:
        await world.serve(nursery)
        world.workers.handlers["refresh"] = never_answer
        await world.install_ready("acme.weather", job(overlap="queue_one"))
        await world.coordinator.wait_settled()
        told: list[tuple[float, str]] = []

        async def run() -> None:
            shown = await world.operator.run(NAME, wait=True)
            told.append((trio.current_time(), shown["state"]))

        async with trio.open_nursery() as callers:
            callers.start_soon(run)
            await trio.sleep(1)
            callers.start_soon(run)
            await trio.sleep(1)
            world.runner.close()
        assert sorted(told) == [(2, "queued"), (2, "running")]
        nursery.cancel_scope.cancel()


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


# Again


async def test_trying_again_what_failed(autojump_clock: Any, world: World) -> None:
    world.workers.handlers["refresh"] = fail
    await world.install_ready("acme.weather", job(schedule=None))
    await world.coordinator.wait_settled()
    first = await world.operator.run(NAME, params={"city": "Rome"}, wait=True)
    await trio.sleep(60)
    del world.workers.handlers["refresh"]
    second = await world.operator.retry(first["id"], wait=True)
    assert (second["trigger"], second["attempt"], second["state"]) == ("retry", 2, "succeeded")
    assert (second["due_ms"], second["params"]) == (first["due_ms"], {"city": "Rome"})
    with pytest.raises(FailedPrecondition, match=rf"succeeded.*`pluginctl run {NAME}`"):
        await world.operator.retry(second["id"])
    third = await world.operator.retry(first["id"], wait=True)
    assert third["attempt"] == 3


async def test_trying_again_takes_the_place_of_the_retry_that_was_to_come(autojump_clock: Any, world: World) -> None:
    world.workers.handlers["refresh"] = fail
    await world.install_ready("acme.weather", job(schedule=None, retries=1, retry_backoff_s=60))
    await world.coordinator.wait_settled()
    first = await world.operator.run(NAME, wait=True)
    assert (first["state"], first["retry_at_ms"]) == ("failed", NOON_MS + 60_000)
    await trio.sleep(10)
    second = await world.operator.retry(first["id"], wait=True)
    assert (second["attempt"], second["retry_at_ms"]) == (2, None)
    assert (await world.operator.get_run(first["id"]))["retry_at_ms"] is None
    await trio.sleep(3600)
    assert [run.attempt for run in await world.history()] == [1, 2]


async def test_what_has_not_ended_is_not_tried_again(autojump_clock: Any, world: World) -> None:
    world.workers.handlers["refresh"] = never_answer
    await world.install_ready("acme.weather", job(schedule=None))
    await world.coordinator.wait_settled()
    run = await world.operator.run(NAME)
    await trio.sleep(1)
    with pytest.raises(FailedPrecondition, match="has not ended: it is running"):
        await world.operator.retry(run["id"])


# Cancelling


async def test_cancelling_what_has_ended(autojump_clock: Any, world: World) -> None:
    await world.install_ready("acme.weather", job())
    await world.coordinator.wait_settled()
    run = await world.operator.run(NAME, wait=True)
    with pytest.raises(FailedPrecondition, match="has ended already: succeeded"):
        await world.operator.cancel(run["id"])


async def test_cancelling_what_runs_and_what_waits(autojump_clock: Any, world: World) -> None:
    world.workers.handlers["refresh"] = never_answer
    await world.install_ready("acme.weather", job(schedule=None, overlap="queue_one", retries=3))
    await world.coordinator.wait_settled()
    first = await world.operator.run(NAME)
    await trio.sleep(1)
    second = await world.operator.run(NAME)
    for run in (second, first):
        ended = await world.operator.cancel(run["id"])
        assert (ended["state"], ended["error"], ended["retry_at_ms"]) == ("cancelled", "cancelled by an operator", None)
    await trio.sleep(3600)
    assert world.workers.cancelled == [first["id"]]
    assert await world.states() == ["cancelled", "cancelled"]
    assert (await world.operator.get(NAME))["running"] == 0


async def test_cancelling_the_retry_that_is_waited_for(autojump_clock: Any, world: World) -> None:
    world.workers.handlers["refresh"] = fail
    await world.install_ready("acme.weather", job(schedule=None, retries=1, retry_backoff_s=60))
    await world.coordinator.wait_settled()
    first = await world.operator.run(NAME, wait=True)
    ended = await world.operator.cancel(first["id"])
    assert (ended["state"], ended["retry_at_ms"]) == ("failed", None)
    with pytest.raises(FailedPrecondition, match="has ended already: failed"):
        await world.operator.cancel(first["id"])
    await trio.sleep(3600)
    assert len(await world.history()) == 1


# History


async def test_history_is_filtered_and_paged(autojump_clock: Any, world: World) -> None:
    plugin = await world.install_ready("acme.weather", job(), job("hourly", "0 * * * *"))
    await world.install_ready("acme.other", job())
    await trio.sleep(3601)
    runs = world.operator.runs
    assert len(await runs(limit=100)) == 12 + 1 + 12
    assert {run["plugin"] for run in await runs(plugin_id=plugin.id)} == {"acme.weather"}
    assert len(await runs(job="acme.weather/hourly")) == 1
    assert await runs(state="failed") == []
    await world.operator.run(NAME, wait=True)
    assert [run["job"] for run in await runs(trigger="manual")] == [NAME]
    assert len(await runs(job=NAME, since_ms=NOON_MS + 3_300_000)) == 3
    pages: list[int] = []
    while page := await runs(job=NAME, trigger="schedule", limit=5, before_ms=pages[-1] if pages else None):
        pages += [run["created_ms"] for run in page]
    assert pages == sorted(pages, reverse=True)
    assert len(pages) == 12
    assert len(await runs(job=NAME, triggers=["manual", "schedule"], limit=100)) == 13
    assert len(await runs(job=NAME, trigger="manual", triggers=["retry"])) == 1
    assert len(await runs(job=NAME, states=["failed", "succeeded"], triggers=["manual"])) == 1
    assert await runs(job=NAME, state="failed", states=["missed"]) == []
    for wrong, says in (
        ({"state": "lost"}, "state must be one of"),
        ({"states": ["failed", "lost"]}, "state must be one of"),
        ({"trigger": "me"}, "trigger must be one of"),
    ):
        with pytest.raises(InvalidParams, match=says):
            await runs(**wrong)
    with pytest.raises(InvalidParams, match="limit must be"):
        await runs(limit=0)
    with pytest.raises(NotFound):
        await runs(job="acme.weather/none")


async def test_pages_of_history_lose_no_run_of_a_tick(autojump_clock: Any, world: World) -> None:
    await world.install_ready("acme.weather", *(job(f"j{n}") for n in range(7)))
    await trio.sleep(601)
    pages: list[str] = []
    while page := await world.operator.runs(limit=3, before=pages[-1][:13] if pages else None):
        pages += [run["id"] for run in page]
    assert len(pages) == len(set(pages)) == 14
    with pytest.raises(NotFound):
        await world.operator.runs(before="gone")


async def test_the_beginning_of_an_id_will_do(autojump_clock: Any, world: World, monkeypatch: Any) -> None:
    ids = iter(["4f1c0000-1", "4f1c0000-2", "4f1d0000-3"])
    monkeypatch.setattr("supervisor.jobs.manual.uuid", SimpleNamespace(uuid4=lambda: next(ids)))
    await world.install_ready("acme.weather", job(schedule=None))
    await world.coordinator.wait_settled()
    for _ in range(3):
        await world.operator.run(NAME, wait=True)
    assert (await world.operator.get_run("4f1d"))["id"] == "4f1d0000-3"
    assert (await world.operator.get_run("4f1c0000-1"))["id"] == "4f1c0000-1"
    with pytest.raises(InvalidParams, match="several runs begin with '4f1c'") as several:
        await world.operator.get_run("4f1c")
    assert several.value.details["runs"] == ["4f1c0000-1", "4f1c0000-2"]
    for none in ("4f1", "4f1e", "%", "4f1d%", "4f1d0000-33"):
        with pytest.raises(NotFound, match="there is no run") as unknown:
            await world.operator.get_run(none)
        assert ("has 4 characters or more" in unknown.value.message) == (len(none) < 4)


async def test_a_run_with_progress(autojump_clock: Any, world: World) -> None:
    world.workers.handlers["refresh"] = never_answer
    plugin = await world.install_ready("acme.weather", job())
    await world.coordinator.wait_settled()
    run = await world.operator.run(NAME)
    await trio.sleep(1)
    world.runner.active.note_progress(plugin.id, run["id"], 0.5, "half", 7)
    told = {"run": run["id"], "fraction": 0.5, "message": "half", "at_ms": 7}
    assert (await world.operator.get_run(run["id"]))["progress"] == told
    assert (await world.operator.get(NAME))["progress"] == [told]
    ended = await world.operator.cancel(run["id"])
    assert ended["progress"] is None


async def test_a_minute_of_history_says_how_long_it_took(autojump_clock: Any, world: World) -> None:
    async def slow(_: dict[str, Any]) -> str:
        await trio.sleep(20)
        return "done"

    world.workers.handlers["refresh"] = slow
    await world.install_ready("acme.weather", job(schedule=None))
    await world.coordinator.wait_settled()
    run = await world.operator.run(NAME, wait=True)
    assert (run["duration_ms"], run["result"], run["times"], run["exit_code"]) == (20_000, "done", 1, None)
    assert run["finished_ms"] == to_ms(NOON + timedelta(seconds=20))


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
async def test_a_list_is_paged_by_name(autojump_clock: Any, world: World, limit: int) -> None:
    for key in ("acme", "acme.b", "acme-a"):  # as text, "acme.b/x" comes before "acme/x"
        await world.install_ready(key, job("x"), job("y"))
    plugin = await world.install_ready("zed", job("x"))
    await world.coordinator.wait_settled()
    found: list[str] = []
    while page := await world.operator.list(after=found[-1] if found else None, limit=limit):
        assert len(page) <= limit
        found += [each["job"] for each in page]
    assert found == [*(f"{key}/{name}" for key in ("acme", "acme-a", "acme.b") for name in "xy"), "zed/x"]
    assert [each["job"] for each in await world.operator.list(plugin_id=plugin.id, after="acme/x")] == ["zed/x"]


@pytest.mark.parametrize("limit", [0, -1, 1001])
async def test_a_list_of_no_size(autojump_clock: Any, world: World, limit: int) -> None:
    with pytest.raises(InvalidParams, match="limit must be from 1 to 1000"):
        await world.operator.list(limit=limit)
