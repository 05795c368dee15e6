"""Every misbehaving program of tests/plugins under the real WorkerManager, beside a plugin that is to feel nothing."""

from __future__ import annotations

import os
import re
import signal
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pytest
import trio

from supervisor.core.errors import PluginCrashed, SupervisorError
from supervisor.core.event import Event, WorkerCrashed, WorkerStarted, WorkerStopped
from supervisor.core.plugin import Plugin, PluginId
from supervisor.wire.worker import CALL, RUN_JOB
from supervisor.worker.crash import Reason
from supervisor.worker.launch import Launch
from supervisor.worker.manager import WorkerManager
from supervisor.worker.phase import Phase
from tests.worker.fakes import PLUGIN_ID, FakeHost
from tests.worker.test_with_children import GRACES, PLUGINS, Bench, check_childless, check_gone, load, open_files

NEIGHBOUR_ID = PluginId("22222222-2222-4222-8222-222222222222")
NEIGHBOUR: Final = "dies_on_fifth_job"
"""A good one as long as it gets no jobs, and soon up."""
BOUND_S: Final = 1.5
"""Within which the neighbour is answered, whatever goes on beside it; the machine may be busy with other tests."""
MARGIN_S: Final = 1.5
LOOK_S: Final = 0.6
"""How long a program that is expected to go on is looked at."""
R = Reason


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What becomes of its first life: a crash of one of `reasons`, or none if it lives until it is stopped."""

    reasons: tuple[Reason, ...] = ()
    cause: str = ""
    up: bool = True
    stage: str | None = None
    """What ends it when it is stopped in good time."""
    asks: bool = False
    """It crashes only when it is given work."""


VIOLATION = (R.PROTOCOL_VIOLATION,)
ON_REQUEST: Final = {"asks_host", "prints_on_demand", "versions"}
"""Programs that do as a test of another file tells them."""

ZOO: Final = {
    "allocates_too_much": Expected(
        reasons=(R.OUT_OF_MEMORY, R.LIMIT_EXCEEDED, R.EXITED), cause=r"memory|exited with code 6"
    ),
    "answers_nobody_asked": Expected(reasons=VIOLATION, cause="request id 12345 was answered and never asked"),
    "answers_rubbish": Expected(reasons=VIOLATION, cause="the bytes are no msgpack", up=False),
    "answers_twice": Expected(reasons=VIOLATION, cause="request id 0 was answered twice"),
    "builds_containers": Expected(reasons=VIOLATION, cause="more than 262144 values"),
    "closes_fd3": Expected(reasons=(R.HUNG_UP,), cause="closed its RPC connection"),
    "declares_4_gb": Expected(reasons=VIOLATION, cause="a frame is longer than 4194304 bytes"),
    "dies_after_handshake": Expected(reasons=(R.EXITED,), cause="exited with code 5"),
    "dies_on_fifth_job": Expected(reasons=(R.EXITED,), cause="exited with code 9", asks=True),
    "emits": Expected(stage="drain"),
    "exits_at_once": Expected(reasons=(R.EXITED,), cause="exited with code 0", up=False),
    "exits_before_handshake": Expected(reasons=(R.EXITED,), cause="exited with code 3", up=False),
    "floods_notifications": Expected(stage="drain"),
    "floods_state": Expected(reasons=(R.NOT_READING, R.UNHEALTHY), cause="failed 2 health checks"),
    "floods_stdout": Expected(stage="drain"),
    "forks_too_much": Expected(reasons=(R.LIMIT_EXCEEDED, R.EXITED), cause="processes|pids|exited with code 8"),
    "good": Expected(stage="drain"),
    "grandchild_holds_stdout": Expected(reasons=(R.EXITED,), cause="exited with code 1", up=False),
    "ignores_shutdown": Expected(stage="term"),
    "ignores_sigterm": Expected(stage="kill"),
    "leaks_descriptors": Expected(reasons=(R.EXITED,), cause="exited with code 4"),
    "misanswers_handshake": Expected(
        reasons=(R.HANDSHAKE_INVALID,), cause="answered initialize with rubbish: expected a map", up=False
    ),
    "missing_program": Expected(reasons=(R.CANNOT_START,), cause=r"no program '\./no-such-program'", up=False),
    "nests_arrays": Expected(reasons=VIOLATION, cause="nested deeper than msgpack can be read"),
    "never_answers": Expected(reasons=(R.HANDSHAKE_TIMEOUT,), cause=r"initialize within 0\.7 s", up=False),
    "not_executable": Expected(reasons=(R.CANNOT_START,), cause="program: Permission denied", up=False),
    "plain_program": Expected(stage="term"),
    "refuses_handshake": Expected(reasons=(R.HANDSHAKE_REFUSED,), cause="the license has run out", up=False),
    "removes_its_directory": Expected(reasons=(R.EXITED,), cause="exited with code 0", up=False),
    "setsid_grandchild": Expected(stage="drain"),
    "slow_job": Expected(stage="drain"),
    "stops_itself": Expected(reasons=(R.NOT_READING, R.UNHEALTHY), cause="failed 2 health checks"),
    "stops_reading": Expected(reasons=(R.NOT_READING, R.UNHEALTHY), cause="failed 2 health checks"),
    "traced_by_its_child": Expected(reasons=(R.EXITED,), cause="exited with code 3", up=False),
    "wrong_architecture": Expected(reasons=(R.CANNOT_START,), cause="program: Exec format error", up=False),
}


class WatchedHost(FakeHost):
    """Tells when something has been recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.recorded = trio.Event()

    async def record(self, event: Event) -> None:
        await super().record(event)
        recorded, self.recorded = self.recorded, trio.Event()
        recorded.set()


