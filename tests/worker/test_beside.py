"""Two lives of one plugin at the same time, over fake processes and a fake clock."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from supervisor.core.errors import ActivationFailed, CallCancelled, FailedPrecondition, Unavailable
from supervisor.core.event import WorkerCrashed, WorkerStarted, WorkerStopped
from supervisor.core.plugin import Plugin, PluginId
from supervisor.worker.phase import Phase
from supervisor.worker.process import Exit
from supervisor.worker.shutdown import WorkerUnkillable
from tests.worker.fakes import NEVER, PLUGIN_ID, Script, World, make_plugin, policy

Clock = trio.testing.MockClock
ECHO = {"method": "echo"}
HANG = {"method": "hang"}


def version(number: str, plugin: Plugin | None = None, **worker: Any) -> Plugin:
    plugin = plugin or make_plugin(**worker)
    return replace(plugin, version=number, manifest=replace(plugin.manifest, version=number))


ONE, TWO = version("1"), version("2")
SLOW = Script(answers_after_s=2, drains_in_s=3)


def two(tmp_path: Path, first: Script = SLOW, second: Script = SLOW) -> World:
    world = World(tmp_path)
    world.by_key = {"test.fake@1": first, "test.fake@2": second}
    return world


async def up(world: World, plugin: Plugin = ONE) -> None:
    world.manager.want(plugin)
    await world.manager.wait_up(plugin.id)


def told(world: World) -> list[tuple[str, int, float]]:
    return [
        (event.type.removeprefix("plugin.worker_"), event.pid, round(at, 3))  # type: ignore[attr-defined]
        for at, event in world.host.events
    ]


async def settle() -> None:
    await trio.testing.wait_all_tasks_blocked()


async def echo(world: World) -> None:
    await world.manager.call(PLUGIN_ID, "call", ECHO, timeout_s=1)


def answered(world: World) -> list[int]:
    """How many calls each process got."""
    return [process.asked.count("call") for process in world.processes]


async def test_it_takes_over_and_the_former_drains(autojump_clock: Clock, tmp_path: Path) -> None:
    world = two(tmp_path)
    manager = world.manager

    async def work() -> None:
        await up(world)
        async with manager.beside(TWO) as successor:
            assert trio.current_time() == 4
            assert (successor.pid, successor.up, successor.took_over) == (1001, True, False)
            assert (manager.view(PLUGIN_ID).pid, manager.pids()) == (1000, {1000, 1001})
            await echo(world)
            assert successor.take_over()
            view = manager.view(PLUGIN_ID)
            assert (view.phase, view.pid, view.crashes, view.restarts) == (Phase.RUNNING, 1001, 0, 0)
            await echo(world)
            assert answered(world) == [1, 1]
            assert manager.pids() == {1000, 1001}
        assert trio.current_time() == 4  # Leaving waits for nobody.
        await successor.wait_former_gone()
        assert trio.current_time() == 7
        assert told(world) == [("started", 1000, 2), ("started", 1001, 4), ("stopped", 1000, 7)]
        assert manager.pids() == {1001}
        await trio.sleep(1000)
        assert manager.view(PLUGIN_ID).uptime_s == 1003

    await world.serve(work)
    assert told(world)[3:] == [("stopped", 1001, 1010)]


async def test_it_counts_from_when_it_took_over(autojump_clock: Clock, tmp_path: Path) -> None:
    """What the former was given while the successor was on trial is no affair of the successor's."""
    world = two(tmp_path)
    manager = world.manager

    async def work() -> None:
        await up(world)
        async with manager.beside(TWO) as successor:
            assert manager.up_since(PLUGIN_ID) == 2
            await trio.sleep(5)
            assert successor.take_over()
        assert manager.up_since(PLUGIN_ID) == 9
        manager.hang(PLUGIN_ID, "did not let go of a run that the former has", since=8)
        await successor.wait_former_gone()
        assert manager.view(PLUGIN_ID).pid == 1001
        await echo(world)
        manager.hang(PLUGIN_ID, "did not let go of its own run", since=9)
        await settle()
        assert told(world)[-1] == ("crashed", 1001, trio.current_time())

    await world.serve(work)


