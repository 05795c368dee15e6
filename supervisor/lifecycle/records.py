"""What the files of a stored package are: recorded once, and looked at again before each start. Blocking; for threads.

The digest of a package is the SHA-256 over its files and links in the order of their paths (as bytes): for each the
path, NUL, one of `-` (file), `x` (executable file) and `l` (link), and the 32 bytes of the SHA-256 of its content, or
of where it leads. Directories count only by what is in them: an empty one more is no harm.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from supervisor.core.errors import ResourceExhausted
from supervisor.core.package import ENVIRONMENT_DIR, FileRecord, PackageChanged
from supervisor.lifecycle.copying import PackageLimits, PackageRefused
from supervisor.trust import private_group_now, user_name

_CHUNK_BYTES: Final = 256 * 1024
_SETTLED_NS: Final = 2_000_000_000
"""A change that follows another within the same tick of a file system's clock leaves the times as they are. The
coarsest tick in use is a second; what is younger than this is hashed again the next time."""
_KINDS: Final = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a block device",
    stat.S_IFCHR: "a character device",
}

Report = Callable[[int, int | None], object]
"""Bytes done, and of how many; may raise to end the work."""


class Found(NamedTuple):
    """One entry that is no directory, as lstat has it."""

    path: str
    mode: int
    uid: int
    gid: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @property
    def kind(self) -> str:
        return _KINDS.get(stat.S_IFMT(self.mode), "something else")

    @property
    def executable(self) -> bool:
        return bool(self.mode & stat.S_IXUSR)


class Owned(NamedTuple):
    """A directory, or what is there in its place."""

    path: str
    mode: int
    uid: int
    gid: int

    @property
    def problem(self) -> str | None:
        """What is wrong with it: then others than root and we ourselves could change what is in the package."""
        if not stat.S_ISDIR(self.mode):
            return f"is {_KINDS.get(stat.S_IFMT(self.mode), 'something else')} now"
        return _open_to_others(self)


@dataclass(frozen=True, slots=True)
class Survey:
    """All that is in a package, before anything of it was read."""

    entries: list[Found]
    taken_at_ns: int
    directories: list[Owned]
    """Those in the package by their paths, "." for itself, and the two above it: its plugin's, and the store."""

    @property
    def mark(self) -> bytes:
        """Equal marks: nothing was added, removed, replaced or changed in between."""
        # A path holds no NUL, and what follows it no letter: no two surveys read alike.
        lines = sorted(
            f"{path}\0{mode} {uid} {gid} {ino} {size} {mtime} {ctime}\0"
            for path, mode, uid, gid, ino, size, mtime, ctime in self.entries
        )
        # The others count only by what is in them.
        lines += sorted(f"{place.path}\0{place.problem}\0" for place in self.directories if place.problem)
        return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).digest()

    @property
    def is_settled(self) -> bool:
        """Whether every later change shows in the mark."""
        return all(found.ctime_ns < self.taken_at_ns - _SETTLED_NS for found in self.entries)


def survey(root: Path, limits: PackageLimits, check_cancelled: Callable[[], object]) -> Survey:
    """One lstat for each file and directory.

    Raises:
        PackageChanged: the package itself is not there, or holds more than any may.
        OSError: it cannot be looked at.
    """
    taken_at_ns, entries, pending = time.time_ns(), [], [""]
    _refuse_absent(root)
    directories = [_owned(path, place.lstat()) for path, place in _above(root)]
    while pending:
        check_cancelled()
        prefix = pending.pop()
        with os.scandir(f"{root}/{prefix}") as listed:
            for entry in listed:
                name = f"{prefix}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    pending.append(f"{name}/")
                    directories.append(_owned(name, entry.stat(follow_symlinks=False)))
                else:
                    found = entry.stat(follow_symlinks=False)
                    times = found.st_mtime_ns, found.st_ctime_ns
                    owned = _owned(name, found)
                    entries.append(Found(*owned, found.st_ino, found.st_size, *times))
        if len(entries) + len(directories) - len(_above(root)) > limits.max_stored_entries:
            raise _changed(root, prefix or ".", "holds more files and directories than any package may")
    return Survey(entries, taken_at_ns, directories)


