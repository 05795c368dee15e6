from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import trio

from supervisor.core.errors import AlreadyExists, Conflict, FailedPrecondition, NotFound
from supervisor.core.event import PluginDisabled, PluginEmitted, PluginUnloaded, Recorded
from supervisor.core.lifecycle import Status
from supervisor.core.manifest import JobSpec, Manifest
from supervisor.core.plugin import Capability, Plugin, PluginId
from supervisor.core.stored_manifest import manifest_to_table
from supervisor.store.configs import ConfigStore
from supervisor.store.database import Database
from supervisor.store.plugins import PluginRegistry
from supervisor.store.state import StateStore
from supervisor.store.tables import ApprovalRow, ConfigRevisionRow, ConfigRow, JobRow, JobRunRow, PluginRow
from tests.packages import a_package

MakeManifest = Callable[..., Manifest]
CAPABILITIES = frozenset(map(Capability, ("state.read", "state.write")))


async def install(registry: PluginRegistry, manifest: Manifest, **changes: Any) -> Plugin:
    package = a_package(manifest, changes.pop("package_dir", f"{manifest.key}-1"))
    return await registry.install(package, **{"approved": CAPABILITIES, "uid": 1000, **changes})


async def reloaded(database: Database) -> list[Plugin]:
    return (await PluginRegistry.load(database)).all()


def told(published: list[Recorded]) -> list[tuple[str, dict[str, Any]]]:
    return [(event.type, dict(event.data)) for event in published]


# --- install ---


async def test_installing_stores_the_plugin_and_tells_of_it(
    registry: PluginRegistry,
    database: Database,
    make_manifest: MakeManifest,
    published: list[Recorded],
    clock: Any,
) -> None:
    manifest = make_manifest(capabilities=("state.read", "state.write"))
    plugin = await install(registry, manifest)
    assert plugin.status is Status.INSTALLED
    assert plugin.manifest == manifest
    assert plugin.approved == CAPABILITIES
    assert plugin.installed_at == plugin.updated_at == clock.now()
    assert (plugin.last_error, plugin.disable_reason, plugin.recoverable) == (None, None, False)
    assert len(plugin.id) == 36
    assert told(published) == [
        ("plugin.installed", {"version": "1.0", "capabilities": ["state.read", "state.write"]}),
        ("plugin.status_changed", {"previous": None, "status": "installed"}),
    ]
    assert {(event.plugin_id, event.plugin_key) for event in published} == {(plugin.id, "acme.weather")}
    assert registry.get(plugin.id) is registry.get("acme.weather") is plugin
    # Stored lists come back as such, and so does an equal manifest.
    [again] = await reloaded(database)
    assert again == plugin
    rows = await database.read(lambda: [(row.capability, row.uid) for row in ApprovalRow.select()])
    assert rows == [("state.read", 1000), ("state.write", 1000)]


async def test_whoever_hears_of_a_change_finds_it_in_the_registry(
    tmp_path: Path,
    clock: Any,
    make_manifest: MakeManifest,
) -> None:
    seen: list[tuple[str, object]] = []

    def look(event: Recorded) -> None:
        plugin = registry.find(event.plugin_key)
        seen.append((event.type, plugin and plugin.status))

    database = await Database.open(tmp_path / "plugind.db", clock=clock, publish=look)
    try:
        registry = await PluginRegistry.load(database)
        plugin = await install(registry, make_manifest())
        await registry.set_status(plugin.id, expected=Status.INSTALLED, status=Status.READY)
        unloaded = PluginUnloaded(plugin_id=plugin.id, plugin_key=plugin.key, remove_data=True)
        await registry.delete(plugin.id, then=[unloaded])
    finally:
        await database.aclose()
    assert seen == [
        ("plugin.installed", Status.INSTALLED),
        ("plugin.status_changed", Status.INSTALLED),
        ("plugin.status_changed", Status.READY),
        ("plugin.unloaded", None),
    ]


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.UNINSTALLED])
async def test_what_is_there_is_not_installed_again(
    registry: PluginRegistry,
    make_manifest: MakeManifest,
    published: list[Recorded],
    status: Status,
) -> None:
    plugin = await install(registry, make_manifest())
    plugin = await registry.set_status(plugin.id, expected=Status.INSTALLED, status=status)
    published.clear()
    with pytest.raises(
        AlreadyExists, match=rf"'acme\.weather' is there already, in version 1\.0 with status {status}:"
    ):
        await install(registry, make_manifest(version="2.0"))
    assert registry.all() == [plugin]
    assert published == []