async def test_left_without_taking_over_it_is_stopped(autojump_clock: Clock, tmp_path: Path) -> None:
    world = two(tmp_path)

    async def work() -> None:
        await up(world)
        async with world.manager.beside(TWO) as successor:
            await successor.wait_former_gone()  # There is none: nothing was handed over.
        assert trio.current_time() == 7
        assert world.manager.view(PLUGIN_ID).pid == 1000
        await echo(world)
        assert told(world) == [("started", 1000, 2), ("started", 1001, 4), ("stopped", 1001, 7)]
        with pytest.raises(ZeroDivisionError):
            async with world.manager.beside(TWO):
                raise ZeroDivisionError
        assert (trio.current_time(), world.manager.pids()) == (12, {1000})

    await world.serve(work)


FAILURES = {
    "crashes before the handshake": (Script(answers_after_s=NEVER, exits_after_s=1, stderr=b"no disk"), "exited", 3),
    "refuses": (Script(refusal={"name": "X", "message": "not with me"}), "refused initialize", 2),
    "hangs": (Script(answers_after_s=NEVER), "did not answer initialize", 17),
}


@pytest.mark.parametrize("how", FAILURES)
async def test_a_trial_that_does_not_come_up(autojump_clock: Clock, tmp_path: Path, how: str) -> None:
    """It is no crash of the plugin's: no event, no count, no give-up, no second try."""
    script, cause, at = FAILURES[how]
    world = two(tmp_path, second=script)
    given_up: list[PluginId] = []

    async def work() -> None:
        async def hear() -> None:
            given_up.append(await world.manager.wait_given_up())

        await up(world)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hear)
            with pytest.raises(ActivationFailed, match=cause) as failed:
                async with world.manager.beside(TWO):
                    pytest.fail("it never came up")
            assert failed.value.details["stderr_tail"] == script.stderr.decode()
            assert trio.current_time() == at
            await trio.sleep(500)
            view = world.manager.view(PLUGIN_ID)
            assert (view.pid, view.crashes, view.gave_up, view.last_failure) == (1000, 0, False, None)
            assert (len(world.processes), given_up, world.manager.pids()) == (2, [], {1000})
            assert told(world) == [("started", 1000, 2)]
            nursery.cancel_scope.cancel()

    await world.serve(work)


async def test_a_trial_that_cannot_be_spawned(autojump_clock: Clock, tmp_path: Path) -> None:
    world = two(tmp_path)

    async def work() -> None:
        await up(world)
        world.fail_spawn.append(OSError(11, "Resource temporarily unavailable"))
        with pytest.raises(ActivationFailed, match="cannot be started"):
            async with world.manager.beside(TWO):
                pytest.fail("it never came up")
        await echo(world)

    await world.serve(work)


async def test_a_trial_that_ends_before_it_takes_over(autojump_clock: Clock, tmp_path: Path) -> None:
    """What has ended is not handed over to; the block says why as it is left."""
    world = two(tmp_path, second=Script(exits_after_s=1, stderr=b"sudden"))

    async def work() -> None:
        await up(world)
        with pytest.raises(ActivationFailed, match="exited with code 5\nsudden"):  # noqa: PT012
            async with world.manager.beside(TWO) as successor:
                await trio.sleep(2)
                assert not successor.up
                assert isinstance(successor.failure, ActivationFailed)
                assert not successor.take_over()
                assert not successor.took_over
                assert world.manager.view(PLUGIN_ID).pid == 1000
        await trio.sleep(500)
        await echo(world)
        assert answered(world) == [1, 0]
        # It had been told as started: so it is told as stopped, and not as a crash.
        assert told(world) == [("started", 1000, 2), ("started", 1001, 2), ("stopped", 1001, 3)]
        (stopped,) = world.host.of(WorkerStopped)
        assert (stopped.stage, stopped.exit_code) == ("exit", 5)

    await world.serve(work)


