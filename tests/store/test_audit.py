"""The audit: begun before, ended after, found again by all that is in it, kept short."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import trio
import trio.testing

from supervisor.clock import to_ms
from supervisor.store import audit as store_audit
from supervisor.store.audit import Asked, AuditFilter, AuditLog, Ended
from supervisor.store.database import Database
from tests.store.conftest import OpenDatabase, TurnableClock

OK = Ended(result="ok", message=None, duration_ms=5)


@pytest.fixture
async def log(database: Database) -> AuditLog:
    return AuditLog(database)


def asked(method: str = "plugins.load", target: str | None = "acme.one", **more: Any) -> Asked:
    plain: dict[str, Any] = {
        "at_ms": 1000,
        "uid": 7,
        "pid": 8,
        "exe": "/bin/x",
        "client": "pluginctl 1",
        "role": "admin",
        "request_id": "r",
    }
    return Asked(method=method, target=target, **(plain | more))


async def put(log: AuditLog, *asks: Asked, ended: Ended = OK) -> None:
    for ask in asks:
        await log.end(None, ask, ended)


async def found(log: AuditLog, before: int | None = None, limit: int = 100, **only: Any) -> list[int]:
    return [entry["seq"] for entry in await log.list(AuditFilter(**only), before=before, limit=limit)]


async def test_all_that_is_known_is_told(log: AuditLog) -> None:
    seq = await log.begin(asked())
    [entry] = await log.list(AuditFilter())
    assert entry["result"] is entry["message"] is entry["duration_ms"] is None
    await log.end(seq, asked(), Ended(result="CONFLICT", message="busy", duration_ms=12))
    [entry] = await log.list(AuditFilter())
    assert entry == {
        "seq": 1,
        "at_ms": 1000,
        "uid": 7,
        "pid": 8,
        "exe": "/bin/x",
        "client": "pluginctl 1",
        "role": "admin",
        "method": "plugins.load",
        "target": "acme.one",
        "result": "CONFLICT",
        "message": "busy",
        "request_id": "r",
        "duration_ms": 12,
    }


async def test_what_could_not_be_begun_is_there_when_it_has_ended(log: AuditLog) -> None:
    await log.end(None, asked(), OK)
    await log.end(4711, asked(), OK)  # a seq of a row that was never committed
    assert [entry["result"] for entry in await log.list(AuditFilter())] == ["ok", "ok"]


async def test_what_was_begun_and_not_ended_was_cut_short(log: AuditLog) -> None:
    await put(log, asked())
    await log.begin(asked())
    assert await found(log, result="under_way") == [2]
    assert await log.close_open() == 1
    assert await log.close_open() == 0
    assert [entry["result"] for entry in await log.list(AuditFilter())] == ["cut_short", "ok"]
    assert await found(log, result="cut_short") == [2]


async def test_every_filter(log: AuditLog) -> None:
    await put(
        log, asked("plugins.load"), asked("plugins.unload", "acme.one/refresh", uid=1), asked("jobs.run", "acme.on")
    )
    await put(log, asked("daemon.stop", None, at_ms=2000), ended=Ended(result="INTERNAL", message=None, duration_ms=1))
    assert await found(log) == [4, 3, 2, 1]
    assert await found(log, methods=["plugins.*"]) == [2, 1]
    assert await found(log, methods=["jobs.run", "*.stop"]) == [4, 3]
    assert await found(log, methods=["[!dj]*"]) == [2, 1]
    assert await found(log, targets=["acme.one"]) == [2, 1]
    assert await found(log, targets=["acme.on", "%"]) == [3]
    assert await found(log, uid=1) == [2]
    assert await found(log, result="INTERNAL") == [4]
    assert await found(log, since_ms=1001) == await found(log, since_ms=2000) == [4]
    assert await found(log, until_ms=2000) == [3, 2, 1]
    assert await found(log, methods=["plugins.*"], uid=7) == [1]
    assert await found(log, uid=99) == []


async def test_pages(log: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_audit, "_LOOK_AT", 3)
    await put(log, *(asked(uid=number % 4) for number in range(1, 21)))
    assert await found(log, limit=5) == [20, 19, 18, 17, 16]
    assert await found(log, before=16, limit=5) == [15, 14, 13, 12, 11]
    assert await found(log, before=2) == [1]
    assert await found(log, before=1) == []
    # Few of many rows: several looks.
    assert await found(log, uid=0) == [20, 16, 12, 8, 4]
    assert await found(log, uid=0, limit=2, before=16) == [12, 8]


async def test_it_is_with_the_writer_before_what_comes_next(open_database: OpenDatabase) -> None:
    """So that it is durable no later than the change, though nobody waits for it."""
    async with open_database(inline=False) as database:
        log, order = AuditLog(database), []

        async def begin(*, task_status: trio.TaskStatus[None]) -> None:
            task_status.started()
            await log.begin(asked())

        def change(_: object) -> None:
            order.append(store_audit.AuditRow.select().count())

        for number in range(1, 51):
            async with trio.open_nursery() as nursery:
                await nursery.start(begin)
                await database.transact(change)
            assert order[-1] == number


async def test_trimming(log: AuditLog, clock: TurnableClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_audit, "_TRIM_BATCH", 4)
    now = to_ms(clock.now())
    await put(log, *(asked(at_ms=now + number) for number in range(10)))
    assert await log.trim(max_entries=100, max_age=timedelta(days=1)) == 0
    assert await log.trim(max_entries=3, max_age=timedelta(days=1)) == 7
    assert await found(log) == [10, 9, 8]
    clock.advance(timedelta(days=1, milliseconds=9))
    assert await log.trim(max_entries=3, max_age=timedelta(days=1)) == 2
    assert await found(log) == [10]
    clock.advance(timedelta(days=1))
    assert await log.trim(max_entries=3, max_age=timedelta(days=1)) == 1
    # A number is never given twice.
    await put(log, asked())
    assert await found(log) == [11]
