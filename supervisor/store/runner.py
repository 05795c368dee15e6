"""Runners: they run functions that each are one whole transaction, on one connection, and answer in the trio thread.

`ThreadRunner` gives the connection a thread of its own and lets functions that wait at the same time share a commit,
and so an fsync. `InlineRunner` does the same in the calling thread: for tests under a mock clock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

import outcome
import trio

from supervisor.core.errors import Unavailable
from supervisor.histogram import Distribution
from supervisor.store.connection import Connection
from supervisor.store.fair_queue import FairQueue

MAX_BATCH: Final = 256
"""Functions that may share a commit."""
MAX_BATCH_BYTES: Final = 512 * 1024
"""What they may say together: who has little to write does not share a commit with who has much."""

T = TypeVar("T")
Action = Callable[[], None]
Work = Callable[[list[Action]], T]
"""One whole transaction. What it appends to the list is done in the trio thread once it is committed."""
Result = outcome.Value[Any] | outcome.Error


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerStatistics:
    waiting: int
    """Functions that have not begun."""
    transactions: int
    """Functions that were run, whatever became of them."""
    commit_s: Distribution
    """Seconds that commits took which had something to store."""


class Runner(Protocol):
    def statistics(self) -> RunnerStatistics: ...

    async def open(self) -> None:
        """Open the connection. A runner is opened once."""

    async def run(self, work: Work[T], *, owner: str | None = None, size: int = 0) -> T:
        """What `work` returns, once it is durable and its actions are done, in order.

        Those of one `owner` are run in the order asked for; of several owners each has its share, by `size` in bytes.

        A checkpoint; cancelled before `work` was handed over it does nothing, and afterwards it waits for the commit
        all the same: nobody is left in doubt about what was stored. `work` must not await, nor touch anything that
        belongs to the trio thread.

        Raises:
            Unavailable: the runner is closed.
            Exception: what `work` raised, and then it left nothing behind; or why the commit failed.
        """

    async def aclose(self) -> None:
        """Finish what was handed over and close the connection. Again is harmless."""


@dataclass(slots=True)
class _Done:
    actions: list[Action]
    result: Result

    def settle(self) -> Result:
        """Do the actions and return the answer; for the trio thread.

        Each is done though one before it fails: what was committed must be told. The first failure is the answer.
        """
        if isinstance(self.result, outcome.Error):
            return self.result
        failures = [done for done in map(outcome.capture, self.actions) if isinstance(done, outcome.Error)]
        return failures[0] if failures else self.result


class _Broken(Exception):
    """The transaction is lost for all who shared it; `__cause__` says why."""


def run_batch(connection: Connection, works: list[Work[Any]]) -> list[_Done]:
    """Run all of `works` in one transaction; one that raises takes back only what it did itself."""
    with connection.bound():
        try:
            connection.begin()
            done = [_run_one(connection, work) for work in works]
            connection.commit()
        except Exception as error:  # noqa: BLE001 - it is handed to everyone who waits
            cause = error.__cause__ if isinstance(error, _Broken) and error.__cause__ else error
            failure = outcome.capture(connection.rollback)
            if isinstance(failure, outcome.Error):
                cause.add_note(f"and the rollback failed: {failure.error!r}")
            return [_Done([], outcome.Error(connection.fault(cause))) for _ in works]
    return done


def _run_one(connection: Connection, work: Work[Any]) -> _Done:
    actions: list[Action] = []
    connection.savepoint()
    result = outcome.capture(work, actions)
    if not connection.in_transaction:
        # A full disk or an I/O error can make SQLite roll the whole transaction back by itself.
        cause = result.error if isinstance(result, outcome.Error) else None
        raise _Broken from cause or RuntimeError("a function ended the transaction that it was given")
    if isinstance(result, outcome.Error):
        connection.rollback_to_savepoint()
        return _Done([], outcome.Error(connection.fault(result.error)))
    connection.release()
    return _Done(actions, result)


class InlineRunner:
    """Transactions in the calling thread, one commit each."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._closed = False
        self._transactions = 0

    def statistics(self) -> RunnerStatistics:
        commit_s = self._connection.commit_s.look()
        return RunnerStatistics(waiting=0, transactions=self._transactions, commit_s=commit_s)

    async def open(self) -> None:
        await trio.lowlevel.checkpoint()
        self._connection.open()

    async def run(self, work: Work[T], *, owner: str | None = None, size: int = 0) -> T:
        await trio.lowlevel.checkpoint_if_cancelled()
        _refuse_if(self._closed)
        self._transactions += 1
        [done] = run_batch(self._connection, [work])
        result: Result = done.settle()
        await trio.lowlevel.cancel_shielded_checkpoint()
        value: T = result.unwrap()
        return value

    async def aclose(self) -> None:
        self._closed = True
        self._connection.close()
        await trio.lowlevel.cancel_shielded_checkpoint()


