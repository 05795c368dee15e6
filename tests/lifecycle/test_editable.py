"""Plugins that are run in place: what a change of their files leads to, and when."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from supervisor.core.errors import ActivationFailed, ApprovalRequired, InvalidParams
from supervisor.core.lifecycle import Status
from supervisor.core.package import Package
from supervisor.core.plugin import Capability, Plugin
from supervisor.daemon.checks import schedule_problem
from supervisor.lifecycle.checking import check_directory
from supervisor.lifecycle.editable import Changes, EditableWatcher
from supervisor.lifecycle.watching import watch_directory
from tests.fakes import LifecycleWorld

KEY = "acme.weather"
MANIFEST = f"""
[plugin]
key = "{KEY}"
version = "1.0"
api_version = 1
display_name = "Weather"
description = "For tests"
author = "Acme"
categories = ["automation"]
capabilities = ["jobs.schedule"]
[worker]
command = ["python", "main.py"]
[[jobs]]
key = "refresh"
display_name = "Refresh"
schedule = "*/5 * * * *"
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    directory = tmp_path.resolve() / "weather"
    directory.mkdir(0o755)
    write(directory / "plugin.toml", MANIFEST)
    write(directory / "main.py", "")
    return directory


def write(file: Path, text: str) -> None:
    file.write_text(text)
    file.chmod(0o644)


async def put(world: LifecycleWorld, source: Path, status: Status = Status.READY, **how: Any) -> Plugin:
    manifest = check_directory(source, schedule_problem)
    package = Package(
        dir=f"{KEY}/1.0-000000000000", manifest=manifest, digest="0" * 64, files=(), source=str(source),
        editable=str(source),
    )  # fmt: skip
    plugin = await world.registry.install(package, approved=frozenset({Capability("jobs.schedule")}), uid=0)
    plugin = await world.registry.set_status(plugin.id, expected=Status.INSTALLED, status=status, **how)
    if status is Status.READY:
        world.workers.want(plugin)
        await world.workers.wait_up(plugin.id)
    await world.finish(plugin)
    world.forget_the_past()
    return plugin


async def refresh(world: LifecycleWorld) -> Plugin | None:
    return await world.lifecycle.in_place.refresh(KEY, schedule_problem)


def edit(source: Path, old: str, new: str) -> None:
    assert old in MANIFEST
    write(source / "plugin.toml", MANIFEST.replace(old, new))


# What a change leads to.


async def test_a_changed_file_restarts_the_worker_and_no_more(world: LifecycleWorld, source: Path) -> None:
    before = await put(world, source)
    assert await refresh(world) == before
    assert world.workers.calls == [("unwant", KEY), ("want", KEY)]
    await world.workers.wait_up(before.id)
    assert world.told() == ["worker_stopped", "worker_started"]


async def test_a_changed_manifest_is_taken_over(world: LifecycleWorld, source: Path) -> None:
    before = await put(world, source)
    edit(source, 'version = "1.0"', 'version = "1.1"')
    after = await refresh(world)
    assert after is not None
    assert (after.version, after.status, after.package_dir) == ("1.1", Status.READY, before.package_dir)
    assert world.told() == ["-> ready", "worker_stopped"]  # ready again, so that its jobs are looked at
    await world.workers.wait_up(before.id)
    version = world.registry.version(before.id, before.package_dir)
    assert version is not None
    assert version.version == "1.1"
    stored = await type(world.registry).load(world.database)
    assert stored.get(KEY).manifest == after.manifest
    assert [v.version for v in stored.versions(before.id)] == ["1.1"]


@pytest.mark.parametrize(
    ("old", "new", "error", "message"),
    [
        ('version = "1.0"', 'version = "new"', InvalidParams, "is no version"),
        ("[worker]", "[worker", InvalidParams, "is not TOML"),
        (KEY, "acme.other", InvalidParams, "is 'acme.other' now: this is another plugin"),
        ('["jobs.schedule"]', '["jobs.schedule", "state.read"]', ApprovalRequired, "asks for state.read beyond"),
        ("main.py", "gone.py", InvalidParams, "is not in the package"),
    ],
)
async def test_what_is_not_fit_leaves_the_worker_alone(
    world: LifecycleWorld, source: Path, old: str, new: str, error: type[Exception], message: str
) -> None:
    before = await put(world, source)
    edit(source, old, new)
    with pytest.raises(error, match=message.replace("(", r"\(")):
        await refresh(world)
    assert (world.workers.calls, world.told(), world.registry.get(KEY)) == ([], [], before)


async def test_a_configuration_that_fits_no_more(world: LifecycleWorld, source: Path) -> None:
    await put(world, source)
    world.config.misfit = InvalidParams("the configuration does not fit")
    with pytest.raises(InvalidParams, match="does not fit"):
        await refresh(world)
    assert world.workers.calls == []


async def test_others_may_write_there(world: LifecycleWorld, source: Path) -> None:
    await put(world, source)
    (source / "main.py").chmod(0o666)
    with pytest.raises(InvalidParams, match="may be written by others"):
        await refresh(world)
    assert world.workers.calls == []