async def test_an_uninstalled_plugin_is_taken_up_again(
    registry: PluginRegistry,
    database: Database,
    make_manifest: MakeManifest,
    published: list[Recorded],
    clock: Any,
) -> None:
    first = await install(registry, make_manifest())
    await install(registry, make_manifest("other"))
    state = StateStore(database)
    await state.set(first.id, "k", 1)
    await ConfigStore(database).set(first, {"city": "Bern"}, uid=7)
    await registry.set_status(first.id, expected=Status.INSTALLED, status=Status.ERROR, error="x", recoverable=True)
    await registry.set_status(first.id, expected=Status.ERROR, status=Status.UNINSTALLED)
    published.clear()
    clock.advance(timedelta(hours=1))

    capability = Capability("jobs.schedule")
    again = await install(registry, make_manifest(version="2.0"), approved=frozenset({capability}), package_dir="p2")
    assert (again.id, again.install_order) == (first.id, first.install_order)
    assert (again.version, again.package_dir, again.status) == ("2.0", "p2", Status.INSTALLED)
    assert again.approved == {capability}
    assert again.installed_at == clock.now()
    assert told(published)[1] == ("plugin.status_changed", {"previous": "uninstalled", "status": "installed"})
    assert (await ConfigStore(database).get(first.id)).data == {"city": "Bern"}
    assert await state.get(first.id, "k") == (True, 1, 1)
    assert [plugin.key for plugin in registry.all()] == ["acme.weather", "other"]
    assert await reloaded(database) == registry.all()


async def test_two_installs_of_one_key_at_once_make_one_plugin(
    registry: PluginRegistry,
    make_manifest: MakeManifest,
) -> None:
    outcomes: list[str] = []

    async def attempt(version: str) -> None:
        try:
            await install(registry, make_manifest(version=version))
        except AlreadyExists:
            outcomes.append("refused")
        else:
            outcomes.append("installed")

    async with trio.open_nursery() as nursery:
        for n in range(5):
            nursery.start_soon(attempt, f"{n}.0")
    assert sorted(outcomes) == ["installed"] + ["refused"] * 4
    assert len(registry.all()) == 1


# --- names ---


async def test_an_unknown_name_gets_a_hint(registry: PluginRegistry, plugin: Plugin) -> None:
    assert registry.find("acme.wether") is None
    with pytest.raises(
        NotFound, match=r"^there is no plugin 'acme\.wether'; did you mean 'acme\.weather'\?$"
    ) as caught:
        registry.get("acme.wether")
    assert caught.value.details == {"plugin": "acme.wether"}
    with pytest.raises(NotFound, match=r"^there is no plugin 'zzz'$"):
        registry.get("zzz")


async def test_a_key_that_looks_like_anothers_id_does_not_take_its_place(
    registry: PluginRegistry,
    plugin: Plugin,
    make_manifest: MakeManifest,
) -> None:
    impostor = await install(registry, make_manifest(key=plugin.id))
    assert registry.get(plugin.id) == plugin
    assert registry.get(impostor.id) == impostor


# --- status ---


async def test_a_status_change_is_stored_held_and_told(
    registry: PluginRegistry,
    database: Database,
    plugin: Plugin,
    published: list[Recorded],
    clock: Any,
) -> None:
    published.clear()
    clock.advance(timedelta(seconds=5))
    event = PluginDisabled(plugin_id=plugin.id, plugin_key=plugin.key, reason="too loud")
    after = await registry.set_status(
        plugin.id,
        expected=Status.INSTALLED,
        status=Status.DISABLED,
        error="e",
        reason="too loud",
        recoverable=True,
        then=[event],
    )
    assert after == replace(
        plugin,
        status=Status.DISABLED,
        last_error="e",
        disable_reason="too loud",
        recoverable=True,
        updated_at=clock.now(),
    )
    assert registry.get(plugin.id) == after
    assert await reloaded(database) == [after]
    assert told(published) == [
        ("plugin.status_changed", {"previous": "installed", "status": "disabled"}),
        ("plugin.disabled", {"reason": "too loud"}),
    ]
    cleared = await registry.set_status(plugin.id, expected=Status.DISABLED, status=Status.READY)
    assert (cleared.last_error, cleared.disable_reason, cleared.recoverable) == (None, None, False)