class Zoo(Bench):
    """Two plugins under one manager: the animal, and its neighbour."""

    def __init__(self, tmp_path: Path, name: str) -> None:
        super().__init__(tmp_path, load(name), PLUGINS / name)
        self.host: WatchedHost = WatchedHost()
        self.neighbour = replace(load(NEIGHBOUR), id=NEIGHBOUR_ID)
        self.longest_wait_s = 0.0
        self.answers = 0
        self.answered = trio.Event()

    def prepare(self, plugin: Plugin) -> Launch:
        self.package_dir = PLUGINS / plugin.manifest.display_name
        launch = super().prepare(plugin)
        if plugin.id == NEIGHBOUR_ID:
            return replace(launch, cwd=self.log_path.parent)
        return launch

    def crashes(self) -> list[WorkerCrashed]:
        return [event for event in self.host.of(WorkerCrashed) if event.plugin_id == PLUGIN_ID]

    def stops(self) -> list[WorkerStopped]:
        return [event for event in self.host.of(WorkerStopped) if event.plugin_id == PLUGIN_ID]

    def longest_stop_s(self) -> float:
        worker = self.plugin.manifest.worker
        return worker.stop_timeout_s + GRACES.term_s + GRACES.kill_s

    async def ask_the_neighbour(self, manager: WorkerManager) -> None:
        """Again and again; what it takes at most is kept."""
        while True:
            began = trio.current_time()
            answer = await manager.call(NEIGHBOUR_ID, CALL, {"method": "any", "params": {}}, timeout_s=30)
            assert answer["jobs"] == 0
            self.answers += 1
            answered, self.answered = self.answered, trio.Event()
            answered.set()
            self.longest_wait_s = max(self.longest_wait_s, trio.current_time() - began)
            await trio.sleep(0.01)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[WorkerManager]:
        """The manager, with the neighbour up and being asked; afterwards nothing is left of anything."""
        tasks = trio.lowlevel.current_statistics().tasks_living
        manager = self.manager()
        async with trio.open_nursery() as nursery:
            await nursery.start(manager.run)
            manager.want(self.neighbour)
            await manager.wait_up(NEIGHBOUR_ID)
            async with trio.open_nursery() as asking:
                asking.start_soon(self.ask_the_neighbour, manager)
                yield manager
                asking.cancel_scope.cancel()
            neighbour = manager.view(NEIGHBOUR_ID)
            assert (neighbour.phase, neighbour.restarts) == (Phase.RUNNING, 0)
            nursery.cancel_scope.cancel()
        assert trio.lowlevel.current_statistics().tasks_living == tasks
        for event in [*self.host.of(WorkerStarted), *self.host.of(WorkerCrashed)]:
            if event.pid is not None:
                check_gone(event.pid)
        assert self.host.known == set()
        assert open_files() == self.fds_before

    async def until_crashed(self, manager: WorkerManager, times: int = 1) -> None:
        """Until the journal has so many crashes of it, which is a moment after the phase says so."""
        while len(self.crashes()) < times:
            await self.host.recorded.wait()


def test_every_program_is_in_the_table() -> None:
    there = {path.name for path in PLUGINS.iterdir() if (path / "plugin.toml").exists()}
    assert there == set(ZOO) | ON_REQUEST


