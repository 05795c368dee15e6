"""A worker's lives under a fake clock: restarts, giving up, wishes in every phase, health, mistakes."""

from __future__ import annotations

import errno
import random
import signal
from collections.abc import Callable, Iterable
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from supervisor.core.errors import ActivationFailed, CallCancelled, FailedPrecondition, ResourceExhausted
from supervisor.core.event import WorkerCrashed, WorkerStarted, WorkerStopped
from supervisor.core.package import PackageChanged
from supervisor.worker.launch import CannotLaunch
from supervisor.worker.phase import Phase
from supervisor.worker.process import Exit
from supervisor.worker.shutdown import WorkerUnkillable
from supervisor.worker.view import WorkerView
from tests.logs import read_log
from tests.worker.fakes import NEVER, PLUGIN_ID, Script, World, health, make_plugin, policy

Clock = trio.testing.MockClock
HOUR = 3600.0
LATER = 400.0
"""Longer than the longest backoff; a healthy worker is asked how it is 240 times an hour, which takes its time."""
DIES = Script(exits_after_s=0.5, stderr=b"out of luck\n")


def gaps(world: World) -> list[float]:
    return [round(b - a, 6) for a, b in pairwise(world.spawned_at)]


async def settle() -> None:
    await trio.testing.wait_all_tasks_blocked()


# Restarts.


async def test_a_crash_loop_after_the_handshake_trips_the_breaker(autojump_clock: Clock, tmp_path: Path) -> None:
    world, plugin = World(tmp_path, DIES), make_plugin()

    async def work() -> None:
        world.manager.want(plugin)
        await trio.sleep(HOUR)
        waits = [1, 2, 4, 8, 16, 32, 64, 128, 246, 262.5]
        assert gaps(world) == pytest.approx([wait + 0.5 for wait in waits], abs=0.01)
        crashes = world.host.of(WorkerCrashed)
        assert [crash.restart_in_s for crash in crashes] == [*waits, None]
        assert [crash.crashes for crash in crashes] == list(range(1, 12))
        assert {(c.exit_code, c.signal, c.stderr_tail, c.cause) for c in crashes} == {
            (5, None, "out of luck", "exited with code 5")
        }
        assert [started.restarts for started in world.host.of(WorkerStarted)] == list(range(11))
        assert world.host.types() == ["started", "crashed"] * 11
        view = world.manager.view(PLUGIN_ID)
        assert (view.phase, view.gave_up, view.wanted, view.crashes, view.restarts) == (
            Phase.STOPPED,
            True,
            False,
            11,
            10,
        )
        assert view.last_failure == "the worker of 'test.fake' exited with code 5\nout of luck"
        with pytest.raises(ActivationFailed, match="out of luck"):
            await world.manager.wait_running(PLUGIN_ID)

    await world.serve(work)


@pytest.mark.parametrize("max_restarts", [0, 1, 3])
async def test_exactly_so_many_restarts(autojump_clock: Clock, tmp_path: Path, max_restarts: int) -> None:
    world = World(tmp_path, DIES)

    async def work() -> None:
        world.manager.want(make_plugin(restart=policy(max_restarts=max_restarts)))
        await trio.sleep(HOUR)
        assert len(world.processes) == max_restarts + 1
        assert world.manager.view(PLUGIN_ID).gave_up

    await world.serve(work)


async def test_stable_running_restarts_at_once_and_resets(autojump_clock: Clock, tmp_path: Path) -> None:
    stable = Script(exits_after_s=61)
    world = World(tmp_path, DIES, DIES, stable, DIES, DIES, Script())

    async def work() -> None:
        world.manager.want(make_plugin())
        await trio.sleep(HOUR)
        assert gaps(world) == pytest.approx([1.5, 2.5, 61, 1.5, 2.5], abs=0.01)
        assert [c.crashes for c in world.host.of(WorkerCrashed)] == [1, 2, 0, 1, 2]
        assert world.manager.phase(PLUGIN_ID) is Phase.RUNNING

    await world.serve(work)


async def test_wanting_again_after_giving_up_begins_anew(autojump_clock: Clock, tmp_path: Path) -> None:
    world, plugin = World(tmp_path, DIES), make_plugin(restart=policy(max_restarts=1))

    async def work() -> None:
        for round_ in (1, 2):
            world.manager.want(plugin)
            await trio.sleep(HOUR)
            assert len(world.processes) == 2 * round_
            assert world.manager.view(PLUGIN_ID).gave_up

    await world.serve(work)