async def test_a_status_that_changed_meanwhile_is_a_conflict(
    registry: PluginRegistry,
    plugin: Plugin,
    published: list[Recorded],
) -> None:
    published.clear()
    with pytest.raises(Conflict, match=r"'acme\.weather' changed meanwhile: it is installed, not ready") as caught:
        await registry.set_status(plugin.id, expected=Status.READY, status=Status.ERROR)
    assert caught.value.details == {"plugin": "acme.weather", "status": "installed", "expected": "ready"}
    assert registry.get(plugin.id) == plugin
    assert published == []


async def test_of_many_that_change_one_status_one_wins(registry: PluginRegistry, plugin: Plugin) -> None:
    won: list[Status] = []

    async def attempt(status: Status) -> None:
        with suppress(Conflict):
            won.append((await registry.set_status(plugin.id, expected=Status.INSTALLED, status=status)).status)

    async with trio.open_nursery() as nursery:
        for status in (Status.READY, Status.ERROR, Status.UNINSTALLED) * 3:
            nursery.start_soon(attempt, status)
    assert won == [registry.get(plugin.id).status]


async def test_a_status_of_nobody_is_not_found(registry: PluginRegistry, plugin: Plugin) -> None:
    with pytest.raises(NotFound):
        await registry.set_status(PluginId("nobody"), expected=Status.READY, status=Status.ERROR)


# --- delete ---


async def test_deleting_takes_everything_but_the_events(
    registry: PluginRegistry,
    database: Database,
    plugin: Plugin,
    published: list[Recorded],
    make_manifest: MakeManifest,
) -> None:
    other = await install(registry, make_manifest("other"))
    state = StateStore(database)
    for owner in (plugin, other):
        id_ = owner.id
        await ConfigStore(database).set(owner, {"a": 1}, uid=None)
        await state.set(id_, "k", "v")
        job = {"id": f"job-{id_}", "plugin_id": id_, "key": "j", "spec": {}, "active": True, "paused": False}
        run = {"job_id": job["id"], "plugin_id": id_, "plugin_key": "k", "job_key": "j", "trigger": "manual"}
        run |= {"id": f"run-{id_}", "state": "queued", "attempt": 1, "due_ms": 0, "created_ms": 0, "result": {"x": b""}}

        def add(_: object, job: dict[str, Any] = job, run: dict[str, Any] = run) -> None:
            JobRow.insert(created_at_ms=0, updated_at_ms=0, **job).execute()
            JobRunRow.insert(**run).execute()

        await database.transact(add)
    published.clear()
    await registry.delete(
        plugin.id,
        then=[PluginUnloaded(plugin_id=plugin.id, plugin_key=plugin.key, remove_data=True)],
    )
    assert told(published) == [("plugin.unloaded", {"remove_data": True})]
    assert registry.all() == await reloaded(database) == [other]
    for model in (PluginRow, ApprovalRow, ConfigRevisionRow, ConfigRow, JobRow, JobRunRow):
        column = model.id if model is PluginRow else model.plugin_id
        owners = await database.read(lambda model=model, column=column: {v for (v,) in model.select(column).tuples()})
        assert owners == {other.id}
    assert await state.get(plugin.id, "k") == (False, None, 0)
    with pytest.raises(NotFound):
        await registry.delete(plugin.id)
    fresh = await install(registry, make_manifest())
    assert fresh.id != plugin.id
    assert registry.get("acme.weather") == fresh


# --- events ---


