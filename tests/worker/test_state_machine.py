"""Random commands, crashes and clock steps against the real managers, store and supervisors, over fake processes.

The sequences are data, drawn by Hypothesis, and run on a mock clock: hours pass in milliseconds.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import trio
import trio.testing
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from supervisor.bus import EventBus
from supervisor.core.errors import SupervisorError
from supervisor.core.event import Event, Recorded
from supervisor.core.lifecycle import Status, can_transition
from supervisor.core.manifest import Manifest
from supervisor.core.plugin import Plugin, PluginKey
from supervisor.core.worker_spec import HealthPolicy, RestartPolicy, WorkerSpec
from supervisor.lifecycle.reconcile import Reconciler
from supervisor.store.database import Database
from supervisor.store.journal import Journal
from supervisor.store.plugins import PluginRegistry
from supervisor.worker.launch import Launch
from supervisor.worker.logfile import LogFile
from supervisor.worker.manager import WorkerManager
from supervisor.worker.phase import Phase
from supervisor.worker.process import Exit
from supervisor.worker.shutdown import Graces
from supervisor.worker.tools import Tools
from tests.fakes import FakeData, FakePackages, a_lifecycle
from tests.jobs.world import WallClock
from tests.packages import directory_source
from tests.worker.fakes import NEVER, FakeHost, FakeProcess, Script

EXAMPLES: Final = int(os.environ.get("PLUGIND_TEST_EXAMPLES", "60"))
"""For a long run by hand, set it to thousands."""
RECOVER_AFTER_S: Final = 120.0
REQUIRES: Final = {"test.a": (), "test.b": ("test.a",), "test.c": ("test.b", "test.a"), "test.d": ()}
KEYS: Final = tuple(REQUIRES)
SCRIPTS: Final = (
    Script(),
    Script(answers_after_s=2.0),
    Script(answers_after_s=NEVER),
    Script(handshake={"api_version": 9}),
    Script(exits_after_s=0.5),
    Script(answers_after_s=0.2, exits_after_s=7.0),
    Script(healthy_for_s=20.0),
    Script(hangs_up_after_s=3.0),
    Script(sends_after_handshake=b"\xc1"),
    Script(drains_in_s=NEVER, ends_on_term_in_s=NEVER, ends_on_kill_in_s=0.5),
    Script(drains_in_s=3.0),
    Script(answers_after_s=NEVER, ends_on_term_in_s=NEVER),
)
COMMANDS: Final = (
    *("install", "load", "enable", "disable", "unload", "remove", "mark_error", "mark_upgrade_pending"),
    *("start", "stop", "restart"),
)
MISHAPS: Final = ("crash", "hang", "hang_up", "garbage", "cannot_spawn", "clock_step")
PREPARE_S: Final = (0.0, 0.0, 0.0, 0.3, 6.0)
"""How long it takes to look at a package's files."""
PAUSES_S: Final = (0.0, 0.0, 0.0, 0.1, 1.0, 4.0, 30.0, 150.0)


@dataclass(frozen=True)
class Act:
    """Do `what` to a plugin, then let so many seconds pass; its later processes follow `script`."""

    what: str
    key: str
    pause_s: float
    script: int


acts = st.builds(
    Act,
    st.sampled_from(COMMANDS + MISHAPS),
    st.sampled_from(KEYS),
    st.sampled_from(PAUSES_S),
    # Half of them are good, or little would ever run.
    st.integers(-len(SCRIPTS), len(SCRIPTS) - 1).map(lambda n: max(n, 0)),
)


class Packages(FakePackages):
    """Each plugin with its requirements, and patience in seconds."""

    def manifest_of(self, key: str) -> Manifest:
        worker = WorkerSpec(
            command=("python", "main.py"),
            start_timeout_s=5,
            stop_timeout_s=2,
            restart=RestartPolicy(max_restarts=3, max_backoff_s=8, stable_after_s=60),
            health=HealthPolicy(interval_s=10, timeout_s=1, failures=2),
        )
        requires = tuple(PluginKey(name) for name in REQUIRES[key])
        return replace(super().manifest_of(key), worker=worker, jobs=(), requires=requires)


