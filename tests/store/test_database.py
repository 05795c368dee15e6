from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

import supervisor
from supervisor.core.errors import FailedPrecondition, Unavailable
from supervisor.core.event import PluginDisabled, PluginEmitted, Recorded
from supervisor.core.plugin import PluginId, PluginKey
from supervisor.store.database import Database, Transaction
from supervisor.store.journal import Journal
from supervisor.store.tables import EventRow, current


def emitted(name: str, payload: Any = None) -> PluginEmitted:
    return PluginEmitted(plugin_id=PluginId("id"), plugin_key=PluginKey("acme"), name=name, payload=payload)


async def test_what_is_recorded_is_published_and_in_the_journal(
    database: Database,
    published: list[Recorded],
    clock: Any,
) -> None:
    clock.advance(timedelta(milliseconds=1234))
    payload = {"blob": b"\xff\x00", "list": [1, None, 2.5, "ü"], "big": 2**63 - 1}
    recorded = await database.transact(lambda tx: tx.record(emitted("hello", payload)))
    assert published == [recorded]
    assert recorded == Recorded(
        seq=1,
        at=datetime(2026, 3, 1, 12, 0, 1, 234000, tzinfo=UTC),
        type="emitted.hello",
        plugin_id="id",
        plugin_key="acme",
        data={"name": "hello", "payload": payload},
    )
    assert await Journal(database).list() == [recorded]


async def test_a_failed_transaction_publishes_nothing(database: Database, published: list[Recorded]) -> None:
    def work(tx: Transaction) -> None:
        tx.record(emitted("lost"))
        raise KeyError

    with pytest.raises(KeyError):
        await database.transact(work)
    assert published == []
    assert await Journal(database).list() == []
    kept = await database.transact(lambda tx: tx.record(emitted("kept")))
    assert published == [kept]


async def test_events_are_published_before_the_caller_goes_on_and_among_the_other_actions(
    database: Database,
    published: list[Recorded],
) -> None:
    seen: list[int] = []

    def work(tx: Transaction) -> None:
        tx.after_commit(lambda: seen.append(len(published)))
        tx.record(emitted("a"))
        tx.after_commit(lambda: seen.append(len(published)))
        tx.record(PluginDisabled(plugin_id=PluginId("id"), plugin_key=PluginKey("acme"), reason="why"))

    await database.transact(work)
    assert seen == [0, 1]
    assert [event.type for event in published] == ["emitted.a", "plugin.disabled"]


async def test_publishing_follows_seq_under_concurrency(database: Database, published: list[Recorded]) -> None:
    async def write(n: int) -> None:
        def work(tx: Transaction) -> None:
            for part in range(n % 3 + 1):
                tx.record(emitted(f"{n}.{part}"))
            if n % 7 == 0:
                raise KeyError

        try:
            await database.transact(work)
        except KeyError:
            assert n % 7 == 0
        else:
            assert f"emitted.{n}.{n % 3}" in {event.type for event in published}

    async with trio.open_nursery() as nursery:
        for n in range(200):
            nursery.start_soon(write, n)
    seqs = [event.seq for event in published]
    assert seqs == sorted(set(seqs))
    assert published == await Journal(database).list(after_seq=0, limit=1000)


async def test_a_read_sees_every_acknowledged_transaction_and_cannot_write(database: Database) -> None:
    for n in range(1, 20):
        await database.transact(lambda tx: tx.record(emitted("x")))
        assert await database.read(lambda: EventRow.select().count()) == n
    with pytest.raises(FailedPrecondition, match="readonly"):
        await database.read(lambda: current.execute_sql("DELETE FROM event"))


async def test_a_read_has_one_consistent_view(open_database: Any) -> None:
    async with open_database() as database:

        def count_twice() -> tuple[int, int]:
            first = EventRow.select().count()
            trio.from_thread.run(database.transact, lambda tx: tx.record(emitted("x")), trio_token=token)
            return first, EventRow.select().count()

        token = trio.lowlevel.current_trio_token()
        assert await database.read(count_twice) == (0, 0)
        assert await database.read(lambda: EventRow.select().count()) == 1


async def test_readers_do_not_wait_for_the_writer(open_database: Any) -> None:
    async with open_database() as database, trio.open_nursery() as nursery:
        token, reached, go_on = trio.lowlevel.current_trio_token(), trio.Event(), trio.Event()

        def work(tx: Transaction) -> None:
            tx.record(emitted("x"))
            trio.from_thread.run_sync(reached.set, trio_token=token)
            trio.from_thread.run(go_on.wait, trio_token=token)

        nursery.start_soon(database.transact, work)
        await reached.wait()
        assert await database.read(lambda: EventRow.select().count()) == 0
        go_on.set()


