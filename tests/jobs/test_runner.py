"""One run from its claim to its end: outcomes, limits, cancelling, draining, rows that cannot be written."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from supervisor.core.errors import PluginCrashed, PluginError, ResourceExhausted, SupervisorError, Unavailable
from supervisor.core.lifecycle import Status
from tests.jobs.world import Handler, OpenWorld, World, job, never_answer


def raising(error: Exception) -> Handler:
    async def handler(_: dict[str, Any]) -> Any:
        await trio.sleep(1)
        raise error

    return handler


async def run_once(world: World, **spec: Any) -> dict[str, Any]:
    """A manual run of a fresh plugin's job, to its end."""
    await world.install_ready("acme.weather", job(schedule=None, **spec))
    await world.coordinator.wait_settled()
    return dict(await world.operator.run("acme.weather/refresh", wait=True))


async def test_a_result_is_kept(autojump_clock: Any, world: World) -> None:
    async def answer(_: dict[str, Any]) -> Any:
        await trio.sleep(2)
        return {"rows": 3, "raw": b"\x00\xff"}

    world.workers.handlers["refresh"] = answer
    run = await run_once(world)
    assert (run["state"], run["error"], run["duration_ms"]) == ("succeeded", None, 2000)
    assert run["result"] == {"rows": 3, "raw": b"\x00\xff"}


@pytest.mark.parametrize("result", ["x" * 70_000, {1, 2}, 2**70], ids=["too large", "a set", "too wide"])
async def test_a_result_that_cannot_be_kept_costs_no_run(autojump_clock: Any, world: World, result: Any) -> None:
    async def answer(_: dict[str, Any]) -> Any:
        await trio.lowlevel.checkpoint()
        return result

    world.workers.handlers["refresh"] = answer
    run = await run_once(world)
    assert run["state"] == "succeeded"
    assert list(run["result"]) == ["omitted"]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (PluginError("no network"), "PLUGIN_ERROR: no network"),
        (PluginCrashed("exit code 3", exit_code=3), "PLUGIN_CRASHED: exit code 3"),
        (Unavailable("stopping"), "UNAVAILABLE: stopping"),
        (SupervisorError("strange"), "INTERNAL: strange"),
        (KeyError("ours"), "INTERNAL: KeyError('ours'); see the daemon's log"),
    ],
)
async def test_a_failure_is_named(autojump_clock: Any, world: World, error: Exception, text: str) -> None:
    world.workers.handlers["refresh"] = raising(error)
    run = await run_once(world)
    assert (run["state"], run["error"]) == ("failed", text)


async def test_a_run_past_its_time_is_timed_out_and_the_worker_told(autojump_clock: Any, world: World) -> None:
    world.workers.handlers["refresh"] = never_answer
    began = trio.current_time()
    run = await run_once(world, timeout_s=42.0)
    assert trio.current_time() - began == pytest.approx(42)
    assert run["state"] == "timed_out"
    assert "timeout_s = 42 s" in run["error"]
    assert world.workers.cancelled == [run["id"]]


async def test_a_worker_that_does_not_come_up_in_time(autojump_clock: Any, world: World) -> None:
    plugin = await world.install_ready("acme.weather", job(start_within_s=20.0))
    world.workers.down[plugin.id] = trio.Event()
    began = trio.current_time()
    run = await world.operator.run("acme.weather/refresh", wait=True)
    assert trio.current_time() - began == pytest.approx(20)
    assert (run["state"], run["started_ms"]) == ("skipped", None)
    assert run["error"] == "the worker took no calls within start_within_s = 20 s"
    world.workers.refusing[plugin.id] = Unavailable("stopped by an operator")
    run = await world.operator.run("acme.weather/refresh", wait=True)
    assert (run["state"], run["error"]) == (
        "skipped",
        "its worker does not run: stopped by an operator",
    )


async def test_a_worker_that_comes_up_in_time(autojump_clock: Any, world: World) -> None:
    plugin = await world.install_ready("acme.weather", job())
    world.workers.down[plugin.id] = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.operator.run, "acme.weather/refresh")
        await trio.sleep(30)
        world.workers.down.pop(plugin.id).set()
    await trio.sleep(1)
    assert await world.states() == ["succeeded"]


async def test_plugins_whose_workers_are_down_take_nobodys_place(autojump_clock: Any, world: World) -> None:
    for n in range(10):
        plugin = await world.install_ready(f"down{n}", *(job(f"j{m}", "* * * * *") for m in range(20)))
        world.workers.down[plugin.id] = trio.Event()
    await world.install_ready("acme.quick", job("quick", "* * * * *"))
    await trio.sleep(61)
    assert len(world.workers.times("quick")) == 1
    assert world.runner.statistics().running == 0


async def test_64_at_once_8_a_plugin(autojump_clock: Any, world: World) -> None:
    keys = [f"j{n}" for n in range(10)]
    world.workers.handlers |= dict.fromkeys(keys, never_answer)
    for n in range(10):
        await world.install_ready(f"p{n}", *(job(key, "*/2 * * * *", timeout_s=20) for key in keys))
    await trio.sleep(121)
    running = await world.history(state="running")
    assert len(running) == world.runner.statistics().running == 64
    assert max(sum(run.plugin_key == f"p{n}" for run in running) for n in range(10)) <= 8
    await trio.sleep(60)  # three rounds at most: a plugin without a place in the first needs two more
    assert set(await world.states()) == {"timed_out"}
    assert len(world.workers.calls) == 100