async def test_what_happens_in_the_block_goes_first(autojump_clock: Clock, tmp_path: Path) -> None:
    world = two(tmp_path, second=Script(exits_after_s=1))

    async def work() -> None:
        with pytest.raises(ZeroDivisionError):  # noqa: PT012
            async with world.manager.beside(TWO):
                await trio.sleep(2)
                raise ZeroDivisionError

    await world.serve(work)


@pytest.mark.parametrize("after_s", [0.0, 1.0, 2.0, 3.0])
async def test_the_caller_goes_away(autojump_clock: Clock, tmp_path: Path, after_s: float) -> None:
    world = two(tmp_path)

    async def work() -> None:
        await up(world)
        with trio.move_on_after(after_s) as scope:
            async with world.manager.beside(TWO):
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert world.manager.pids() == {1000}
        assert [p.exit is None for p in world.processes] == [True] + [False] * (len(world.processes) - 1)
        await echo(world)
        assert world.host.of(WorkerCrashed) == []

    await world.serve(work)


async def test_a_trial_that_outlives_sigkill_holds_nobody_up(autojump_clock: Clock, tmp_path: Path) -> None:
    stubborn = replace(SLOW, drains_in_s=NEVER, ends_on_term_in_s=NEVER, ends_on_kill_in_s=100)
    world = two(tmp_path, second=stubborn)

    async def work() -> None:
        await up(world)
        async with world.manager.beside(TWO):
            began = trio.current_time()
        assert trio.current_time() - began == 17
        assert world.manager.pids() == {1000, 1001}  # The reaper is not to take it.
        await echo(world)
        world.manager.unwant(PLUGIN_ID)
        with pytest.raises(WorkerUnkillable):
            await world.manager.wait_stopped(PLUGIN_ID)
        await trio.sleep(100)
        assert world.manager.pids() == set()

    await world.serve(work)


async def test_the_former_crashes_during_the_trial(autojump_clock: Clock, tmp_path: Path) -> None:
    """It is restarted as ever; its crashes are its own, its restarts are the plugin's."""
    first = Script(exits_after_s=3)
    world = two(tmp_path, first=first, second=Script(answers_after_s=8))
    one = version("1", restart=policy(max_restarts=2, backoff_s=1))

    async def work() -> None:
        await up(world, one)
        async with world.manager.beside(TWO) as successor:
            view = world.manager.view(PLUGIN_ID)
            assert (view.phase, view.crashes) == (Phase.BACKOFF, 2)
            restarts = view.restarts
            assert successor.take_over()
            await successor.wait_former_gone()  # In backoff: there is nothing to wait for.
            assert trio.current_time() == 8
            view = world.manager.view(PLUGIN_ID)
            assert (view.phase, view.crashes, view.restarts, view.pid) == (Phase.RUNNING, 0, restarts, successor.pid)
        await trio.sleep(500)
        assert len(world.host.of(WorkerCrashed)) == 2
        assert [p.pid for p in world.alive] == [successor.pid]

    await world.serve(work)


async def test_the_former_gives_up_during_the_trial(autojump_clock: Clock, tmp_path: Path) -> None:
    world = two(tmp_path, first=Script(exits_after_s=3), second=Script(answers_after_s=100))
    one, two_ = (version(n, restart=policy(max_restarts=1), start_timeout_s=200) for n in "12")

    async def work() -> None:
        await up(world, one)
        async with world.manager.beside(two_) as successor:
            assert await world.manager.wait_given_up() == PLUGIN_ID
            assert world.manager.view(PLUGIN_ID).gave_up
            assert successor.take_over()
            view = world.manager.view(PLUGIN_ID)
            assert (view.gave_up, view.phase, view.wanted) == (False, Phase.RUNNING, True)

    await world.serve(work)


