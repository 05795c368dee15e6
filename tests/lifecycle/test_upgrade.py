"""Upgrade, approve, reject, rollback and probation: what is told, in order; what is refused; what fails."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import trio
import trio.testing

from supervisor.core.errors import (
    AlreadyExists,
    ApprovalRequired,
    CallCancelled,
    Conflict,
    FailedPrecondition,
    InvalidParams,
    InvalidTransition,
    NotFound,
    ResourceExhausted,
    SupervisorError,
    UpgradeFailed,
)
from supervisor.core.lifecycle import Status
from supervisor.core.plugin import Capability, Plugin
from supervisor.lifecycle.operation import Operation
from supervisor.store.intents import IntentLog
from supervisor.worker.phase import Phase
from tests.fakes import LifecycleWorld, Script
from tests.lifecycle.exchanging import (
    KEY,
    MORE,
    SOURCE,
    UP,
    approved,
    check_whole,
    put_pending,
    put_upgraded,
    version_of,
)

S = Status
STOP_FIRST = ["worker_stopped", "worker_started", "upgraded", "-> ready", "loaded", "enabled"]


def to(world: LifecycleWorld, version: str, *more: str, upgrade: str = "overlap") -> None:
    """What the next source holds."""
    world.packages.version, world.packages.more, world.packages.upgrade = version, more, upgrade


async def upgrade(world: LifecycleWorld, **how: Any) -> Any:
    how.setdefault("source", None if "version" in how else SOURCE)
    return await world.lifecycle.upgrade(KEY, uid=7, **how)


# What is told.


@pytest.mark.parametrize(("kind", "told"), [("overlap", UP), ("stop_first", STOP_FIRST)])
async def test_an_upgrade(autojump_clock: Any, world: LifecycleWorld, kind: str, told: list[str]) -> None:
    before = await world.put(KEY, S.READY)
    to(world, "2.0", upgrade=kind)
    began = trio.current_time()
    after = await upgrade(world)
    # 0.5 s to come up and 0.25 s to drain, one after the other either way.
    assert trio.current_time() - began == pytest.approx(0.75)
    assert world.told() == told
    assert world.events[told.index("upgraded")].data == {"from": "1.0", "to": "2.0"}
    assert (after.id, after.version, after.status) == (before.id, "2.0", S.READY)
    assert world.registry.version(after.id, after.package_dir).previous_dir == before.package_dir  # type: ignore[union-attr]
    assert await IntentLog(world.database).open() == []
    await check_whole(world)


async def test_a_ready_plugin_whose_worker_was_stopped_is_started(autojump_clock: Any, world: LifecycleWorld) -> None:
    await world.put(KEY, S.READY)
    await world.lifecycle.stop_worker(KEY)
    world.forget_the_past()
    to(world, "2.0")
    await upgrade(world)
    assert world.told() == ["worker_started", "upgraded", "-> ready", "loaded", "enabled"]
    await check_whole(world)


@pytest.mark.parametrize("status", [S.DISABLED, S.ERROR])
async def test_where_no_worker_is_files_and_row_are_exchanged(
    autojump_clock: Any, world: LifecycleWorld, status: Status
) -> None:
    await world.put(KEY, status, error="no license", recoverable=status is S.ERROR)
    to(world, "2.0", MORE)
    with pytest.raises(ApprovalRequired) as caught:
        await upgrade(world)
    assert caught.value.details == {"plugin": KEY, "version": "2.0", "added": [MORE]}
    assert world.told() == []
    after = await upgrade(world, approve=True)
    assert world.told() == ["upgrade_approved", "upgraded"]
    assert (after.version, after.status, after.approved) == ("2.0", status, approved(MORE))
    assert after.last_error == "no license"
    assert world.workers.calls == []
    await check_whole(world)
    await world.lifecycle.enable(KEY)
    await check_whole(world)


async def test_more_capabilities_wait_for_approval(autojump_clock: Any, world: LifecycleWorld) -> None:
    await world.put(KEY, S.READY)
    to(world, "2.0", MORE)
    pending = await upgrade(world)
    assert (pending.version, pending.status, pending.approved) == ("1.0", S.UPGRADE_PENDING, approved())
    assert world.told() == ["-> upgrade_pending", "worker_stopped", "upgrade_pending"]
    assert world.events[-1].data == {"added": [MORE]}
    with pytest.raises(AlreadyExists, match="waits for approval already"):
        await upgrade(world)
    with pytest.raises(ApprovalRequired):
        await world.lifecycle.enable(KEY)
    with pytest.raises(Conflict, match=r"version 3\.0 .* does not wait for approval, version 2\.0 does"):
        await world.lifecycle.approve(KEY, uid=7, version="3.0")
    await check_whole(world)
    world.forget_the_past()
    to(world, "2.5", MORE)
    await upgrade(world)
    assert world.told() == ["-> upgrade_pending", "upgrade_pending"]
    await check_whole(world)
    world.forget_the_past()
    after = await world.lifecycle.approve(KEY, uid=7, version="2.5")
    assert world.told() == ["worker_started", "upgrade_approved", "upgraded", "-> ready", "loaded", "enabled"]
    assert world.events[1].data == {"version": "2.5", "added": [MORE], "uid": 7}
    assert (after.version, after.status, after.approved) == ("2.5", S.READY, approved(MORE))
    assert (MORE, 7) in [(name, uid) for name, uid, _ in await world.registry.approvals(after.id)]
    for decide in (world.lifecycle.approve, world.lifecycle.reject):
        with pytest.raises(InvalidTransition, match="no upgrade waits to be decided"):
            await decide(KEY, uid=7)
    await check_whole(world)


async def test_approved_at_once_it_does_not_wait(autojump_clock: Any, world: LifecycleWorld) -> None:
    await world.put(KEY, S.READY)
    to(world, "2.0", MORE)
    after = await upgrade(world, approve=True)
    assert world.told() == [UP[0], "upgrade_approved", *UP[1:]]
    assert after.approved == approved(MORE)
    assert world.workers.plugin_of(after.id).granted == approved(MORE)  # type: ignore[union-attr]


@pytest.mark.parametrize("status", [S.READY, S.DISABLED])
async def test_agreed_is_what_was_shown_and_no_more(autojump_clock: Any, world: LifecycleWorld, status: Status) -> None:
    await world.put(KEY, status)
    to(world, "2.0", MORE, "state.write")
    agreed = frozenset({Capability(MORE)})
    if status is S.READY:
        assert (await upgrade(world, agreed=agreed)).status is S.UPGRADE_PENDING
    else:
        with pytest.raises(ApprovalRequired) as caught:
            await upgrade(world, agreed=agreed)
        assert caught.value.details["added"] == [MORE, "state.write"]
        assert world.told() == []
    assert world.registry.get(KEY).approved == approved()
    agreed |= {Capability("state.write"), Capability("events.emit")}
    to(world, "2.1", MORE, "state.write")
    after = await upgrade(world, agreed=agreed)
    # What it does not ask for is not approved either.
    assert (after.version, after.approved) == ("2.1", approved(MORE, "state.write"))
    await check_whole(world)


async def in_place(world: LifecycleWorld) -> Plugin:
    """A plugin whose directory runs in place."""
    plugin = await world.put(KEY, S.READY)
    package = replace(version_of(world, KEY, "1.1"), editable="/src/one")
    plugin = await world.registry.exchange(package, expected=plugin, status=S.READY, forward=True)
    world.workers.want(plugin)
    staged = world.packages.staged

    @asynccontextmanager
    async def editable(*what: Any) -> AsyncIterator[Any]:
        async with staged(*what) as found:
            yield replace(found, editable="/src/one")

    world.packages.staged = editable  # type: ignore[method-assign]
    await world.finish(plugin)
    world.forget_the_past()
    to(world, "1.1")
    return plugin


async def test_what_runs_in_place_is_given_new_capabilities(autojump_clock: Any, world: LifecycleWorld) -> None:
    before = await in_place(world)
    previous = world.registry.version(before.id, before.package_dir).previous_dir  # type: ignore[union-attr]
    with pytest.raises(AlreadyExists):
        await upgrade(world)
    to(world, "1.1", MORE)
    with pytest.raises(ApprovalRequired, match=MORE):
        await upgrade(world)
    assert (world.told(), world.registry.get(KEY)) == ([], before)
    after = await upgrade(world, agreed=frozenset({Capability(MORE)}))
    assert (after.package_dir, after.editable, after.approved) == (before.package_dir, "/src/one", approved(MORE))
    assert world.told() == [UP[0], "upgrade_approved", *UP[1:]]
    version = world.registry.version(after.id, after.package_dir)
    assert version is not None
    assert (version.previous_dir, version.manifest) == (previous, after.manifest)
    await check_whole(world)


@pytest.mark.parametrize("how", ["does not come up", "dies at the commit"])
async def test_what_runs_in_place_goes_on_as_it_was(autojump_clock: Any, world: LifecycleWorld, how: str) -> None:
    before = await in_place(world)
    versions = world.registry.versions(before.id)
    to(world, "1.1", MORE)
    if how == "dies at the commit":
        dies_at_the_commit(world, "1.1")
    else:
        world.workers.scripts[f"{KEY}@1.1"] = Script(fails="segfault")
    with pytest.raises(UpgradeFailed, match="segfault"):
        await upgrade(world, approve=True)
    assert replace(world.registry.get(KEY), updated_at=before.updated_at) == before
    assert [replace(v, stored_at=before.updated_at) for v in world.registry.versions(before.id)] == [
        replace(v, stored_at=before.updated_at) for v in versions
    ]
    await check_whole(world)


async def test_a_version_that_needs_nothing_more_ends_the_waiting(autojump_clock: Any, world: LifecycleWorld) -> None:
    await put_pending(world, KEY, MORE)
    to(world, "2.1")
    after = await upgrade(world)
    assert world.told() == ["worker_started", "upgraded", "-> ready", "loaded", "enabled"]
    assert (after.version, after.staged_dir) == ("2.1", None)
    assert [v.version for v in world.registry.versions(after.id)] == ["1.0", "2.1"]
    await check_whole(world)


async def test_enable_activates_what_needs_no_approval_any_more(autojump_clock: Any, world: LifecycleWorld) -> None:
    await put_pending(world)
    after = await world.lifecycle.enable(KEY)
    assert world.told() == ["worker_started", "upgraded", "-> ready", "loaded", "enabled"]
    assert after.version == "2.0"
    await check_whole(world)


async def test_reject(autojump_clock: Any, world: LifecycleWorld) -> None:
    await put_pending(world, KEY, MORE)
    after = await world.lifecycle.reject(KEY, uid=7)
    assert world.told() == ["-> ready", "upgrade_rejected", "worker_started", "loaded", "enabled"]
    assert world.events[1].data == {"version": "2.0", "uid": 7}
    assert (after.version, [v.version for v in world.registry.versions(after.id)]) == ("1.0", ["1.0"])
    await check_whole(world)


@pytest.mark.parametrize("decision", ["approve", "reject"])
async def test_what_was_marked_by_hand_is_made_ready_again(
    autojump_clock: Any, world: LifecycleWorld, decision: str
) -> None:
    await world.put(KEY, S.UPGRADE_PENDING)
    after = await getattr(world.lifecycle, decision)(KEY, uid=7)
    said = ["upgrade_rejected"] if decision == "reject" else []
    assert world.told() == ["-> ready", *said, "worker_started", "loaded", "enabled"]
    assert (after.status, after.version) == (S.READY, "1.0")


@pytest.mark.parametrize("kind", ["overlap", "stop_first"])
async def test_rollback_of_a_ready_plugin(autojump_clock: Any, world: LifecycleWorld, kind: str) -> None:
    await put_upgraded(world, S.READY, upgrade=kind)
    after = await world.lifecycle.rollback(KEY, uid=7)
    told = [{"upgraded": "rolled_back"}.get(word, word) for word in (UP if kind == "overlap" else STOP_FIRST)]
    assert world.told() == told
    assert world.events[told.index("rolled_back")].data == {"from": "2.0", "to": "1.0", "reason": None}
    assert (after.version, after.status) == ("1.0", S.READY)
    await check_whole(world)
    with pytest.raises(NotFound, match=r"the version before the present one .* is not kept, kept are 2\.0"):
        await world.lifecycle.rollback(KEY, uid=7)
    assert (await world.lifecycle.rollback(KEY, uid=7, version="2.0")).version == "2.0"


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (S.ERROR, ["worker_started", "rolled_back", "-> ready", "loaded", "enabled"]),
        (S.DISABLED, ["rolled_back"]),
    ],
)
async def test_rollback_of_one_that_is_not_ready(
    autojump_clock: Any, world: LifecycleWorld, status: Status, told: list[str]
) -> None:
    await put_upgraded(world, status)
    after = await world.lifecycle.rollback(KEY, uid=7)
    assert world.told() == told
    assert (after.version, after.status) == ("1.0", S.READY if status is S.ERROR else status)
    await check_whole(world)


async def test_going_back_twice_goes_back_two_versions(autojump_clock: Any, world: LifecycleWorld) -> None:
    await world.put(KEY, S.READY)
    for version in ("2.0", "3.0"):
        to(world, version)
        await upgrade(world)
    back = [(await world.lifecycle.rollback(KEY, uid=7)).version for _ in range(2)]
    assert back == ["2.0", "1.0"]
    # And forward again, to one that is kept.
    after = await upgrade(world, version="3.0")
    assert (after.version, (await world.lifecycle.rollback(KEY, uid=7)).version) == ("3.0", "1.0")


async def test_old_versions_are_collected(autojump_clock: Any, world: LifecycleWorld) -> None:
    plugin = await world.put(KEY, S.READY)
    for version in ("2.0", "3.0", "4.0", "5.0"):
        to(world, version)
        await upgrade(world)
        await check_whole(world)
    assert [v.version for v in world.registry.versions(plugin.id)] == ["3.0", "4.0", "5.0"]
    await world.lifecycle.unload(KEY)
    assert (world.packages.stored, world.registry.versions(plugin.id)) == (set(), [])
    assert await IntentLog(world.database).open() == []


async def test_uninstalled_with_one_that_waits_nothing_is_left(autojump_clock: Any, world: LifecycleWorld) -> None:
    await put_pending(world, KEY, MORE)
    await world.lifecycle.unload(KEY, remove_data=True)
    assert (world.packages.stored, world.data.removed, world.registry.find(KEY)) == (set(), [KEY], None)
    await check_whole(world)


async def test_marked_in_error_nothing_waits_any_more(autojump_clock: Any, world: LifecycleWorld) -> None:
    plugin = await put_pending(world, KEY, MORE)
    after = await world.lifecycle.mark_error(KEY, "smells odd")
    assert (after.staged_dir, [v.version for v in world.registry.versions(plugin.id)]) == (None, ["1.0"])
    await check_whole(world)


# What is refused.


async def test_what_is_refused_touches_nothing(autojump_clock: Any, world: LifecycleWorld) -> None:
    before = await world.put(KEY, S.READY)

    async def refused(kind: type[SupervisorError], match: str, **how: Any) -> None:
        with pytest.raises(kind, match=match):
            await upgrade(world, **how)
        assert (world.events, world.workers.calls, world.registry.get(KEY)) == ([], [], before)
        await check_whole(world)

    await refused(AlreadyExists, "is at this version already")
    await refused(AlreadyExists, "is at this version already", version="1.0")
    await refused(NotFound, r"version 9 of plugin 'acme.one' is not kept, no other one is", version="9")
    await refused(InvalidParams, "a source or a kept version, and not both", source=None)
    await refused(InvalidParams, "not both", source=SOURCE, version="1.0")
    to(world, "2.0", MORE)
    await refused(FailedPrecondition, "cannot be upgraded on probation: it would wait for approval", probation_s=60)
    to(world, "2.0")
    world.config.misfit = InvalidParams("city is missing")
    await refused(InvalidParams, "city is missing")
    world.config.misfit = None
    manifest_of = world.packages.manifest_of
    world.packages.manifest_of = lambda key: manifest_of("acme.other")  # type: ignore[method-assign]
    await refused(InvalidParams, "that is plugin 'acme.other', not 'acme.one'")


@pytest.mark.parametrize("status", [S.INSTALLED, S.UNINSTALLED])
async def test_a_status_that_has_no_version_to_exchange(
    autojump_clock: Any, world: LifecycleWorld, status: Status
) -> None:
    await world.put(KEY, status)
    to(world, "2.0")
    for command in (upgrade(world), world.lifecycle.rollback(KEY, uid=7)):
        with pytest.raises(InvalidTransition, match=f"while it is {status}"):
            await command
    assert world.events == []


async def test_a_rollback_never_brings_more_than_is_approved(autojump_clock: Any, world: LifecycleWorld) -> None:
    plugin = await world.put(KEY, S.READY)
    package = version_of(world, KEY, "0.9", MORE)
    plugin = await world.registry.exchange(package, expected=plugin, status=S.READY, forward=True)
    await world.registry.exchange(version_of(world, KEY, "1.1"), expected=plugin, status=S.READY, forward=True)
    world.forget_the_past()
    for command in (world.lifecycle.rollback(KEY, uid=7), upgrade(world, version="0.9")):
        with pytest.raises(ApprovalRequired, match=MORE):
            await command
    assert world.events == []


# What fails.


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("overlap", ["upgrade_failed"]),
        ("stop_first", ["worker_stopped", "upgrade_failed", "worker_started"]),
    ],
)
async def test_a_version_that_does_not_come_up_changes_nothing(
    autojump_clock: Any, world: LifecycleWorld, kind: str, told: list[str]
) -> None:
    before = await world.put(KEY, S.READY)
    world.workers.scripts[f"{KEY}@2.0"] = Script(fails="no license")
    to(world, "2.0", upgrade=kind)
    with pytest.raises(UpgradeFailed, match=r"from version 1\.0 to 2\.0: no license; version 1\.0 goes on") as caught:
        await upgrade(world)
    assert caught.value.details == {"plugin": KEY, "from": "1.0", "to": "2.0", "cause": "no license"}
    assert world.told() == told
    assert world.events[told.index("upgrade_failed")].data == {"to": "2.0", "error": "no license"}
    assert world.registry.get(KEY) == before
    assert world.workers.phase(before.id) is Phase.RUNNING
    assert await IntentLog(world.database).open() == []
    await check_whole(world)


async def test_an_approved_version_that_does_not_come_up_is_dropped(autojump_clock: Any, world: LifecycleWorld) -> None:
    await put_pending(world, KEY, MORE)
    world.workers.scripts[f"{KEY}@2.0"] = Script(fails="no license")
    with pytest.raises(UpgradeFailed, match="no license"):
        await world.lifecycle.approve(KEY, uid=7)
    assert world.told() == ["-> ready", "upgrade_failed", "worker_started", "loaded", "enabled"]
    after = world.registry.get(KEY)
    assert (after.version, after.status, after.approved) == ("1.0", S.READY, approved())
    await check_whole(world)


async def test_an_approved_version_and_the_one_before_fail(autojump_clock: Any, world: LifecycleWorld) -> None:
    await put_pending(world, KEY, MORE)
    world.workers.script(KEY).fails = "no license"
    with pytest.raises(UpgradeFailed, match="no license"):
        await world.lifecycle.approve(KEY, uid=7)
    assert world.told() == ["-> ready", "upgrade_failed", "worker_crashed", "-> error", "error"]
    await check_whole(world)


async def test_a_rollback_that_fails(autojump_clock: Any, world: LifecycleWorld) -> None:
    before = await put_upgraded(world, S.ERROR)
    world.workers.scripts[f"{KEY}@1.0"] = Script(fails="no license")
    with pytest.raises(UpgradeFailed, match="it stays in error"):
        await world.lifecycle.rollback(KEY, uid=7)
    assert world.told() == ["upgrade_failed"]
    assert world.registry.get(KEY) == before
    await check_whole(world)


def dies_at_the_commit(world: LifecycleWorld, version: str, **script: Any) -> None:
    """The worker that is tried dies after the last look at it, while the exchange is being stored."""
    world.workers.scripts[f"{KEY}@{version}"] = Script(dies="segfault", dies_after_s=1, **script)
    exchange = world.registry.exchange

    async def slow(*what: Any, **how: Any) -> Any:
        await trio.sleep(2)
        return await exchange(*what, **how)

    world.registry.exchange = slow  # type: ignore[method-assign]


@pytest.mark.parametrize("probation_s", [None, 60])
@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("overlap", ["worker_started", "upgraded", "-> ready", "rolled_back", "-> ready", "loaded", "enabled"]),
        ("stop_first", ["worker_stopped", "worker_started", "upgraded", "-> ready", "rolled_back", "-> ready"]),
    ],
)
async def test_one_that_dies_in_the_moment_of_the_commit_is_taken_back(
    autojump_clock: Any, world: LifecycleWorld, kind: str, told: list[str], probation_s: float | None
) -> None:
    before = await world.put(KEY, S.READY)
    dies_at_the_commit(world, "2.0")
    to(world, "2.0", MORE, upgrade=kind)
    async with world.reconciled():
        world.forget_the_past()
        with pytest.raises(UpgradeFailed, match=r"from version 1\.0 to 2\.0: segfault; version 1\.0 goes on"):
            await upgrade(world, probation_s=probation_s, approve=True)
        await trio.sleep(10)
    said = [word for word in world.told() if word != "upgrade_approved"]
    assert said[: len(told)] == told
    assert sorted(said[len(told) + 1 :]) == (
        ["upgrade_failed"] if kind == "overlap" else ["enabled", "loaded", "upgrade_failed", "worker_started"]
    )
    rolled_back = next(event for event in world.events if event.type == "plugin.rolled_back")
    assert rolled_back.data == {"from": "2.0", "to": "1.0", "reason": "segfault"}
    after = world.registry.get(KEY)
    assert (after.version, after.status, after.approved, after.probation_until) == ("1.0", S.READY, approved(), None)
    assert world.workers.phase(before.id) is Phase.RUNNING
    assert world.workers.calls.count(("want", KEY)) == (1 if kind == "stop_first" else 0)
    await check_whole(world)


async def test_an_approved_one_that_dies_in_the_moment_of_the_commit(
    autojump_clock: Any, world: LifecycleWorld
) -> None:
    await put_pending(world, KEY, MORE)
    dies_at_the_commit(world, "2.0")
    with pytest.raises(UpgradeFailed, match="segfault"):
        await world.lifecycle.approve(KEY, uid=7)
    after = world.registry.get(KEY)
    assert (after.version, after.status, after.approved) == ("1.0", S.READY, approved())
    assert [v.version for v in world.registry.versions(after.id)] == ["1.0"]
    assert world.told()[-5:] == ["-> ready", "upgrade_failed", "worker_started", "loaded", "enabled"]
    await check_whole(world)


async def test_one_in_error_stays_so_where_the_version_before_dies_in_that_moment(
    autojump_clock: Any, world: LifecycleWorld
) -> None:
    before = await put_upgraded(world, S.READY)
    before = await world.registry.set_status(
        before.id, expected=S.READY, status=S.ERROR, error="no license", recoverable=True
    )
    world.workers.unwant(before.id)
    await world.workers.wait_stopped(before.id)
    versions = world.registry.versions(before.id)
    dies_at_the_commit(world, "1.0")
    with pytest.raises(UpgradeFailed, match="segfault; it stays in error"):
        await world.lifecycle.rollback(KEY, uid=7)
    assert replace(world.registry.get(KEY), updated_at=before.updated_at) == before
    assert world.registry.versions(before.id) == versions
    await check_whole(world)


async def test_where_it_cannot_be_taken_back_the_row_counts(autojump_clock: Any, world: LifecycleWorld) -> None:
    plugin = await world.put(KEY, S.READY)
    dies_at_the_commit(world, "2.0")
    to(world, "2.0")

    async def full(*_: Any, **__: Any) -> Any:
        await trio.lowlevel.checkpoint()
        raise ResourceExhausted("the disk is full")

    world.registry.take_back = full  # type: ignore[method-assign]
    after = await upgrade(world)
    assert (after.version, after.status) == ("2.0", S.READY)
    assert world.workers.phase(plugin.id) is Phase.RUNNING
    assert world.told()[-2:] == ["loaded", "enabled"]
    await check_whole(world)


@pytest.mark.parametrize("kind", ["overlap", "stop_first"])
async def test_who_has_finished_its_work_meanwhile_is_not_started_again(
    autojump_clock: Any, world: LifecycleWorld, kind: str
) -> None:
    """A one-shot worker ends as soon as it has begun; it has taken over all the same."""
    plugin = await world.put(KEY, S.READY)
    world.workers.scripts[f"{KEY}@2.0"] = Script(finishes=True)
    to(world, "2.0", upgrade=kind)
    after = await upgrade(world)
    assert (after.version, after.status) == ("2.0", S.READY)
    assert [word for word in world.told() if word == "worker_started"] == ["worker_started"]
    assert ("want", KEY) not in world.workers.calls
    assert world.workers.phase(plugin.id) is Phase.STOPPED


@pytest.mark.parametrize("probation_s", [None, 60])
async def test_who_gives_up_before_the_answer_is_left_to_the_aftercare(
    autojump_clock: Any, world: LifecycleWorld, probation_s: float | None
) -> None:
    await world.put(KEY, S.READY)
    world.workers.scripts[KEY] = Script(stops_after_s=5)  # the former drains that long
    to(world, "2.0")
    async with world.reconciled(), trio.open_nursery() as nursery:
        nursery.start_soon(lambda: upgrade(world, probation_s=probation_s))
        await trio.sleep(2)
        assert world.registry.get(KEY).version == "2.0"
        await world.workers.crash_for_good(world.registry.get(KEY), "segfault")
        await trio.sleep(20)
        after = world.registry.get(KEY)
        assert (after.version, after.status) == (("2.0", S.ERROR) if probation_s is None else ("1.0", S.READY))
        assert ("rolled_back" in world.told()) is (probation_s is not None)
    await check_whole(world)


# Who comes in between.


@pytest.mark.parametrize("kind", ["overlap", "stop_first"])
@pytest.mark.parametrize("overtaker", ["disable", "stop_worker", "unload"])
async def test_who_wants_it_stopped_comes_before_a_trial(
    autojump_clock: Any, world: LifecycleWorld, kind: str, overtaker: str
) -> None:
    await world.put(KEY, S.READY)
    world.workers.scripts[f"{KEY}@2.0"] = Script(up_after_s=1000)
    to(world, "2.0", upgrade=kind)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(cut_short, world, upgrade(world))
        await trio.sleep(5)
        began = trio.current_time()
        await getattr(world.lifecycle, overtaker)(KEY)
        assert trio.current_time() - began <= 1
    assert not {"upgraded", "upgrade_failed", "enabled"} & set(world.told())
    assert world.registry.get(KEY).version == "1.0"
    await check_whole(world)


@pytest.mark.parametrize("kind", ["overlap", "stop_first"])
@pytest.mark.parametrize("overtaker", ["disable", "unload", "mark_upgrade_pending"])
async def test_who_overtakes_a_trial_and_cannot_be_stored_leaves_a_worker(
    autojump_clock: Any, world: LifecycleWorld, kind: str, overtaker: str
) -> None:
    plugin = await world.put(KEY, S.READY)
    world.workers.scripts[f"{KEY}@2.0"] = Script(up_after_s=1000)
    to(world, "2.0", upgrade=kind)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(cut_short, world, upgrade(world))
        await trio.sleep(5)
        transact = world.database.transact

        async def full(*_: Any, **__: Any) -> Any:
            await trio.lowlevel.checkpoint()
            raise ResourceExhausted("the disk is full")

        world.database.transact = full  # type: ignore[method-assign]
        with pytest.raises(ResourceExhausted):
            await getattr(world.lifecycle, overtaker)(KEY)
        world.database.transact = transact  # type: ignore[method-assign]
    await trio.sleep(5)
    assert (world.registry.get(KEY).version, world.registry.get(KEY).status) == ("1.0", S.READY)
    assert world.workers.phase(plugin.id) is Phase.RUNNING
    assert (await world.lifecycle.disable(KEY)).status is S.DISABLED


async def cut_short(world: LifecycleWorld, command: Any) -> None:
    with pytest.raises(CallCancelled):
        await command


async def test_a_command_that_would_be_refused_cuts_no_trial_short(autojump_clock: Any, world: LifecycleWorld) -> None:
    await put_pending(world, KEY, MORE)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: world.lifecycle.approve(KEY, uid=7))
        await trio.testing.wait_all_tasks_blocked()
        # It is upgrade_pending still, and is ready when its turn comes.
        await world.lifecycle.disable(KEY)
    assert [word for word in world.told() if word in {"upgraded", "disabled"}] == ["upgraded", "disabled"]
    await check_whole(world)


@pytest.mark.parametrize("after_s", [0.1, 0.6])
async def test_its_caller_may_cancel_it_until_the_commit(
    autojump_clock: Any, world: LifecycleWorld, after_s: float
) -> None:
    await world.put(KEY, S.READY)
    to(world, "2.0")
    operation = Operation()
    async with trio.open_nursery() as nursery:
        if after_s < 0.5:
            nursery.start_soon(cut_short, world, upgrade(world, operation=operation))
        else:
            nursery.start_soon(lambda: upgrade(world, operation=operation))
        await trio.sleep(after_s)
        assert operation.abort() is (after_s < 0.5)
    assert world.registry.get(KEY).version == ("1.0" if after_s < 0.5 else "2.0")
    await check_whole(world)


async def test_who_waits_for_the_lock_may_be_cancelled(autojump_clock: Any, world: LifecycleWorld) -> None:
    await world.put(KEY, S.DISABLED)
    world.workers.script(KEY).up_after_s = 100
    to(world, "2.0")
    operation = Operation()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.lifecycle.enable, KEY)
        await trio.sleep(1)
        nursery.start_soon(cut_short, world, upgrade(world, operation=operation))
        await trio.sleep(1)
        assert operation.abort()
        await trio.testing.wait_all_tasks_blocked()
        assert world.packages.in_staging == 0


async def test_two_upgrades_at_once_follow_each_other(autojump_clock: Any, world: LifecycleWorld) -> None:
    await world.put(KEY, S.READY)
    to(world, "2.0")
    outcomes: list[str] = []

    async def one() -> None:
        try:
            outcomes.append((await upgrade(world)).version)
        except SupervisorError as error:
            outcomes.append(error.code)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one)
        nursery.start_soon(one)
    assert sorted(outcomes) == ["2.0", "ALREADY_EXISTS"]
    assert world.told() == UP
    await check_whole(world)


# Probation.


async def test_who_gives_up_on_probation_is_rolled_back(autojump_clock: Any, world: LifecycleWorld) -> None:
    await world.put(KEY, S.READY)
    to(world, "2.0")
    async with world.reconciled():
        plugin = await upgrade(world, probation_s=60)
        assert plugin.probation_until is not None
        await trio.sleep(10)
        world.forget_the_past()
        await world.workers.crash_for_good(plugin, "segfault")
        await trio.sleep(10)
        told = ["worker_crashed", "worker_started", "rolled_back", "-> ready", "loaded", "enabled"]
        assert world.told() == told
        assert world.events[2].data == {"from": "2.0", "to": "1.0", "reason": "segfault"}
        after = world.registry.get(KEY)
        assert (after.version, after.status, after.probation_until) == ("1.0", S.READY, None)
        await trio.sleep(1000)
        assert world.told() == told
    await check_whole(world)


async def test_who_gives_up_afterwards_is_in_error(autojump_clock: Any, world: LifecycleWorld) -> None:
    await world.put(KEY, S.READY)
    to(world, "2.0")
    async with world.reconciled():
        plugin = await upgrade(world, probation_s=60)
        await trio.sleep(61)
        assert world.registry.get(KEY).probation_until is None
        world.forget_the_past()
        await world.workers.crash_for_good(plugin, "segfault")
        await trio.sleep(10)
        assert world.told() == ["worker_crashed", "-> error", "error"]


async def test_where_there_is_no_way_back_it_is_in_error(autojump_clock: Any, world: LifecycleWorld) -> None:
    await world.put(KEY, S.READY)
    to(world, "2.0")
    async with world.reconciled():
        plugin = await upgrade(world, probation_s=60)
        world.workers.scripts[f"{KEY}@1.0"] = Script(fails="no license any more")
        world.forget_the_past()
        await world.workers.crash_for_good(plugin, "segfault")
        await trio.sleep(10)
        assert world.told() == ["worker_crashed", "-> error", "error"]
        assert (world.registry.get(KEY).version, world.registry.get(KEY).last_error) == ("2.0", "segfault")


@pytest.mark.parametrize("up", [True, False])
async def test_a_probation_outlives_the_daemon(autojump_clock: Any, world: LifecycleWorld, up: bool) -> None:
    plugin = await world.put(KEY, S.READY)
    to(world, "2.0")
    await upgrade(world, probation_s=60)
    world.workers.unwant(plugin.id)
    await world.workers.wait_stopped(plugin.id)
    await trio.sleep(100)
    world.forget_the_past()
    if not up:
        world.workers.scripts[f"{KEY}@2.0"] = Script(fails="segfault")
    async with world.reconciled():
        await trio.sleep(10)
    after = world.registry.get(KEY)
    assert (after.version, after.probation_until) == ("2.0" if up else "1.0", None)
    assert ("rolled_back" in world.told()) is not up
    await check_whole(world)


async def test_an_operators_word_ends_a_probation(autojump_clock: Any, world: LifecycleWorld) -> None:
    await world.put(KEY, S.READY)
    to(world, "2.0")
    async with world.reconciled():
        await upgrade(world, probation_s=60)
        assert (await world.lifecycle.disable(KEY)).probation_until is None
        await trio.sleep(100)
        assert world.registry.get(KEY).version == "2.0"