class Talker(FakeProcess):
    talks_rubbish = False
    """From its next answer on."""

    async def _answer(self, id_: int, error: Any, result: Any) -> None:
        if self.talks_rubbish and self._far is not None:
            await self._far.send_all(b"\xc1")
        else:
            await super()._answer(id_, error, result)


class StoreHost(FakeHost):
    """Its facts go into the real journal."""

    def __init__(self, registry: PluginRegistry) -> None:
        super().__init__()
        self._registry = registry

    async def record(self, event: Event) -> None:
        await self._registry.record(event)


class Plant:
    """The parts from the store to the processes, joined as the daemon joins them."""

    def __init__(
        self, directory: Path, wall: WallClock, database: Database, bus: EventBus, registry: PluginRegistry
    ) -> None:
        self.wall = wall
        self.directory = directory
        self.registry = registry
        self.processes: list[tuple[str, Talker]] = []
        self.script: dict[str, Script] = {}
        self.refusals: dict[str, int] = {}
        self.host = StoreHost(registry)
        self.preparing: set[str] = set()
        self._dice = random.Random(2)
        tools = Tools(
            host=self.host,
            graces=Graces(term_s=1, kill_s=2),
            prepare=self._prepare,
            spawn=self.spawn,
            open_log=lambda plugin: LogFile(directory / f"{plugin.key}.log", max_bytes=10**7, files=2),
            now_ms=lambda: int(trio.current_time() * 1000),
            random=random.Random(1),
        )
        self.workers = WorkerManager(tools, start_concurrency=2)
        self.packages = Packages()
        self.lifecycle = a_lifecycle(database, registry, self.workers, self.packages, FakeData())
        self.reconciler = Reconciler(
            registry,
            self.workers,
            self.lifecycle,
            bus,
            Journal(database),
            database.clock,
            recover_after_s=RECOVER_AFTER_S,
        )

    async def _prepare(self, plugin: Plugin) -> Launch:
        self.preparing.add(plugin.key)
        try:
            await trio.sleep(self._dice.choice(PREPARE_S))
        finally:
            self.preparing.discard(plugin.key)
        return Launch(argv=("/fake", plugin.key), env={}, cwd=self.directory, rpc=True)

    def spawn(self, launch: Launch) -> Talker:
        key = launch.argv[1]
        if self.refusals.get(key):
            self.refusals[key] -= 1
            raise OSError(8, "Exec format error")
        assert self.alive(key) == [], "a second process of one plugin"
        for required in REQUIRES[key]:
            assert self.alive(required), f"{key} starts without {required}"
        process = Talker(1000 + len(self.processes), self.script.get(key, SCRIPTS[0]))
        self.processes.append((key, process))
        return process

    def alive(self, key: str) -> list[Talker]:
        return [process for whose, process in self.processes if whose == key and process.exit is None]

    # What happens to it.

    def mishap(self, what: str, key: str) -> None:
        for process in self.alive(key):
            match what:
                case "crash":
                    process.end(Exit(None, 11))
                case "hang":
                    process.script = replace(process.script, healthy_for_s=0.0)
                case "hang_up":
                    process._hang_up()
                case "garbage":
                    process.talks_rubbish = True
        if what == "cannot_spawn":
            self.refusals[key] = 2

    def command(self, what: str, key: str) -> Callable[[], Coroutine[Any, Any, Any]]:
        do = self.lifecycle
        return {
            "install": lambda: do.install(directory_source(Path("/src") / key), uid=None),
            "load": lambda: do.load(key),
            "enable": lambda: do.enable(key),
            "disable": lambda: do.disable(key, "tea"),
            "unload": lambda: do.unload(key),
            "remove": lambda: do.unload(key, remove_data=True),
            "mark_error": lambda: do.mark_error(key, "broken"),
            "mark_upgrade_pending": lambda: do.mark_upgrade_pending(key),
            "start": lambda: do.start_worker(key),
            "stop": lambda: do.stop_worker(key),
            "restart": lambda: do.restart_worker(key),
        }[what]

    # What must hold when no command is under way.

    def check_settled(self) -> None:
        for key in KEYS:
            self._check(key, self.registry.find(key))

    def _check(self, key: str, plugin: Plugin | None) -> None:
        alive = len(self.alive(key))
        if plugin is None or plugin.status is not Status.READY:
            assert alive == 0, f"{key} is {plugin and plugin.status} and has a process"
            assert plugin is None or self.workers.phase(plugin.id) is Phase.STOPPED
            return
        view = self.workers.view(plugin.id)
        has_process = view.phase in (Phase.STARTING, Phase.RUNNING, Phase.STOPPING)
        # Its files are looked at before there is a process.
        assert alive + (key in self.preparing) == has_process, f"{key}: {alive} processes in phase {view.phase}"
        if view.phase is Phase.BACKOFF:
            assert view.wanted
            assert view.next_restart_in_s is not None
        if view.wanted and view.phase is Phase.STOPPED:
            assert view.waiting_for or self._others_start(key), f"{key} is wanted, and nothing is done about it"
        if not view.wanted:
            assert view.phase in (Phase.STOPPED, Phase.STOPPING)
        assert not view.gave_up, f"{key} was given up, and its status is ready"
        for required in view.waiting_for:
            found = self.registry.find(required)
            up = found is not None and self.workers.view(found.id)
            assert not up or up.phase is not Phase.RUNNING or not up.wanted, f"{key} waits for {required}, which is up"

    def _others_start(self, key: str) -> bool:
        """Two at most start at once."""
        phases = [self.workers.phase(plugin.id) for plugin in self.registry.all() if plugin.key != key]
        return phases.count(Phase.STARTING) >= 2

    def check_over(self) -> None:
        assert all(process.exit is not None and process.closed for _, process in self.processes)
        assert self.host.known == set()


