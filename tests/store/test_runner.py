"""Both runners keep the same promises; only the threaded one shares commits."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from supervisor.core.errors import InternalError, ResourceExhausted, Unavailable
from supervisor.store.connection import Connection
from supervisor.store.runner import MAX_BATCH, Action, InlineRunner, Runner, ThreadRunner
from supervisor.store.tables import current


class CountingConnection(Connection):
    commits = 0

    def commit(self) -> None:
        super().commit()
        self.commits += 1


def schema(connection: Any) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS t (x INTEGER PRIMARY KEY, text TEXT)")
    connection.execute("CREATE TABLE IF NOT EXISTS child (t INTEGER REFERENCES t (x) DEFERRABLE INITIALLY DEFERRED)")


@pytest.fixture
def connection(tmp_path: Path) -> CountingConnection:
    return CountingConnection(tmp_path / "test.db", read_only=False, on_open=schema)


@pytest.fixture
async def threaded(connection: CountingConnection) -> AsyncIterator[ThreadRunner]:
    runner = ThreadRunner(connection, name="test-writer")
    await runner.open()
    yield runner
    await runner.aclose()


@pytest.fixture(params=[ThreadRunner, InlineRunner])
async def runner(request: pytest.FixtureRequest, connection: CountingConnection) -> AsyncIterator[Runner]:
    runner = InlineRunner(connection) if request.param is InlineRunner else ThreadRunner(connection, name="test-writer")
    await runner.open()
    yield runner
    await runner.aclose()


def insert(x: int, text: str = "") -> Callable[[list[Action]], int]:
    return lambda _: current.execute_sql("INSERT INTO t VALUES (?, ?)", (x, text)).lastrowid


def rows(_: list[Action]) -> list[int]:
    return [x for (x,) in current.execute_sql("SELECT x FROM t ORDER BY x")]


class Gate:
    """Work that keeps the writer's thread busy until it is opened."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self._token = trio.lowlevel.current_trio_token()
        self._reached = trio.Event()

    def work(self, _: list[Action]) -> None:
        self._token.run_sync_soon(self._reached.set)
        assert self._open.wait(10)

    async def block(self, nursery: trio.Nursery, runner: Runner) -> None:
        """Return when the thread is in the gate: whatever is handed over from now on waits behind it, together."""
        nursery.start_soon(runner.run, self.work)
        await self._reached.wait()

    def open(self) -> None:
        self._open.set()


# --- what both promise ---


async def test_returns_what_the_work_returns(runner: Runner) -> None:
    assert await runner.run(insert(7)) == 7
    assert await runner.run(rows) == [7]


async def test_a_raising_work_leaves_nothing_and_raises_to_its_caller_alone(runner: Runner) -> None:
    done = []

    def fails(actions: list[Action]) -> None:
        actions.append(lambda: done.append("must not happen"))
        insert(1)([])
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await runner.run(fails)
    await runner.run(insert(2))
    assert await runner.run(rows) == [2]
    assert done == []


async def test_actions_run_in_order_in_the_callers_thread_before_it_goes_on(runner: Runner) -> None:
    seen: list[object] = []

    def work(actions: list[Action]) -> str:
        actions.append(lambda: seen.append((1, threading.get_ident())))
        actions.append(lambda: seen.append((2, threading.get_ident())))
        return "result"

    assert await runner.run(work) == "result"
    assert seen == [(1, threading.get_ident()), (2, threading.get_ident())]


async def test_a_raising_action_reaches_the_caller_and_the_others_still_run(runner: Runner) -> None:
    seen: list[int] = []

    def broken() -> None:
        raise ZeroDivisionError

    def work(actions: list[Action]) -> None:
        insert(1)([])
        actions.extend([broken, lambda: seen.append(2)])

    with pytest.raises(ZeroDivisionError):
        await runner.run(work)
    assert seen == [2]
    assert await runner.run(rows) == [1], "it was committed all the same"


