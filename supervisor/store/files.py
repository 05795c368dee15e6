"""The database as files: look at it before it is opened, move a damaged one aside, copy one that is in use."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path
from typing import Final

import trio

from supervisor.core.errors import AlreadyExists, FailedPrecondition
from supervisor.store.connection import BUSY_TIMEOUT_S
from supervisor.store.faults import DAMAGED, from_os, primary_code, translated
from supervisor.store.migrations import check_not_newer, stored_version

_COMPANIONS: Final = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a database, and what must stay with it."""


def prepare(path: Path, now: datetime) -> list[str]:
    """Make sure that a sound database, or an empty file, is at `path`; return warnings for the operator.

    A damaged one is moved aside, never deleted.

    Raises:
        FailedPrecondition: it cannot be opened, is not ours, or newer than this program; it was left as it is.
    """
    _create_or_touch(path)
    damage = _find_damage(path)
    if damage is None:
        return []
    aside = _move_aside(path, now)
    _create_or_touch(path)
    return [
        f"the database {path} was damaged ({damage}) and has been moved aside to {aside}; a new, empty one was begun. "
        f"Restore a backup, or rescue what is left with: sqlite3 {aside} .recover",
    ]


def _create_or_touch(path: Path) -> None:
    """See that the file can be read and written; only its owner may, since configurations hold secrets."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        _sync_directory(path.parent)
    except OSError as error:
        raise from_os(error, path, f"the database {path} cannot be opened") from error


def _find_damage(path: Path) -> str | None:
    try:
        # Read-only: closing it must not fold a log into a damaged file, or delete it.
        address = f"{path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(address, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)) as connection:
            stored = stored_version(connection)
            check_not_newer(stored)
            problems = [str(problem) for (problem,) in connection.execute("PRAGMA quick_check(1)")]
    except FailedPrecondition as error:
        raise FailedPrecondition(
            f"the database {path} is not used: {error.message}",
            path=str(path),
            **error.details,
        ) from error
    except sqlite3.Error as error:
        if primary_code(error) in DAMAGED:
            return str(error)
        raise translated(error, path) from error
    return None if problems == ["ok"] else problems[0]


def _move_aside(path: Path, now: datetime) -> Path:
    aside = _unused_name(path.with_name(f"{path.name}.damaged-{now:%Y%m%dT%H%M%SZ}"))
    # The database last: killed in between, it is found damaged once more, and no fresh one meets an old log.
    for suffix in (*_COMPANIONS, ""):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    _sync_directory(path.parent)
    return aside


def _unused_name(path: Path) -> Path:
    names = (path if n == 1 else path.with_name(f"{path.name}-{n}") for n in range(1, 1_000_000))
    return next(name for name in names if not name.exists())


async def back_up(source: Path, target: Path) -> None:
    """Write a consistent copy of the database at `source`, which may be in use, to the new file `target`.

    Runs in a thread; cancelled, it stops soon and leaves nothing.

    Raises:
        AlreadyExists: there is something at `target`.
        FailedPrecondition: the directory of `target` cannot be written.
        ResourceExhausted: its disk is full.
    """
    await trio.to_thread.run_sync(_back_up, source, target)


def _back_up(source: Path, target: Path) -> None:
    if os.path.lexists(target):
        raise _exists(target)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    except OSError as error:
        raise from_os(error, target, f"no backup can be written to {target}") from error
    part = Path(name)
    try:
        with os.fdopen(handle, "rb") as file:
            _copy(source, part)
            os.fsync(file.fileno())
        _publish(part, target)
    finally:
        part.unlink(missing_ok=True)
        _remove_companions(part)
    _sync_directory(target.parent)


def _copy(source: Path, part: Path) -> None:
    with closing(sqlite3.connect(source, timeout=BUSY_TIMEOUT_S, isolation_level=None)) as connection:
        connection.set_progress_handler(_is_cancelled, 10_000)
        try:
            # One read transaction: the copy shows one instant, and no writer waits for it.
            connection.execute("VACUUM INTO ?", (str(part),))
        except sqlite3.Error as error:
            trio.from_thread.check_cancelled()
            raise translated(error, part) from error


def _is_cancelled() -> bool:
    try:
        trio.from_thread.check_cancelled()
    except trio.Cancelled:
        # True makes SQLite interrupt the copy; the caller then raises it again.
        return True
    return False


def _publish(part: Path, target: Path) -> None:
    """Give the file its name, in one step, unless there is one of that name."""
    try:
        os.link(part, target)
    except FileExistsError as error:
        raise _exists(target) from error
    except OSError:
        # A file system without hard links: rename would replace a file that appeared just now, so look once more.
        if os.path.lexists(target):
            raise _exists(target) from None
        part.rename(target)


def _exists(target: Path) -> AlreadyExists:
    return AlreadyExists(f"{target} is there already: a backup never replaces a file; name another", path=str(target))


def _remove_companions(path: Path) -> None:
    for suffix in _COMPANIONS:
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
