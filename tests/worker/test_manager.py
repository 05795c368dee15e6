"""WorkerManager: calls, and the end of all workers, under a fake clock."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from supervisor.core.errors import (
    CallCancelled,
    DeadlineExceeded,
    InvalidParams,
    PluginCrashed,
    ResourceExhausted,
    Unavailable,
)
from supervisor.core.event import WorkerCrashed, WorkerStopped
from supervisor.core.plugin import PluginId
from supervisor.wire.limits import CALLS_PER_WORKER
from supervisor.worker.phase import Phase
from supervisor.worker.process import Exit
from tests.worker.fakes import NEVER, PLUGIN_ID, Script, World, make_plugin

Clock = trio.testing.MockClock
HANG = {"method": "hang", "params": {}}


class Calls:
    """Calls in flight, each with how and when it ended."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.ends: list[tuple[float, Any]] = []

    async def one(self, timeout_s: float | None = None) -> None:
        try:
            outcome: Any = await self.world.manager.call(PLUGIN_ID, "call", HANG, timeout_s=timeout_s)
        except Exception as error:  # noqa: BLE001  it is what is looked at
            outcome = error
        self.ends.append((trio.current_time(), outcome))


async def test_a_call_and_its_answer(autojump_clock: Clock, tmp_path: Path) -> None:
    world = World(tmp_path)

    async def work() -> None:
        world.manager.want(make_plugin())
        await world.manager.wait_up(PLUGIN_ID)
        params = {"method": "echo", "params": {"a": [1, b"\0", None]}}
        assert await world.manager.call(PLUGIN_ID, "call", params, timeout_s=5) == params
        with pytest.raises(DeadlineExceeded, match="within 3 s"):
            await world.manager.call(PLUGIN_ID, "call", HANG, timeout_s=3)

    await world.serve(work)


async def test_calls_and_runs_are_counted_over_all_lives(autojump_clock: Clock, tmp_path: Path) -> None:
    world = World(tmp_path)

    async def work() -> None:
        with pytest.raises(Unavailable):
            await world.manager.call(PLUGIN_ID, "call", {}, timeout_s=5)
        assert world.manager.view(PLUGIN_ID).calls == 0
        for before in (0, 2):
            world.manager.want(make_plugin())
            await world.manager.wait_up(PLUGIN_ID)
            await world.manager.call(PLUGIN_ID, "call", {}, timeout_s=5)
            for unanswered in ("run_job", "config_changed"):
                with pytest.raises(DeadlineExceeded):
                    await world.manager.call(PLUGIN_ID, unanswered, {}, timeout_s=1)
            assert world.manager.view(PLUGIN_ID).calls == before + 2
            world.manager.unwant(PLUGIN_ID)
            await world.manager.wait_stopped(PLUGIN_ID)
        world.manager.forget(PLUGIN_ID)
        assert world.manager.view(PLUGIN_ID).calls == 0

    await world.serve(work)


async def test_calls_in_flight_fail_with_the_crash(autojump_clock: Clock, tmp_path: Path) -> None:
    world = World(tmp_path, Script(exits_after_s=5, exit=Exit(None, signal.SIGSEGV), stderr=b"oh\nno\n"), Script())
    calls = Calls(world)

    async def work() -> None:
        world.manager.want(make_plugin())
        await world.manager.wait_up(PLUGIN_ID)
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(calls.one)
        assert len(calls.ends) == 10
        for at, error in calls.ends:
            assert at == pytest.approx(5, abs=0.11)
            assert isinstance(error, PluginCrashed)
            assert error.message == "the worker of 'test.fake' ended: was killed by SIGSEGV"
            assert error.details == {"exit_code": None, "signal": signal.SIGSEGV, "stderr_tail": "oh\nno"}

    await world.serve(work)


@pytest.mark.parametrize("drains_in_s", [2, NEVER])
async def test_calls_to_a_stopped_worker_are_cancelled(
    autojump_clock: Clock, tmp_path: Path, drains_in_s: float
) -> None:
    world = World(tmp_path, Script(drains_in_s=drains_in_s))
    calls = Calls(world)

    async def work() -> None:
        world.manager.want(make_plugin())
        await world.manager.wait_up(PLUGIN_ID)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(calls.one)
            await trio.testing.wait_all_tasks_blocked()
            world.manager.unwant(PLUGIN_ID)
            with pytest.raises(Unavailable, match="not running"):
                await world.manager.call(PLUGIN_ID, "call", HANG, timeout_s=None)
        ((at, error),) = calls.ends
        assert at == pytest.approx(min(drains_in_s, 10), abs=0.11)
        assert isinstance(error, CallCancelled)
        assert error.message == "the worker of 'test.fake' was stopped"

    await world.serve(work)


