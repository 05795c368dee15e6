"""Cut at any step, or with a store that fails at any transaction: wholly before or wholly after, now and at the next
start; and every pair of commands that race on one plugin."""

from __future__ import annotations

import errno
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from supervisor.core.errors import ResourceExhausted, SupervisorError
from supervisor.core.lifecycle import STEPS, Status
from supervisor.store.intents import IntentKind, IntentLog
from supervisor.store.journal import Journal
from supervisor.store.plugins import PluginRegistry
from supervisor.worker.phase import Phase
from tests.fakes import LifecycleWorld, Script, open_lifecycle_world
from tests.lifecycle.exchanging import (
    KEY,
    MORE,
    CancelAtStep,
    check_whole,
    fail_nth_transaction,
    put_pending,
    put_upgraded,
)
from tests.packages import directory_source

S = Status
Put = Callable[[LifecycleWorld], Awaitable[Any]]
Do = Callable[[LifecycleWorld], Awaitable[Any]]


def offer(world: LifecycleWorld, *more: str, upgrade: str = "overlap", key: str = KEY) -> Any:
    world.packages.version, world.packages.more, world.packages.upgrade = "3.0", more, upgrade
    return world.lifecycle.upgrade(key, source=directory_source(Path("/src") / key), uid=7)


async def nothing(world: LifecycleWorld) -> None:
    await trio.lowlevel.checkpoint()


async def failing(world: LifecycleWorld) -> None:
    await world.put(KEY, S.READY)
    world.workers.scripts[f"{KEY}@3.0"] = Script(fails="no license")


# What is there, what is done, and (version, status) before and after.
PATHS: dict[str, tuple[Put, Do, tuple[str | None, Status | None], tuple[str | None, Status | None]]] = {
    "install": (
        nothing,
        lambda w: w.lifecycle.install(directory_source(Path("/src") / KEY), uid=7),
        (None, None),
        ("1.0", S.INSTALLED),
    ),
    "overlap": (lambda w: w.put(KEY, S.READY), offer, ("1.0", S.READY), ("3.0", S.READY)),
    "stop_first": (
        lambda w: w.put(KEY, S.READY),
        lambda w: offer(w, upgrade="stop_first"),
        ("1.0", S.READY),
        ("3.0", S.READY),
    ),
    "staged": (
        lambda w: w.put(KEY, S.READY),
        lambda w: offer(w, MORE),
        ("1.0", S.READY),
        ("1.0", S.UPGRADE_PENDING),
    ),
    "staged anew": (
        lambda w: put_pending(w, KEY, MORE),
        lambda w: offer(w, MORE),
        ("1.0", S.UPGRADE_PENDING),
        ("1.0", S.UPGRADE_PENDING),
    ),
    "disabled": (lambda w: w.put(KEY, S.DISABLED), offer, ("1.0", S.DISABLED), ("3.0", S.DISABLED)),
    "failing": (failing, offer, ("1.0", S.READY), ("1.0", S.READY)),
    "approve": (
        lambda w: put_pending(w, KEY, MORE),
        lambda w: w.lifecycle.approve(KEY, uid=7),
        ("1.0", S.UPGRADE_PENDING),
        ("2.0", S.READY),
    ),
    "reject": (
        lambda w: put_pending(w, KEY, MORE),
        lambda w: w.lifecycle.reject(KEY, uid=7),
        ("1.0", S.UPGRADE_PENDING),
        ("1.0", S.READY),
    ),
    "rollback": (
        lambda w: put_upgraded(w, S.READY),
        lambda w: w.lifecycle.rollback(KEY, uid=7),
        ("2.0", S.READY),
        ("1.0", S.READY),
    ),
    "unload": (
        lambda w: put_upgraded(w, S.READY),
        lambda w: w.lifecycle.unload(KEY),
        ("2.0", S.READY),
        ("2.0", S.UNINSTALLED),
    ),
    "erase": (
        lambda w: put_upgraded(w, S.READY),
        lambda w: w.lifecycle.unload(KEY, remove_data=True),
        ("2.0", S.READY),
        (None, None),
    ),
}
REFUSED = {"UPGRADE_FAILED"}


async def outcome(command: Awaitable[Any]) -> str:
    try:
        await command
    except SupervisorError as error:
        return error.code
    return "done"


def found(world: LifecycleWorld) -> tuple[str | None, Status | None]:
    plugin = world.registry.find(KEY)
    return (plugin.version, plugin.status) if plugin else (None, None)


async def boot(path: Path, stored: set[str], end: Callable[[LifecycleWorld], Awaitable[None]]) -> None:
    """The daemon's next start, on what the last one left: its clean-up, then the reconciler for a while."""
    async with open_lifecycle_world(path) as world:
        world.packages.stored = stored
        world.bus.last_seq = await Journal(world.database).last_seq()
        await world.lifecycle.end_what_was_begun(keep_unnamed=False)
        assert await IntentLog(world.database).open() == []
        async with world.reconciled():
            await trio.sleep(10)
            await end(world)


