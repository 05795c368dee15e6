# ruff: noqa: ASYNC110  -- an event of a supervisor's is taken before one looks, which hides what is asked here
"""Workers as whoever hands them runs sees them: up, or down and why; and the end of one that does not let go."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from supervisor.core.errors import DeadlineExceeded, PluginCrashed, Unavailable
from supervisor.core.event import WorkerCrashed
from supervisor.core.plugin import PluginId
from supervisor.worker.manager import WorkerManager
from supervisor.worker.phase import Phase
from supervisor.worker.process import Exit
from supervisor.worker.shutdown import Graces
from tests.worker.fakes import NEVER, PLUGIN_ID, Script, World, make_plugin, policy
from tests.worker.test_with_children import Bench

WHY = "did not let go of run r1, which it was told to cancel 10 s before"
OTHER_ID = PluginId("22222222-2222-4222-8222-222222222222")


def is_up(manager: WorkerManager) -> bool:
    return manager.up_since(PLUGIN_ID) is not None


async def test_a_hung_worker_crashes_and_is_started_again(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    world = World(tmp_path, Script(drains_in_s=NEVER, ends_on_term_in_s=NEVER))

    async def work() -> None:
        world.manager.want(make_plugin(restart=policy(backoff_s=3)))
        await world.manager.wait_up(PLUGIN_ID)
        await trio.sleep(7)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call_that_is_lost, world)
            await trio.testing.wait_all_tasks_blocked()
            world.manager.hang(PLUGIN_ID, WHY)
            world.manager.hang(PLUGIN_ID, "did it again")
        await trio.testing.wait_all_tasks_blocked()
        assert trio.current_time() == 7
        assert (world.manager.phase(PLUGIN_ID), is_up(world.manager)) == (Phase.BACKOFF, False)
        assert (
            world.manager.why_down(PLUGIN_ID) == f"its worker is in backoff after it {WHY}; the next attempt is in 3 s"
        )
        await trio.sleep(1.5)
        assert world.manager.why_down(PLUGIN_ID).endswith("; the next attempt is in 2 s")
        await world.manager.wait_running(PLUGIN_ID)
        assert (trio.current_time(), is_up(world.manager)) == (10, True)

    await world.serve(work)
    [crashed] = world.host.of(WorkerCrashed)
    assert (crashed.reason, crashed.cause, crashed.signal, crashed.restart_in_s) == ("run_stuck", WHY, 9, 3)
    # Once it is known to be no good it is not asked any more.
    assert (world.processes[0].signals, "shutdown" in world.processes[0].asked) == ([9], False)


async def call_that_is_lost(world: World) -> None:
    with pytest.raises(PluginCrashed, match="did not let go of run r1"):
        await world.manager.call(PLUGIN_ID, "call", {"method": "hang"}, timeout_s=None)


@pytest.mark.parametrize("how", ["exits", "hangs up", "is stuck"])
async def test_who_has_failed_takes_no_calls_from_then_on(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, how: str
) -> None:
    """Whoever's call ends with it must not hand its next one to the same worker."""
    never_s = {"exits": {"exits_after_s": 3.0}, "hangs up": {"hangs_up_after_s": 3.0}, "is stuck": {}}[how]
    world = World(tmp_path, Script(ends_on_kill_in_s=2, **never_s), Script())
    seen: list[tuple[float | None, str]] = []
    manager = world.manager

    async def work() -> None:
        manager.want(make_plugin(restart=policy(backoff_s=3)))
        await manager.wait_up(PLUGIN_ID)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call, seen.append)
            await trio.sleep(3)
            if how == "is stuck":
                manager.hang(PLUGIN_ID, WHY)
                assert not is_up(manager)
            await settle_until(lambda: not is_up(manager))
            before = len(world.processes[0].asked)
            if manager.phase(PLUGIN_ID) is Phase.RUNNING:
                assert manager.why_down(PLUGIN_ID) == "its worker has failed, and is being ended"
            with pytest.raises(Unavailable):
                await manager.call(PLUGIN_ID, "call", {"method": "echo"}, timeout_s=1)
            assert len(world.processes[0].asked) == before
        await manager.wait_running(PLUGIN_ID)
        assert await manager.call(PLUGIN_ID, "call", {"method": "echo"}, timeout_s=1) == {"method": "echo"}
        assert seen[0][0] is None

    async def call(note: Callable[[tuple[float | None, str]], None]) -> None:
        with pytest.raises(PluginCrashed):
            await manager.call(
                PLUGIN_ID,
                "call",
                {"method": "hang"},
                timeout_s=None,
                on_settled=lambda: note((manager.up_since(PLUGIN_ID), manager.why_down(PLUGIN_ID))),
            )

    await world.serve(work)


async def settle_until(so: Callable[[], bool]) -> None:
    with trio.fail_after(10):
        while not so():
            await trio.sleep(0.01)