@asynccontextmanager
async def boot(directory: Path, recorded: list[Recorded]) -> AsyncIterator[Plant]:
    """One daemon's life on the state directory; it ends as the daemon does, in order."""
    bus = EventBus()

    def publish(event: Recorded) -> None:
        recorded.append(event)
        bus.publish(event)

    wall = WallClock()
    database = await Database.open(directory / "store.db", clock=wall, publish=publish, inline=True)
    try:
        bus.last_seq = await Journal(database).last_seq()
        plant = Plant(directory, wall, database, bus, await PluginRegistry.load(database))
        async with trio.open_nursery() as workers:
            await workers.start(plant.workers.run)
            async with trio.open_nursery() as work:
                await work.start(plant.reconciler.run)
                yield plant
                work.cancel_scope.cancel()
            workers.cancel_scope.cancel()
        plant.check_over()
    finally:
        await database.aclose()


async def play(boots: list[list[Act]]) -> None:
    tasks = trio.lowlevel.current_statistics().tasks_living
    recorded: list[Recorded] = []
    with tempfile.TemporaryDirectory(dir=memory_dir()) as name:
        for number, sequence in enumerate(boots):
            async with boot(Path(name), recorded) as plant:
                if number == 0:
                    await install_all(plant)
                await follow(plant, sequence)
                await check_it_gets_well(plant)
    assert trio.lowlevel.current_statistics().tasks_living == tasks
    check_events(recorded)


async def install_all(plant: Plant) -> None:
    for key in KEYS:
        await plant.lifecycle.install(directory_source(Path("/src") / key), uid=None)
        await plant.lifecycle.load(key)


async def follow(plant: Plant, sequence: list[Act]) -> None:
    """Commands begin at their time, whether the ones before have ended or not; a long pause lets all of them end."""
    for stretch in stretches(sequence):
        with trio.fail_after(10_000):
            async with trio.open_nursery() as commands:
                for act in stretch:
                    plant.script[act.key] = SCRIPTS[act.script]
                    if act.what == "clock_step":
                        plant.wall.step(timedelta(hours=act.script - 5))
                    elif act.what in MISHAPS:
                        plant.mishap(act.what, act.key)
                    else:
                        commands.start_soon(unless_refused, plant.command(act.what, act.key))
                    await trio.sleep(act.pause_s)
        await trio.testing.wait_all_tasks_blocked()
        plant.check_settled()


