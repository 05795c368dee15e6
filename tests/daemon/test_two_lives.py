"""Two versions of one plugin side by side, with real children: calls, logs, and what each of them leaves behind."""

# ruff: noqa: ASYNC110  -- that a process has come or gone raises no event
from __future__ import annotations

import os
import shutil
import sys
import tomllib
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest
import trio

from supervisor.core.event import WorkerCrashed, WorkerStarted, WorkerStopped
from supervisor.core.plugin import Plugin, PluginId
from supervisor.core.stored_manifest import parse_stored_manifest
from supervisor.core.worker_spec import Limits
from supervisor.daemon.host import StoreHost
from supervisor.daemon.reaper import reap_orphans
from supervisor.wire.worker import HostRequest
from supervisor.worker.containment import Containment
from supervisor.worker.host import Stray
from supervisor.worker.launch import Launch, Surroundings, plan_launch
from supervisor.worker.link import WorkerLink
from supervisor.worker.logs import PluginLogs
from supervisor.worker.manager import WorkerManager
from supervisor.worker.process import spawn
from supervisor.worker.procfs import children, has_variable, read_stat
from supervisor.worker.shutdown import Graces
from supervisor.worker.tools import Tools
from tests.daemon.processes import as_subreaper
from tests.logs import read_log
from tests.worker.fakes import PLUGIN_ID, Even, FakeHost, make_plugin

PACKAGE = Path(__file__).parent.parent / "plugins/versions"
SOURCE = Path(__file__).parent.parent.parent


@pytest.fixture(autouse=True)
def _subreaper() -> Iterator[None]:
    with as_subreaper():
        yield


class NoBook:
    async def remember(self, *_: Any) -> None: ...
    async def forget(self, *_: Any) -> None: ...


class Host(FakeHost):
    """Answers what workers ask, and ends what they leave behind as the daemon does."""

    def __init__(self, containment: Containment) -> None:
        super().__init__()
        self._store = StoreHost(cast(Any, None), cast(Any, None), cast(Any, NoBook()), containment)
        self.asked: list[str] = []

    async def serve(self, plugin: Plugin, request: HostRequest, link: WorkerLink) -> Any:
        self.asked.append(plugin.version)
        return {"revision": len(self.asked)}

    async def remember(self, plugin_id: PluginId, pid: int) -> None:
        await self._store.remember(plugin_id, pid)

    async def forget(self, plugin_id: PluginId, pid: int) -> list[Stray]:
        return await self._store.forget(plugin_id, pid)


@dataclass
class Daemon:
    directory: Path
    log_bytes: int = 10**7
    containment: Containment = field(default_factory=Containment)

    def __post_init__(self) -> None:
        self.host = Host(self.containment)
        self.logs = PluginLogs(self.directory, max_bytes=self.log_bytes, files=50)
        tools = Tools(
            host=self.host,
            graces=Graces(term_s=1, kill_s=2),
            prepare=self.prepare,
            spawn=lambda launch: spawn(launch, self.containment),
            open_log=lambda plugin: self.logs.of(plugin.key),
            now_ms=lambda: int(trio.current_time() * 1000),
            random=Even(),
        )
        self.manager = WorkerManager(tools)

    async def prepare(self, plugin: Plugin) -> Launch:
        launch = plan_launch(
            plugin,
            package_dir=PACKAGE,
            data_dir=self.directory,
            around=Surroundings(python=sys.executable, environ={}, state_id="S"),
            is_file=Path.is_file,
            which=lambda name, path: shutil.which(name, path=path),
        )
        return replace(launch, env={**launch.env, "PYTHONPATH": f"{PACKAGE}:{SOURCE}"})

    async def ask(self, method: str, **params: Any) -> Any:
        return await self.manager.call(PLUGIN_ID, "call", {"method": method, "params": params}, timeout_s=30)

    async def switch(self, to: Plugin, *, wait: bool = True) -> None:
        async with self.manager.beside(to) as successor:
            assert successor.take_over()
            if wait:
                await successor.wait_former_gone()

    @asynccontextmanager
    async def runs(self) -> AsyncIterator[None]:
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                await nursery.start(self.manager.run)
                await nursery.start(reap_orphans, lambda pid: pid in self.manager.pids())
                yield
                nursery.cancel_scope.cancel()


def version(number: str, **worker: Any) -> Plugin:
    manifest = parse_stored_manifest(tomllib.loads((PACKAGE / "plugin.toml").read_text()))
    env = {**manifest.worker.env, "VERSION": number}
    manifest = replace(manifest, version=number, worker=replace(manifest.worker, env=env, **worker))
    plain = make_plugin(manifest.key)
    return replace(plain, version=number, manifest=manifest, approved=frozenset(manifest.capabilities))