@pytest.mark.parametrize("before", ["never wanted", "stopped", "starting"])
async def test_no_former_that_runs(autojump_clock: Clock, tmp_path: Path, before: str) -> None:
    world = two(tmp_path, first=replace(SLOW, answers_after_s=8))
    manager = world.manager

    async def work() -> None:
        if before != "never wanted":
            manager.want(ONE)
        if before == "stopped":
            await manager.wait_up(PLUGIN_ID)
            manager.unwant(PLUGIN_ID)
            await manager.wait_stopped(PLUGIN_ID)
        async with manager.beside(TWO) as successor:
            assert manager.phase(PLUGIN_ID) is (Phase.STARTING if before == "starting" else Phase.STOPPED)
            assert successor.take_over()
            assert (manager.phase(PLUGIN_ID), manager.wanted(PLUGIN_ID)) == (Phase.RUNNING, True)
            at = trio.current_time()
            await successor.wait_former_gone()
            assert trio.current_time() == at
        assert [p.pid for p in world.alive] == [successor.pid]
        assert world.host.of(WorkerCrashed) == []

    await world.serve(work)


async def test_a_former_that_outlives_sigkill(autojump_clock: Clock, tmp_path: Path) -> None:
    world = two(tmp_path, first=Script(drains_in_s=NEVER, ends_on_term_in_s=NEVER, ends_on_kill_in_s=100))

    async def work() -> None:
        await up(world)
        async with world.manager.beside(TWO) as successor:
            assert successor.take_over()
            with pytest.raises(WorkerUnkillable):
                await successor.wait_former_gone()
        await echo(world)
        assert world.manager.pids() == {1000, 1001}
        await trio.sleep(200)
        assert world.manager.pids() == {1001}

    await world.serve(work)


async def test_after_taking_over_it_is_kept_up_as_any_other(autojump_clock: Clock, tmp_path: Path) -> None:
    world = two(tmp_path, second=Script(exits_after_s=5))
    after = version("2", restart=policy(max_restarts=2))

    async def work() -> None:
        await up(world)
        async with world.manager.beside(TWO) as successor:
            assert successor.take_over(after)
        assert await world.manager.wait_given_up() == PLUGIN_ID
        await settle()  # It is told before it is recorded.
        crashes = world.host.of(WorkerCrashed)
        assert [(crash.pid, crash.crashes) for crash in crashes] == [(1001, 1), (1002, 2), (1003, 3)]
        assert [crash.restart_in_s is None for crash in crashes] == [False, False, True]
        assert world.manager.view(PLUGIN_ID).gave_up
        await up(world, TWO)

    await world.serve(work)


async def test_what_has_finished_its_work_is_up(autojump_clock: Clock, tmp_path: Path) -> None:
    done = version("2", transport="none", start_grace_s=5, restart=policy(policy="on_failure"))
    world = two(tmp_path, second=Script(exits_after_s=1, exit=Exit(0, None)))

    async def work() -> None:
        await up(world)
        async with world.manager.beside(done) as successor:
            assert successor.up
            assert successor.take_over()
            view = world.manager.view(PLUGIN_ID)
            assert (view.phase, view.finished, view.wanted) == (Phase.STOPPED, "exited with code 0", False)
        await trio.sleep(100)
        assert len(world.processes) == 2

    await world.serve(work)


# Waiting.


async def test_who_waits_hears_of_the_switch(autojump_clock: Clock, tmp_path: Path) -> None:
    world = two(tmp_path, first=Script(answers_after_s=50, drains_in_s=3))
    manager, heard = world.manager, []

    async def work() -> None:
        async def wait(name: str, how: Callable[[PluginId], Awaitable[object]]) -> None:
            await how(PLUGIN_ID)
            heard.append((name, trio.current_time()))

        async def wait_changed(plugin_id: PluginId) -> None:
            changed = manager.changed(plugin_id)
            while manager.phase(plugin_id) is not Phase.RUNNING:
                await changed.wait()
                changed = manager.changed(plugin_id)

        one = version("1", start_timeout_s=100)
        manager.want(one)
        async with trio.open_nursery() as nursery:
            for name, how in (("running", manager.wait_running), ("up", manager.wait_up), ("changed", wait_changed)):
                nursery.start_soon(wait, name, how)
            async with manager.beside(TWO) as successor:
                await trio.sleep(1)
                assert heard == []
                successor.take_over()
        assert sorted(heard) == [("changed", 3), ("running", 3), ("up", 3)]

    await world.serve(work)