async def test_backoff_is_shown_and_counts_down(autojump_clock: Clock, tmp_path: Path) -> None:
    world = World(tmp_path, Script(exits_after_s=1), Script())

    async def work() -> None:
        world.manager.want(make_plugin(restart=policy(backoff_s=20)))
        await trio.sleep(6)
        view = world.manager.view(PLUGIN_ID)
        assert view.phase is Phase.BACKOFF
        assert view.next_restart_in_s == pytest.approx(15, abs=0.01)
        assert (view.pid, view.uptime_s, view.crashes) == (None, None, 1)
        await trio.sleep(20)
        view = world.manager.view(PLUGIN_ID)
        assert (view.phase, view.next_restart_in_s, view.pid) == (Phase.RUNNING, None, 1001)
        assert view.uptime_s == pytest.approx(5, abs=0.01)

    await world.serve(work)


async def test_first_try_only_gives_up_on_a_first_life_that_never_comes_up(
    autojump_clock: Clock, tmp_path: Path
) -> None:
    world = World(tmp_path, Script(answers_after_s=NEVER, exits_after_s=1))

    async def work() -> None:
        world.manager.want(make_plugin(), first_try_only=True)
        with pytest.raises(ActivationFailed, match="exited with code 5"):
            await world.manager.wait_up(PLUGIN_ID)
        await trio.sleep(HOUR)
        assert len(world.processes) == 1
        assert world.host.of(WorkerCrashed)[0].restart_in_s is None

    await world.serve(work)


async def test_first_try_only_is_about_the_first_try_only(autojump_clock: Clock, tmp_path: Path) -> None:
    """After an hour of service, a restart that fails once is no reason to give the plugin up."""
    fails = Script(answers_after_s=NEVER, exits_after_s=1)
    world = World(tmp_path, Script(exits_after_s=HOUR), fails, Script())

    async def work() -> None:
        world.manager.want(make_plugin(), first_try_only=True)
        await world.manager.wait_up(PLUGIN_ID)
        await trio.sleep(2 * HOUR)
        assert [c.restart_in_s for c in world.host.of(WorkerCrashed)] == [0, 1]
        assert world.manager.phase(PLUGIN_ID) is Phase.RUNNING

    await world.serve(work)


# Why a life ends.

CAUSES = [
    (Script(answers_after_s=NEVER), 15, "did not answer initialize within 15 s"),
    (
        Script(refusal={"name": "FAILED_PRECONDITION", "message": "no license"}),
        0,
        "refused initialize: FAILED_PRECONDITION: no license",
    ),
    (Script(refusal="plain text"), 0, "refused initialize: INTERNAL: plain text"),
    (Script(handshake=[]), 0, "answered initialize with rubbish: expected a map, got list"),
    (Script(handshake={"api_version": 9}), 0, "speaks api_version 9, its manifest says 1"),
    (Script(hangs_up_after_s=10), 11, "closed its RPC connection"),
    (Script(answers_after_s=NEVER, hangs_up_after_s=3), 4, "closed its RPC connection"),
    (Script(sends_after_handshake=b"\xc1"), 1, "broke the RPC protocol: the bytes are no msgpack"),
    (Script(sends_after_handshake=b"\x93\x01\x02\x03"), 1, "broke the RPC protocol: a frame is no message"),
    (Script(sends_after_handshake=b"\x9f\xc0"), 11, "broke the RPC protocol: a frame was left unfinished for 10 s"),
    (Script(healthy_for_s=1), 60, "failed 3 health checks in a row; the last one: no answer within 5 s"),
    (Script(health={"status": "error"}), 45, "failed 3 health checks in a row; the last one: status 'error'"),
    (Script(health={"status": []}), 45, "failed 3 health checks in a row; the last one: status []"),
    (Script(health=None), 45, "failed 3 health checks in a row; the last one: status None"),
    (Script(exits_after_s=7, exit=Exit(None, signal.SIGSEGV)), 7, "was killed by SIGSEGV"),
    (Script(exits_after_s=7, exit=Exit(None, 63)), 7, "was killed by signal 63"),
    (Script(exits_after_s=7, exit=Exit(0, None)), 7, "exited with code 0"),
]


