"""SQLite's errors -> ours: a full disk passes, a locked or unreadable file is the operator's, the rest is INTERNAL."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path
from typing import Final

import peewee

from supervisor.core.errors import FailedPrecondition, InternalError, ResourceExhausted, Unavailable

DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_LOCKED: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_FORBIDDEN: Final = frozenset({sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN})


def translated(error: BaseException, path: Path) -> BaseException:
    """What the caller shall see: a new error for one of SQLite's, caused by it; any other as it is."""
    cause = error.orig if isinstance(error, peewee.PeeweeException) and hasattr(error, "orig") else error
    if not isinstance(cause, sqlite3.Error):
        return error
    ours = _ours(primary_code(cause), cause, path)
    ours.__cause__ = error
    return ours


def from_os(error: OSError, path: Path, what: str) -> Exception:
    """An error of the operating system about a file; `what` failed."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return ResourceExhausted(f"{what}: {error.strerror}; free some space and try again", path=str(path))
    return FailedPrecondition(
        f"{what}: {error.strerror}; check that its directory exists and that uid {os.geteuid()} may write there",
        path=str(path),
    )


def primary_code(error: sqlite3.Error) -> int | None:
    """SQLite's primary result code; None where Python's own module refused."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _ours(code: int | None, error: sqlite3.Error, path: Path) -> Exception:
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _is_full(path)):
        return ResourceExhausted(
            f"the disk of the database {path} is full ({error}): nothing was stored; free some space and try again",
            path=str(path),
        )
    if code in _LOCKED:
        return Unavailable(
            f"another program has kept the database {path} locked ({error}): end it, or try again",
            path=str(path),
        )
    if code in _FORBIDDEN:
        return FailedPrecondition(
            f"the database {path} cannot be read and written ({error}): check the owner, the permissions and the "
            f"mount of it, of its -wal and -shm files and of its directory for uid {os.geteuid()}",
            path=str(path),
        )
    return InternalError(f"the database {path} failed: {error}", path=str(path))


def _is_full(path: Path) -> bool:
    try:
        return os.statvfs(path.parent).f_bavail == 0
    except OSError:
        # Then the directory itself is in trouble, and that is what the I/O error says.
        return False