def stretches(sequence: list[Act]) -> list[list[Act]]:
    """Each ends with a long pause, save the last."""
    found: list[list[Act]] = [[]]
    for act in sequence:
        found[-1].append(act)
        if act.pause_s > 100:
            found.append([])
    return found


async def unless_refused(command: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    try:
        await command()
    except SupervisorError as error:
        if error.code == "INTERNAL":
            raise


async def check_it_gets_well(plant: Plant) -> None:
    """When the programs behave again, every plugin that is to run runs, without anybody's help."""
    plant.script.clear()
    plant.refusals.clear()
    await trio.sleep(3 * RECOVER_AFTER_S)
    await trio.testing.wait_all_tasks_blocked()
    plant.check_settled()
    for key in KEYS:
        plugin = plant.registry.find(key)
        if plugin is not None and plugin.status is Status.READY:
            view = plant.workers.view(plugin.id)
            if view.wanted:
                assert view.phase is Phase.RUNNING or view.waiting_for, f"{key} is {view}"


def check_events(recorded: list[Recorded]) -> None:
    """The story of each plugin makes sense, and its numbers only grow."""
    assert [event.seq for event in recorded] == sorted({event.seq for event in recorded})
    stories: dict[str, Story] = {}
    for event in recorded:
        if event.plugin_id is not None:
            stories.setdefault(event.plugin_id, Story()).tell(event)


class Story:
    """What may follow what."""

    def __init__(self) -> None:
        self.status: str | None = None
        self.pid: int | None = None
        self.shook_hands = False

    def tell(self, event: Recorded) -> None:
        match event.type.removeprefix("plugin."):
            case "status_changed":
                self._change(event.data["previous"], event.data["status"])
            case "worker_started":
                assert self.pid is None, f"{event} while {self.pid} runs"
                assert self.status == "ready", f"{event} while {self.status}"
                self.pid, self.shook_hands = event.data["pid"], True
            case "worker_stopped":
                assert self.pid == event.data["pid"], f"{event} while {self.pid} runs"
                self.pid = None
            case "worker_crashed":
                assert self.pid in (None, event.data["pid"]), f"{event} while {self.pid} runs"
                self.pid = None
            case "loaded" | "enabled":
                assert (self.status, self.shook_hands) == ("ready", True), event
            case "disabled" | "upgrade_pending" | "error" as name:
                assert self.status == name, f"{event} while {self.status}"
                assert self.pid is None, f"{event} while {self.pid} runs"
            case "unloaded":
                assert (self.status, self.pid) == ("uninstalled", None), event
            case "installed":
                assert self.pid is None, event

    def _change(self, previous: str | None, status: str) -> None:
        if self.status is not None:
            assert previous == self.status
            assert can_transition(Status(previous), Status(status)), f"{previous} -> {status}"
        if status == "ready":
            self.shook_hands = False
        self.status = status


def memory_dir() -> str | None:
    """SQLite syncs each commit: that is tested elsewhere, and takes most of the time on a disk."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def act(what: str, key: str = "test.a", pause_s: float = 0.0, script: int = 0) -> Act:
    return Act(what, key, pause_s, script)


@settings(
    max_examples=EXAMPLES,
    derandomize="PLUGIND_TEST_EXAMPLES" not in os.environ,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@example([[act("disable"), act("enable"), act("disable", pause_s=150)]])
@example([[act("crash"), act("stop"), act("start", script=2), act("unload", pause_s=150), act("install")]])
@example([[act("restart", "test.a", 0.0, 9), act("restart", "test.b"), act("crash", "test.c", 30)], []])
@given(st.lists(st.lists(acts, max_size=25), min_size=1, max_size=2))
def test_whatever_is_done_in_whatever_order(boots: list[list[Act]]) -> None:
    trio.run(play, boots, clock=trio.testing.MockClock(autojump_threshold=0))