@pytest.mark.parametrize(("script", "after_s", "cause"), CAUSES, ids=range(len(CAUSES)))
async def test_cause_and_time(
    autojump_clock: Clock, tmp_path: Path, script: Script, after_s: float, cause: str
) -> None:
    world = World(tmp_path, script)

    async def work() -> None:
        world.manager.want(make_plugin(restart=policy(max_restarts=0)))
        await trio.sleep(HOUR)
        (crash,) = world.host.of(WorkerCrashed)
        assert crash.cause.startswith(cause)
        (process,) = world.processes
        assert process.reaped_at == pytest.approx(after_s, abs=0.02)
        if script.exits_after_s == NEVER:
            assert process.signals == [signal.SIGKILL]
            assert crash.signal == signal.SIGKILL

    await world.serve(work)


@pytest.mark.parametrize("health_answer", [{"status": "ok"}, {"status": "degraded", "message": "slow"}])
async def test_good_health_goes_on_for_ever(autojump_clock: Clock, tmp_path: Path, health_answer: Any) -> None:
    world = World(tmp_path, Script(health=health_answer))

    async def work() -> None:
        world.manager.want(make_plugin())
        await trio.sleep(HOUR)
        assert world.host.types() == ["started"]
        assert world.processes[0].asked.count("health") == pytest.approx(HOUR / 15, abs=1)

    await world.serve(work)


async def test_one_that_was_deaf_from_the_first_never_counts_as_stable(autojump_clock: Clock, tmp_path: Path) -> None:
    """Three misses take a minute, which is as long as stable running: they are no stable running."""
    world = World(tmp_path, Script(healthy_for_s=0))

    async def work() -> None:
        world.manager.want(make_plugin())
        await trio.sleep(HOUR)
        assert [c.crashes for c in world.host.of(WorkerCrashed)] == list(range(1, 12))
        assert world.manager.view(PLUGIN_ID).gave_up

    await world.serve(work)


async def test_one_that_goes_deaf_after_stable_running_is_back_at_once(autojump_clock: Clock, tmp_path: Path) -> None:
    world = World(tmp_path, Script(healthy_for_s=100), Script())

    async def work() -> None:
        world.manager.want(make_plugin())
        await trio.sleep(HOUR)
        assert [(c.crashes, c.restart_in_s) for c in world.host.of(WorkerCrashed)] == [(0, 0)]
        assert world.spawned_at[1] == pytest.approx(150)

    await world.serve(work)


async def test_misses_are_in_the_plugins_log(autojump_clock: Clock, tmp_path: Path) -> None:
    world = World(tmp_path, Script(healthy_for_s=1))

    async def work() -> None:
        world.manager.want(
            make_plugin(health=health(interval_s=1, timeout_s=1, failures=2), restart=policy(max_restarts=0))
        )
        await trio.sleep(HOUR)

    await world.serve(work)
    lines = [line["message"] for line in read_log(world.log_path, tail=10) if line["stream"] == "plugind"]
    assert [line.split(":")[0] for line in lines] == ["health check failed (1 of 2)", "health check failed (2 of 2)"]


async def test_a_program_without_rpc_is_up_after_its_grace(autojump_clock: Clock, tmp_path: Path) -> None:
    world = World(tmp_path)

    async def work() -> None:
        world.manager.want(make_plugin(transport="none", start_grace_s=3))
        await world.manager.wait_up(PLUGIN_ID)
        assert trio.current_time() == pytest.approx(3)
        world.manager.unwant(PLUGIN_ID)
        await world.manager.wait_stopped(PLUGIN_ID)
        assert world.processes[0].signals == [signal.SIGTERM]

    await world.serve(work)


# Wishes in every phase.

WANT, UNWANT = "want", "unwant"
SLOW_TO_START = Script(answers_after_s=5, drains_in_s=4, ends_on_term_in_s=2)
PHASES_AT: dict[Phase, tuple[Script, float]] = {
    Phase.STARTING: (SLOW_TO_START, 1.0),
    Phase.RUNNING: (SLOW_TO_START, 8.0),
    Phase.STOPPING: (SLOW_TO_START, 9.0),
    Phase.BACKOFF: (Script(exits_after_s=1), 1.5),
    Phase.STOPPED: (SLOW_TO_START, 0.0),
}
SEQUENCES = [s for n in (1, 2, 3, 4) for s in product((WANT, UNWANT), repeat=n)]