async def test_events_of_their_own_are_recorded_in_order(
    registry: PluginRegistry,
    plugin: Plugin,
    published: list[Recorded],
) -> None:
    published.clear()
    events = [PluginEmitted(plugin_id=plugin.id, plugin_key=plugin.key, name=name, payload=1) for name in "abc"]
    assert await registry.record(*events) == published
    assert [event.type for event in published] == ["emitted.a", "emitted.b", "emitted.c"]


async def test_a_plugin_that_cannot_be_read_is_left_out_and_can_be_installed_again(
    open_database: Any,
    make_manifest: MakeManifest,
    tmp_path: Path,
) -> None:
    async with open_database() as database:
        registry = await PluginRegistry.load(database)
        broken = await install(registry, make_manifest())
        await install(registry, make_manifest("sound"))
        await ConfigStore(database).set(broken, {"kept": True}, uid=None)
    with closing(sqlite3.connect(tmp_path / "plugind.db")) as connection, connection:
        connection.execute("UPDATE plugin SET manifest = ? WHERE key = 'acme.weather'", (json.dumps({"plugin": {}}),))
    async with open_database() as database:
        registry = await PluginRegistry.load(database)
        [warning] = database.warnings
        assert "'acme.weather' is left out" in warning
        assert [plugin.key for plugin in registry.all()] == ["sound"]
        again = await install(registry, make_manifest())
        assert again.id == broken.id
        assert (await ConfigStore(database).get(broken.id)).data == {"kept": True}
        with pytest.raises(AlreadyExists):
            await install(registry, make_manifest())


async def test_a_plugin_and_its_version_share_a_manifest_that_is_the_same(
    open_database: Any,
    make_manifest: MakeManifest,
    tmp_path: Path,
) -> None:
    jobs = (JobSpec(key="tidy", display_name="Tidy"),)
    async with open_database() as database:
        registry = await PluginRegistry.load(database)
        same = await install(registry, replace(make_manifest(), jobs=jobs))
        other = await install(registry, replace(make_manifest("other"), jobs=jobs))
    with closing(sqlite3.connect(tmp_path / "plugind.db")) as connection, connection:
        revised = json.dumps(manifest_to_table(make_manifest("other", "2.0")))
        connection.execute("UPDATE plugin_version SET manifest = ? WHERE plugin_id = ?", (revised, other.id))
    async with open_database() as database:
        registry = await PluginRegistry.load(database)
        [version] = registry.versions(same.id)
        assert version.manifest is registry.get(same.id).manifest
        assert registry.get(same.id) == same
        [version] = registry.versions(other.id)
        assert version.manifest == make_manifest("other", "2.0")
        assert registry.get(other.id) == other


async def test_jobs_that_cannot_be_read_cost_nobody_else(
    open_database: Any,
    make_manifest: MakeManifest,
    tmp_path: Path,
) -> None:
    async with open_database() as database:
        registry = await PluginRegistry.load(database)
        plugins = [await install(registry, make_manifest(key)) for key in ("cut", "damaged", "sound")]
    with closing(sqlite3.connect(tmp_path / "plugind.db")) as connection, connection:
        for plugin, text in zip(plugins, ('[{"key":', '[{"key":"a"}]', "[]"), strict=True):
            stored = json.dumps(manifest_to_table(plugin.manifest) | {"jobs": text})
            connection.execute("UPDATE plugin SET manifest = ? WHERE key = ?", (stored, plugin.key))
    async with open_database() as database:
        registry = await PluginRegistry.load(database)
        [warning] = database.warnings
        assert "plugin 'cut' is left out" in warning
        assert "jobs: are not what is stored for jobs" in warning
        assert [plugin.key for plugin in registry.all()] == ["damaged", "sound"]
        with pytest.raises(FailedPrecondition, match="the stored jobs of the plugin cannot be read"):
            list(registry.get("damaged").manifest.jobs)
        assert registry.get("sound").manifest.jobs == ()


async def test_a_huge_name_is_refused_at_once_and_shortened(registry: PluginRegistry, plugin: Plugin) -> None:
    with pytest.raises(NotFound, match="there is no plugin 'xxx") as told:
        registry.get("x" * 1_000_000)
    assert len(told.value.message) < 200
    assert told.value.details == {"plugin": "x" * 100 + "…"}