async def test_no_call_fails_over_twenty_switches(tmp_path: Path) -> None:
    daemon, switches = Daemon(tmp_path), 20
    seen: Counter[str] = Counter()
    order: list[str] = []
    over, heard = False, trio.Event()

    async def keep_asking() -> None:
        nonlocal heard
        while not over:
            seen[(await daemon.ask("who"))["version"]] += 1
            heard.set()
            heard = trio.Event()

    async def ask_slowly() -> None:
        while not over:
            # Whoever was asked answers, though another has taken over meanwhile.
            asked = daemon.manager.view(PLUGIN_ID).pid
            answer = await daemon.ask("slowly", s=0.05)
            assert answer["pid"] == asked
            order.append(answer["version"])

    async with daemon.runs():
        daemon.manager.want(version("0"))
        await daemon.manager.wait_up(PLUGIN_ID)
        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(keep_asking)
            for _ in range(4):
                nursery.start_soon(ask_slowly)
            for number in range(1, switches + 1):
                await daemon.switch(version(str(number)), wait=number % 2 == 0)
                while str(number) not in seen:
                    await heard.wait()
            over = True
    assert {str(number) for number in range(1, switches + 1)} <= set(seen)
    assert set(daemon.host.asked) >= set(order)
    assert daemon.host.of(WorkerCrashed) == []
    started = [event.pid for event in daemon.host.of(WorkerStarted)]
    assert len(started) == switches + 1
    assert sorted(event.pid for event in daemon.host.of(WorkerStopped)) == sorted(started)
    assert {event.stage for event in daemon.host.of(WorkerStopped)} == {"drain"}


async def test_a_slow_call_is_finished_by_the_former(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    answers: list[dict[str, Any]] = []

    async def ask() -> None:
        answers.append(await daemon.ask("slowly", s=1.0))

    async with daemon.runs():
        daemon.manager.want(version("1"))
        await daemon.manager.wait_up(PLUGIN_ID)
        former = daemon.manager.view(PLUGIN_ID).pid
        async with daemon.manager.beside(version("2")) as successor, trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            while not daemon.manager.view(PLUGIN_ID).calls_in_flight:
                await trio.sleep(0.001)
            successor.take_over()
            assert (await daemon.ask("who")) == {"version": "2", "pid": successor.pid}
            assert answers == []
            await successor.wait_former_gone()
        # It asked plugind too, as it was being drained.
        assert answers == [{"version": "1", "pid": former}]
        assert daemon.host.asked == ["1"]


async def test_each_ends_what_it_has_left_and_nothing_of_the_other(tmp_path: Path) -> None:
    """Also processes in sessions of their own, whose parents are gone: only their environment tells whose they are."""
    daemon = Daemon(tmp_path)
    async with daemon.runs():
        daemon.manager.want(version("1"))
        await daemon.manager.wait_up(PLUGIN_ID)
        old = await daemon.ask("orphan")
        assert old in children()
        async with daemon.manager.beside(version("2")) as successor:
            assert successor.take_over()
            new = await daemon.ask("orphan")
            assert new in children()
            assert has_variable(new, f"PLUGIND_PLUGIN_ID={PLUGIN_ID}".encode())
            await successor.wait_former_gone()
        assert not alive(old)
        assert alive(new)
        assert (await daemon.ask("who"))["version"] == "2"
        async with daemon.manager.beside(version("3")):
            pass  # Thrown away.
        assert alive(new)
        daemon.manager.unwant(PLUGIN_ID)
        await daemon.manager.wait_stopped(PLUGIN_ID)
        assert not alive(new)
    assert [event.strays for event in daemon.host.of(WorkerStopped)] == [[old], [], [new]]


async def test_limits_are_of_each(tmp_path: Path) -> None:
    """The wards of two lives do not know each other's processes."""
    daemon = Daemon(tmp_path)
    async with daemon.runs():
        daemon.manager.want(version("1", limits=Limits(pids=20)))
        await daemon.manager.wait_up(PLUGIN_ID)
        former = daemon.manager.view(PLUGIN_ID).pid
        async with daemon.manager.beside(version("2")) as successor:
            for pid in (former, successor.pid):
                assert pid is not None
                ward = daemon.containment.ward(pid)
                assert ward is not None
                assert [process.pid for process in ward.look()] == [pid]
            successor.take_over()
            await successor.wait_former_gone()
        assert (await daemon.ask("who"))["version"] == "2"


async def test_both_write_one_log(tmp_path: Path) -> None:
    """Every line of every life is there, whole, though each closes the log at its end, and it is rotated by both."""
    daemon, switches = Daemon(tmp_path, log_bytes=400), 6
    async with daemon.runs():
        daemon.manager.want(version("0"))
        await daemon.manager.wait_up(PLUGIN_ID)
        for number in range(1, switches + 1):
            await daemon.switch(version(str(number)), wait=False)
    path = daemon.logs.path("test.versions")
    assert path.with_name("test.versions.log.1").exists()
    messages = [line["message"] for line in read_log(path, tail=1000)]
    assert sorted(messages) == [f"this is {number}" for number in range(switches + 1)]
    assert not [name for fd in os.listdir("/proc/self/fd") if "test.versions.log" in (name := target(fd))]


def alive(pid: int) -> bool:
    found = read_stat(pid)
    return found is not None and not found.is_dead


def target(fd: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except FileNotFoundError:
        return ""