async def reach(world: World, phase: Phase, plugin: Any) -> None:
    if phase is Phase.STOPPED:
        return
    world.manager.want(plugin)
    if phase is Phase.STOPPING:
        await trio.sleep(8)
        world.manager.unwant(PLUGIN_ID)
        await trio.sleep(1)
    else:
        await trio.sleep(PHASES_AT[phase][1])
    assert world.manager.phase(PLUGIN_ID) is phase


def wish(world: World, plugin: Any, wishes: Iterable[str]) -> None:
    for one in wishes:
        if one == WANT:
            world.manager.want(plugin)
        else:
            world.manager.unwant(PLUGIN_ID)


@pytest.mark.parametrize("apart_s", [None, 0.0, 0.3], ids=["at once", "a turn apart", "0.3 s apart"])
@pytest.mark.parametrize("wishes", SEQUENCES, ids="-".join)
@pytest.mark.parametrize("phase", Phase)
async def test_the_last_wish_counts(
    autojump_clock: Clock, tmp_path: Path, phase: Phase, wishes: tuple[str, ...], apart_s: float | None
) -> None:
    world, plugin = World(tmp_path, PHASES_AT[phase][0], SLOW_TO_START), make_plugin()

    async def work() -> None:
        await reach(world, phase, plugin)
        for one in wishes:
            wish(world, plugin, [one])
            if apart_s is not None:
                await trio.sleep(apart_s)
        asked_at, spawned = trio.current_time(), len(world.processes)
        if wishes[-1] == WANT:
            await world.manager.wait_running(PLUGIN_ID)
            assert trio.current_time() - asked_at <= 10 + 5 + 5, "no backoff for who is wanted"
            assert len(world.alive) == 1
            before = len(world.processes)
            await trio.sleep(LATER)
            assert len(world.processes) == before <= spawned + 1, "one new process at most"
            assert world.manager.phase(PLUGIN_ID) is Phase.RUNNING
        else:
            await world.manager.wait_stopped(PLUGIN_ID)
            await trio.sleep(LATER)
            assert len(world.processes) == spawned, "no ghost"
            assert world.alive == []
            assert world.manager.phase(PLUGIN_ID) is Phase.STOPPED
        assert world.most_alive <= 1

    await world.serve(work)


@pytest.mark.parametrize("seed", range(50))
@pytest.mark.parametrize("phase", Phase)
async def test_many_at_once(autojump_clock: Clock, tmp_path: Path, phase: Phase, seed: int) -> None:
    """Tasks that want and unwant as they please, also twice; the last word counts, and never two are alive."""
    world, plugin = World(tmp_path, PHASES_AT[phase][0], DIES, SLOW_TO_START), make_plugin()
    world.host.record_s = (seed % 3) * 0.1
    dice = random.Random(seed)

    async def somebody() -> None:
        for _ in range(6):
            wish(world, plugin, dice.choices((WANT, UNWANT), k=dice.choice((1, 1, 2))))
            await trio.sleep(dice.choice((0, 0, 0.1, 0.5, 2, 6)))

    async def work() -> None:
        await reach(world, phase, plugin)
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(somebody)
        wish(world, plugin, [UNWANT])
        await world.manager.wait_stopped(PLUGIN_ID)
        spawned = len(world.processes)
        await trio.sleep(LATER)
        assert len(world.processes) == spawned
        wish(world, plugin, [WANT])
        await world.manager.wait_running(PLUGIN_ID)
        assert (world.most_alive, len(world.alive)) == (1, 1)

    await world.serve(work)


@pytest.mark.parametrize("spells", range(1, 4))
async def test_unwanted_and_wanted_quickly_is_exactly_one_new_process(
    autojump_clock: Clock, tmp_path: Path, spells: int
) -> None:
    world, plugin = World(tmp_path, Script(drains_in_s=3)), make_plugin()

    async def work() -> None:
        world.manager.want(plugin)
        await world.manager.wait_up(PLUGIN_ID)
        wish(world, plugin, [UNWANT, WANT] * spells)
        await trio.sleep(LATER)
        assert (len(world.processes), world.most_alive, len(world.alive)) == (2, 1, 1)
        assert world.spawned_at[1] == pytest.approx(3)
        assert world.host.types() == ["started", "stopped", "started"]

    await world.serve(work)


