"""The demo's temporary directory: made, removed at the end, and removed by the next demo when this one is killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_PREFIX: Final = "plugind-demo-"
_UNLOCKED_S: Final = 60.0
"""How old a directory must be that nobody has ever locked: a younger one may belong to a demo that is starting."""


@contextmanager
def demo_directory() -> Iterator[Path]:
    """A directory for us alone. Signals must end nothing while it is removed."""
    remove_abandoned(Path(tempfile.gettempdir()))
    directory = Path(tempfile.mkdtemp(prefix=_PREFIX))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        if directory.exists():
            print(f"plugind demo: {directory} could not be removed", file=sys.stderr)


def remove_abandoned(parent: Path) -> list[Path]:
    """Remove the directories of our own demos that were killed, and return them.

    A demo that lives holds the lock of its state directory; it is taken here, so that one is removed once.
    """
    return [
        directory for directory in sorted(parent.glob(f"{_PREFIX}*")) if _is_ours(directory) and _removed(directory)
    ]


def _is_ours(directory: Path) -> bool:
    try:
        found = directory.lstat()
    except FileNotFoundError:
        return False  # Another demo was faster.
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


def _removed(directory: Path) -> bool:
    try:
        lock = os.open(directory / "state/lock", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return _never_locked(directory) and _remove(directory)
    try:
        # Empty for a moment between its making and its locking, or for good if the demo was killed just then.
        if not os.pread(lock, 1, 0):
            return _never_locked(directory) and _remove(directory)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return _remove(directory)
    except BlockingIOError:
        return False  # It lives.
    finally:
        os.close(lock)


def _never_locked(directory: Path) -> bool:
    with suppress(FileNotFoundError):
        return time.time() - directory.stat().st_mtime > _UNLOCKED_S
    return False


def _remove(directory: Path) -> bool:
    """What cannot be removed stays: it is in nobody's way."""
    shutil.rmtree(directory, ignore_errors=True)
    return not directory.exists()