async def test_stopped_means_both(autojump_clock: Clock, tmp_path: Path) -> None:
    world = two(tmp_path, first=replace(SLOW, drains_in_s=9))

    async def work() -> None:
        await up(world)
        async with world.manager.beside(TWO) as successor:
            successor.take_over()
        world.manager.unwant(PLUGIN_ID)
        await world.manager.wait_stopped(PLUGIN_ID)
        assert trio.current_time() == 13
        assert (world.alive, world.manager.pids()) == ([], set())

    await world.serve(work)


async def test_forgotten_while_the_former_drains(autojump_clock: Clock, tmp_path: Path) -> None:
    world = two(tmp_path)

    async def work() -> None:
        await up(world)
        async with world.manager.beside(TWO) as successor:
            successor.take_over()
        world.manager.forget(PLUGIN_ID)
        assert world.manager.pids() == {1000, 1001}
        await trio.sleep(4)
        assert (world.alive, world.manager.pids()) == ([], set())
        assert world.manager.phase(PLUGIN_ID) is Phase.STOPPED

    await world.serve(work)


async def test_three_versions_one_after_the_other(autojump_clock: Clock, tmp_path: Path) -> None:
    """The first still drains when the third takes over."""
    world = two(tmp_path, first=replace(SLOW, drains_in_s=9))

    async def work() -> None:
        await up(world)
        for number in "23":
            async with world.manager.beside(version(number)) as successor:
                assert successor.take_over()
                assert successor.take_over()  # A second time does nothing.
        assert trio.current_time() == 4  # Only the second takes 2 s to come up.
        assert world.manager.pids() == {1000, 1001, 1002}
        await world.manager.wait_running(PLUGIN_ID)
        await trio.sleep(10)
        assert world.manager.pids() == {1002}

    await world.serve(work)


# Calls.


async def test_calls_in_flight_stay_with_the_former(autojump_clock: Clock, tmp_path: Path) -> None:
    world = two(tmp_path, first=Script(drains_in_s=3))
    ends: list[float] = []

    async def work() -> None:
        async def hang() -> None:
            with pytest.raises(CallCancelled, match="was stopped"):
                await world.manager.call(PLUGIN_ID, "call", HANG, timeout_s=None)
            ends.append(trio.current_time())

        await up(world)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hang)
            async with world.manager.beside(TWO) as successor:
                await settle()
                successor.take_over()
                await echo(world)
            assert world.manager.view(PLUGIN_ID).calls_in_flight == 0
        assert ends == [5]  # Until the former had drained: its end is no loss of the successor's.
        assert answered(world) == [1, 1]

    await world.serve(work)


async def test_calls_that_were_not_sent_yet_go_to_the_successor(autojump_clock: Clock, tmp_path: Path) -> None:
    """The former does not read; what waited for room was never asked of it."""
    world = two(tmp_path, first=Script(hangs_up_after_s=NEVER))
    settled: list[int] = []

    async def work() -> None:
        async def ask(number: int, size: int) -> None:
            params = {"method": "echo", "value": "x" * size, "number": number}
            answer = await world.manager.call(
                PLUGIN_ID, "call", params, timeout_s=60, on_settled=lambda: settled.append(number)
            )
            assert answer["number"] == number

        await up(world)
        stream = world.processes[0].rpc
        assert stream is not None
        held = trio.Event()
        send_all = stream.send_stream.send_all

        async def slowly(data: bytes) -> None:
            await held.wait()
            await send_all(data)

        stream.send_stream.send_all = slowly  # type: ignore[method-assign]
        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(ask, number, 600_000)
                await settle()
            async with world.manager.beside(TWO) as successor:
                assert settled == []
                successor.take_over()
                await settle()
                assert sorted(settled) == [2, 3]  # The first two filled the room, and are the former's.
                assert answered(world) == [0, 2]
                held.set()
        assert sorted(settled) == [0, 1, 2, 3]
        assert answered(world) == [2, 2]

    await world.serve(work)


# The daemon.