async def test_unwanted_while_starting_is_asked_nothing_but_ended(autojump_clock: Clock, tmp_path: Path) -> None:
    world = World(tmp_path, SLOW_TO_START)

    async def work() -> None:
        world.manager.want(make_plugin())
        await trio.sleep(1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(expect, CallCancelled, lambda: world.manager.wait_running(PLUGIN_ID))
            await settle()
            world.manager.unwant(PLUGIN_ID)
            await world.manager.wait_stopped(PLUGIN_ID)
        assert trio.current_time() == pytest.approx(3)
        assert world.processes[0].asked == ["initialize"]
        assert world.host.types() == [], "what never started has not stopped"

    await world.serve(work)


async def test_unwanted_while_the_start_is_being_recorded(autojump_clock: Clock, tmp_path: Path) -> None:
    world = World(tmp_path)
    world.host.record_s = 2

    async def work() -> None:
        world.manager.want(make_plugin())
        await trio.sleep(1)
        world.manager.unwant(PLUGIN_ID)
        await world.manager.wait_stopped(PLUGIN_ID)
        assert world.host.types() == ["started", "stopped"]

    await world.serve(work)


STOPS = [
    (Script(drains_in_s=0), "drain", 0, 0, None),
    (Script(drains_in_s=9.9), "drain", 9.9, 0, None),
    (Script(drains_in_s=NEVER), "term", 10, None, signal.SIGTERM),
    (Script(drains_in_s=NEVER, ends_on_term_in_s=4), "term", 14, None, signal.SIGTERM),
    (Script(drains_in_s=NEVER, ends_on_term_in_s=NEVER), "kill", 15, None, signal.SIGKILL),
    (Script(drains_in_s=NEVER, ends_on_term_in_s=NEVER, ends_on_kill_in_s=1.5), "kill", 16.5, None, signal.SIGKILL),
]


@pytest.mark.parametrize(("script", "stage", "after_s", "code", "number"), STOPS, ids=range(len(STOPS)))
async def test_stop_stages(
    autojump_clock: Clock,
    tmp_path: Path,
    script: Script,
    stage: str,
    after_s: float,
    code: int | None,
    number: int | None,
) -> None:
    world = World(tmp_path, script)

    async def work() -> None:
        world.manager.want(make_plugin())
        await world.manager.wait_up(PLUGIN_ID)
        asked_at = trio.current_time()
        world.manager.unwant(PLUGIN_ID)
        await trio.sleep(after_s / 2)
        world.manager.unwant(PLUGIN_ID)
        await world.manager.wait_stopped(PLUGIN_ID)
        assert trio.current_time() - asked_at == pytest.approx(after_s)
        (stopped,) = world.host.of(WorkerStopped)
        assert (stopped.stage, stopped.exit_code, stopped.signal) == (stage, code, number)

    await world.serve(work)


async def test_an_unkillable_worker_has_no_successor_until_it_is_gone(autojump_clock: Clock, tmp_path: Path) -> None:
    world, plugin = (
        World(tmp_path, Script(drains_in_s=NEVER, ends_on_term_in_s=NEVER, ends_on_kill_in_s=600)),
        make_plugin(),
    )

    async def work() -> None:
        world.manager.want(plugin)
        await world.manager.wait_up(PLUGIN_ID)
        world.manager.unwant(PLUGIN_ID)
        with pytest.raises(WorkerUnkillable, match="pid 1000"):
            await world.manager.wait_stopped(PLUGIN_ID)
        assert trio.current_time() == pytest.approx(17)
        world.manager.want(plugin)
        with pytest.raises(FailedPrecondition, match="pid 1000 outlived SIGKILL; no other starts") as caught:
            await world.manager.wait_up(PLUGIN_ID)
        assert (trio.current_time(), caught.value.details["pid"]) == (pytest.approx(17), 1000)
        await trio.sleep(500)
        assert len(world.processes) == 1
        world.scripts = (Script(),)
        await world.manager.wait_running(PLUGIN_ID)
        assert trio.current_time() == pytest.approx(615, abs=1)
        assert world.most_alive == 1

    await world.serve(work)


async def test_who_waits_for_a_start_hears_that_it_cannot_be_killed(autojump_clock: Clock, tmp_path: Path) -> None:
    world = World(tmp_path, Script(answers_after_s=NEVER, ends_on_kill_in_s=600))

    async def work() -> None:
        world.manager.want(make_plugin(start_timeout_s=5))
        with pytest.raises(FailedPrecondition, match="pid 1000 outlived SIGKILL"):
            await world.manager.wait_up(PLUGIN_ID)
        assert trio.current_time() < 5 + 20
        world.processes[0].end(Exit(None, signal.SIGKILL))
        world.scripts = (Script(),)
        await world.manager.wait_running(PLUGIN_ID)
        assert world.most_alive == 1

    await world.serve(work)


# Mistakes of our own.


@pytest.mark.parametrize("fault", ["config", "remember"])
async def test_a_mistake_costs_one_life(autojump_clock: Clock, tmp_path: Path, fault: str) -> None:
    world = World(tmp_path)
    world.host.faults.add(fault)

    async def work() -> None:
        world.manager.want(make_plugin())
        await trio.sleep(0.5)
        assert world.processes[0].exit == Exit(None, signal.SIGKILL)
        (crash,) = world.host.of(WorkerCrashed)
        assert "was lost to a mistake in plugind itself (log id " in crash.cause
        world.host.faults.clear()
        await world.manager.wait_running(PLUGIN_ID)
        assert (len(world.alive), world.most_alive) == (1, 1)

    await world.serve(work)


@pytest.mark.parametrize("type_", ["started", "stopped", "crashed"])
async def test_what_cannot_be_recorded_happens_all_the_same(autojump_clock: Clock, tmp_path: Path, type_: str) -> None:
    world, other = World(tmp_path, Script(exits_after_s=100), Script()), make_plugin("test.other", id_="o")  # type: ignore[arg-type]
    world.host.faults.add(f"record plugin.worker_{type_}")

    async def work() -> None:
        world.manager.want(make_plugin())
        await trio.sleep(110)
        world.manager.want(other)
        await world.manager.wait_running(other.id)
        assert world.manager.phase(PLUGIN_ID) is Phase.RUNNING
        world.manager.unwant(PLUGIN_ID)
        await world.manager.wait_stopped(PLUGIN_ID)
        assert world.manager.phase(other.id) is Phase.RUNNING
        world.host.faults.clear()
        world.host.events.clear()
        world.manager.unwant(other.id)
        await world.manager.wait_stopped(other.id)
        world.host.events.clear()

    await world.serve(work)


async def test_a_mistake_in_forgetting_changes_nothing(autojump_clock: Clock, tmp_path: Path) -> None:
    world = World(tmp_path, Script(exits_after_s=1), Script())
    world.host.faults.add("forget")

    async def work() -> None:
        world.manager.want(make_plugin())
        await trio.sleep(10)
        assert world.host.types() == ["started", "crashed", "started"]

    await world.serve(work)


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (FileNotFoundError(2, "No such file or directory"), "cannot be started: /fake: No such file or directory"),
        (OSError("odd"), "cannot be started: /fake: odd"),
        (ValueError("embedded null byte"), "was lost to a mistake in plugind itself (log id "),
    ],
)
async def test_spawn_fails(autojump_clock: Clock, tmp_path: Path, error: Exception, cause: str) -> None:
    world = World(tmp_path)
    world.fail_spawn = [error, error]

    async def work() -> None:
        world.manager.want(make_plugin())
        with pytest.raises(ActivationFailed):
            await world.manager.wait_up(PLUGIN_ID)
        await world.manager.wait_running(PLUGIN_ID)
        assert trio.current_time() == pytest.approx(3)
        crashes = world.host.of(WorkerCrashed)
        assert [(c.pid, c.exit_code, c.signal) for c in crashes] == [(None, None, None)] * 2
        assert all(crash.cause.startswith(cause) for crash in crashes)

    await world.serve(work)