async def test_a_busy_worker_is_not_taken_for_a_deaf_one(autojump_clock: Clock, tmp_path: Path) -> None:
    world = World(tmp_path)
    calls = Calls(world)

    async def work() -> None:
        world.manager.want(make_plugin())
        await world.manager.wait_up(PLUGIN_ID)
        async with trio.open_nursery() as nursery:
            for _ in range(CALLS_PER_WORKER):
                nursery.start_soon(calls.one)
            await trio.testing.wait_all_tasks_blocked()
            assert world.manager.view(PLUGIN_ID).calls_in_flight == CALLS_PER_WORKER == 64
            with pytest.raises(ResourceExhausted, match="64 calls to the worker are in flight"):
                await world.manager.call(PLUGIN_ID, "call", HANG, timeout_s=None)
            await trio.sleep(600)
            assert (world.host.types(), calls.ends) == (["started"], [])
            nursery.cancel_scope.cancel()

    await world.serve(work)


async def test_calls_given_up_leave_room_for_health(autojump_clock: Clock, tmp_path: Path) -> None:
    """Callers went away, the worker is still at their calls: it is busy, not deaf."""
    world = World(tmp_path)
    calls = Calls(world)

    async def work() -> None:
        world.manager.want(make_plugin())
        await world.manager.wait_up(PLUGIN_ID)
        async with trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(calls.one, 1)
                await trio.sleep(0.1)
        await trio.sleep(600)
        assert world.host.types() == ["started"]
        kinds = [type(error) for _, error in calls.ends]
        assert (kinds.count(DeadlineExceeded), kinds.count(ResourceExhausted)) == (64, 136)

    await world.serve(work)


@pytest.mark.parametrize("phase", [Phase.STOPPED, Phase.STARTING, Phase.BACKOFF])
async def test_calls_to_what_does_not_run(autojump_clock: Clock, tmp_path: Path, phase: Phase) -> None:
    world = World(tmp_path, Script(answers_after_s=5, exits_after_s=8), Script(answers_after_s=5))

    async def work() -> None:
        if phase is not Phase.STOPPED:
            world.manager.want(make_plugin())
            await trio.sleep(1 if phase is Phase.STARTING else 8.5)
        with pytest.raises(Unavailable, match=f"its phase is {phase}") as caught:
            await world.manager.call(PLUGIN_ID, "call", HANG, timeout_s=None)
        assert caught.value.details == {"phase": phase.value}

    await world.serve(work)


async def test_a_program_without_rpc_takes_no_calls(autojump_clock: Clock, tmp_path: Path) -> None:
    world = World(tmp_path)

    async def work() -> None:
        world.manager.want(make_plugin(transport="none"))
        await world.manager.wait_up(PLUGIN_ID)
        with pytest.raises(InvalidParams, match='transport = "none"'):
            await world.manager.call(PLUGIN_ID, "call", HANG, timeout_s=None)

    await world.serve(work)


async def test_kill_all_is_judged_as_a_crash(autojump_clock: Clock, tmp_path: Path) -> None:
    world = World(tmp_path)

    async def work() -> None:
        world.manager.want(make_plugin())
        await world.manager.wait_up(PLUGIN_ID)
        assert world.manager.pids() == {1000}
        world.manager.kill_all()
        await trio.sleep(5)
        assert [c.cause for c in world.host.of(WorkerCrashed)] == ["was killed by SIGKILL"]
        assert world.manager.pids() == {1001}

    await world.serve(work)


# The end of all.

DRAINS_S = (0, 1, 3, 7, 9)


@pytest.mark.parametrize("repeat", range(10))
async def test_all_drain_in_parallel(autojump_clock: Clock, tmp_path: Path, repeat: int) -> None:
    world = World(tmp_path, *(Script(drains_in_s=s) for s in DRAINS_S))

    async def work() -> None:
        for n in range(len(DRAINS_S)):
            world.manager.want(make_plugin(f"test.p{n}", id_=PluginId(f"p{n}")))
            await world.manager.wait_up(PluginId(f"p{n}"))

    await world.serve(work)
    assert trio.current_time() == pytest.approx(max(DRAINS_S), abs=0.11)
    assert sorted(stopped.stage for stopped in world.host.of(WorkerStopped)) == ["drain"] * len(DRAINS_S)