@dataclass(slots=True)
class _Item:
    task: trio.lowlevel.Task
    work: Work[Any] | None
    """None: close the connection and end."""


class ThreadRunner:
    """Transactions in one thread that owns the connection; those that wait together share a commit."""

    def __init__(self, connection: Connection, *, name: str) -> None:
        self._connection = connection
        self._name = name
        self._queue: FairQueue[_Item] = FairQueue(max_items=MAX_BATCH, max_bytes=MAX_BATCH_BYTES)
        self._closed = True
        self._transactions = 0

    def statistics(self) -> RunnerStatistics:
        commit_s = self._connection.commit_s.look()
        return RunnerStatistics(waiting=len(self._queue), transactions=self._transactions, commit_s=commit_s)

    async def open(self) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        token = trio.lowlevel.current_trio_token()
        opener = trio.lowlevel.current_task()
        # A daemon thread: should trio itself crash, nobody closes us, and the process must still be able to end.
        threading.Thread(target=self._main, args=(token, opener), name=self._name, daemon=True).start()
        await _wait_for_answer()
        self._closed = False

    async def run(self, work: Work[T], *, owner: str | None = None, size: int = 0) -> T:
        await trio.lowlevel.checkpoint_if_cancelled()
        _refuse_if(self._closed)
        self._queue.put(_Item(trio.lowlevel.current_task(), work), owner=owner, size=size)
        value: T = await _wait_for_answer()
        return value

    async def aclose(self) -> None:
        if self._closed:
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        self._closed = True
        self._queue.put_last(_Item(trio.lowlevel.current_task(), None))
        await _wait_for_answer()

    def _main(self, token: trio.lowlevel.TrioToken, opener: trio.lowlevel.Task) -> None:
        opened = outcome.capture(self._connection.open)
        try:
            token.run_sync_soon(_answer, [(opener, _Done([], opened))])
            if isinstance(opened, outcome.Value):
                self._serve(token)
        except trio.RunFinishedError:
            # The loop is gone and with it all who waited; what was committed is found at the next start.
            self._connection.close()

    def _serve(self, token: trio.lowlevel.TrioToken) -> None:
        while True:
            items = self._queue.take(lambda item: item.work is None)
            closer = items.pop() if items[-1].work is None else None
            if items:
                self._transactions += len(items)
                done = run_batch(self._connection, [item.work for item in items if item.work])
                token.run_sync_soon(_answer, [(item.task, d) for item, d in zip(items, done, strict=True)])
            if closer:
                closed = outcome.capture(self._connection.close)
                token.run_sync_soon(_answer, [(closer.task, _Done([], closed))])
                return


def _answer(batch: list[tuple[trio.lowlevel.Task, _Done]]) -> None:
    for task, done in batch:
        trio.lowlevel.reschedule(task, done.settle())


async def _wait_for_answer() -> Any:
    """Wait to be rescheduled. Not cancellable: it lasts as long as the commit, and its outcome must be known."""
    return await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)


def _refuse_if(closed: bool) -> None:
    if closed:
        raise Unavailable("the database is closed: the daemon is stopping", stopping=True)
