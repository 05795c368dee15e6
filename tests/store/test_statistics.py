"""What the database says of itself: transactions, those that wait, and how long commits took that stored something."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from supervisor.core.event import PluginEmitted
from supervisor.core.plugin import PluginId, PluginKey
from supervisor.store.database import Database, Transaction
from tests.store.conftest import TurnableClock

EVENT = PluginEmitted(plugin_id=PluginId("p"), plugin_key=PluginKey("acme.one"), name="n", payload=None)


@pytest.fixture(params=[True, False], ids=["inline", "thread"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    opened = await Database.open(tmp_path / "a.db", clock=TurnableClock(), publish=lambda _: None, inline=request.param)
    yield opened
    await opened.aclose()


def commits(database: Database) -> int:
    return database.statistics()["writer"].commit_s.buckets[-1][1]


async def test_only_commits_that_store_something_count(database: Database) -> None:
    assert commits(database) == 0
    await database.transact(lambda _: None)
    await database.read(lambda: None)
    assert commits(database) == 0
    await database.transact(lambda tx: tx.record(EVENT))
    seen = database.statistics()
    assert commits(database) == 1
    assert seen["writer"].commit_s.sum > 0
    assert (seen["writer"].transactions, seen["reader"].transactions) == (2, 1)
    assert seen["reader"].commit_s.buckets[-1][1] == 0


async def test_a_failed_transaction_was_one_too(database: Database) -> None:
    def fail(_: Transaction) -> None:
        raise ValueError

    with pytest.raises(ValueError):
        await database.transact(fail)
    assert database.statistics()["writer"].transactions == 1


async def test_who_waits_is_counted(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "a.db", clock=TurnableClock(), publish=lambda _: None)
    held, begun = threading.Event(), threading.Event()

    def hold(_: Transaction) -> None:
        begun.set()
        assert held.wait(10)

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(database.transact, hold)
            await trio.to_thread.run_sync(begun.wait)
            for _ in range(3):
                nursery.start_soon(database.transact, lambda _: None)
            await trio.testing.wait_all_tasks_blocked()
            assert database.statistics()["writer"].waiting == 3
            held.set()
        assert database.statistics()["writer"].waiting == 0
        assert database.statistics()["writer"].transactions == 4
        await database.aclose()