def record(
    root: Path, limits: PackageLimits, check_cancelled: Callable[[], object], report: Report
) -> list[FileRecord]:
    """Record what a finished package holds, in the order of the digest, and give its files mode 0600 or 0700, and its
    directories too what nobody else can write to.

    Raises:
        PackageRefused: a link outside the virtual environment, a device, or a name that is no text.
        ResourceExhausted: more files than a package may hold.
        OSError: it cannot be read.
    """
    try:
        found_all = survey(root, limits, check_cancelled)
    except PackageChanged as error:
        raise ResourceExhausted(f"{root}: {error.details['problem']} ({limits.max_stored_entries})") from error
    for directory in found_all.directories[len(_above(root)) - 1 :]:
        if directory.mode & (stat.S_IWGRP | stat.S_IWOTH):
            (root / directory.path).chmod(0o700)
    entries = found_all.entries
    total, done, files = sum(found.size for found in entries), 0, []
    for found in sorted(entries, key=lambda found: os.fsencode(found.path)):
        files.append(_record_one(root, found, check_cancelled))
        done += found.size
        report(done, total)
    return files


def digest_of(files: Iterable[FileRecord]) -> str:
    """In hex; see the top of this module. Pure."""
    total = hashlib.sha256()
    for file in sorted(files, key=lambda file: os.fsencode(file.path)):
        kind = b"l" if file.link is not None else b"x" if file.executable else b"-"
        # A path holds no NUL and the rest has a fixed length: no two packages read alike.
        total.update(os.fsencode(file.path) + b"\0" + kind + bytes.fromhex(file.sha256))
    return total.hexdigest()


def verify(root: Path, found: Survey, files: Sequence[FileRecord], check_cancelled: Callable[[], object]) -> None:
    """Hold what was found against what was recorded, every content hashed again.

    Raises:
        PackageChanged: of the first that is different.
        OSError: it cannot be read.
    """
    _refuse_open_to_others(root, found)
    recorded = {file.path: file for file in files}
    for entry in sorted(found.entries):
        check_cancelled()
        file = recorded.pop(entry.path, None)
        if file is None:
            raise _changed(root, *_added(entry, files))
        if problem := _difference(root, entry, file, check_cancelled):
            raise _changed(root, entry.path, problem)
    if recorded:
        path = min(recorded)
        raise _changed(root, path, _what_is_missing(root / path))


def _refuse_absent(root: Path) -> None:
    try:
        found = root.lstat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _changed(root, ".", "is missing, with all its files") from error
    if not stat.S_ISDIR(found.st_mode):
        raise _changed(root, ".", f"is {_KINDS.get(stat.S_IFMT(found.st_mode), 'something else')} now")


def _above(root: Path) -> list[tuple[str, Path]]:
    """The package's own directory comes last."""
    return [("../..", root.parent.parent), ("..", root.parent), (".", root)]


def _owned(path: str, found: os.stat_result) -> Owned:
    return Owned(path, found.st_mode, found.st_uid, found.st_gid)


def _refuse_open_to_others(root: Path, found: Survey) -> None:
    """What others could change, they could change while the worker reads it."""
    above = dict(_above(root)[:-1])
    for place in found.directories:
        if place.problem and place.path in above:
            raise _changed(root, ".", f"lies in {os.path.normpath(above[place.path])}, which {place.problem}")
        if place.problem:
            raise _changed(root, place.path, place.problem)
    for entry in found.entries:
        if problem := _open_to_others(entry):
            raise _changed(root, entry.path, problem)


def _open_to_others(found: Owned | Found) -> str | None:
    if found.uid not in (0, os.geteuid()):
        return f"belongs to {user_name(found.uid)} now, who could change it"
    if stat.S_ISLNK(found.mode):
        return None  # Its mode means nothing.
    if found.mode & stat.S_IWOTH or (found.mode & stat.S_IWGRP and not private_group_now(found.uid, found.gid)):
        return f"may be written by others now (mode {stat.S_IMODE(found.mode):04o})"
    return None