async def test_stubborn_ones_take_as_long_as_the_most_stubborn(autojump_clock: Clock, tmp_path: Path) -> None:
    stubborn = Script(drains_in_s=NEVER, ends_on_term_in_s=NEVER, ends_on_kill_in_s=1)
    world = World(tmp_path, stubborn)

    async def work() -> None:
        for n in range(20):
            world.manager.want(make_plugin(f"test.p{n}", id_=PluginId(f"p{n}")))
            await world.manager.wait_up(PluginId(f"p{n}"))

    await world.serve(work)
    assert trio.current_time() == pytest.approx(16, abs=0.11)
    assert [stopped.stage for stopped in world.host.of(WorkerStopped)] == ["kill"] * 20


async def test_one_that_hangs_in_the_kernel_does_not_hold_up_the_end(autojump_clock: Clock, tmp_path: Path) -> None:
    world = World(tmp_path, Script(drains_in_s=NEVER, ends_on_term_in_s=NEVER, ends_on_kill_in_s=NEVER))
    async with trio.open_nursery() as nursery:
        await nursery.start(world.manager.run)
        world.manager.want(make_plugin())
        await world.manager.wait_up(PLUGIN_ID)
        nursery.cancel_scope.cancel()
    # Its stages and a second; then it is killed once more at most, and let go.
    assert 10 + 5 + 2 + 1 <= trio.current_time() <= 10 + 5 + 2 + 1 + 2


@pytest.mark.parametrize("after_s", [0.0, 1.0, 6.0, 7.5, 9.0])
async def test_the_end_in_any_phase(autojump_clock: Clock, tmp_path: Path, after_s: float) -> None:
    """Starting, running, just dead, waiting, starting again."""
    world = World(tmp_path, Script(answers_after_s=5, exits_after_s=6.5), Script(answers_after_s=5))

    async def work() -> None:
        world.manager.want(make_plugin())
        await trio.sleep(after_s)

    await world.serve(work)
    spawned, ended_at = len(world.processes), trio.current_time()
    assert ended_at <= after_s + 0.2
    await trio.sleep(3600)
    assert len(world.processes) == spawned
    assert world.manager.phase(PLUGIN_ID) is Phase.STOPPED


async def test_nobody_can_want_after_the_end(autojump_clock: Clock, tmp_path: Path) -> None:
    world = World(tmp_path)
    with pytest.raises(Unavailable):
        world.manager.want(make_plugin())

    async def work() -> None:
        world.manager.want(make_plugin())
        await world.manager.wait_up(PLUGIN_ID)
        world.manager.close()
        with pytest.raises(Unavailable, match="the daemon is stopping"):
            world.manager.want(make_plugin())

    await world.serve(work)


async def test_cancelled_before_it_has_begun(autojump_clock: Clock, tmp_path: Path) -> None:
    world = World(tmp_path)
    with trio.move_on_after(60), trio.CancelScope() as scope:
        scope.cancel()
        await world.manager.run()
    assert trio.current_time() < 60


async def test_forgotten_and_wanted_again(autojump_clock: Clock, tmp_path: Path) -> None:
    world = World(tmp_path)

    async def work() -> None:
        for n in (1, 2):
            world.manager.want(make_plugin())
            await world.manager.wait_up(PLUGIN_ID)
            assert world.manager.view(PLUGIN_ID).restarts == 0
            world.manager.unwant(PLUGIN_ID)
            await world.manager.wait_stopped(PLUGIN_ID)
            world.manager.forget(PLUGIN_ID)
            assert world.manager.view(PLUGIN_ID).wanted is None
            assert len(world.processes) == n

    await world.serve(work)


async def test_many_at_once_do_not_wait_for_each_other(autojump_clock: Clock, tmp_path: Path) -> None:
    world = World(tmp_path, Script(answers_after_s=3, drains_in_s=3))

    async def everybody(act: Callable[[PluginId], Any]) -> None:
        async with trio.open_nursery() as nursery:
            for n in range(50):
                nursery.start_soon(act, PluginId(f"p{n}"))

    async def work() -> None:
        for n in range(50):
            world.manager.want(make_plugin(f"test.p{n}", id_=PluginId(f"p{n}")))
        await everybody(world.manager.wait_up)
        assert trio.current_time() == pytest.approx(3)
        assert world.most_alive == 50
        for n in range(50):
            world.manager.unwant(PluginId(f"p{n}"))
        await everybody(world.manager.wait_stopped)
        assert trio.current_time() == pytest.approx(6, abs=0.11)

    await world.serve(work)