async def test_an_operators_cancel_is_final(autojump_clock: Any, world: World) -> None:
    answered = trio.Event()

    async def stubborn(_: dict[str, Any]) -> str:
        with trio.CancelScope(shield=True):  # a worker that answers all the same
            await answered.wait()
        return "too late"

    world.workers.handlers["refresh"] = stubborn
    await world.install_ready("acme.weather", job())
    run = await world.operator.run("acme.weather/refresh")
    await trio.sleep(1)
    assert (await world.operator.cancel(run["id"]))["state"] == "cancelled"
    answered.set()
    await world.runner.wait_ended(run["id"])
    [after] = await world.history()
    assert (str(after.state), after.error, after.result) == ("cancelled", "cancelled by an operator", None)


async def drain(world: World, drain_s: float) -> float:
    """Serve one run that never ends, stop as the daemon does, and return how long that took."""
    world.workers.handlers["refresh"] = never_answer
    async with trio.open_nursery() as work:
        await world.runs.interrupt_leftovers()
        await work.start(world.runner.run)
        async with trio.open_nursery() as intake:
            await intake.start(world.scheduler.run)
            await intake.start(world.coordinator.run)
            await world.install_ready("acme.weather", job(timeout_s=40))
            await trio.sleep(301)
            intake.cancel_scope.cancel()
        began = trio.current_time()
        world.runner.close()
        work.cancel_scope.deadline = began + drain_s
    return trio.current_time() - began


@pytest.mark.parametrize(
    ("drain_s", "took_s", "state", "error"),
    [
        (10, 10, "cancelled", "the daemon stopped before the run had ended"),
        (60, 39, "timed_out", "no result within timeout_s = 40 s; the worker was told to cancel"),
    ],
)
async def test_draining(
    autojump_clock: Any, open_world: OpenWorld, drain_s: float, took_s: float, state: str, error: str
) -> None:
    async with open_world() as world:
        assert await drain(world, drain_s) == pytest.approx(took_s)
        [run] = await world.history()
        assert (str(run.state), run.error) == (state, error)
        assert world.workers.cancelled == [run.id]
        world.runner.submit(run, job())  # nobody is there any more
        assert len(world.runner.active) == 0


async def test_an_end_that_cannot_be_written_is_written_later(
    autojump_clock: Any, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = world.runs.finish

    async def full(*_: object) -> bool:
        await trio.lowlevel.checkpoint()
        raise ResourceExhausted("the disk is full")

    await world.install_ready("acme.weather", job())
    monkeypatch.setattr(world.runs, "finish", full)
    run = await world.operator.run("acme.weather/refresh")
    await trio.sleep(60)
    assert await world.states() == ["running"]
    assert world.runner.statistics().running == 0  # it holds no place meanwhile
    monkeypatch.setattr(world.runs, "finish", finish)
    await world.runner.wait_ended(run["id"])
    assert await world.states() == ["succeeded"]


async def test_a_start_that_cannot_be_written_fails_the_run(
    autojump_clock: Any, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object) -> bool:
        await trio.lowlevel.checkpoint()
        raise ResourceExhausted("the disk is full")

    monkeypatch.setattr(world.runs, "start", full)
    run = await run_once(world)
    assert (run["state"], run["error"]) == ("failed", "RESOURCE_EXHAUSTED: the disk is full")
    assert world.workers.calls == []


async def test_a_cancelled_run_that_had_not_started_never_starts(autojump_clock: Any, world: World) -> None:
    plugin = await world.install_ready("acme.weather", job())
    world.workers.down[plugin.id] = trio.Event()
    run = await world.operator.run("acme.weather/refresh")
    await world.set_status(plugin, Status.DISABLED)
    await world.runner.wait_ended(run["id"])
    world.workers.down[plugin.id].set()
    await trio.sleep(10)
    assert await world.states() == ["cancelled"]
    assert world.workers.calls == []


async def test_a_job_stays_busy_until_its_worker_lets_go_of_a_cancelled_run(autojump_clock: Any, world: World) -> None:
    await world.install_ready("acme.weather", job(schedule=None))
    await world.coordinator.wait_settled()
    world.workers.deaf = True
    world.workers.handlers["refresh"] = never_answer
    first = await world.operator.run("acme.weather/refresh")
    await trio.sleep(1)
    assert (await world.operator.cancel(first["id"]))["state"] == "cancelled"
    with pytest.raises(SupervisorError, match=first["id"]):
        await world.operator.run("acme.weather/refresh")
    assert (await world.operator.get("acme.weather/refresh"))["running"] == 1
    for let_go in world.workers.unsettled:
        let_go()
    assert (await world.operator.get("acme.weather/refresh"))["running"] == 0
    await world.operator.run("acme.weather/refresh")