async def test_who_is_not_up_is_left_alone(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    world = World(tmp_path, Script(answers_after_s=5, exits_after_s=8, exit=Exit(1, None)), Script(drains_in_s=4))

    async def work() -> None:
        hang = world.manager.hang
        hang(PLUGIN_ID, WHY)
        world.manager.want(make_plugin(restart=policy(backoff_s=2)))
        await trio.sleep(1)
        hang(PLUGIN_ID, WHY)  # It starts.
        await trio.sleep(8)
        assert world.manager.phase(PLUGIN_ID) is Phase.BACKOFF
        hang(PLUGIN_ID, WHY)
        await world.manager.wait_running(PLUGIN_ID)
        world.manager.unwant(PLUGIN_ID)
        await trio.sleep(1)
        hang(PLUGIN_ID, WHY)  # It is being stopped.
        await world.manager.wait_stopped(PLUGIN_ID)
        hang(PLUGIN_ID, WHY)

    await world.serve(work)
    assert world.host.types() == ["started", "crashed", "started", "stopped"]
    assert world.host.of(WorkerCrashed)[0].cause == "exited with code 1"


async def test_the_successor_of_the_one_that_hung_is_left_alone(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    world = World(tmp_path)

    async def work() -> None:
        await trio.sleep(5)
        world.manager.want(make_plugin())
        await world.manager.wait_up(PLUGIN_ID)
        world.manager.hang(PLUGIN_ID, WHY, since=4.9)
        await trio.testing.wait_all_tasks_blocked()
        assert is_up(world.manager)
        world.manager.hang(PLUGIN_ID, WHY, since=5)
        await trio.testing.wait_all_tasks_blocked()
        assert world.host.types() == ["started", "crashed"]

    await world.serve(work)


async def test_why_it_is_down(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    quitter = Script(exits_after_s=1, exit=Exit(4, None))
    world = World(tmp_path, Script(answers_after_s=5, drains_in_s=4), quitter, quitter)
    manager = world.manager

    async def work() -> None:
        assert (is_up(manager), manager.why_down(PLUGIN_ID)) == (False, "its worker is stopped")
        manager.want(make_plugin())
        await trio.sleep(1)
        assert (is_up(manager), manager.why_down(PLUGIN_ID)) == (False, "its worker is starting")
        await manager.wait_up(PLUGIN_ID)
        assert (is_up(manager), manager.why_down(PLUGIN_ID)) == (True, "its worker is up")
        manager.unwant(PLUGIN_ID)
        await trio.sleep(1)
        assert (is_up(manager), manager.why_down(PLUGIN_ID)) == (False, "its worker is being stopped")
        await manager.wait_stopped(PLUGIN_ID)
        assert manager.why_down(PLUGIN_ID) == "its worker is stopped"
        manager.want(make_plugin(restart=policy(max_restarts=1, backoff_s=2)))
        await manager.wait_given_up()
        told = "its worker is not started any more after it exited with code 4"
        assert (is_up(manager), manager.why_down(PLUGIN_ID)) == (False, told)

    await world.serve(work)


async def test_why_one_is_down_that_waits_for_another(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    world = World(tmp_path, Script(answers_after_s=5))
    manager = world.manager

    async def work() -> None:
        manager.want(make_plugin("test.db", id_=OTHER_ID))
        manager.want(make_plugin(requires=("test.db",)))
        await trio.sleep(1)
        assert manager.why_down(PLUGIN_ID) == "its worker waits until test.db is up"

    await world.serve(work)


async def test_why_one_is_down_that_waits_for_its_turn(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    world = World(tmp_path, Script(answers_after_s=5), start_concurrency=1)
    manager = world.manager

    async def work() -> None:
        manager.want(make_plugin("test.first", id_=OTHER_ID), queued=True)
        manager.want(make_plugin(), queued=True)
        await trio.sleep(1)
        assert manager.why_down(PLUGIN_ID) == "its worker waits for its turn to start"

    await world.serve(work)


async def test_why_one_is_down_that_has_finished(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    world = World(tmp_path, Script(exits_after_s=2, exit=Exit(0, None)))
    manager = world.manager

    async def work() -> None:
        manager.want(make_plugin(transport="none", restart=policy(policy="on_failure")))
        await trio.sleep(3)
        assert manager.why_down(PLUGIN_ID) == "its worker has finished: it exited with code 0"
        assert not is_up(manager)

    await world.serve(work)


async def test_why_one_is_down_that_outlived_sigkill(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    world = World(
        tmp_path,
        Script(drains_in_s=NEVER, ends_on_term_in_s=NEVER, ends_on_kill_in_s=10),
        graces=Graces(term_s=1, kill_s=1),
    )
    manager = world.manager

    async def work() -> None:
        manager.want(make_plugin(stop_timeout_s=1))
        await manager.wait_up(PLUGIN_ID)
        manager.unwant(PLUGIN_ID)
        await trio.sleep(5)
        assert manager.why_down(PLUGIN_ID) == "its worker hangs: pid 1000 outlived SIGKILL"
        await trio.sleep(10)

    await world.serve(work)


STUBBORN = '''
"""Sits in a call, and does not hear of its cancelling."""
from supervisor.sdk import Plugin, run
import threading

plugin = Plugin()

@plugin.method("sit")
def sit(context):
    threading.Event().wait()

run(plugin)
'''


async def test_a_real_worker_that_ignores_the_cancelling_of_a_call(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "main.py").write_text(STUBBORN)
    plugin = make_plugin(capabilities=("methods.register",), methods=("sit",), restart=policy(backoff_s=0.01))
    bench = Bench(tmp_path, plugin, package)
    manager = bench.manager()
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            await nursery.start(manager.run)
            manager.want(plugin)
            await manager.wait_up(PLUGIN_ID)
            first = manager.view(PLUGIN_ID).pid
            settled = trio.Event()
            with pytest.raises(DeadlineExceeded):
                await manager.call(
                    PLUGIN_ID, "call", {"method": "sit", "params": {}}, timeout_s=0.2, on_settled=settled.set
                )
            assert not settled.is_set(), "it has let go by itself"
            manager.hang(PLUGIN_ID, WHY)
            await settled.wait()
            while manager.view(PLUGIN_ID).pid in {None, first} or not is_up(manager):
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    [crashed] = bench.host.of(WorkerCrashed)
    assert (crashed.reason, crashed.cause, crashed.pid, crashed.signal) == ("run_stuck", WHY, first, 9)
