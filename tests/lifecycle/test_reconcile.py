"""Boot in order and at once only so many; workers given up; errors that are tried again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from math import inf
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from supervisor.core.errors import ResourceExhausted
from supervisor.core.lifecycle import Status
from supervisor.lifecycle import reconcile
from supervisor.lifecycle.reconcile import Reconciler
from supervisor.worker.phase import Phase
from supervisor.worker.turns import Turns
from tests.fakes import LifecycleWorld, open_lifecycle_world

S = Status
Reconciled = Callable[..., AbstractAsyncContextManager[Reconciler]]


@pytest.fixture
def reconciled(world: LifecycleWorld) -> Reconciled:
    """The reconciler at work for the length of a block, from its boot on."""

    @asynccontextmanager
    async def run(*, start_concurrency: int = 8, recover_after_s: float = 600) -> AsyncIterator[Reconciler]:
        world.workers.turns = Turns(start_concurrency)
        async with world.reconciled(recover_after_s) as reconciler:
            yield reconciler

    return run


async def ready_but_down(world: LifecycleWorld, count: int) -> list[str]:
    """Plugins as the next start finds them: ready, with no worker."""
    keys = [f"acme.p{number}" for number in range(count)]
    for key in reversed(keys):
        plugin = await world.put(key, S.INSTALLED)
        await world.finish(await world.registry.set_status(plugin.id, expected=S.INSTALLED, status=S.READY))
    world.forget_the_past()
    return keys[::-1]


async def test_boot_in_install_order_so_many_at_a_time(
    autojump_clock: Any, world: LifecycleWorld, reconciled: Reconciled
) -> None:
    keys = await ready_but_down(world, 7)
    await world.put("acme.off", S.DISABLED)
    began = trio.current_time()
    async with reconciled(start_concurrency=3):
        await trio.sleep(10)
    assert [round(world.workers.wanted_at[key] - began, 6) for key in keys] == [0, 0, 0, 0.5, 0.5, 0.5, 1]
    assert all(world.workers.phase(world.registry.get(key).id) is Phase.RUNNING for key in keys)
    assert world.told() == ["worker_started"] * 7


@pytest.mark.parametrize("bad", ["hangs", "fails"])
async def test_one_that_does_not_come_up_holds_up_nobody(
    autojump_clock: Any, world: LifecycleWorld, reconciled: Reconciled, bad: str
) -> None:
    keys = await ready_but_down(world, 6)
    script = world.workers.script(keys[0])
    script.up_after_s, script.fails = (inf, None) if bad == "hangs" else (0.1, "no license")
    async with reconciled(start_concurrency=2, recover_after_s=0):
        await trio.sleep(2.6)  # five, one after the other in the slot that is left
        phases = [world.workers.phase(world.registry.get(key).id) for key in keys[1:]]
        assert phases == [Phase.RUNNING] * 5
        assert world.registry.get(keys[0]).status is (S.READY if bad == "hangs" else S.ERROR)


async def test_a_command_that_is_quicker_than_the_boot_counts(
    autojump_clock: Any, world: LifecycleWorld, reconciled: Reconciled
) -> None:
    first, second, third = await ready_but_down(world, 3)
    async with reconciled(start_concurrency=1):
        await world.lifecycle.disable(second)
        await world.lifecycle.unload(third, remove_data=True)
        await trio.sleep(10)
        assert list(world.workers.wanted_at) == [first]


async def test_a_worker_given_up_makes_an_error_that_is_tried_again(
    autojump_clock: Any, world: LifecycleWorld, reconciled: Reconciled
) -> None:
    plugin = await world.put("acme.one", S.READY)
    async with reconciled():
        await trio.sleep(1)
        await world.workers.crash_for_good(plugin, "segfault")
        world.workers.script(plugin.key).fails = "still broken"
        await trio.sleep(10)
        assert world.told() == ["worker_crashed", "-> error", "error"]
        world.forget_the_past()
        await trio.sleep(600)
        assert world.told() == ["-> ready", "worker_crashed", "-> error", "error"]
        world.forget_the_past()
        world.workers.script(plugin.key).fails = None
        await trio.sleep(601)
        assert world.told() == ["-> ready", "worker_started", "enabled"]
        await trio.sleep(10_000)
        assert world.told() == ["-> ready", "worker_started", "enabled"]


async def test_giving_up_is_stored_when_the_disk_has_room_again(
    autojump_clock: Any, world: LifecycleWorld, reconciled: Reconciled, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = await world.put("acme.one", S.READY)
    began = trio.current_time()
    set_status = world.registry.set_status

    async def full_for_a_while(*args: Any, **more: Any) -> Any:
        if trio.current_time() < began + 60:
            raise ResourceExhausted("the disk is full")
        return await set_status(*args, **more)

    monkeypatch.setattr(world.registry, "set_status", full_for_a_while)
    async with reconciled():
        await trio.sleep(1)
        await world.workers.crash_for_good(plugin, "segfault")
        await trio.sleep(50)
        assert world.told() == ["worker_crashed"]
        await trio.sleep(20)
        assert world.told() == ["worker_crashed", "-> error", "error"]


async def test_errors_of_crashes_are_tried_at_boot_and_from_then_on(
    autojump_clock: Any, world: LifecycleWorld, reconciled: Reconciled
) -> None:
    await world.put("acme.well", S.ERROR, recoverable=True)
    await world.put("acme.marked", S.ERROR)
    ill = await world.put("acme.ill", S.ERROR, recoverable=True)
    world.workers.script(ill.key).fails = "still broken"
    async with reconciled():
        await trio.sleep(10)
        assert world.registry.get("acme.well").status is S.READY
        assert world.registry.get("acme.marked").status is S.ERROR
        assert world.registry.get("acme.ill").status is S.ERROR
        world.workers.script(ill.key).fails = None
        await trio.sleep(600)
        assert world.registry.get("acme.ill").status is S.READY
        assert world.registry.get("acme.marked").status is S.ERROR


async def test_a_boot_whose_recovery_could_not_be_stored_is_not_the_last_try(
    autojump_clock: Any, world: LifecycleWorld, reconciled: Reconciled
) -> None:
    await world.put("acme.one", S.ERROR, recoverable=True)
    world.fail_next_transaction(ResourceExhausted("the disk is full"))
    async with reconciled():
        await trio.sleep(10)
        assert world.told() == []
        await trio.sleep(600)
        assert world.registry.get("acme.one").status is S.READY


@pytest.mark.parametrize("failing", ["recover", "say_what_is_owed", "wait_up", "give_up"])
async def test_a_mistake_with_one_plugin_ends_nothing(
    autojump_clock: Any,
    world: LifecycleWorld,
    reconciled: Reconciled,
    monkeypatch: pytest.MonkeyPatch,
    failing: str,
) -> None:
    up, off = await world.put("acme.up", S.READY), await world.put("acme.off", S.DISABLED)
    ill, well = [await world.put(key, S.ERROR, recoverable=True) for key in ("acme.ill", "acme.well")]
    owner: Any = world.workers if failing == "wait_up" else world.lifecycle
    method, struck = getattr(owner, failing), {ill.id, up.id, off.id}

    async def mistaken(plugin_id: str, *args: Any) -> Any:
        if plugin_id in struck:
            struck.discard(plugin_id)
            raise ZeroDivisionError(f"a mistake in {failing}")
        return await method(plugin_id, *args)

    def report(event: str, error: BaseException, **fields: object) -> None:
        reported.append((event, str(error)))

    reported: list[tuple[str, str]] = []
    monkeypatch.setattr(reconcile, "report_failure", report)
    monkeypatch.setattr(owner, failing, mistaken)
    async with reconciled():
        await trio.sleep(10)
        await world.workers.crash_for_good(up, "segfault")
        await trio.sleep(10)
        assert world.registry.get(well.key).status is S.READY
        await trio.sleep(600)
        assert world.registry.get(ill.key).status is S.READY, "the next try is made all the same"
    assert reported
    assert set(reported) == {("plugin.not_reconciled", f"a mistake in {failing}")}


async def test_never_again_when_it_is_turned_off(
    autojump_clock: Any, world: LifecycleWorld, reconciled: Reconciled
) -> None:
    plugin = await world.put("acme.one", S.READY)
    async with reconciled(recover_after_s=0):
        await trio.sleep(1)
        await world.workers.crash_for_good(plugin, "segfault")
        await trio.sleep(50_000)
        assert world.told() == ["worker_crashed", "-> error", "error"]


async def test_an_operators_word_stands(autojump_clock: Any, world: LifecycleWorld, reconciled: Reconciled) -> None:
    marked = await world.put("acme.marked", S.READY)
    disabled = await world.put("acme.disabled", S.READY)
    gone = await world.put("acme.gone", S.READY)
    async with reconciled():
        await trio.sleep(1)
        await world.lifecycle.mark_error(marked.key, "do not touch")
        for plugin in (disabled, gone):
            await world.workers.crash_for_good(plugin, "segfault")
            await trio.sleep(1)
            assert world.registry.get(plugin.key).status is S.ERROR
        await world.lifecycle.enable(disabled.key)
        await world.lifecycle.disable(disabled.key)
        await world.lifecycle.unload(gone.key, remove_data=True)
        world.forget_the_past()
        await trio.sleep(10_000)
        assert world.told() == []


async def test_who_tries_often_is_not_helped_more_often(
    autojump_clock: Any, world: LifecycleWorld, reconciled: Reconciled
) -> None:
    """Each failed try tells of an error; they share one clock."""
    plugin = await world.put("acme.one", S.ERROR, recoverable=True)
    world.workers.script(plugin.key).fails = "still broken"
    async with reconciled():
        for _ in range(5):
            await trio.sleep(60)
            with pytest.raises(Exception, match="still broken"):
                await world.lifecycle.enable(plugin.key)
        world.forget_the_past()
        await trio.sleep(6000)
        assert world.told().count("-> ready") in {9, 10}


async def test_a_gap_in_the_events_hides_nothing(
    autojump_clock: Any, world: LifecycleWorld, reconciled: Reconciled
) -> None:
    """The reconciler may be too slow for a flood: it looks at everything then."""
    plugin = await world.put("acme.one", S.READY)
    ill = await world.put("acme.ill", S.ERROR, recoverable=True)
    world.workers.script(ill.key).fails = "still broken"
    async with reconciled():
        await trio.sleep(1)
        flood = world.events[-1]
        for _ in range(3000):
            world.bus.publish(flood)
        await world.workers.crash_for_good(plugin, "segfault")
        await trio.sleep(1)
        assert world.registry.get(plugin.key).status is S.ERROR
        world.workers.script(ill.key).fails = None
        await trio.sleep(601)
        assert world.registry.get(plugin.key).status is S.READY
        assert world.registry.get(ill.key).status is S.READY


@pytest.mark.parametrize("instant_s", [0, 0.1, 0.4, 0.5, 0.6])
async def test_a_daemon_cut_at_any_instant_is_made_whole_by_the_next(
    autojump_clock: Any, tmp_path: Path, instant_s: float
) -> None:
    path = tmp_path / "cut.db"
    async with open_lifecycle_world(path) as world:
        await world.put("acme.one", S.DISABLED)
        with trio.move_on_after(instant_s):
            await world.lifecycle.load("acme.one")
    async with open_lifecycle_world(path) as world:
        plugin = world.registry.get("acme.one")
        async with world.reconciled():
            await trio.sleep(10)
        up = world.workers.phase(plugin.id) is Phase.RUNNING
        assert (world.registry.get(plugin.id).status, up) in {(S.READY, True), (S.DISABLED, False)}


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (S.DISABLED, ["disabled"]),
        (S.ERROR, ["error"]),
        (S.UPGRADE_PENDING, ["upgrade_pending"]),
        (S.READY, ["worker_started", "enabled"]),
    ],
)
async def test_what_a_killed_daemon_did_not_get_to_say_is_said_once(
    autojump_clock: Any, world: LifecycleWorld, reconciled: Reconciled, status: Status, told: list[str]
) -> None:
    plugin = await world.put("acme.one", S.INSTALLED)
    for step in (S.READY, status) if status is not S.READY else (S.READY, S.DISABLED, S.READY):
        plugin = await world.registry.set_status(plugin.id, expected=plugin.status, status=step, reason="cut")
    world.forget_the_past()
    for _ in range(2):
        async with reconciled():
            await trio.sleep(5)
        assert world.told() == told
    if status is S.DISABLED:
        assert world.events[-1].data["reason"] == "cut"
