"""The journal is kept short by the clock, and by what comes in between."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from supervisor.clock import SystemClock, to_ms
from supervisor.core.errors import ResourceExhausted
from supervisor.core.event import PluginEmitted, Recorded
from supervisor.core.lifecycle import Status
from supervisor.core.plugin import PluginId, PluginKey
from supervisor.daemon.upkeep import Keep, keep_short, purge_uninstalled
from supervisor.store.audit import Asked, AuditFilter, AuditLog, Ended
from supervisor.store.database import Database
from supervisor.store.journal import Journal
from supervisor.store.requests import RequestLog
from tests.fakes import open_lifecycle_world


async def emit(database: Database, count: int, size: int) -> list[Recorded]:
    event = PluginEmitted(plugin_id=PluginId("p"), plugin_key=PluginKey("k"), name="n", payload="x" * size)
    return await database.transact(lambda tx: [tx.record(event) for _ in range(count)])


CHANGE = Asked(
    at_ms=to_ms(SystemClock().now()),
    uid=0,
    pid=1,
    exe=None,
    client=None,
    role="admin",
    method="m",
    target=None,
    request_id=None,
)


async def ask_for_changes(audit: AuditLog, count: int) -> None:
    for _ in range(count):
        await audit.end(None, CHANGE, Ended(result="ok", message=None, duration_ms=1))


async def test_who_emits_much_is_trimmed_at_once(
    autojump_clock: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = await Database.open(tmp_path / "d.db", clock=SystemClock(), publish=lambda _: None, inline=True)
    journal = Journal(database)
    trimmed: list[float] = []
    trim = journal.trim

    async def counted(**limits: Any) -> int:
        trimmed.append(trio.current_time())
        if len(trimmed) == 2:
            raise ResourceExhausted("the disk is full")
        return await trim(**limits)

    monkeypatch.setattr(journal, "trim", counted)
    age = timedelta(days=7)
    kept = [Keep(events=3, events_age=age, audit=2, audit_age=age)]
    keep = partial(keep_short, interval_s=100, growth_bytes=10_000)
    audit = AuditLog(database)
    async with trio.open_nursery() as nursery:
        began = trio.current_time()
        nursery.start_soon(keep, journal, RequestLog(database), audit, lambda: kept[-1])
        await trio.sleep(10)
        await emit(database, 9, 1000)
        await trio.testing.wait_all_tasks_blocked()
        assert trimmed == [began]
        for _ in range(2):  # the first fails
            await emit(database, 10, 1000)
            await trio.testing.wait_all_tasks_blocked()
        assert trimmed == [began, began + 10, began + 10]
        assert len(await journal.list(after_seq=0)) == 3
        await trio.sleep(101)
        assert trimmed[3:] == [began + 110]
        # What is to be kept is asked anew each time.
        await ask_for_changes(audit, 5)
        await trio.sleep(100)
        assert len(await audit.list(AuditFilter())) == 2
        kept.append(Keep(events=1, events_age=age, audit=1, audit_age=age))
        await trio.sleep(100)
        assert (len(await journal.list(after_seq=0)), len(await audit.list(AuditFilter()))) == (1, 1)
        nursery.cancel_scope.cancel()
    await database.aclose()


async def test_who_asks_for_many_changes_is_trimmed_at_once(autojump_clock: Any, tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "d.db", clock=SystemClock(), publish=lambda _: None, inline=True)
    audit, age = AuditLog(database), timedelta(days=7)
    keep = partial(keep_short, interval_s=1000, growth_entries=10)
    most = Keep(events=3, events_age=age, audit=5, audit_age=age)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep, Journal(database), RequestLog(database), audit, lambda: most)
        await trio.testing.wait_all_tasks_blocked()
        for many, left in ((9, 9), (1, 5), (9, 14), (1, 5)):
            await ask_for_changes(audit, many)
            await trio.testing.wait_all_tasks_blocked()
            assert len(await audit.list(AuditFilter())) == left
        for _ in range(10):  # What has begun counts as what has ended does, and once.
            await audit.end(await audit.begin(CHANGE), CHANGE, Ended(result="ok", message=None, duration_ms=1))
        await trio.testing.wait_all_tasks_blocked()
        assert len(await audit.list(AuditFilter())) == 5
        nursery.cancel_scope.cancel()
    await database.aclose()


async def test_what_was_uninstalled_long_ago_goes_with_its_data(autojump_clock: Any, tmp_path: Path) -> None:
    async with open_lifecycle_world(tmp_path / "d.db") as world:
        for key in ("acme.gone", "acme.back"):
            await world.put(key, Status.DISABLED)
            await world.lifecycle.unload(key)
        await world.put("acme.there", Status.DISABLED)
        world.forget_the_past()
        after = [timedelta(0)]
        purge = partial(purge_uninstalled, after=lambda: after[-1], interval_s=3600)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(purge, world.lifecycle, world.database.clock)
            await trio.sleep(86_400)
            after.append(timedelta(days=30))
            await trio.sleep(86_400 * 28)
            assert world.told() == []
            await world.put("acme.back", Status.DISABLED)
            world.fail_next_transaction(ResourceExhausted("the disk is full"))
            await trio.sleep(86_400 * 2)
            nursery.cancel_scope.cancel()
        assert world.told() == ["unloaded"]
        assert dict(world.events[0].data) == {"remove_data": True}
        assert {plugin.key for plugin in world.registry.all()} == {"acme.back", "acme.there"}
        assert world.data.removed == ["acme.gone"]
