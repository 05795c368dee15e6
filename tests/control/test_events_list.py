"""events.list: pages by number and time, filters; and plugins.state_get, plugins.list with what workers use."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import pytest

from supervisor.clock import to_ms
from supervisor.core.lifecycle import Status
from supervisor.store.state import StateStore
from supervisor.worker.view import WorkerView
from tests.control.world import ControlWorld, Wire


async def seqs(wire: Wire, **params: Any) -> list[int]:
    return [event["seq"] for event in (await wire.call("events.list", **params))["events"]]


async def test_pages_by_number(world: ControlWorld, wire: Wire) -> None:
    plugin = await world.plugin()
    last = (await world.emit(plugin, 10, {"deep": [1]}))[-1].seq
    page = await wire.call("events.list", after_seq=last - 4, limit=3)
    assert ([e["seq"] for e in page["events"]], page["last_seq"]) == ([last - 3, last - 2, last - 1], last)
    assert await seqs(wire, limit=2, types=["emitted.*"], plugins=[plugin.key]) == [last - 1, last]
    assert await seqs(wire, limit=2, before_seq=last) == [last - 2, last - 1]
    assert await seqs(wire, before_seq=1) == []
    assert await seqs(wire, after_seq=last - 6, before_seq=last - 3) == [last - 5, last - 4]


async def test_all_of_them_backwards(world: ControlWorld, wire: Wire) -> None:
    plugin = await world.plugin()
    await world.emit(plugin, 10)
    found, before = list[int](), None
    while page := await seqs(wire, limit=3, before_seq=before):
        found[:0] = page
        before = page[0]
    assert found == await seqs(wire, after_seq=0)


async def test_pages_by_time(world: ControlWorld, wire: Wire) -> None:
    plugin = await world.plugin()
    page = await wire.call("events.list")
    at_ms, last = page["events"][-1]["at_ms"], page["last_seq"]
    await world.emit(plugin, 1)
    assert await seqs(wire, until_ms=0) == await seqs(wire, since_ms=at_ms + 86_400_000) == []
    assert (await seqs(wire, since_ms=at_ms))[-1] == last + 1
    assert (await seqs(wire, since_ms=0, limit=2)) == [1, 2]
    assert (await seqs(wire, since_ms=0, until_ms=at_ms + 86_400_000, after_seq=last)) == [last + 1]


async def test_filters_combine(world: ControlWorld, wire: Wire) -> None:
    one, two = await world.plugin("acme.one"), await world.plugin("acme.two")
    for plugin in (one, two):
        await world.run_started(plugin, "tidy")
        await world.emit(plugin, 1)
    last = world.lifecycle_world.bus.last_seq
    assert await seqs(wire, jobs=["acme.one/tidy", "id-of-acme.two/tidy"]) == [last - 3, last - 1]
    assert await seqs(wire, jobs=["acme.one/tidy"], plugins=[two.id]) == []
    assert await seqs(wire, jobs=["acme.one/tidy"], types=["job.*"], plugins=[one.key, two.key]) == [last - 3]
    assert await seqs(wire, types=["job.*", "emitted.*"], plugins=[two.key]) == [last - 1, last]
    for unknown in ({"jobs": ["tidy"]}, {"plugins": ["nobody"]}):
        assert (await wire.refused("events.list", **unknown))["name"] == "NOT_FOUND"


async def test_one_value_of_a_plugins_state(world: ControlWorld, wire: Wire) -> None:
    plugin = await world.plugin()
    store = StateStore(world.lifecycle_world.database)
    revision = await store.set(plugin.id, "a/b", {"deep": [None, b"\0"]})
    entry = await wire.call("plugins.state_get", plugin=plugin.key, key="a/b")
    assert entry == {"key": "a/b", "value": {"deep": [None, b"\0"]}, "revision": revision}
    error = await wire.refused("plugins.state_get", plugin=plugin.id, key="a")
    assert (error["name"], error["data"]) == ("NOT_FOUND", {"plugin": plugin.key, "key": "a"})
    assert (await wire.refused("plugins.state_get", plugin="nobody", key="a"))["name"] == "NOT_FOUND"
    assert (await wire.refused("plugins.state_get", plugin=plugin.key, key=""))["name"] == "INVALID_PARAMS"
    assert (await wire.refused("plugins.state_get", plugin=plugin.key, key="k" * 513))["name"] == "INVALID_PARAMS"


async def test_what_workers_use_is_told_where_it_is_asked_for(
    world: ControlWorld, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    up, down = await world.plugin("acme.up", Status.READY), await world.plugin("acme.down")
    views = {up.id: WorkerView(pid=os.getpid(), calls=7), down.id: WorkerView()}
    monkeypatch.setattr(world.lifecycle_world.workers, "view", views.__getitem__)
    asked: list[list[int]] = []
    told = {"cpu_percent": 1.5, "rss_bytes": 5, "pss_bytes": None, "threads": 1, "processes": 1, "open_files": 3}

    async def usage(pids: Any) -> Any:
        asked.append(list(pids))
        return {os.getpid(): told}

    monkeypatch.setattr(world.containment, "usage", usage)
    plain = await wire.call("plugins.list")
    assert [(it["key"], it["calls"], it["usage"]) for it in plain] == [("acme.up", 7, None), ("acme.down", 0, None)]
    assert asked == []
    full = await wire.call("plugins.list", usage=True)
    assert [(it["key"], it["calls"], it["usage"]) for it in full] == [("acme.up", 7, told), ("acme.down", 0, None)]
    assert asked == [[os.getpid()]]
    assert [it["key"] for it in await wire.call("plugins.list", usage=True, status="disabled")] == ["acme.down"]


async def test_the_page_and_its_end_are_of_one_instant(world: ControlWorld, wire: Wire) -> None:
    """Who lists the newest and follows from `last_seq` misses nothing: events come at any time."""
    plugin = await world.plugin()
    await world.emit(plugin, 1)
    read = world.lifecycle_world.database.read

    async def read_and_emit(work: Any, **options: Any) -> Any:
        answer = await read(work, **options)
        await world.emit(plugin, 1)
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.lifecycle_world.database, "read", read_and_emit)
        page = await wire.call("events.list", limit=1)
    assert [event["seq"] for event in page["events"]] == [page["last_seq"]]


async def test_times_are_of_the_journal(world: ControlWorld, wire: Wire) -> None:
    """Both ends of a span, to the millisecond."""
    plugin = await world.plugin()
    [event] = await world.emit(plugin, 1)
    at_ms = to_ms(event.at)
    assert event.seq in await seqs(wire, since_ms=at_ms)
    assert event.seq in await seqs(wire, until_ms=at_ms + 1)
    assert event.seq not in await seqs(wire, until_ms=at_ms)
    assert event.seq not in await seqs(wire, since_ms=to_ms(event.at + timedelta(milliseconds=1)))