def test_the_programs_are_what_they_are_meant_to_be() -> None:
    """A checkout that loses file modes would test something else."""
    for name, executable in (("not_executable", False), ("wrong_architecture", True)):
        mode = (PLUGINS / name / "program").stat().st_mode
        assert bool(mode & stat.S_IXUSR) == executable
    for path in PLUGINS.iterdir():
        if (path / "plugin.toml").exists():
            assert load(path.name).manifest.display_name == path.name


@pytest.mark.parametrize("name", ZOO)
async def test_what_becomes_of_it(tmp_path: Path, name: str) -> None:
    expected, zoo = ZOO[name], Zoo(tmp_path, name)
    with trio.fail_after(40):
        async with zoo.open() as manager:
            manager.want(zoo.plugin)
            if expected.asks:
                await do_jobs(manager)
            if expected.reasons:
                await zoo.until_crashed(manager)
            else:
                await manager.wait_up(PLUGIN_ID)
                await trio.sleep(LOOK_S)
                assert manager.phase(PLUGIN_ID) is Phase.RUNNING
            view = manager.view(PLUGIN_ID)
            began = trio.current_time()
            manager.unwant(PLUGIN_ID)
            await manager.wait_stopped(PLUGIN_ID)
            assert trio.current_time() - began < zoo.longest_stop_s() + MARGIN_S
            assert manager.view(PLUGIN_ID).pid is None
            await zoo.answered.wait()
    end_what_left_its_group(zoo)
    check_childless()
    assert zoo.longest_wait_s < BOUND_S
    started = [event for event in zoo.host.of(WorkerStarted) if event.plugin_id == PLUGIN_ID]
    assert bool(started) == expected.up
    if expected.reasons:
        crash = zoo.crashes()[0]
        assert crash.reason in expected.reasons
        assert re.search(expected.cause, crash.cause)
        assert view.last_reason in expected.reasons
        assert crash.cause in str(view.last_failure)
    else:
        assert (zoo.crashes(), view.last_failure) == ([], None)
        assert [event.stage for event in zoo.stops()] == [expected.stage]


async def do_jobs(manager: WorkerManager) -> None:
    """Four are done; with the fifth it dies, and whoever asked is told how."""
    await manager.wait_up(PLUGIN_ID)
    params: dict[str, Any] = {"job": "work", "trigger": "manual", "scheduled_at_ms": 0, "attempt": 1}
    for n in range(1, 5):
        done = await manager.call(PLUGIN_ID, RUN_JOB, {**params, "run_id": f"r{n}"}, timeout_s=30)
        assert done["jobs"] == n
    with pytest.raises(PluginCrashed, match="exited with code 9") as caught:
        await manager.call(PLUGIN_ID, RUN_JOB, {**params, "run_id": "r5"}, timeout_s=30)
    assert caught.value.details["exit_code"] == 9


def end_what_left_its_group(zoo: Zoo) -> None:
    """The daemon ends such processes, as their subreaper; here that part of it is a fake."""
    for line in zoo.messages():
        if line.startswith("grandchild: "):
            try:
                os.kill(int(line.split()[1]), signal.SIGKILL)
            except ProcessLookupError:
                pass


@pytest.mark.parametrize(
    "name", ["closes_fd3", "exits_at_once", "nests_arrays", "never_answers", "removes_its_directory", "not_executable"]
)
async def test_it_is_given_up_after_its_last_attempt(tmp_path: Path, name: str) -> None:
    """One of each kind of end: then there is no process and no waiting, and the reason is told."""
    zoo = Zoo(tmp_path, name)
    spec = zoo.plugin.manifest.worker
    # One attempt after the first is as good as three.
    brief = replace(spec, restart=replace(spec.restart, max_restarts=1, backoff_s=0.01))
    zoo.plugin = replace(zoo.plugin, manifest=replace(zoo.plugin.manifest, worker=brief))
    with trio.fail_after(40):
        async with zoo.open() as manager:
            manager.want(zoo.plugin)
            await zoo.until_crashed(manager, 2)
            assert await manager.wait_given_up() == PLUGIN_ID
            view = manager.view(PLUGIN_ID)
            assert (view.phase, view.gave_up, view.pid, view.wanted) == (Phase.STOPPED, True, None, False)
            with pytest.raises(SupervisorError, match=re.escape(zoo.crashes()[1].cause[:60])):
                await manager.wait_up(PLUGIN_ID)
    assert zoo.longest_wait_s < BOUND_S
    assert [crash.restart_in_s is None for crash in zoo.crashes()] == [False, True]
    if name == "removes_its_directory":
        assert zoo.crashes()[1].reason == Reason.CANNOT_START
        assert str(zoo.data_dir) in zoo.crashes()[1].cause
