"""Copy a package's files: regular files and directories only. Blocking; for threads."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from supervisor.core.errors import InvalidParams, ResourceExhausted
from supervisor.trust import entry_problem

SKIPPED: Final = frozenset({"__pycache__", ".git", ".venv"})
_CHUNK_BYTES: Final = 1024 * 1024
_KINDS: Final = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISBLK, "a block device"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageLimits:
    max_entries: int = 20_000
    """Files and directories."""
    max_bytes: int = 512 * 1024 * 1024
    max_depth: int = 50
    max_ratio: int = 100
    """Of what an archive unpacks to, to its own size; asked from 16 MiB on."""
    max_name_bytes: int = 1024
    """Of a path in an archive."""
    max_stored_entries: int = 500_000
    """Files and directories of a stored package: what came from its source, and its virtual environment."""


class PackageRefused(InvalidParams):
    """A file that must not be in a package, or that others could change. Details: path."""


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    """Path below the package's root."""
    path: Path
    fd: int
    """Open for reading; closed by the walk."""
    found: os.stat_result

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.found.st_mode)

    @property
    def is_executable(self) -> bool:
        return bool(self.found.st_mode & stat.S_IXUSR)


def copy_package(
    source: Path,
    target: Path,
    limits: PackageLimits,
    check_cancelled: Callable[[], object],
    report: Callable[[int, int | None], object] = lambda done, total: None,
) -> None:
    """Copy `source` into `target`, a directory of ours that exists and is empty. `report` hears the bytes so far.

    Everything is looked at through the descriptor it is read from, so that nothing can be swapped in between. Copies
    get mode 0600 or 0700: neither special bits nor foreign ownership come along.

    Raises:
        PackageRefused: a kind of file that is not allowed, or one that others could change.
        ResourceExhausted: too many, too large or too deep; or the disk is full.
    """
    done = 0
    try:
        for entry in _walk(source, limits, trusted=False):
            check_cancelled()
            if entry.is_dir:
                (target / entry.name).mkdir(0o700)
                continue
            out = os.open(target / entry.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                if entry.is_executable:
                    os.fchmod(out, 0o700)
                while chunk := os.read(entry.fd, _CHUNK_BYTES):
                    done += len(chunk)  # what is really read: a file may grow, or be larger than it says
                    if done > limits.max_bytes:
                        raise _too_large(source, entry, limits)
                    report(done, None)
                    check_cancelled()
                    _write_all(out, chunk)
            finally:
                os.close(out)
    except OSError as error:
        raise _explained(error, source) from error


def look_through(
    source: Path, limits: PackageLimits, check_cancelled: Callable[[], object] = lambda: None, *, trusted: bool
) -> None:
    """Look at every file as `copy_package` does, and copy none. `trusted`: whoever owns it, and may write to it.

    Raises:
        PackageRefused, ResourceExhausted: as `copy_package`.
    """
    size = 0
    try:
        for entry in _walk(source, limits, trusted=trusted):
            check_cancelled()
            size += 0 if entry.is_dir else entry.found.st_size
            if size > limits.max_bytes:
                raise _too_large(source, entry, limits)
    except OSError as error:
        raise _explained(error, source) from error


def sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_file_system(path: Path) -> None:
    """One syncfs(2) instead of an fsync for each of thousands of files."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syncfs(fd) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(fd)


def _walk(root: Path, limits: PackageLimits, *, trusted: bool) -> Iterator[_Entry]:
    """Every entry below `root`, directories before what is in them. `trusted`: whoever may change it."""
    count = 0
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not trusted:
            _refuse_foreign(root, os.fstat(fd))
        for entry in _walk_dir(fd, root, "", 1, limits, trusted=trusted):
            count += 1
            if count > limits.max_entries:
                raise ResourceExhausted(f"{root} holds more than {limits.max_entries} files and directories")
            yield entry
    finally:
        os.close(fd)


def _walk_dir(
    dir_fd: int, at: Path, prefix: str, depth: int, limits: PackageLimits, *, trusted: bool
) -> Iterator[_Entry]:
    if depth > limits.max_depth:
        raise ResourceExhausted(f"{at} is more than {limits.max_depth} directories deep")
    with os.scandir(dir_fd) as entries:
        for listed in entries:
            if listed.name in SKIPPED:
                continue
            path = at / listed.name
            _refuse_name(path, listed.name)
            # Before it is opened: to open a device or a pipe may already do something.
            _refuse_kind(path, os.stat(listed.name, dir_fd=dir_fd, follow_symlinks=False))
            fd = os.open(listed.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=dir_fd)
            try:
                found = os.fstat(fd)
                _refuse_kind(path, found)
                if not trusted:
                    _refuse_foreign(path, found)
                entry = _Entry(f"{prefix}{listed.name}", path, fd, found)
                yield entry
                if entry.is_dir:
                    yield from _walk_dir(fd, path, f"{entry.name}/", depth + 1, limits, trusted=trusted)
            finally:
                os.close(fd)


def _refuse_name(path: Path, name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise _refused(path, "has a name that is not UTF-8, which could not be recorded: rename it") from error


def _refuse_kind(path: Path, found: os.stat_result) -> None:
    for is_kind, name in _KINDS:
        if is_kind(found.st_mode):
            raise _refused(path, f"is {name}; a package holds regular files and directories only")
    if stat.S_ISREG(found.st_mode) and found.st_mode & (stat.S_ISUID | stat.S_ISGID):
        raise _refused(path, "has the setuid or setgid bit, which nothing in a package needs: chmod ug-s")


def _refuse_foreign(path: Path, found: os.stat_result) -> None:
    if problem := entry_problem(path, found, os.geteuid()):
        raise PackageRefused(problem, path=str(path))


def _too_large(source: Path, entry: _Entry, limits: PackageLimits) -> ResourceExhausted:
    return ResourceExhausted(f"{source} holds more than {limits.max_bytes} bytes, at {entry.path}")


def _refused(path: Path, why: str) -> PackageRefused:
    shown = os.fsencode(path).decode(errors="backslashreplace")
    return PackageRefused(f"{shown!r} {why}", path=shown)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _explained(error: OSError, source: Path) -> InvalidParams | ResourceExhausted:
    where = error.filename or source
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ResourceExhausted(f"no space left for the files of {source}: {error.strerror}")
    return InvalidParams(f"{source}: cannot copy {str(where)!r}: {error.strerror}")
