"""The state directory: checked, locked against a second daemon, with its parts in place."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from supervisor.core.errors import FailedPrecondition
from supervisor.lifecycle.deleting import delete_tree
from supervisor.log import log
from supervisor.trust import entry_problem, parents_problem

_PARTS: Final = ("packages", "staging", "data", "logs")
_STATE_ID = re.compile(r"([0-9a-f]{32})(?: (\d+:\d+))?")
"""The id, and the directory that it was made for; files of former versions name none."""
_PRIVATE: Final = 0o700


class StateDirError(FailedPrecondition):
    """The state directory cannot be used; the message names the path and the way out. Details: path."""


class StateDirLocked(StateDirError):
    """Another daemon works on it. Details: path, pid and since (ISO 8601) of the holder, each None if not known."""


@dataclass(slots=True, kw_only=True)
class StateDir:
    """An open state directory. The lock is held until `close`, or the end of the process however it comes."""

    path: Path
    """Absolute, symlinks resolved."""
    state_id: str
    """A random token, made once: it marks the processes that belong to this directory."""
    id_was_kept: bool
    """Whether it is that of the last daemon that worked here, so that what is recorded of its processes holds."""
    lock_fd: int

    @property
    def packages(self) -> Path:
        return self.path / "packages"

    @property
    def staging(self) -> Path:
        """Was empty when the directory was opened."""
        return self.path / "staging"

    @property
    def data(self) -> Path:
        return self.path / "data"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    def empty_staging(self) -> None:
        """What an install that was cut short has left. Blocking.

        Raises:
            OSError: something cannot be deleted.
        """
        for entry in self.staging.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                delete_tree(entry)
            else:
                entry.unlink(missing_ok=True)

    def close(self) -> None:
        if self.lock_fd >= 0:
            os.close(self.lock_fd)
            self.lock_fd = -1

    def __enter__(self) -> StateDir:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_state_dir(path: Path) -> StateDir:
    """Create what is missing (mode 0700), refuse what others could change, lock it, empty staging.

    Blocking: for the start of the daemon.

    Raises:
        StateDirLocked: another daemon works on it; nothing was changed.
        StateDirError: it cannot be made, is no directory, or may be changed by others.
    """
    try:
        real = _make(path)
        lock_fd = _lock(real)
        try:
            for part in _PARTS:
                _check(_make(real / part, beside=real))
            state_id, was_kept = _state_id(real)
            state_dir = StateDir(path=real, state_id=state_id, id_was_kept=was_kept, lock_fd=lock_fd)
            try:
                state_dir.empty_staging()
            except OSError as error:
                # A pip that outlived its daemon may be writing there: it is ended later, and this done once more.
                if error.errno != errno.ENOTEMPTY:
                    raise
                log.warning("staging.in_use", path=error.filename)
            return state_dir
        except BaseException:
            os.close(lock_fd)
            raise
    except OSError as error:
        where = f"{error.filename}: " if error.filename and str(error.filename) != str(path) else ""
        raise StateDirError(f"the state directory {path}: {where}{error.strerror}", path=str(path)) from error


def make_private_dir(path: Path) -> Path:
    """A directory of ours, such as that of the logs, made and checked like the state directory; its resolved path.

    Raises:
        StateDirError: as `open_state_dir`.
    """
    try:
        return _make(path)
    except OSError as error:
        raise StateDirError(f"{error.filename or path}: {error.strerror}", path=str(path)) from error


def _make(path: Path, *, beside: Path | None = None) -> Path:
    """`beside`: the checked directory that it must stay directly below, so a symlink is refused."""
    try:
        path.mkdir(_PRIVATE, parents=beside is None, exist_ok=True)
    except FileExistsError as error:
        raise StateDirError(f"{path} is no directory: move it away, or choose another", path=str(path)) from error
    real = path.resolve(strict=True)
    if beside is not None and real.parent != beside:
        raise StateDirError(f"{path} is a symbolic link to {real}: put a directory in its place", path=str(path))
    _check(real)
    return real


def _check(path: Path) -> None:
    uid = os.geteuid()
    found = path.lstat()
    problem = entry_problem(path, found, uid) or parents_problem(path, uid)
    if problem is None and found.st_uid != uid:
        # Only root is left: readable, perhaps, but what we make in it would fail half way.
        problem = f"{path} belongs to root, and plugind runs as uid {uid}: chown -R {uid} {path}"
    if problem:
        raise StateDirError(problem, path=str(path))


def _lock(path: Path) -> int:
    fd = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # For people and for the error below; the lock itself is the kernel's and ends with the process.
        note = json.dumps({"pid": os.getpid(), "since": datetime.now(UTC).isoformat(timespec="seconds")})
        os.ftruncate(fd, 0)
        os.pwrite(fd, note.encode(), 0)
    except OSError as error:
        holder = os.pread(fd, 1000, 0)
        os.close(fd)
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise _locked(path, holder) from error
        raise
    return fd


def _locked(path: Path, note: bytes) -> StateDirLocked:
    try:
        holder = json.loads(note)
        pid, since = int(holder["pid"]), str(holder["since"])
    except (ValueError, KeyError, TypeError):
        return StateDirLocked(f"another plugind is using {path}; stop it first", path=str(path), pid=None, since=None)
    return StateDirLocked(
        f"another plugind (pid {pid}, since {since}) is using {path}; stop it first, or choose another --state-dir",
        path=str(path),
        pid=pid,
        since=since,
    )


def _state_id(path: Path) -> tuple[str, bool]:
    """And whether it was there already.

    A copy of the directory has a copy of the file, and the processes that it marks are those of another daemon, which
    may be at work. A rename keeps device and inode. Where a file system is numbered anew as it is mounted, the machine
    has been restarted mostly, and nobody is left that the former id would have found.
    """
    file, place = path / "state_id", _place(path)
    try:
        text = file.read_text("ascii", "replace").strip()
    except FileNotFoundError:
        text = None
    if text is not None:
        if (found := _STATE_ID.fullmatch(text)) is None:
            log.warning("state_id.damaged", path=str(file), found=text[:80])
        elif found[2] == place:
            return found[1], True
        elif found[2] is None:
            _write_durably(file, f"{found[1]} {place}\n")
            return found[1], True
        else:
            why = "it was made for another directory, which this is a copy of, or on a file system mounted anew since"
            log.info("state_id.renewed", path=str(file), why=why)
    made = secrets.token_hex(16)
    _write_durably(file, f"{made} {place}\n")
    return made, False


def _place(path: Path) -> str:
    found = path.stat()
    return f"{found.st_dev}:{found.st_ino}"


def _write_durably(file: Path, text: str) -> None:
    """Whole or not at all, also over a power cut. Nobody else writes here: we hold the lock."""
    fresh = file.with_suffix(".new")
    with fresh.open("w") as out:
        os.fchmod(out.fileno(), 0o600)
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    fresh.rename(file)
    fd = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