async def test_what_the_daemon_lacks_is_waited_for_without_end(autojump_clock: Clock, tmp_path: Path) -> None:
    world = World(tmp_path)
    lacks = [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN] * 5
    world.fail_spawn = [OSError(number, "no more") for number in lacks]
    plugin = make_plugin(restart=policy(max_restarts=1, max_backoff_s=4.0))

    async def work() -> None:
        world.manager.want(plugin)
        with trio.move_on_after(10):
            await world.manager.wait_running(PLUGIN_ID)
        view = world.manager.view(PLUGIN_ID)
        assert (view.phase, view.crashes, view.gave_up) == (Phase.BACKOFF, 0, False)
        assert view.last_reason == "cannot_start"
        assert "no more" in str(view.last_failure)
        await world.manager.wait_running(PLUGIN_ID)
        assert len(world.host.of(WorkerCrashed)) == len(lacks)
        assert world.manager.view(PLUGIN_ID).last_failure is None

    await world.serve(work)


async def test_whoever_asks_for_a_first_start_hears_of_a_shortage(autojump_clock: Clock, tmp_path: Path) -> None:
    world = World(tmp_path)
    world.fail_spawn = [OSError(errno.EMFILE, "no more")]

    async def work() -> None:
        world.manager.want(make_plugin(), first_try_only=True)
        with pytest.raises(ActivationFailed, match="no more"):
            await world.manager.wait_up(PLUGIN_ID)
        assert world.manager.view(PLUGIN_ID).gave_up

    await world.serve(work)


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (CannotLaunch("there is no program 'x'"), "there is no program 'x'"),
        (
            PermissionError(13, "Permission denied"),
            "cannot be started: its files cannot be made ready: [Errno 13] Permission denied",
        ),
        (ResourceExhausted("the database cannot be read"), "was not started: the database cannot be read"),
        (KeyError("x"), "was lost to a mistake in plugind itself"),
    ],
)
async def test_preparing_fails(autojump_clock: Clock, tmp_path: Path, error: Exception, cause: str) -> None:
    world = World(tmp_path)
    world.fail_prepare = [error]

    async def work() -> None:
        world.manager.want(make_plugin())
        await world.manager.wait_running(PLUGIN_ID)
        assert trio.current_time() == pytest.approx(1)
        assert world.host.of(WorkerCrashed)[0].cause.startswith(cause)

    await world.serve(work)


