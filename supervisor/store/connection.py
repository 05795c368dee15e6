"""Connection: one SQLite connection, owned by the thread that opens it, with the few steps a transaction is made of."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

import peewee

from supervisor.histogram import COMMIT_S, Histogram
from supervisor.store import tables
from supervisor.store.faults import translated

BUSY_TIMEOUT_S: Final = 5
_WRITER_PRAGMAS: Final = {
    "journal_mode": "wal",
    "synchronous": "full",  # an acknowledged commit survives power loss; group commit shares the cost
    "foreign_keys": 1,
    "journal_size_limit": 16 * 1024 * 1024,
}
_READER_PRAGMAS: Final = {"query_only": 1}


class Connection:
    """Not thread-safe. Every method but the constructor belongs to one thread; a closed one may be opened again."""

    raw: sqlite3.Connection
    """The driver's own, for what peewee would only slow down; while open."""

    def __init__(
        self,
        path: Path,
        *,
        read_only: bool,
        on_open: Callable[[sqlite3.Connection], None] = lambda _: None,
    ) -> None:
        self._path = path
        self._read_only = read_only
        self._on_open = on_open
        self.commit_s = Histogram(COMMIT_S)
        """Seconds that commits took which had something to store: the fsync, nearly all of it."""
        self._changes = 0
        self._database: Any = peewee.SqliteDatabase(
            str(path),
            pragmas=_READER_PRAGMAS if read_only else _WRITER_PRAGMAS,
            timeout=BUSY_TIMEOUT_S,
            autoconnect=False,
        )

    def open(self) -> None:
        try:
            self._database.connect()
            self.raw = self._database.connection()
            self._on_open(self.raw)
        except Exception as error:
            self._database.close()
            fault = self.fault(error)
            if fault is error:
                raise
            raise fault from error

    def close(self) -> None:
        """Again is harmless. The last connection to close folds the write-ahead log into the file.

        Where it cannot (a full disk) the log stays, is valid, and is folded in the next time: no reason to fail.
        """
        self._database.close()

    def bound(self) -> AbstractContextManager[None]:
        """Within it the models of `tables` use this connection."""
        return tables.bound_to(self._database)

    def begin(self) -> None:
        # Deferred, a reader's snapshot is taken at its first query; a writer takes the lock before it reads anything.
        self.raw.execute("BEGIN" if self._read_only else "BEGIN IMMEDIATE")
        self._changes = self.raw.total_changes

    def commit(self) -> None:
        began_s = time.perf_counter()
        self.raw.execute("COMMIT")
        if self.raw.total_changes != self._changes:
            self.commit_s.observe(time.perf_counter() - began_s)

    def rollback(self) -> None:
        """Ends the transaction, if SQLite has not ended it by itself."""
        if self.in_transaction:
            self.raw.execute("ROLLBACK")

    def savepoint(self) -> None:
        self.raw.execute("SAVEPOINT work")

    def release(self) -> None:
        self.raw.execute("RELEASE work")

    def rollback_to_savepoint(self) -> None:
        self.raw.execute("ROLLBACK TO work")
        self.raw.execute("RELEASE work")

    @property
    def in_transaction(self) -> bool:
        return self.raw.in_transaction

    def fault(self, error: BaseException) -> BaseException:
        """The error to hand to a caller; a new object for each call where it is SQLite's."""
        return translated(error, self._path)
