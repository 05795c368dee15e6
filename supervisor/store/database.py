"""Database: transactions and reads over one SQLite file; the only way to the tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import trio

from supervisor.clock import Clock, from_ms, to_ms
from supervisor.core.event import Event, Recorded
from supervisor.store import files
from supervisor.store.connection import Connection
from supervisor.store.meter import Meter
from supervisor.store.migrations import migrate
from supervisor.store.runner import Action, InlineRunner, Runner, RunnerStatistics, ThreadRunner
from supervisor.store.tables import current, pack

T = TypeVar("T")

_INSERT_EVENT: Final = (
    "INSERT INTO event (seq, at_ms, type, plugin_id, plugin_key, data, job) VALUES (?, ?, ?, ?, ?, ?, ?)"
)
# A seq is never given twice: SQLite keeps the highest of an AUTOINCREMENT table, also of rows that are gone.
_LAST_SEQ: Final = "SELECT seq FROM sqlite_sequence WHERE name = 'event'"


class Transaction:
    """What a function may do in its transaction, beside using the models of `tables`. Of no use afterwards."""

    def __init__(self, clock: Clock, publish: Callable[[Recorded, int], None], actions: list[Action]) -> None:
        self._clock = clock
        self._publish = publish
        self._actions = actions

    @property
    def now_ms(self) -> int:
        return to_ms(self._clock.now())

    def record(self, event: Event) -> Recorded:
        """Write the event into the journal, and publish it once this transaction is committed."""
        return self.record_all([event])[0]

    def record_all(self, events: Sequence[Event]) -> list[Recorded]:
        """The same for many, in their order."""
        at_ms = self.now_ms
        at, packed = from_ms(at_ms), [pack(event.data()) for event in events]
        newest = self.execute(_LAST_SEQ).fetchone()
        seqs = range(1 + (newest[0] if newest else 0), 1 + len(events) + (newest[0] if newest else 0))
        current.connection().executemany(
            _INSERT_EVENT,
            [
                (seq, at_ms, event.type, event.plugin_id, event.plugin_key, data, event.about_job)
                for seq, event, data in zip(seqs, events, packed, strict=True)
            ],
        )
        recorded = [
            Recorded(
                seq=seq,
                at=at,
                type=event.type,
                plugin_id=event.plugin_id,
                plugin_key=event.plugin_key,
                job=event.about_job,
                data=event.data(),
            )
            for seq, event in zip(seqs, events, strict=True)
        ]
        self.after_commit(partial(self._publish_all, recorded, packed))
        return recorded

    def _publish_all(self, recorded: Sequence[Recorded], packed: Sequence[bytes]) -> None:
        for event, data in zip(recorded, packed, strict=True):
            self._publish(event, len(data))

    def after_commit(self, action: Action) -> None:
        """Have `action` done in the trio thread, in the order asked for, before the caller of `transact` goes on.

        It is not done if the transaction fails. It must not raise.
        """
        self._actions.append(action)

    def execute(self, sql: str, parameters: tuple[Any, ...] = ()) -> Any:
        """Fixed SQL, for hot statements: the cursor, with `rowcount` and `lastrowid`."""
        return current.execute_sql(sql, parameters)


class Database:
    """One writer and one reader. Open it with `open`, and close it."""

    def __init__(
        self,
        path: Path,
        writer: Runner,
        reader: Runner,
        *,
        clock: Clock,
        publish: Callable[[Recorded], None],
    ) -> None:
        self.path = path
        self.clock = clock
        self.warnings: list[str] = []
        """What the operator should know about the opening, such as: it was damaged and moved aside to X."""
        self.recorded = Meter()
        """How much the events have said that were recorded since the opening, in bytes."""
        self._writer = writer
        self._reader = reader
        self._publish = publish

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        clock: Clock,
        publish: Callable[[Recorded], None],
        inline: bool = False,
    ) -> Database:
        """Open or create the database at `path`, whose directory exists, and bring its schema up to date.

        `publish` gets every recorded event, in the trio thread, in the order of `seq`, after its commit and before
        the transaction's caller goes on. `inline` works in the calling thread: for tests under a mock clock.

        Raises:
            FailedPrecondition: no access, or the file is of a newer plugind or another program; it was left alone.
            ResourceExhausted: the disk is full.
        """

        def up_to_date(connection: sqlite3.Connection) -> None:
            migrate(connection, to_ms(clock.now()))

        writer = Connection(path, read_only=False, on_open=up_to_date)
        reader = Connection(path, read_only=True)
        database = cls(
            path,
            InlineRunner(writer) if inline else ThreadRunner(writer, name="plugind-db-writer"),
            InlineRunner(reader) if inline else ThreadRunner(reader, name="plugind-db-reader"),
            clock=clock,
            publish=publish,
        )
        prepare = partial(files.prepare, path, clock.now())
        database.warnings += prepare() if inline else await trio.to_thread.run_sync(prepare)
        await database._open()
        return database

    def statistics(self) -> dict[str, RunnerStatistics]:
        """Of the writer and the reader."""
        return {"writer": self._writer.statistics(), "reader": self._reader.statistics()}

    async def _open(self) -> None:
        try:
            await self._writer.open()
            await self._reader.open()
        except BaseException:
            await self.aclose()
            raise

    async def transact(self, work: Callable[[Transaction], T], *, owner: str | None = None, size: int = 0) -> T:
        """Run `work` as one whole transaction and return its result once it is durable.

        `work` runs in another thread: it takes plain values and returns plain values, does not await, and is done
        either entirely or not at all. Several that wait at once share one fsync. Once begun it is not cancelled.
        `owner` is for whom, None for the daemon itself, and `size` about how many bytes it writes: owners have equal
        shares, so that one that asks for much waits longer, and nobody else does.

        Raises:
            ResourceExhausted: the disk is full; nothing was stored.
            InternalError: the database failed.
            Exception: what `work` raised.
        """
        return await self._writer.run(
            lambda actions: work(Transaction(self.clock, self._recorded, actions)), owner=owner, size=size
        )

    async def read(self, work: Callable[[], T], *, owner: str | None = None, size: int = 0) -> T:
        """Run `work`, which only reads, over one consistent view that has every transaction acknowledged so far.

        `owner` and `size` as in `transact`.
        """
        return await self._reader.run(lambda _: work(), owner=owner, size=size)

    async def backup(self, path: Path) -> None:
        """Write a consistent copy to the new file `path` while everything goes on; see `files.back_up`."""
        await files.back_up(self.path, path)

    def _recorded(self, event: Recorded, size: int) -> None:
        self.recorded.add(size)
        self._publish(event)

    async def aclose(self) -> None:
        """Finish what was handed over, fold the write-ahead log into the file, and close. Again is harmless."""
        # Every runner waits shielded; what it costs is the transactions already handed over.
        try:
            await self._reader.aclose()
        finally:
            await self._writer.aclose()