def _record_one(root: Path, found: Found, check_cancelled: Callable[[], object]) -> FileRecord:
    path = root / found.path
    try:
        found.path.encode()
    except UnicodeEncodeError as error:
        raise _refused(root, found.path, "has a name that is not UTF-8") from error
    if stat.S_ISLNK(found.mode) and found.path.startswith(f"{ENVIRONMENT_DIR}/"):
        target = os.fsencode(path.readlink())
        name = target.decode(errors="backslashreplace")
        return FileRecord(
            path=found.path, size=found.size, sha256=hashlib.sha256(target).hexdigest(), executable=False, link=name
        )
    if not stat.S_ISREG(found.mode):
        raise _refused(root, found.path, f"is {found.kind}; a package holds regular files and directories only")
    mode = 0o700 if found.executable else 0o600
    if stat.S_IMODE(found.mode) != mode:
        path.chmod(mode)
    sha256, size = _hash(path, None, check_cancelled)
    return FileRecord(path=found.path, size=size, sha256=sha256, executable=found.executable)


def _difference(root: Path, found: Found, file: FileRecord, check_cancelled: Callable[[], object]) -> str | None:
    if stat.S_ISLNK(found.mode) and file.link is not None:
        target = os.fsencode((root / found.path).readlink())
        same = hashlib.sha256(target).hexdigest() == file.sha256
        return None if same else f"leads to {target.decode(errors='backslashreplace')!r} now, not to {file.link!r}"
    if not stat.S_ISREG(found.mode) or file.link is not None:
        return f"is {found.kind} now"
    if found.size != file.size:
        return f"was changed: it has {found.size} bytes, not {file.size}"
    if found.executable != file.executable:
        return "was made executable" if found.executable else "is not executable any more"
    try:
        sha256, _ = _hash(root / found.path, file.size, check_cancelled)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENOENT, errno.ENOTDIR):
            raise
        return "is being replaced"
    return None if sha256 == file.sha256 else "was changed: its content is another"


def _hash(path: Path, most: int | None, check_cancelled: Callable[[], object]) -> tuple[str, int]:
    """SHA-256 and size. One that grows is not read for ever; and O_NONBLOCK, for to open a pipe would wait."""
    content, size = hashlib.sha256(), 0
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        while (most is None or size <= most) and (chunk := os.read(fd, _CHUNK_BYTES)):
            content.update(chunk)
            size += len(chunk)
            check_cancelled()
    finally:
        os.close(fd)
    return content.hexdigest(), size


def _added(found: Found, files: Sequence[FileRecord]) -> tuple[str, str]:
    """The path to name, and what is wrong with it."""
    if any(file.path.startswith(f"{found.path}/") for file in files):
        return found.path, f"is {found.kind} now, and was a directory"
    for file in files:
        if found.path.startswith(f"{file.path}/"):
            return file.path, "is a directory now"
    return found.path, "was added after the package was installed"


def _what_is_missing(path: Path) -> str:
    try:
        path.lstat()
    except OSError:
        return "is missing"
    return "is a directory now"


def _changed(root: Path, path: str, problem: str) -> PackageChanged:
    package_dir = f"{root.parent.name}/{root.name}"
    shown = os.fsencode(path).decode(errors="backslashreplace")
    what = f"{shown!r} in its package {package_dir}" if path != "." else f"its package {package_dir}"
    return _with_way_out(f"{what} {problem}", path=shown, problem=problem, package_dir=package_dir)


def not_as_installed(package_dir: str, why: str) -> PackageChanged:
    """Of a package whose files were never recorded one by one."""
    what = f"its package {package_dir} is not what was installed: {why}"
    return _with_way_out(what, path=".", problem=why, package_dir=package_dir)


def _with_way_out(what: str, **details: str) -> PackageChanged:
    way_out = "upgrade the plugin to another version, or unload and install it again (its data stays)"
    return PackageChanged(f"{what}; {way_out}", **details)


def _refused(root: Path, path: str, why: str) -> PackageRefused:
    shown = os.fsencode(path).decode(errors="backslashreplace")
    return PackageRefused(f"{shown!r} {why}", path=shown)