async def test_two_databases_at_once_stay_apart(open_database: Any) -> None:
    async with (
        open_database("a.db") as a,
        open_database("b.db", inline=True) as b,
        trio.open_nursery() as nursery,
    ):
        for n in range(50):
            nursery.start_soon(a.transact, lambda tx, n=n: tx.record(emitted(f"a{n}")))
            nursery.start_soon(b.transact, lambda tx, n=n: tx.record(emitted(f"b{n}")))
        await trio.testing.wait_all_tasks_blocked()
    async with open_database("a.db", inline=True) as a, open_database("b.db") as b:
        for database, letter in ((a, "a"), (b, "b")):
            events = await Journal(database).list()
            assert {event.type for event in events} == {f"emitted.{letter}{n}" for n in range(50)}


async def test_inline_works_under_a_mock_clock(open_database: Any, autojump_clock: Any) -> None:
    async with open_database(inline=True) as database:
        with trio.fail_after(0.001):
            await database.transact(lambda tx: tx.record(emitted("x")))
        assert trio.current_time() == autojump_clock.current_time()
        assert await database.read(lambda: EventRow.select().count()) == 1


async def test_durability_pragmas_hold(database: Database) -> None:
    def pragmas(_: Transaction) -> dict[str, object]:
        names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        return {name: current.execute_sql(f"PRAGMA {name}").fetchone()[0] for name in names}

    assert await database.transact(pragmas) == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": 5000,
    }
    assert os.stat(database.path).st_mode & 0o777 == 0o600


async def test_closing_folds_the_log_into_the_file(open_database: Any, tmp_path: Path) -> None:
    async with open_database() as database:
        await database.transact(lambda tx: tx.record(emitted("x")))
        assert (tmp_path / "plugind.db-wal").stat().st_size > 0
    assert os.listdir(tmp_path) == ["plugind.db"]
    await database.aclose()
    with pytest.raises(Unavailable):
        await database.transact(lambda tx: tx.record(emitted("x")))
    async with open_database() as database:
        assert await Journal(database).last_seq() == 1


async def test_a_database_locked_by_another_program_is_told(
    open_database: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("supervisor.store.connection.BUSY_TIMEOUT_S", 0.01)
    async with open_database() as database:
        with closing(sqlite3.connect(database.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unavailable, match=r"another program has kept the database .* locked"):
                await database.transact(lambda tx: tx.record(emitted("x")))
            other.execute("ROLLBACK")
        await database.transact(lambda tx: tx.record(emitted("x")))


_WRITER = """
import sys
from pathlib import Path

import trio

from supervisor.clock import SystemClock
from supervisor.core.event import PluginEmitted
from supervisor.store.database import Database


async def main():
    database = await Database.open(Path(sys.argv[1]), clock=SystemClock(), publish=lambda event: None)

    async def write(writer):
        for n in range(1_000_000):
            event = PluginEmitted(plugin_id="id", plugin_key="k", name=f"{writer}.{n}", payload=b"x" * 500)
            await database.transact(lambda tx: [tx.record(event) for _ in range(3)])
            print(event.type, flush=True)

    async with trio.open_nursery() as nursery:
        for writer in range(8):
            nursery.start_soon(write, writer)

trio.run(main)
"""


@pytest.mark.parametrize("acknowledged", [1, 100, 1500])
async def test_killed_in_the_middle_of_writes_what_was_acknowledged_is_there(
    open_database: Callable[..., Any],
    tmp_path: Path,
    acknowledged: int,
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(supervisor.__file__).parent.parent)}
    command = [sys.executable, "-c", _WRITER, str(tmp_path / "plugind.db")]

    def write_and_die() -> list[str]:
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
            assert process.stdout
            lines = [process.stdout.readline() for _ in range(acknowledged)]
            process.kill()
            # What it had said by the time it died counts too, save a line that was cut.
            return [*lines, *(line for line in process.stdout if line.endswith("\n"))]

    with trio.fail_after(60):
        told = await trio.to_thread.run_sync(write_and_die)
    assert len(told) >= acknowledged
    async with open_database() as database:
        assert database.warnings == []
        counts: dict[str, int] = {}
        rows = await database.read(lambda: [row.type for row in EventRow.select(EventRow.type)])
        for type_ in rows:
            counts[type_] = counts.get(type_, 0) + 1
        assert {line.strip() for line in told} <= set(counts)
        assert set(counts.values()) == {3}, "a transaction is there entirely or not at all"
        check = await database.read(lambda: current.execute_sql("PRAGMA integrity_check").fetchone()[0])
        assert check == "ok"