async def check_told(world: LifecycleWorld) -> None:
    """Whole; and the newest change of status was followed by its last word, once."""
    await check_whole(world)
    plugin = world.registry.find(KEY)
    if plugin is None:
        return
    if plugin.status is S.READY:
        assert world.workers.phase(plugin.id) is Phase.RUNNING
    told = await Journal(world.database).list(None, (), [plugin.id], 1000)
    last = max((n for n, e in enumerate(told) if e.type == "plugin.status_changed"), default=None)
    words = {S.READY: "plugin.enabled", S.DISABLED: "plugin.disabled", S.UPGRADE_PENDING: "plugin.upgrade_pending"}
    if last is not None and plugin.status in words:
        assert [e.type for e in told[last:]].count(words[plugin.status]) == 1


@pytest.mark.parametrize("path", PATHS)
async def test_cut_at_every_step_it_is_wholly_before_or_after(autojump_clock: Any, tmp_path: Path, path: str) -> None:
    put, do, before, after = PATHS[path]
    number, was_cut, seen = 0, True, set()
    while was_cut:
        number += 1
        file = tmp_path / f"{number}.db"
        async with open_lifecycle_world(file) as world:
            await put(world)
            code = "cut"
            with CancelAtStep(number) as scope:
                code = await outcome(do(world))
            assert code in {"done", "cut", *REFUSED}
            was_cut = scope.cancelled_caught
            assert found(world) in {before, after}
            if world.registry.find(KEY):
                await trio.sleep(5)
                await check_whole(world)
            stored = set(world.packages.stored)
            seen.add(found(world))
        if number % 3 == 0 or not was_cut:  # the next start, of every third one
            state = found(world)

            async def end(world: LifecycleWorld, state: Any = state) -> None:
                assert found(world) == state
                await check_told(world)

            await boot(file, stored, end)
    assert number > 5
    assert seen == {before, after}


@pytest.mark.parametrize("path", PATHS)
async def test_a_store_that_fails_at_any_transaction(autojump_clock: Any, tmp_path: Path, path: str) -> None:
    put, do, before, after = PATHS[path]
    number, failed = 0, True
    while failed:
        number += 1
        async with open_lifecycle_world(tmp_path / f"{number}.db") as world:
            await put(world)
            transact = world.database.transact
            asked = fail_nth_transaction(world, number, ResourceExhausted("the disk is full"))
            assert await outcome(do(world)) in {"done", "RESOURCE_EXHAUSTED", *REFUSED}
            failed = len(asked) >= number
            world.database.transact = transact  # type: ignore[method-assign]
            await trio.sleep(5)
            assert found(world) in {before, after}
            await check_whole(world)
            if not failed:
                assert found(world) == after
    assert number > 2


async def test_what_was_left_open_is_ended_at_boot(autojump_clock: Any, tmp_path: Path) -> None:
    async with open_lifecycle_world(tmp_path / "d.db") as world:
        kept = await world.put(KEY, S.DISABLED)
        intents = IntentLog(world.database)
        await intents.begin(IntentKind.ADD, kept.key, [kept.package_dir, f"{KEY}/9-000000000000"])
        await intents.begin(IntentKind.REMOVE, kept.key, [], data=True)
        gone = world.packages.manifest_of("acme.gone").key
        await intents.begin(IntentKind.REMOVE, gone, [f"{gone}/1-000000000000"], data=True)
    async with open_lifecycle_world(tmp_path / "d.db") as world:
        world.packages.stored = {kept.package_dir, f"{KEY}/9-000000000000", f"{gone}/1-000000000000"}
        await world.lifecycle.end_what_was_begun(keep_unnamed=False)
        assert (world.packages.stored, world.data.removed) == ({kept.package_dir}, [gone])
        assert await IntentLog(world.database).open() == []


async def test_where_a_database_was_damaged_nothing_is_thrown_away(autojump_clock: Any, world: LifecycleWorld) -> None:
    await IntentLog(world.database).begin(
        IntentKind.ADD, world.packages.manifest_of(KEY).key, [f"{KEY}/9-000000000000"]
    )
    world.packages.stored = {f"{KEY}/9-000000000000"}
    await world.lifecycle.end_what_was_begun(keep_unnamed=True)
    assert world.packages.stored == {f"{KEY}/9-000000000000"}


async def test_an_install_first_ends_a_removal_that_was_cut(autojump_clock: Any, world: LifecycleWorld) -> None:
    key = world.packages.manifest_of(KEY).key
    await IntentLog(world.database).begin(IntentKind.REMOVE, key, [f"{KEY}/0-000000000000"], data=True)
    world.packages.stored = {f"{KEY}/0-000000000000"}
    plugin = await world.lifecycle.install(directory_source(Path("/src") / KEY), uid=7)
    assert (world.packages.stored, world.data.removed) == ({plugin.package_dir}, [KEY])