async def test_the_directory_is_gone(world: LifecycleWorld, source: Path) -> None:
    await put(world, source)
    os.rename(source, source.parent / "elsewhere")
    with pytest.raises(InvalidParams, match="put it back, or uninstall"):
        await refresh(world)
    (source.parent / "weather").symlink_to(source.parent / "elsewhere")
    with pytest.raises(InvalidParams, match=r"leads to .*elsewhere now"):
        await refresh(world)


async def test_a_worker_that_an_operator_has_stopped_stays_so(world: LifecycleWorld, source: Path) -> None:
    plugin = await put(world, source)
    await world.lifecycle.stop_worker(KEY)
    world.forget_the_past()
    edit(source, 'version = "1.0"', 'version = "1.1"')
    assert await refresh(world) is None
    assert world.workers.calls == []
    assert world.registry.get(KEY).version == "1.1"
    assert not world.workers.wanted(plugin.id)


async def test_one_that_failed_is_brought_back(world: LifecycleWorld, source: Path) -> None:
    await put(world, source, Status.ERROR, error="exit code 1", recoverable=True)
    after = await refresh(world)
    assert after is not None
    assert (after.status, after.last_error) == (Status.READY, None)
    assert world.told() == ["-> ready", "worker_started", "enabled"]


async def test_one_that_fails_again_is_in_error_again(world: LifecycleWorld, source: Path) -> None:
    await put(world, source, Status.ERROR, error="exit code 1", recoverable=True)
    world.workers.script(KEY).fails = "exit code 2"
    with pytest.raises(ActivationFailed):
        await refresh(world)
    assert world.registry.get(KEY).status is Status.ERROR


@pytest.mark.parametrize(("status", "how"), [(Status.DISABLED, {}), (Status.ERROR, {"error": "marked by hand"})])
async def test_what_an_operator_took_down_stays_down(
    world: LifecycleWorld, source: Path, status: Status, how: dict[str, Any]
) -> None:
    await put(world, source, status, **how)
    assert await refresh(world) is None
    assert (world.workers.calls, world.told()) == ([], [])


# When.


@dataclass
class Watched:
    """A watcher whose files are these lists."""

    watcher: EditableWatcher
    refreshed: list[float] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)
    directories: dict[Path, Callable[[Sequence[str]], None]] = field(default_factory=dict)
    failing: OSError | None = None
    refusing: Exception | None = None
    takes_s: float = 0.0

    async def watch(self, directory: Path, tell: Callable[[Sequence[str]], None], began: Callable[[], None]) -> None:
        if self.failing is not None:
            raise self.failing
        self.directories[directory] = tell
        began()
        try:
            await trio.sleep_forever()
        finally:
            del self.directories[directory]

    async def refresh(self, _: str) -> Plugin | None:
        self.refreshed.append(trio.current_time())
        await trio.sleep(self.takes_s)
        if self.refusing is not None:
            raise self.refusing
        return None

    def change(self, *paths: str) -> None:
        [tell] = self.directories.values()
        tell(paths or ("main.py",))


@asynccontextmanager
async def watching(world: LifecycleWorld) -> AsyncIterator[Watched]:
    watched = Watched(None)  # type: ignore[arg-type]

    def note(_: Plugin, level: str, message: str) -> None:
        watched.notes.append((level, message))

    watched.watcher = EditableWatcher(world.registry, world.bus, watched.refresh, note, watched.watch)
    async with trio.open_nursery() as nursery:
        await nursery.start(watched.watcher.run)
        await trio.testing.wait_all_tasks_blocked()
        yield watched
        nursery.cancel_scope.cancel()


async def test_half_a_second_after_the_last_change(autojump_clock: Any, world: LifecycleWorld, source: Path) -> None:
    await put(world, source)
    async with watching(world) as watched:
        began = trio.current_time()
        for wait_s in (0.3, 0.49, 0.0):
            watched.change()
            await trio.sleep(wait_s)
        await trio.sleep(10)
        assert watched.refreshed == [began + 0.3 + 0.49 + 0.5]


async def test_a_hundred_saves_are_one_restart(autojump_clock: Any, world: LifecycleWorld, source: Path) -> None:
    await put(world, source)
    async with watching(world) as watched:
        for i in range(100):
            watched.change(f"file{i % 7}.py")
            await trio.sleep(0.02)
        await trio.sleep(10)
        assert len(watched.refreshed) == 1
        names = ", ".join(f"file{i}.py" for i in range(5))
        assert watched.notes == [("info", f"changed: {names} and more")]


async def test_what_changes_meanwhile_counts_again(autojump_clock: Any, world: LifecycleWorld, source: Path) -> None:
    await put(world, source)
    async with watching(world) as watched:
        began, watched.takes_s = trio.current_time(), 3.0
        watched.change()
        await trio.sleep(1)
        watched.change()
        await trio.sleep(20)
        assert watched.refreshed == [began + 0.5, began + 3.5]