async def test_cancelled_beforehand_nothing_is_begun(runner: Runner) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await runner.run(insert(1))
    assert scope.cancelled_caught
    assert await runner.run(rows) == []


async def test_run_is_a_checkpoint(runner: Runner) -> None:
    with trio.testing.assert_checkpoints():
        await runner.run(rows)


async def test_a_commit_that_fails_stores_nothing_and_the_next_one_works(runner: Runner) -> None:
    def orphan(actions: list[Action]) -> None:
        current.execute_sql("INSERT INTO child VALUES (99)")
        actions.append(lambda: pytest.fail("an action ran without a commit"))

    with pytest.raises(InternalError, match="FOREIGN KEY"):
        await runner.run(orphan)
    await runner.run(insert(1))
    assert await runner.run(rows) == [1]


async def test_a_transaction_that_sqlite_rolls_back_itself_is_an_error(runner: Runner) -> None:
    await runner.run(insert(1))
    with pytest.raises(InternalError, match="UNIQUE"):
        await runner.run(lambda _: current.execute_sql("INSERT OR ROLLBACK INTO t VALUES (1, '')"))
    await runner.run(insert(2))
    assert await runner.run(rows) == [1, 2]


async def test_work_that_ends_the_transaction_is_an_error(runner: Runner) -> None:
    with pytest.raises(RuntimeError, match="ended the transaction"):
        await runner.run(lambda _: current.execute_sql("COMMIT").fetchall())
    assert await runner.run(insert(2)) == 2


async def test_a_full_disk_is_told_and_passes(runner: Runner, connection: Connection) -> None:
    await runner.run(insert(1))
    pages = await runner.run(lambda _: current.execute_sql("PRAGMA page_count").fetchone()[0])
    await runner.run(lambda _: current.execute_sql(f"PRAGMA max_page_count = {pages + 1}").fetchall())
    with pytest.raises(ResourceExhausted, match=r"disk of the database .*test\.db is full") as caught:
        await runner.run(insert(2, "x" * 100_000))
    assert caught.value.details["path"].endswith("test.db")
    await runner.run(lambda _: current.execute_sql("PRAGMA max_page_count = 100000").fetchall())
    await runner.run(insert(3, "x" * 100_000))
    assert await runner.run(rows) == [1, 3]


async def test_the_tables_are_bound_only_inside(runner: Runner) -> None:
    await runner.run(rows)
    with pytest.raises(AttributeError, match="uninitialized"):
        current.execute_sql("SELECT 1")


async def test_closed_it_refuses_and_closing_again_is_harmless(runner: Runner) -> None:
    await runner.aclose()
    await runner.aclose()
    with pytest.raises(Unavailable, match="closed"):
        await runner.run(rows)


@pytest.mark.parametrize("kind", [ThreadRunner, InlineRunner])
async def test_an_error_while_opening_reaches_the_opener(tmp_path: Path, kind: type) -> None:
    def on_open(_: object) -> None:
        raise KeyError("no schema")

    connection = Connection(tmp_path / "test.db", read_only=False, on_open=on_open)
    runner = InlineRunner(connection) if kind is InlineRunner else ThreadRunner(connection, name="t")
    with pytest.raises(KeyError, match="no schema"):
        await runner.open()
    await runner.aclose()


async def test_a_read_only_connection_cannot_write(runner: Runner, tmp_path: Path) -> None:
    await runner.run(insert(1))
    reader = InlineRunner(Connection(tmp_path / "test.db", read_only=True))
    await reader.open()
    try:
        assert await reader.run(rows) == [1]
        await runner.run(insert(2))
        assert await reader.run(rows) == [1, 2]
        with pytest.raises(Exception, match="readonly"):
            await reader.run(insert(3))
    finally:
        await reader.aclose()


# --- group commit ---


async def test_what_waits_at_once_shares_a_commit(threaded: ThreadRunner, connection: CountingConnection) -> None:
    gate = Gate()
    async with trio.open_nursery() as nursery:
        await gate.block(nursery, threaded)
        for x in range(MAX_BATCH + 10):
            nursery.start_soon(threaded.run, insert(x))
        await trio.testing.wait_all_tasks_blocked()
        gate.open()
    # The gate's own, a full batch, and the ten that did not fit.
    assert connection.commits == 3
    assert await threaded.run(rows) == list(range(MAX_BATCH + 10))