@pytest.mark.parametrize("when", ["starting", "up", "taken over"])
async def test_the_daemon_stops(autojump_clock: Clock, tmp_path: Path, when: str) -> None:
    """Both are drained at the same time."""
    world = two(tmp_path)
    ended: list[str] = []

    async with trio.open_nursery() as nursery:
        await nursery.start(world.manager.run)
        await up(world)

        async def upgrade() -> None:
            try:
                async with world.manager.beside(TWO) as successor:
                    if when == "taken over":
                        successor.take_over()
                    await trio.sleep_forever()
            finally:
                ended.append(when)

        nursery.start_soon(upgrade)
        await trio.sleep(1 if when == "starting" else 2)
        await settle()
        assert world.manager.longest_stop_s() == 18
        nursery.cancel_scope.cancel()
    assert trio.current_time() == (6 if when == "starting" else 7)
    assert ended == [when]
    world.check_sound()


async def test_a_hurry_kills_both(autojump_clock: Clock, tmp_path: Path) -> None:
    world = two(tmp_path, first=replace(SLOW, drains_in_s=NEVER), second=replace(SLOW, drains_in_s=NEVER))

    async def work() -> None:
        await up(world)
        async with world.manager.beside(TWO) as successor:
            world.manager.close()
            world.manager.kill_all()
            await world.manager.wait_stopped(PLUGIN_ID)
            assert trio.current_time() == 4
            assert successor.take_over()  # Both were stopped: it has not failed, and nothing is lost.
        assert world.host.of(WorkerCrashed) == []
        with pytest.raises(Unavailable):
            async with world.manager.beside(TWO):
                pytest.fail("the daemon is stopping")

    await world.serve(work)


# Plugins that it requires, and that require it.


BASE = make_plugin("base", id_=PluginId("id-base"), install_order=0)
NEEDY = make_plugin("needy", id_=PluginId("id-needy"), requires=("test.fake",), install_order=2)
LEANING = version("2", make_plugin(requires=("base",)))


async def test_dependents_never_see_it_go_down(autojump_clock: Clock, tmp_path: Path) -> None:
    world = two(tmp_path)

    async def work() -> None:
        await up(world)
        await up(world, NEEDY)
        async with world.manager.beside(TWO) as successor:
            successor.take_over()
            await successor.wait_former_gone()
        await trio.sleep(100)
        assert [p.key for p in world.processes] == ["test.fake", "needy", "test.fake"]
        assert world.manager.phase(NEEDY.id) is Phase.RUNNING
        # From now on it is the successor that they lean on.
        world.manager.unwant(PLUGIN_ID)
        await settle()
        assert world.manager.phase(NEEDY.id) is Phase.STOPPED
        await world.manager.wait_stopped(PLUGIN_ID)

    await world.serve(work)


async def test_dependents_wait_for_who_stands_for_it(autojump_clock: Clock, tmp_path: Path) -> None:
    world = two(tmp_path)

    async def work() -> None:
        world.manager.want(NEEDY)
        async with world.manager.beside(TWO) as successor:
            await settle()
            assert world.manager.view(NEEDY.id).waiting_for == ("test.fake",)
            successor.take_over()
            await world.manager.wait_up(NEEDY.id)

    await world.serve(work)


async def test_what_the_new_version_requires_must_be_up(autojump_clock: Clock, tmp_path: Path) -> None:
    world = two(tmp_path)
    world.by_key["base"] = Script(answers_after_s=5)

    async def work() -> None:
        await up(world)
        with pytest.raises(FailedPrecondition, match="waits for 'base', which is not to run"):
            async with world.manager.beside(LEANING):
                pytest.fail("it cannot start")
        assert (trio.current_time(), len(world.processes)) == (2, 1)
        world.manager.want(BASE)
        async with world.manager.beside(LEANING) as successor:
            assert trio.current_time() == 9  # 5 s until that one is up, 2 s for itself.
            successor.take_over()
        world.manager.unwant(BASE.id)
        await world.manager.wait_stopped(BASE.id)
        ended = {p.pid: p.reaped_at for p in world.processes}
        assert ended == {1000: 12, 1001: 12, 1002: 12}
        assert world.manager.view(PLUGIN_ID).waiting_for == ("base",)

    await world.serve(work)