async def test_what_is_refused_is_told_once_for_each_change(
    autojump_clock: Any, world: LifecycleWorld, source: Path
) -> None:
    await put(world, source)
    async with watching(world) as watched:
        watched.refusing = InvalidParams("plugin.toml has 1 problem")
        for _ in range(2):
            watched.change()
            await trio.sleep(10)
        told = [("info", "changed: main.py"), ("warning", "not restarted: plugin.toml has 1 problem")]
        assert watched.notes == told * 2


async def test_a_mistake_of_ours_ends_the_care_for_one_plugin_only(
    autojump_clock: Any, world: LifecycleWorld, source: Path
) -> None:
    plugin = await put(world, source)
    async with watching(world) as watched:
        watched.refusing = ZeroDivisionError("a mistake")
        watched.change()
        await trio.sleep(1)
        assert watched.directories == {}
        await world.registry.set_status(plugin.id, expected=Status.READY, status=Status.READY)
        await trio.testing.wait_all_tasks_blocked()
        assert list(watched.directories) == [source]


async def test_what_cannot_be_watched_is_told_once_and_tried_again(
    autojump_clock: Any, world: LifecycleWorld, source: Path
) -> None:
    plugin = await put(world, source)
    async with watching(world) as watched:
        watched.failing = OSError("OS file watch limit reached")
        await world.lifecycle.disable(KEY)
        await world.lifecycle.enable(KEY)
        await trio.sleep(60)
        told = f"{source} cannot be watched, so that changes restart nothing: OS file watch limit reached"
        assert watched.notes == [("warning", told)]
        watched.failing = None
        await trio.sleep(10)
        assert watched.notes[1:] == [("info", f"{source} is watched again"), ("info", "changed: .")]
        assert len(watched.refreshed) == 1
        assert plugin.editable == str(source)


async def test_it_follows_the_status(autojump_clock: Any, world: LifecycleWorld, source: Path) -> None:
    async with watching(world) as watched:
        assert watched.directories == {}
        plugin = await put(world, source)
        await trio.testing.wait_all_tasks_blocked()
        assert list(watched.directories) == [source]
        await world.lifecycle.disable(KEY)
        await trio.testing.wait_all_tasks_blocked()
        assert watched.directories == {}
        await world.lifecycle.enable(KEY)
        await trio.testing.wait_all_tasks_blocked()
        assert list(watched.directories) == [source]
        await world.registry.set_status(
            plugin.id, expected=Status.READY, status=Status.ERROR, error="exit code 1", recoverable=True
        )
        await trio.testing.wait_all_tasks_blocked()
        assert list(watched.directories) == [source]
        await world.lifecycle.unload(KEY)
        await trio.testing.wait_all_tasks_blocked()
        assert watched.directories == {}


async def test_others_are_left_alone(autojump_clock: Any, world: LifecycleWorld) -> None:
    await world.put("acme.copied", Status.READY)
    async with watching(world) as watched:
        assert watched.directories == {}


# Real files.


class Told:
    def __init__(self) -> None:
        self.paths: set[str] = set()
        self.began = trio.Event()
        self._more = trio.Event()

    def tell(self, paths: Sequence[str]) -> None:
        self.paths |= set(paths)
        self._more.set()

    async def until(self, path: str) -> None:
        while path not in self.paths:
            self._more = trio.Event()
            await self._more.wait()


async def test_files_are_told_and_what_editors_leave_is_not(source: Path) -> None:
    told = Told()
    (source / ".git").mkdir()
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch_directory, source, told.tell, told.began.set)
            await told.began.wait()
            for name in (".main.py.swp", "main.py~", "4913", ".git/index", ".#main.py", "main.pyc", "x.tmp"):
                write(source / name, "")
            write(source / "main.py", "1")
            await told.until("main.py")
            (source / "lib").mkdir()
            await told.until("lib")
            # In a directory that came later; it is watched a moment after it is told.
            while "lib/new.py" not in told.paths:
                write(source / "lib" / "new.py", "2")
                with trio.move_on_after(0.3):
                    await told.until("lib/new.py")
            (source / "main.py").rename(source / "moved.py")
            await told.until("moved.py")
            assert told.paths <= {"main.py", "lib", "lib/new.py", "moved.py"}
            nursery.cancel_scope.cancel()


async def test_a_directory_that_vanishes(source: Path) -> None:
    told = Told()
    with trio.fail_after(30):
        with pytest.raises(OSError, match="weather"):
            await watch_directory(source / "weather", told.tell, told.began.set)
        assert not told.began.is_set()
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                with pytest.raises(OSError, match="weather"):
                    await watch_directory(source, told.tell, told.began.set)

            nursery.start_soon(watch)
            await told.began.wait()
            os.rename(source, source.parent / "elsewhere")


async def test_saves_of_real_files_are_one_restart(source: Path) -> None:
    told, changes = Told(), Changes()
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch_directory, source, changes.tell, told.began.set)
            await told.began.wait()
            for i in range(100):
                write(source / "main.py", str(i))
                await trio.lowlevel.checkpoint()
            last = trio.current_time()
            assert await changes.settled() == ["main.py"]
            assert trio.current_time() - last >= 0.5
            with trio.move_on_after(1.5):
                raise AssertionError(await changes.settled())
            nursery.cancel_scope.cancel()