async def test_one_failure_in_a_shared_commit_leaves_the_others(
    threaded: ThreadRunner,
    connection: CountingConnection,
) -> None:
    gate = Gate()
    outcomes: dict[int, object] = {}

    async def run(x: int) -> None:
        def work(actions: list[Action]) -> int:
            insert(x)(actions)
            if x == 5:
                raise KeyError(x)
            return x

        try:
            outcomes[x] = await threaded.run(work)
        except KeyError as error:
            outcomes[x] = error.args

    async with trio.open_nursery() as nursery:
        await gate.block(nursery, threaded)
        for x in range(10):
            nursery.start_soon(run, x)
        await trio.testing.wait_all_tasks_blocked()
        gate.open()
    assert connection.commits == 2
    assert outcomes == {x: x if x != 5 else (5,) for x in range(10)}
    assert await threaded.run(rows) == [0, 1, 2, 3, 4, 6, 7, 8, 9]


async def test_a_lost_commit_is_told_to_everyone_with_an_error_of_his_own(threaded: ThreadRunner) -> None:
    gate = Gate()
    errors: list[BaseException] = []

    async def run(work: Callable[[list[Action]], Any]) -> None:
        with pytest.raises(InternalError, match="FOREIGN KEY") as caught:
            await threaded.run(work)
        errors.append(caught.value)

    async with trio.open_nursery() as nursery:
        await gate.block(nursery, threaded)
        for x in range(5):
            nursery.start_soon(run, insert(x))
        nursery.start_soon(run, lambda _: current.execute_sql("INSERT INTO child VALUES (99)"))
        await trio.testing.wait_all_tasks_blocked()
        gate.open()
    assert len({id(error) for error in errors}) == 6
    assert await threaded.run(rows) == []


async def test_a_waiting_caller_that_is_cancelled_gets_its_result(threaded: ThreadRunner) -> None:
    gate = Gate()
    seen: list[str] = []

    def work(actions: list[Action]) -> str:
        insert(1)(actions)
        actions.append(lambda: seen.append("action"))
        return "result"

    async def wait(scope: trio.CancelScope) -> None:
        with scope:
            seen.append(await threaded.run(work))
            await trio.lowlevel.checkpoint()
            seen.append("went on")

    scope = trio.CancelScope()
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            await gate.block(nursery, threaded)
            nursery.start_soon(wait, scope)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
            await trio.testing.wait_all_tasks_blocked()
            assert seen == []
            gate.open()
    assert scope.cancelled_caught
    assert seen == ["action", "result"]
    assert await threaded.run(rows) == [1]


async def test_closing_finishes_what_was_handed_over(threaded: ThreadRunner) -> None:
    gate = Gate()
    results: list[int] = []

    async def run(x: int) -> None:
        results.append(await threaded.run(insert(x)))

    async with trio.open_nursery() as nursery:
        await gate.block(nursery, threaded)
        for x in range(300):
            nursery.start_soon(run, x)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(threaded.aclose)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(Unavailable):
            await threaded.run(rows)
        gate.open()
    assert sorted(results) == list(range(300))


async def test_batches_answer_in_order(threaded: ThreadRunner) -> None:
    order: list[int] = []

    def work_of(x: int) -> Callable[[list[Action]], None]:
        return lambda actions: actions.append(lambda: order.append(x))

    gate = Gate()
    handed_over: list[int] = []

    async def run(x: int) -> None:
        handed_over.append(x)
        await threaded.run(work_of(x))

    async with trio.open_nursery() as nursery:
        await gate.block(nursery, threaded)
        for x in range(600):
            nursery.start_soon(run, x)
        await trio.testing.wait_all_tasks_blocked()
        gate.open()
    assert order == handed_over