async def test_what_it_requires_waits_for_a_trial_and_for_a_former_that_drains(
    autojump_clock: Clock, tmp_path: Path
) -> None:
    world = two(tmp_path, first=replace(SLOW, drains_in_s=8))
    one = version("1", make_plugin(requires=("base",)))

    async def work() -> None:
        await up(world, BASE)
        await up(world, one)
        with pytest.raises(FailedPrecondition, match="stands aside"):  # noqa: PT012
            async with world.manager.beside(LEANING) as successor:
                world.manager.unwant(BASE.id)
                await settle()
                assert world.manager.phase(BASE.id) is Phase.RUNNING
                await trio.sleep(4)
                assert [p.pid for p in world.alive] == [1000, 1001]  # The trial stands aside as well.
                assert not successor.take_over()
        await world.manager.wait_stopped(BASE.id)
        assert trio.current_time() == 12
        world.manager.want(BASE)
        await world.manager.wait_up(PLUGIN_ID)
        async with world.manager.beside(LEANING) as successor:
            successor.take_over()
        await trio.sleep(1)
        began = trio.current_time()
        world.manager.unwant(BASE.id)
        await world.manager.wait_stopped(BASE.id)
        assert trio.current_time() == began + 7

    await world.serve(work)


async def test_a_trial_is_known_for_its_events_only(autojump_clock: Clock, tmp_path: Path) -> None:
    """`started` before it takes over, with the restarts of the plugin's worker so far."""
    world = World(tmp_path, Script(exits_after_s=1), Script())

    async def work() -> None:
        await up(world)
        await trio.sleep(5)
        async with world.manager.beside(TWO) as successor:
            assert [(e.pid, e.restarts) for e in world.host.of(WorkerStarted)] == [(1000, 0), (1001, 1), (1002, 1)]
            successor.take_over()
            assert world.manager.view(PLUGIN_ID).restarts == 1

    await world.serve(work)


@pytest.mark.parametrize("back_after_s", [0, 1, 20])
async def test_a_trial_that_stood_aside_has_no_second_life(
    autojump_clock: Clock, tmp_path: Path, back_after_s: float
) -> None:
    """What it requires is stopped in the block, and is wanted again: before the trial has ended, or after."""
    world = two(tmp_path)

    async def work() -> None:
        await up(world, BASE)
        await up(world)
        with pytest.raises(FailedPrecondition, match="stands aside"):  # noqa: PT012
            async with world.manager.beside(LEANING) as successor:
                world.manager.unwant(BASE.id)
                await trio.sleep(back_after_s)
                world.manager.want(BASE)
                assert not successor.take_over()
                await trio.sleep(30)
                assert isinstance(successor.failure, FailedPrecondition)
                assert (successor.pid, successor.take_over()) == (None, False)
        assert [p.pid for p in world.alive if p.key == "test.fake"] == [1001]
        assert len([p for p in world.processes if p.key == "test.fake"]) == 2

    await world.serve(work)


@pytest.mark.parametrize("back_after_s", [0, 1])
async def test_a_trial_that_has_to_stand_aside_as_it_starts_is_over(
    autojump_clock: Clock, tmp_path: Path, back_after_s: float
) -> None:
    world = two(tmp_path, second=replace(SLOW, answers_after_s=5, ends_on_term_in_s=3))

    async def work() -> None:
        await up(world, BASE)
        await up(world)

        async def restart() -> None:
            await trio.sleep(2)
            world.manager.unwant(BASE.id)
            await trio.sleep(back_after_s)
            world.manager.want(BASE)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(restart)
            with pytest.raises(FailedPrecondition, match=r"stands aside|waits for 'base'"):
                async with world.manager.beside(LEANING):
                    pytest.fail("it has come up")
        assert len([p for p in world.processes if p.key == "test.fake"]) == 2
        assert world.manager.phase(PLUGIN_ID) is Phase.RUNNING

    await world.serve(work)