CHANGED = "'main.py' in its package test.fake/1-0123 was changed"


async def test_a_changed_package_is_given_up_at_once(autojump_clock: Clock, tmp_path: Path) -> None:
    """However many tries there are left: files do not mend by waiting."""
    world, plugin = World(tmp_path, Script(exits_after_s=100)), make_plugin(restart=policy(policy="always"))

    async def work() -> None:
        world.manager.want(plugin)
        await world.manager.wait_up(PLUGIN_ID)
        world.fail_prepare = [PackageChanged(CHANGED)]
        assert await world.manager.wait_given_up() == PLUGIN_ID
        assert trio.current_time() == 100
        view = world.manager.view(PLUGIN_ID)
        assert (view.gave_up, view.phase, view.last_reason) == (True, Phase.STOPPED, "package_changed")
        assert view.last_failure == f"the worker of 'test.fake' was not started: {CHANGED}"
        await trio.sleep(1000)
        assert len(world.processes) == 1
        crash = world.host.of(WorkerCrashed)[-1]
        assert (crash.reason, crash.pid, crash.exit_code, crash.restart_in_s) == ("package_changed", None, None, None)

    await world.serve(work)


async def test_whoever_starts_a_changed_package_is_told(autojump_clock: Clock, tmp_path: Path) -> None:
    world = World(tmp_path)
    world.fail_prepare = [PackageChanged(CHANGED)]

    async def work() -> None:
        world.manager.want(make_plugin(), first_try_only=True)
        with pytest.raises(ActivationFailed, match=r"was not started: 'main.py' in its package"):
            await world.manager.wait_up(PLUGIN_ID)
        await settle()
        assert (trio.current_time(), world.processes) == (0, [])
        assert world.host.types() == ["crashed"]
        # The next who wants it has it looked at again.
        world.manager.want(make_plugin(), first_try_only=True)
        await world.manager.wait_up(PLUGIN_ID)

    await world.serve(work)


