"""Configurations, their revisions, and the event of each change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from supervisor.core.errors import Conflict, InvalidParams, NotFound, ResourceExhausted
from supervisor.core.event import Recorded
from supervisor.core.lifecycle import Status
from supervisor.core.plugin import Plugin
from supervisor.store.configs import KEPT_REVISIONS, ConfigStore, StoredConfig, changed_names, same_value
from supervisor.store.database import Database
from supervisor.store.plugins import PluginRegistry
from tests.packages import a_package

NOW_MS = 1772366400000


@pytest.fixture
def configs(database: Database, plugin: Plugin, published: list[Recorded]) -> ConfigStore:
    published.clear()
    return ConfigStore(database)


async def test_none_then_the_last_one_set(configs: ConfigStore, plugin: Plugin, published: list[Recorded]) -> None:
    assert await configs.get(plugin.id) == StoredConfig()
    data = {"city": "Bern", "blob": b"\xff", "deep": {"a": [None, 1.5]}}
    first = await configs.set(plugin, data, uid=7)
    assert first == StoredConfig(data=data, revision=1, uid=7, set_at_ms=NOW_MS, good=False)
    assert await configs.get(plugin.id) == first
    second = await configs.set(plugin, {"city": "Bern"}, uid=None, expected_revision=1)
    assert (await configs.get(plugin.id), second.revision) == (second, 2)
    assert [(event.type, event.data) for event in published] == [
        ("plugin.config_changed", {"revision": 1, "changed": ["blob", "city", "deep"], "uid": 7}),
        ("plugin.config_changed", {"revision": 2, "changed": ["blob", "deep"], "uid": None}),
    ]


async def test_what_was_meant_for_another_revision_is_refused(
    configs: ConfigStore, plugin: Plugin, published: list[Recorded]
) -> None:
    await configs.set(plugin, {"a": 1}, uid=0)
    published.clear()
    with pytest.raises(Conflict, match="has revision 1, not 0; look at it again") as caught:
        await configs.set(plugin, {"a": 2}, uid=0, expected_revision=0)
    assert caught.value.details == {"plugin": "acme.weather", "revision": 1, "expected": 0}
    assert ((await configs.get(plugin.id)).data, published) == ({"a": 1}, [])


async def test_of_many_at_once_one_has_its_way(configs: ConfigStore, plugin: Plugin) -> None:
    refused = 0

    async def set_one(n: int) -> None:
        nonlocal refused
        try:
            await configs.set(plugin, {"n": n}, uid=n, expected_revision=0)
        except Conflict:
            refused += 1

    async with trio.open_nursery() as nursery:
        for n in range(20):
            nursery.start_soon(set_one, n)
    assert refused == 19
    [only] = await configs.history(plugin.id)
    assert only == await configs.get(plugin.id)


async def test_what_cannot_be_stored_is_told(configs: ConfigStore, plugin: Plugin, registry: PluginRegistry) -> None:
    with pytest.raises(InvalidParams, match="configuration cannot be stored"):
        await configs.set(plugin, {"x": object()}, uid=0)
    await registry.delete(plugin.id)
    with pytest.raises(NotFound, match="any more"):
        await configs.set(plugin, {}, uid=0)


async def test_the_last_twenty_are_kept_and_the_newest_good_one(configs: ConfigStore, plugin: Plugin) -> None:
    for n in range(1, 31):
        await configs.set(plugin, {"n": n}, uid=n)
        if n in (2, 4):
            await configs.mark_good(plugin.id, n)
    kept = await configs.history(plugin.id)
    assert [each.revision for each in kept] == [*range(30, 30 - KEPT_REVISIONS, -1), 4]
    assert [each.data["n"] for each in kept] == [each.uid for each in kept] == [each.revision for each in kept]
    assert [each.revision for each in kept if each.good] == [4]
    await configs.mark_good(plugin.id, 30)
    await configs.set(plugin, {"n": 31}, uid=0)
    assert [each.revision for each in await configs.history(plugin.id)] == list(range(31, 31 - KEPT_REVISIONS, -1))


async def test_good_is_the_revision_and_not_the_plugin(configs: ConfigStore, plugin: Plugin) -> None:
    await configs.set(plugin, {"n": 1}, uid=0)
    await configs.mark_good(plugin.id, 1)
    assert (await configs.get(plugin.id)).good
    await configs.set(plugin, {"n": 2}, uid=0)
    assert not (await configs.get(plugin.id)).good
    await configs.mark_good(plugin.id, 99)
    assert [each.good for each in await configs.history(plugin.id)] == [False, True]


async def test_a_full_disk_does_not_fail_who_marks(configs: ConfigStore, plugin: Plugin, database: Database) -> None:
    async def full(*_: Any, **__: Any) -> Any:
        raise ResourceExhausted("the disk is full")

    await configs.set(plugin, {"n": 1}, uid=0)
    database.transact = full  # type: ignore[method-assign]
    await configs.mark_good(plugin.id, 1)
    assert not (await configs.get(plugin.id)).good


async def test_it_outlives_an_uninstall_and_goes_with_the_row(
    configs: ConfigStore, plugin: Plugin, registry: PluginRegistry, make_manifest: Callable[..., Any]
) -> None:
    await configs.set(plugin, {"n": 1}, uid=0)
    await registry.set_status(plugin.id, expected=Status.INSTALLED, status=Status.UNINSTALLED)
    again = await registry.install(a_package(make_manifest(version="2.0"), "p2"), approved=frozenset(), uid=0)
    assert (await configs.get(again.id)).data == {"n": 1}
    await registry.delete(again.id)
    assert (await configs.get(again.id), await configs.history(again.id)) == (StoredConfig(), [])


def test_what_is_stored_is_not_in_its_repr() -> None:
    assert "hunter2" not in repr(StoredConfig(data={"password": "hunter2"}))


@pytest.mark.parametrize(
    ("before", "after", "names"),
    [
        ({}, {}, []),
        ({"a": 1}, {"a": 1}, []),
        ({"b": 1, "a": 1}, {"c": 1}, ["a", "b", "c"]),
        ({"a": None}, {}, ["a"]),
        ({"a": 1}, {"a": True}, ["a"]),
        ({"a": 1}, {"a": 1.0}, ["a"]),
        ({"a": {"x": [1, {"y": 0}]}}, {"a": {"x": [1, {"y": False}]}}, ["a"]),
        ({"a": {"x": 1, "y": 2}}, {"a": {"y": 2, "x": 1}}, []),
        ({"a": [1]}, {"a": [1, 1]}, ["a"]),
        ({"a": [1]}, {"a": (1,)}, []),
        ({"a": {}}, {"a": []}, ["a"]),
    ],
)
def test_what_has_changed(before: dict[str, Any], after: dict[str, Any], names: list[str]) -> None:
    assert changed_names(before, after) == changed_names(after, before) == names
    assert same_value(before, after) is not bool(names)
