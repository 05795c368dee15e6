from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path
from types import SimpleNamespace

import peewee
import pytest

from supervisor.core.errors import FailedPrecondition, InternalError, ResourceExhausted, Unavailable
from supervisor.store.faults import from_os, translated

PATH = Path("/var/lib/plugind/plugind.db")


def sqlite_error(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("what SQLite said")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (sqlite3.SQLITE_FULL, ResourceExhausted),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, Unavailable),
        (sqlite3.SQLITE_LOCKED, Unavailable),
        (sqlite3.SQLITE_READONLY_DBMOVED, FailedPrecondition),
        (sqlite3.SQLITE_CANTOPEN, FailedPrecondition),
        (sqlite3.SQLITE_IOERR_FSYNC, InternalError),
        (sqlite3.SQLITE_CORRUPT, InternalError),
        (sqlite3.SQLITE_CONSTRAINT_UNIQUE, InternalError),
    ],
)
def test_each_kind_of_error_has_its_own(code: int, expected: type[Exception], wrapped: bool) -> None:
    error: Exception = sqlite_error(code)
    if wrapped:
        error = peewee.OperationalError(error, "what SQLite said")
    ours = translated(error, PATH)
    assert type(ours) is expected
    assert ours.__cause__ is error
    assert str(PATH) in str(ours)
    assert "what SQLite said" in str(ours)


def test_an_io_error_on_a_full_disk_is_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=0))
    assert type(translated(sqlite_error(sqlite3.SQLITE_IOERR_SHMSIZE), PATH)) is ResourceExhausted


def test_what_is_not_sqlites_stays_as_it_is() -> None:
    for error in (KeyError("x"), InternalError("x"), peewee.DoesNotExist("x")):
        assert translated(error, PATH) is error


@pytest.mark.parametrize(
    ("number", "expected"),
    [(errno.ENOSPC, ResourceExhausted), (errno.EDQUOT, ResourceExhausted), (errno.EACCES, FailedPrecondition)],
)
def test_errors_of_the_system(number: int, expected: type[Exception]) -> None:
    ours = from_os(OSError(number, os.strerror(number)), PATH, "it cannot be opened")
    assert type(ours) is expected
    assert str(ours).startswith(f"it cannot be opened: {os.strerror(number)}; ")