async def test_a_stop_comes_before_a_long_look_at_the_files_ends(autojump_clock: Clock, tmp_path: Path) -> None:
    world, plugin = World(tmp_path), make_plugin()
    world.prepare_s[plugin.key] = 60

    async def work() -> None:
        world.manager.want(plugin)
        await trio.sleep(1)
        assert world.manager.phase(PLUGIN_ID) is Phase.STARTING
        world.manager.unwant(PLUGIN_ID)
        await world.manager.wait_stopped(PLUGIN_ID)
        assert (trio.current_time(), world.processes, world.host.types()) == (1, [], [])
        world.manager.want(plugin)
        await world.manager.wait_up(PLUGIN_ID)
        assert trio.current_time() == 61

    await world.serve(work)


async def test_a_stopping_daemon_does_not_wait_for_a_long_look(autojump_clock: Clock, tmp_path: Path) -> None:
    world, plugin = World(tmp_path), make_plugin()
    world.prepare_s[plugin.key] = 60

    async def work() -> None:
        world.manager.want(plugin)
        await trio.sleep(1)

    await world.serve(work)
    assert (trio.current_time(), world.processes) == (1, [])


async def test_a_mistake_while_stopping_ends_the_stop(autojump_clock: Clock, tmp_path: Path) -> None:
    """A phase that the table does not know would have ended all the others' supervision."""
    world, plugin = World(tmp_path, Script(drains_in_s=5)), make_plugin()

    async def work() -> None:
        world.manager.want(plugin)
        await world.manager.wait_up(PLUGIN_ID)
        world.manager.unwant(PLUGIN_ID)
        await trio.sleep(1)
        assert world.manager.phase(PLUGIN_ID) is Phase.STOPPING
        process = world.processes[0]
        assert process._body is not None
        process._body.start_soon(_raise)
        await trio.sleep(60)
        assert world.manager.phase(PLUGIN_ID) is Phase.STOPPED
        assert world.host.types() == ["started", "stopped"]
        world.manager.want(plugin)
        await world.manager.wait_running(PLUGIN_ID)
        assert world.most_alive == 1

    await world.serve(work)


async def _raise() -> None:
    raise ZeroDivisionError("a mistake of ours")


# Waiting.


async def test_who_was_never_wanted(autojump_clock: Clock, tmp_path: Path) -> None:
    world = World(tmp_path)

    async def work() -> None:
        assert world.manager.view(PLUGIN_ID) == WorkerView()
        assert world.manager.view(PLUGIN_ID).wanted is None
        await world.manager.wait_stopped(PLUGIN_ID)
        with pytest.raises(CallCancelled, match="not wanted"):
            await world.manager.wait_running(PLUGIN_ID)

    await world.serve(work)


async def test_impatient_hears_of_the_first_failure_patient_sits_it_out(autojump_clock: Clock, tmp_path: Path) -> None:
    world, ended = World(tmp_path, Script(answers_after_s=NEVER, exits_after_s=1), Script()), []

    async def patient() -> None:
        await world.manager.wait_running(PLUGIN_ID)
        ended.append(("up", trio.current_time()))

    async def impatient() -> None:
        with pytest.raises(ActivationFailed):
            await world.manager.wait_up(PLUGIN_ID)
        ended.append(("failed", trio.current_time()))

    async def work() -> None:
        world.manager.want(make_plugin())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(patient)
            nursery.start_soon(impatient)
        assert [(what, round(at, 2)) for what, at in ended] == [("failed", 1), ("up", 2)]

    await world.serve(work)


async def test_changed_is_set_at_each_change(autojump_clock: Clock, tmp_path: Path) -> None:
    world, phases = World(tmp_path, Script(answers_after_s=1, exits_after_s=2)), []

    async def follow() -> None:
        while True:
            changed = world.manager.changed(PLUGIN_ID)
            phases.append(world.manager.phase(PLUGIN_ID))
            await changed.wait()

    async def work() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            await settle()
            world.manager.want(make_plugin(restart=policy(max_restarts=1)))
            await trio.sleep(HOUR)
            nursery.cancel_scope.cancel()
        seen = [a for a, b in pairwise([*phases, None]) if a is not b]
        life = [Phase.STARTING, Phase.RUNNING]
        assert seen == [Phase.STOPPED, *life, Phase.BACKOFF, *life, Phase.STOPPED]

    await world.serve(work)


async def expect(class_: type[Exception], work: Callable[[], Any]) -> None:
    with pytest.raises(class_):
        await work()
