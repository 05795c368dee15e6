"""Every command from every status; activations that fail or are overtaken; what one command may not do to another."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from math import inf
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from supervisor.core.errors import (
    ActivationFailed,
    AlreadyExists,
    CallCancelled,
    FailedPrecondition,
    InvalidTransition,
    NotFound,
    ResourceExhausted,
    SupervisorError,
)
from supervisor.core.lifecycle import Status, wants_worker
from supervisor.lifecycle.manager import LifecycleManager
from supervisor.store.configs import ConfigStore
from supervisor.store.plugins import PluginRegistry
from supervisor.store.state import StateStore
from supervisor.worker.phase import Phase
from tests.fakes import LifecycleWorld
from tests.packages import directory_source

KEY = "acme.one"
COMMANDS: dict[str, Callable[[LifecycleManager], Awaitable[Any]]] = {
    "install": lambda it: it.install(directory_source(Path("/src") / KEY), uid=7),
    "load": lambda it: it.load(KEY),
    "enable": lambda it: it.enable(KEY),
    "disable": lambda it: it.disable(KEY, "for now"),
    "unload": lambda it: it.unload(KEY),
    "unload remove_data": lambda it: it.unload(KEY, remove_data=True),
    "mark_error": lambda it: it.mark_error(KEY, "broken"),
    "mark_upgrade_pending": lambda it: it.mark_upgrade_pending(KEY),
    "start": lambda it: it.start_worker(KEY),
    "stop": lambda it: it.stop_worker(KEY),
    "restart": lambda it: it.restart_worker(KEY),
    # Of what `put` makes there is one version, and none waits: what they do with versions is in test_upgrade.
    "upgrade": lambda it: it.upgrade(KEY, source=directory_source(Path("/src") / KEY), uid=7),
    "approve": lambda it: it.approve(KEY, uid=7),
    "reject": lambda it: it.reject(KEY, uid=7),
    "rollback": lambda it: it.rollback(KEY, uid=7),
}
LOAD = ["-> ready", "worker_started", "loaded", "enabled"]
ENABLE = ["-> ready", "worker_started", "enabled"]
S = Status


def each(statuses: list[Any], told: Any) -> dict[Any, Any]:
    return dict.fromkeys(statuses, told)


# Command -> status it is allowed from (None: absent) -> what is told, in order. Whatever is not here is refused.
TOLD: dict[str, dict[Status | None, list[str]]] = {
    "install": each([None, S.UNINSTALLED], ["installed", "-> installed"]),
    "load": each([S.INSTALLED, S.DISABLED, S.ERROR], LOAD),
    "enable": each([S.DISABLED, S.ERROR, S.UPGRADE_PENDING], ENABLE),
    "disable": {S.READY: ["-> disabled", "worker_stopped", "disabled"]},
    "unload": {
        **each([S.INSTALLED, S.DISABLED, S.ERROR, S.UPGRADE_PENDING], ["-> uninstalled", "unloaded"]),
        S.READY: ["worker_stopped", "-> uninstalled", "unloaded"],
    },
    "unload remove_data": {
        **each([S.INSTALLED, S.DISABLED, S.ERROR, S.UPGRADE_PENDING], ["-> uninstalled", "unloaded"]),
        S.READY: ["worker_stopped", "-> uninstalled", "unloaded"],
        S.UNINSTALLED: ["unloaded"],
    },
    "mark_error": {
        S.READY: ["-> error", "worker_stopped", "error"],
        **each([S.INSTALLED, S.UPGRADE_PENDING], ["-> error", "error"]),
    },
    "mark_upgrade_pending": {S.READY: ["-> upgrade_pending", "worker_stopped", "upgrade_pending"]},
    "start": {S.READY: []},
    "stop": {S.READY: ["worker_stopped"]},
    "restart": {S.READY: ["worker_stopped", "worker_started"]},
    "upgrade": {},
    "approve": {S.UPGRADE_PENDING: LOAD},
    "reject": {S.UPGRADE_PENDING: ["-> ready", "upgrade_rejected", *LOAD[1:]]},
    "rollback": {},
}
AFTER = {
    "install": S.INSTALLED,
    "load": S.READY,
    "enable": S.READY,
    "disable": S.DISABLED,
    "unload": S.UNINSTALLED,
    "unload remove_data": None,
    "mark_error": S.ERROR,
    "mark_upgrade_pending": S.UPGRADE_PENDING,
    "start": S.READY,
    "stop": S.READY,
    "restart": S.READY,
    "approve": S.READY,
    "reject": S.READY,
}
OVERTAKERS = ["disable", "unload", "unload remove_data", "stop", "mark_error", "mark_upgrade_pending"]
# What the table allows, and what it meets: it is at that version already, and there is none before it.
EXCHANGED: dict[str, dict[Status, Any]] = {
    "upgrade": each([S.READY, S.DISABLED, S.ERROR, S.UPGRADE_PENDING], AlreadyExists),
    "rollback": each([S.READY, S.DISABLED, S.ERROR], NotFound),
}
EVERYWHERE: list[Status | None] = [None, *Status]


async def stored(world: LifecycleWorld) -> PluginRegistry:
    """What the next start would find."""
    return await PluginRegistry.load(world.database)


@pytest.mark.parametrize("status", EVERYWHERE, ids=str)
@pytest.mark.parametrize("command", COMMANDS)
async def test_every_command_from_every_status(
    autojump_clock: Any, world: LifecycleWorld, command: str, status: Status | None
) -> None:
    if status is not None:
        await world.put(KEY, status)
    if status in TOLD[command]:
        await COMMANDS[command](world.lifecycle)
        assert world.told() == TOLD[command][status]
        for registry in (world.registry, await stored(world)):
            plugin = registry.find(KEY)
            assert (plugin and plugin.status) == AFTER[command]
    else:
        await refused(world, command, status)


async def refused(world: LifecycleWorld, command: str, status: Status | None) -> None:
    before, packages = world.registry.find(KEY), set(world.packages.stored)
    with pytest.raises(SupervisorError) as caught:
        await COMMANDS[command](world.lifecycle)
    text = caught.value.message
    assert KEY in text
    if status is None:
        assert isinstance(caught.value, NotFound)
    else:
        kinds = {"install": AlreadyExists, "start": FailedPrecondition, "stop": FailedPrecondition}
        if command in EXCHANGED and status in EXCHANGED[command]:
            kinds[command] = EXCHANGED[command][status]
        else:
            assert str(status) in text
            assert command in {"install", *EXCHANGED} or str(AFTER[command]) in text
        assert isinstance(caught.value, kinds.get(command, InvalidTransition | FailedPrecondition))
    assert world.events == []
    assert world.workers.calls == []
    assert (world.registry.find(KEY), (await stored(world)).find(KEY)) == (before, before)
    assert (world.packages.stored, world.packages.in_staging, world.data.removed) == (packages, 0, [])


async def test_a_plugin_may_be_named_by_id(autojump_clock: Any, world: LifecycleWorld) -> None:
    plugin = await world.put(KEY, S.DISABLED)
    assert (await world.lifecycle.enable(plugin.id)).status is S.READY


async def test_reasons_are_stored_where_they_belong(autojump_clock: Any, world: LifecycleWorld) -> None:
    await world.put(KEY, S.READY)
    disabled = await world.lifecycle.disable(KEY, "spring cleaning")
    assert (disabled.disable_reason, disabled.last_error) == ("spring cleaning", None)
    assert world.events[-1].data == {"reason": "spring cleaning"}
    enabled = await world.lifecycle.enable(KEY)
    assert (enabled.disable_reason, enabled.last_error) == (None, None)
    marked = await world.lifecycle.mark_error(KEY, "smells odd")
    assert (marked.last_error, marked.recoverable) == ("smells odd", False)
    assert world.events[-1].data == {"error": "smells odd"}


@pytest.mark.parametrize(
    ("command", "status"),
    [("load", status) for status in TOLD["load"]] + [("enable", status) for status in TOLD["enable"]],
)
async def test_an_activation_that_fails_ends_in_error(
    autojump_clock: Any, world: LifecycleWorld, command: str, status: Status
) -> None:
    await world.put(KEY, status)
    world.workers.script(KEY).fails = "exited with code 3\nno license"
    with pytest.raises(ActivationFailed, match="no license"):
        await COMMANDS[command](world.lifecycle)
    assert world.told() == ["-> ready", "worker_crashed", "-> error", "error"]
    plugin = (await stored(world)).get(KEY)
    assert (plugin.status, plugin.last_error, plugin.recoverable) == (S.ERROR, "exited with code 3\nno license", True)
    world.workers.script(KEY).fails = None
    again = await world.lifecycle.enable(KEY)
    assert (again.status, again.last_error, again.recoverable) == (S.READY, None, False)


@pytest.mark.parametrize("overtaker", OVERTAKERS)
@pytest.mark.parametrize("command", ["load", "enable"])
async def test_who_wants_it_stopped_does_not_wait_for_it_to_start(
    autojump_clock: Any, world: LifecycleWorld, command: str, overtaker: str
) -> None:
    await world.put(KEY, S.DISABLED)
    world.workers.script(KEY).up_after_s = inf
    async with trio.open_nursery() as nursery:
        nursery.start_soon(cut_short, world, command, overtaker.split()[0])
        began = trio.current_time()
        await trio.sleep(1)
        await COMMANDS[overtaker](world.lifecycle)
        assert trio.current_time() - began == pytest.approx(1.25)
    assert not {"loaded", "enabled", "worker_started"} & set(world.told())
    plugin = world.registry.find(KEY)
    assert (plugin and plugin.status) == AFTER[overtaker]
    assert not plugin or world.workers.phase(plugin.id) is Phase.STOPPED


@pytest.mark.parametrize("overtaker", [o for o in OVERTAKERS if o != "stop"])
async def test_it_overtakes_an_activation_that_has_not_begun_to_wait(
    autojump_clock: Any, world: LifecycleWorld, overtaker: str
) -> None:
    await world.put(KEY, S.DISABLED)
    world.workers.script(KEY).up_after_s = inf
    arrived, go_on = world.hold_next_transaction()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(cut_short, world, "load", overtaker.split()[0])
        await arrived.wait()
        nursery.start_soon(COMMANDS[overtaker], world.lifecycle)
        await trio.testing.wait_all_tasks_blocked()
        go_on.set()
        began = trio.current_time()
    assert trio.current_time() - began == pytest.approx(0.25)
    plugin = world.registry.find(KEY)
    assert (plugin and plugin.status) == AFTER[overtaker]
    assert not {"loaded", "enabled"} & set(world.told())


@pytest.mark.parametrize("command", ["start", "restart"])
async def test_a_start_of_the_worker_is_overtaken_too(autojump_clock: Any, world: LifecycleWorld, command: str) -> None:
    await world.put(KEY, S.READY)
    await world.lifecycle.stop_worker(KEY)
    world.workers.script(KEY).up_after_s = inf
    async with trio.open_nursery() as nursery:
        nursery.start_soon(cut_short, world, command, "disable")
        await trio.sleep(1)
        await world.lifecycle.disable(KEY)
    assert world.told() == ["worker_stopped", "-> disabled", "disabled"]


async def cut_short(world: LifecycleWorld, command: str, by: str) -> None:
    with pytest.raises(CallCancelled, match=f"{by} of '{KEY}'"):
        await COMMANDS[command](world.lifecycle)


async def test_a_refused_stop_overtakes_nothing(autojump_clock: Any, world: LifecycleWorld) -> None:
    await world.put(KEY, S.DISABLED)
    arrived, go_on = world.hold_next_transaction()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.lifecycle.load, KEY)
        await arrived.wait()
        with pytest.raises(FailedPrecondition):
            await world.lifecycle.stop_worker(KEY)
        go_on.set()
    assert world.told() == LOAD


async def test_two_plugins_never_wait_for_each_other(autojump_clock: Any, world: LifecycleWorld) -> None:
    await world.put("acme.slow", S.INSTALLED)
    await world.put(KEY, S.INSTALLED)
    world.workers.script("acme.slow").up_after_s = 1000
    async with trio.open_nursery() as nursery:
        began = trio.current_time()
        nursery.start_soon(world.lifecycle.load, "acme.slow")
        await trio.testing.wait_all_tasks_blocked()
        await world.lifecycle.load(KEY)
        await world.lifecycle.disable(KEY)
        assert trio.current_time() - began == pytest.approx(0.75)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("seed", range(40))
async def test_commands_on_one_plugin_never_interleave(autojump_clock: Any, world: LifecycleWorld, seed: int) -> None:
    chance = random.Random(seed)
    await world.put(KEY, S.DISABLED)
    names = [name for name in COMMANDS if name != "unload remove_data"]
    outcomes: list[str] = []

    async def one(name: str, after_s: float) -> None:
        await trio.sleep(after_s)
        try:
            await COMMANDS[name](world.lifecycle)
            outcomes.append("done")
        except SupervisorError as error:
            outcomes.append(error.code)

    async with trio.open_nursery() as nursery:
        for _ in range(60):
            nursery.start_soon(one, chance.choice(names), chance.choice([0, 0.1, 0.3, 1, 2, 5, 8]))
    assert len(outcomes) == 60
    assert set(outcomes) <= {
        "done", "CANCELLED", "INVALID_TRANSITION", "FAILED_PRECONDITION", "ALREADY_EXISTS", "NOT_FOUND"
    }  # fmt: skip
    check_story(world)
    plugin = world.registry.get(KEY)
    if not wants_worker(plugin.status):
        assert world.workers.phase(plugin.id) is Phase.STOPPED
    assert (await stored(world)).get(KEY) == plugin


def check_story(world: LifecycleWorld) -> None:
    """Each event follows from those before, as if there had been one command at a time."""
    status, up = "disabled", False
    for event in world.events:
        match event.type:
            case "plugin.status_changed":
                assert event.data["previous"] == status
                status = event.data["status"]
            case "plugin.worker_started":
                assert (status, up) == ("ready", False)
                up = True
            case "plugin.worker_stopped":
                assert up
                up = False
            case "plugin.loaded" | "plugin.enabled":
                assert (status, up) == ("ready", True)
            case "plugin.disabled" | "plugin.error" | "plugin.upgrade_pending":
                assert (status, up) == (event.type.removeprefix("plugin."), False)
            case "plugin.unloaded":
                assert (status, up) == ("uninstalled", False)


FULL = ResourceExhausted("the disk is full")


@pytest.mark.parametrize("command", ["load", "enable", "mark_error", "disable", "mark_upgrade_pending", "install"])
async def test_a_transaction_that_fails_tells_nothing_and_changes_nothing(
    autojump_clock: Any, world: LifecycleWorld, command: str
) -> None:
    status = next(iter(TOLD[command]))
    before = await world.put(KEY, status) if status else None
    phase = world.workers.phase(before.id) if before else None
    world.fail_next_transaction(FULL)
    with pytest.raises(ResourceExhausted):
        await COMMANDS[command](world.lifecycle)
    assert (world.events, world.workers.calls) == ([], [])
    assert (world.registry.find(KEY), (await stored(world)).find(KEY)) == (before, before)
    assert phase is (world.workers.phase(before.id) if before else None)
    if command == "install":
        assert (world.packages.stored, world.packages.in_staging) == (set(), 0)
    await COMMANDS[command](world.lifecycle)
    assert world.told() == TOLD[command][status]


async def test_an_unload_that_cannot_be_stored_gives_the_worker_back(
    autojump_clock: Any, world: LifecycleWorld
) -> None:
    plugin = await world.put(KEY, S.READY)
    transact = world.database.transact

    async def full(work: Callable[[Any], Any], **how: Any) -> Any:
        if world.workers.phase(plugin.id) is Phase.STOPPED:
            world.database.transact = transact  # type: ignore[method-assign]
            raise FULL
        return await transact(work, **how)

    world.database.transact = full  # type: ignore[method-assign]
    with pytest.raises(ResourceExhausted):
        await world.lifecycle.unload(KEY)
    await world.workers.wait_up(plugin.id)
    assert world.told() == ["worker_stopped", "worker_started"]
    assert (world.registry.get(KEY).status, world.packages.stored) == (S.READY, {plugin.package_dir})


async def test_reinstall_keeps_id_config_and_state(autojump_clock: Any, world: LifecycleWorld) -> None:
    first = await world.lifecycle.install(directory_source(Path("/src") / KEY), uid=7)
    await ConfigStore(world.database).set(first, {"city": "Bern"}, uid=7)
    state = StateStore(world.database)
    await state.set(first.id, "count", 41)
    await world.lifecycle.unload(KEY)
    assert world.packages.stored == set()
    world.packages.version = "2.0"
    second = await world.lifecycle.install(directory_source(Path("/src") / KEY), uid=7)
    assert (second.id, second.version, second.status) == (first.id, "2.0", S.INSTALLED)
    assert (await ConfigStore(world.database).get(second.id)).data == {"city": "Bern"}
    assert await state.get(second.id, "count") == (True, 41, 1)
    assert world.data.removed == []


async def test_remove_data_leaves_nothing(autojump_clock: Any, world: LifecycleWorld) -> None:
    first = await world.lifecycle.install(directory_source(Path("/src") / KEY), uid=7)
    await ConfigStore(world.database).set(first, {"city": "Bern"}, uid=7)
    await StateStore(world.database).set(first.id, "count", 41)
    await world.lifecycle.unload(KEY, remove_data=True)
    assert (world.registry.find(KEY), world.packages.stored, world.data.removed) == (None, set(), [KEY])
    second = await world.lifecycle.install(directory_source(Path("/src") / KEY), uid=7)
    assert second.id != first.id
    assert (await ConfigStore(world.database).get(second.id)).data == {}
    assert await StateStore(world.database).get(second.id, "count") == (False, None, 0)


async def test_give_up_makes_an_error_that_is_worth_another_try(autojump_clock: Any, world: LifecycleWorld) -> None:
    plugin = await world.put(KEY, S.READY)
    await world.workers.crash_for_good(plugin, "segfault")
    await world.lifecycle.give_up(plugin.id)
    await world.lifecycle.give_up(plugin.id)
    assert world.told() == ["worker_crashed", "-> error", "error"]
    after = world.registry.get(KEY)
    assert (after.last_error, after.recoverable) == ("segfault", True)


async def test_give_up_comes_too_late_for_a_command(autojump_clock: Any, world: LifecycleWorld) -> None:
    plugin = await world.put(KEY, S.READY)
    await world.workers.crash_for_good(plugin, "segfault")
    await world.lifecycle.restart_worker(KEY)
    await world.lifecycle.give_up(plugin.id)
    await world.lifecycle.give_up("nobody")
    assert world.registry.get(KEY).status is S.READY


async def test_recover_is_for_workers_that_failed(autojump_clock: Any, world: LifecycleWorld) -> None:
    await world.put(KEY, S.READY)
    await world.lifecycle.mark_error(KEY, "an operator's word")
    world.forget_the_past()
    await world.lifecycle.recover(KEY)
    assert (world.told(), world.registry.get(KEY).status) == ([], S.ERROR)
    await world.put("acme.two", S.ERROR, recoverable=True)
    await world.lifecycle.recover("acme.two")
    assert world.told() == ENABLE


async def test_recover_does_not_undo_a_command_that_came_first(autojump_clock: Any, world: LifecycleWorld) -> None:
    await world.put(KEY, S.ERROR, recoverable=True)
    world.workers.script(KEY).up_after_s = inf
    arrived, go_on = world.hold_next_transaction()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(cut_short, world, "enable", "disable")
        await arrived.wait()
        nursery.start_soon(world.lifecycle.disable, KEY)
        await trio.testing.wait_all_tasks_blocked()
        # It still looks like an error.
        nursery.start_soon(world.lifecycle.recover, KEY)
        await trio.testing.wait_all_tasks_blocked()
        go_on.set()
    assert world.registry.get(KEY).status is S.DISABLED


@pytest.mark.parametrize("overtaker", ["disable", "unload", "mark_error", "stop"])
async def test_who_overtakes_a_restart_and_cannot_be_stored_leaves_a_worker(
    autojump_clock: Any, world: LifecycleWorld, overtaker: str
) -> None:
    plugin = await world.put(KEY, S.READY)
    world.workers.script(KEY).stops_after_s = 10
    async with trio.open_nursery() as nursery:
        nursery.start_soon(cut_short, world, "restart", overtaker)
        await trio.sleep(1)
        assert not world.workers.wanted(plugin.id)
        if overtaker == "stop":
            await COMMANDS["stop"](world.lifecycle)
        else:
            transact = world.database.transact

            async def full(*_: Any, **__: Any) -> Any:
                await trio.lowlevel.checkpoint()
                raise ResourceExhausted("the disk is full")

            world.database.transact = full  # type: ignore[method-assign]
            with pytest.raises(ResourceExhausted):
                await COMMANDS[overtaker](world.lifecycle)
            world.database.transact = transact  # type: ignore[method-assign]
    await trio.sleep(60)
    assert world.registry.get(KEY).status is S.READY
    assert world.workers.phase(plugin.id) is (Phase.STOPPED if overtaker == "stop" else Phase.RUNNING)


async def test_an_unload_that_cannot_be_stored_leaves_a_stopped_worker_stopped(
    autojump_clock: Any, world: LifecycleWorld
) -> None:
    plugin = await world.put(KEY, S.READY)
    await world.lifecycle.stop_worker(KEY)
    world.fail_next_transaction(ResourceExhausted("the disk is full"))
    with pytest.raises(ResourceExhausted):
        await world.lifecycle.unload(KEY)
    await trio.sleep(60)
    assert world.registry.get(KEY).status is S.READY
    assert (world.workers.phase(plugin.id), world.workers.wanted(plugin.id)) == (Phase.STOPPED, False)
