"""Watch a directory with watchfiles, which is imported when the first plugin is run in place."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Final

import trio

_STEP_MS: Final = 50
_LOOK_MS: Final = 2000
"""How often it is seen whether the directory is still the one that is watched; inotify does not tell."""
_IGNORED_DIRECTORIES: Final = frozenset(
    {
        "__pycache__",
        ".git",
        ".hg",
        ".svn",
        ".venv",
        ".tox",
        ".nox",
        ".idea",
        ".vscode",
        ".mypy_cache",
        ".ruff_cache",
        ".pytest_cache",
        ".hypothesis",
        "node_modules",
    }
)
_IGNORED_NAME: Final = re.compile(
    r".*\.py[cod]|.*~|\.#.*|#.*#|\.?.*\.sw[a-z]|\.sw[a-z]|4913|.*\.(tmp|bak|orig)|.*___jb_(tmp|old)___|\.goutputstream-.*"
    r"|\.DS_Store|\.nfs.*|.*\.egg-info"
)

Tell = Callable[[Sequence[str]], None]
"""Called in the event loop's thread with the changed paths, below the directory."""


async def watch_directory(directory: Path, tell: Tell, began: Callable[[], None]) -> None:
    """Tell of changes until cancelled, or the directory is gone; `began` is called once it is watched.

    A thread of its own looks twenty times a second, as long as it lasts: the library has no other way.

    Raises:
        OSError: it cannot be watched: it is not there, or the system's inotify watches are used up.
    """
    token, stop = trio.lowlevel.current_trio_token(), threading.Event()

    def later(call: Callable[[], None]) -> None:
        try:
            token.run_sync_soon(call)
        except trio.RunFinishedError:
            stop.set()

    work = partial(_watch, directory, lambda paths: later(partial(tell, paths)), lambda: later(began), stop)
    try:
        # A limiter of its own: the thread stays, and must not take the place of one that comes and goes.
        await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=trio.CapacityLimiter(1))
    finally:
        stop.set()


def _watch(directory: Path, tell: Tell, began: Callable[[], None], stop: threading.Event) -> None:
    from watchfiles import watch

    was = _identity(directory)
    wanted = partial(_counts, str(directory))
    try:
        changes = watch(
            directory,
            watch_filter=lambda _, path: wanted(path),
            debounce=_STEP_MS,
            step=_STEP_MS,
            rust_timeout=_LOOK_MS,
            yield_on_timeout=True,
            stop_event=_Begin(stop, began),
            raise_interrupt=False,
            ignore_permission_denied=True,
        )
        for found in changes:
            if _identity(directory) != was:
                raise FileNotFoundError(f"{directory} is another directory now, or none")
            if found:
                tell(sorted(os.path.relpath(path, directory) for _, path in found))
    except RuntimeError as error:  # its own name for whatever the system says
        raise OSError(str(error)) from error


class _Begin:
    """Asked at each step whether to stop; the first time, the watch has just begun."""

    def __init__(self, stop: threading.Event, began: Callable[[], None]) -> None:
        self._stop = stop
        self._began: Callable[[], None] | None = began

    def is_set(self) -> bool:
        if self._began is not None:
            self._began()
            self._began = None
        return self._stop.is_set()


def _identity(directory: Path) -> tuple[int, int]:
    found = directory.stat()
    return found.st_dev, found.st_ino


def _counts(directory: str, path: str) -> bool:
    """Whether a change there may be one of the plugin, and is none of tools and editors."""
    parts = PurePosixPath(os.path.relpath(path, directory)).parts
    return _IGNORED_DIRECTORIES.isdisjoint(parts) and not any(_IGNORED_NAME.fullmatch(part) for part in parts)