async def test_an_install_that_cannot_end_that_removal_says_so(autojump_clock: Any, world: LifecycleWorld) -> None:
    key = world.packages.manifest_of(KEY).key
    await IntentLog(world.database).begin(IntentKind.REMOVE, key, [f"{KEY}/0-000000000000"])

    async def broken(package_dir: str) -> None:
        await trio.lowlevel.checkpoint()
        raise OSError(errno.EIO, "Input/output error", f"/packages/{package_dir}")

    world.packages.remove = broken  # type: ignore[method-assign]
    with pytest.raises(ResourceExhausted, match=r"left of its packages.*/packages/acme.one/0-0+: Input/output error"):
        await world.lifecycle.install(directory_source(Path("/src") / KEY), uid=7)
    assert world.registry.find(KEY) is None
    assert len(await IntentLog(world.database).open()) == 1


# Races.

COMMANDS: dict[str, Callable[[LifecycleWorld, str], Any]] = {
    "install": lambda w, k: w.lifecycle.install(directory_source(Path("/src") / k), uid=7),
    "load": lambda w, k: w.lifecycle.load(k),
    "enable": lambda w, k: w.lifecycle.enable(k),
    "disable": lambda w, k: w.lifecycle.disable(k),
    "unload": lambda w, k: w.lifecycle.unload(k),
    "erase": lambda w, k: w.lifecycle.unload(k, remove_data=True),
    "mark_error": lambda w, k: w.lifecycle.mark_error(k, "x"),
    "mark_upgrade_pending": lambda w, k: w.lifecycle.mark_upgrade_pending(k),
    "start": lambda w, k: w.lifecycle.start_worker(k),
    "stop": lambda w, k: w.lifecycle.stop_worker(k),
    "restart": lambda w, k: w.lifecycle.restart_worker(k),
    "upgrade": lambda w, k: offer(w, key=k),
    "upgrade more": lambda w, k: offer(w, MORE, key=k),
    "upgrade alone": lambda w, k: offer(w, upgrade="stop_first", key=k),
    "approve": lambda w, k: w.lifecycle.approve(k, uid=7),
    "reject": lambda w, k: w.lifecycle.reject(k, uid=7),
    "rollback": lambda w, k: w.lifecycle.rollback(k, uid=7),
}
CODES = {
    "ACTIVATION_FAILED",  # of what a disabled plugin was upgraded to
    "ALREADY_EXISTS",
    "APPROVAL_REQUIRED",
    "CANCELLED",
    "FAILED_PRECONDITION",
    "INVALID_TRANSITION",
    "NOT_FOUND",
    "UPGRADE_FAILED",
}
STARTS: list[Callable[[LifecycleWorld, str], Awaitable[Any]]] = [
    lambda w, k: put_upgraded(w, S.READY, k),
    lambda w, k: put_upgraded(w, S.DISABLED, k),
    lambda w, k: put_upgraded(w, S.ERROR, k),
    lambda w, k: put_pending(w, k, MORE),
    lambda w, k: put_pending(w, k),
]


@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("seed", range(2))
async def test_every_pair_of_commands_on_one_plugin(
    autojump_clock: Any, world: LifecycleWorld, seed: int, part: int
) -> None:
    """Every pair on a plugin of its own, a quarter of them at the same time; where it begins differs by the seed."""
    chance = random.Random(4 * seed + part)
    pairs = [(one, other) for one in COMMANDS for other in COMMANDS if one <= other][part::4]
    keys = {pair: f"acme.p{number}" for number, pair in enumerate(pairs)}
    began: dict[str, str] = {}
    for pair, key in keys.items():
        world.workers.scripts[key] = Script(
            up_after_s=chance.choice([0, 0.1, 1]), stops_after_s=chance.choice([0, 0.2])
        )
        if chance.random() < 0.1:
            world.workers.scripts[f"{key}@3.0"] = Script(fails="no license", up_after_s=0.3)
        world.packages.version, world.packages.more, world.packages.upgrade = "1.0", (), "overlap"
        await chance.choice(STARTS)(world, key)
        began[key] = str(world.registry.get(key).status)
        assert pair
    world.forget_the_past()
    outcomes: list[str] = []

    async def one(name: str, key: str, after_s: float) -> None:
        await trio.sleep(after_s)
        outcomes.append(await outcome(COMMANDS[name](world, key)))

    async with trio.open_nursery() as nursery:
        for pair, key in keys.items():
            for name in pair:
                nursery.start_soon(one, name, key, chance.choice([0, 0, 0.05, 0.3, 0.6]))
    assert len(outcomes) == 2 * len(pairs)
    assert set(outcomes) <= CODES | {"done"}
    assert {"done", "INVALID_TRANSITION"} <= set(outcomes)
    await trio.sleep(5)
    stored = await PluginRegistry.load(world.database)
    for key in keys.values():
        await check_whole(world, key, stored)
    status = dict(began)
    for event in world.events:
        if event.type == "plugin.status_changed":
            previous = event.data["previous"]
            assert previous == status.get(event.plugin_key)
            assert previous is None or Status(event.data["status"]) in STEPS[Status(previous)]
            status[event.plugin_key] = event.data["status"]
        elif event.type == "plugin.unloaded" and event.data["remove_data"]:
            status.pop(event.plugin_key, None)
