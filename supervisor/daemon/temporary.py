"""The temporary directory of a daemon for a while: removed at its end, and by the next one if it was killed."""

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

DEMO: Final = "plugind-demo-"
DEVELOP: Final = "plugind-dev-"
KEPT: Final = "kept-"
"""In front of the name of what is to stay."""
_UNLOCKED_S: Final = 60.0
"""How old a directory must be that nobody has ever locked: a younger one may belong to a daemon that is starting."""


@contextmanager
def temporary_directory(prefix: str, *, keep: bool = False) -> Iterator[Path]:
    """A directory for us alone; with `keep` it stays. Signals must end nothing while it is removed."""
    remove_abandoned(Path(tempfile.gettempdir()), prefix)
    directory = Path(tempfile.mkdtemp(prefix=KEPT + prefix if keep else prefix))
    try:
        yield directory
    finally:
        if not keep:
            shutil.rmtree(directory, ignore_errors=True)
            if directory.exists():
                print(f"plugind: {directory} could not be removed", file=sys.stderr)


def remove_abandoned(parent: Path, prefix: str) -> list[Path]:
    """Remove the directories of our own daemons that were killed, and return them.

    A daemon that lives holds the lock of its state directory; it is taken here, so that one is removed once.
    """
    return [directory for directory in sorted(parent.glob(f"{prefix}*")) if _is_ours(directory) and _removed(directory)]


def _is_ours(directory: Path) -> bool:
    try:
        found = directory.lstat()
    except FileNotFoundError:
        return False  # Another daemon was faster.
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


def _removed(directory: Path) -> bool:
    try:
        lock = os.open(directory / "state/lock", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return _never_locked(directory) and _remove(directory)
    try:
        # Empty for a moment between its making and its locking, or for good if it was killed just then.
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
