"""Unpack the archive of a plugin: a hostile file until every byte of it has been looked at. Blocking; for threads."""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeAlias

from supervisor.core.errors import InvalidParams, ResourceExhausted, SupervisorError
from supervisor.core.manifest import MANIFEST_NAME
from supervisor.lifecycle.archive_names import Flaw, Names, NoArchive, TooMuch, shown, split_name
from supervisor.lifecycle.archive_streams import CHUNK_BYTES, FileSource, GzipSource, Member, Meter
from supervisor.lifecycle.archive_tar import BLOCK_BYTES, TarReader, is_header
from supervisor.lifecycle.archive_tree import Tree
from supervisor.lifecycle.archive_zip import ZipReader
from supervisor.lifecycle.copying import SKIPPED, PackageLimits, PackageRefused
from supervisor.trust import file_problem

Report: TypeAlias = Callable[[int, int | None], None]

_MAX_MANIFEST_BYTES: Final = 1024 * 1024
_LEFT_OUT: Final = SKIPPED | {"__MACOSX"}
"""As when a directory is copied; and what the Finder puts beside everything."""
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_TAKEN: Final = "a plugin comes as .tar.gz, .tar or .zip, made of its directory"
# What people mistake for an archive of ours, by its first bytes.
_OTHERS: Final = (
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ\0", "an xz file"),
    (b"\x28\xb5\x2f\xfd", "a zstd file"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a rar archive"),
    (b"\xed\xab\xee\xdb", "an rpm package"),
    (b"!<arch>\n", "a deb package or another ar archive"),
    (b"070701", "a cpio archive"),
    (b"\x7fELF", "a program"),
    (b"#!", "a script"),
    (b"\x89PNG", "a PNG picture"),
    (b"%PDF", "a PDF"),
)


def _nobody(*_: object) -> None:
    """Nobody looks, nobody cancels."""


def unpack(
    archive: Path, target: Path, limits: PackageLimits, check_cancelled: Callable[[], object], report: Report
) -> None:
    """Unpack a .tar.gz, .tar or .zip (told by its content) into `target`, a directory of ours that is there and empty.

    One directory around everything is stripped. Files get mode 0600 or 0700. The archive is opened once, and what is
    checked is what is open. If it is refused, a part of it may be in `target`, nothing anywhere else. `report` gets
    how many bytes of the archive have been read, and its size.

    Raises:
        PackageRefused: the archive may be changed by others, is damaged, or something in it is not allowed.
        ResourceExhausted: too many, too large, too deep, compressed too well; or the disk is full.
        InvalidParams: it is not there, or no archive.
    """
    with _opened(archive) as fd:
        meter = Meter(os.fstat(fd).st_size, limits, check_cancelled, report)
        walk = _Walk(archive, limits)
        with walk.told(), Tree(target) as tree:
            for parts, member in walk.through(_reader(fd, meter, limits).members(), _LEFT_OUT):
                if member.is_dir:
                    tree.directory(parts)
                else:
                    tree.file(parts, member.content, executable=member.executable)
            tree.strip_top()
            meter.finish()


def inspect_wheel(
    path: Path, limits: PackageLimits, check_cancelled: Callable[[], object] = _nobody, report: Report = _nobody
) -> None:
    """Refuse a wheel for whatever `unpack` would refuse it for; it is read to its end and nothing is written.

    Raises: as `unpack`.
    """
    with _opened(path) as fd:
        meter = Meter(os.fstat(fd).st_size, limits, check_cancelled, report)
        walk = _Walk(path, limits)
        with walk.told():
            for _, member in walk.through(_zip_reader(fd, meter, limits).members(), frozenset()):
                for _ in member.content:
                    pass
            meter.finish()


def wheel_names(path: Path, limits: PackageLimits | None = None) -> list[str]:
    """The names of all files in a wheel, as `inspect_wheel` would let them pass; no content is read.

    Raises: as `unpack`.
    """
    with _wheel_members(path, limits or PackageLimits()) as members:
        return ["/".join(parts) for parts, member in members if not member.is_dir]


def read_wheel_file(path: Path, name: str, max_bytes: int) -> bytes:
    """The content of one file.

    Raises:
        InvalidParams: it is not in the wheel.
        ResourceExhausted: it is larger than `max_bytes`.
        PackageRefused: as `unpack`.
    """
    with _wheel_members(path, PackageLimits()) as members:
        for parts, member in members:
            if "/".join(parts) == name and not member.is_dir:
                if member.size > max_bytes:
                    raise TooMuch(f"is larger than {max_bytes} bytes; make it smaller", member.name)
                return b"".join(member.content)
    raise InvalidParams(f"{path}: has no file {name!r}")


def copy_archive(
    source: Path, directory: Path, limits: PackageLimits, check_cancelled: Callable[[], object], report: Report
) -> Path:
    """Copy a file, usually a wheel, as mode 0600 and under its own name into `directory`; return the copy's path.

    For tools that want a path: what is checked and what they open is then the same file.

    Raises:
        PackageRefused, ResourceExhausted, InvalidParams: as `unpack`.
    """
    with _opened(source) as fd:
        meter = Meter(os.fstat(fd).st_size, limits, check_cancelled, report)
        walk = _Walk(source, limits)
        with walk.told(), Tree(directory) as tree:
            tree.file((source.name,), _all_of(fd, meter, limits), executable=False)
            meter.finish()
    return directory / source.name


def _all_of(fd: int, meter: Meter, limits: PackageLimits) -> Iterator[bytes]:
    count = 0
    while chunk := os.read(fd, CHUNK_BYTES):
        count += len(chunk)
        if count > limits.max_bytes:
            raise TooMuch(f"is larger than {limits.max_bytes} bytes; leave something out")
        meter.took(len(chunk))
        yield chunk


@contextmanager
def _wheel_members(path: Path, limits: PackageLimits) -> Iterator[Iterator[tuple[tuple[str, ...], Member]]]:
    with _opened(path) as fd:
        meter = Meter(os.fstat(fd).st_size, limits, _nobody, _nobody)
        walk = _Walk(path, limits)
        with walk.told():
            yield walk.through(_zip_reader(fd, meter, limits).members(), frozenset())


class _Walk:
    """Through the members of an archive: names each by its parts and refuses what a package must not hold."""

    def __init__(self, archive: Path, limits: PackageLimits) -> None:
        self._archive = archive
        self._limits = limits
        self._names = Names(limits)
        self._member: bytes | None = None

    def through(self, members: Iterator[Member], left_out: frozenset[str]) -> Iterator[tuple[tuple[str, ...], Member]]:
        for member in members:
            self._member = member.name
            parts = split_name(member.name, self._limits)
            self._names.count(member.size)
            if not left_out.isdisjoint(parts):
                continue
            if member.problem:
                raise Flaw(member.problem)
            if parts or not member.is_dir:
                self._add(parts, member)
                yield parts, member
            self._member = None
        if not self._names.has_files:
            raise NoArchive("holds no files; pack the plugin's directory")

    def _add(self, parts: tuple[str, ...], member: Member) -> None:
        if not parts:
            raise Flaw("is a file in place of the archive's own top; name it")
        self._names.add(parts, is_dir=member.is_dir)
        # It is the manifest only with one directory around it at most; where that is, is not known yet.
        if parts[-1] == MANIFEST_NAME and len(parts) <= 2 and member.size > _MAX_MANIFEST_BYTES:
            raise Flaw(f"is a manifest of {member.size} bytes; at most {_MAX_MANIFEST_BYTES} are allowed")

    @contextmanager
    def told(self) -> Iterator[None]:
        """Say what is wrong with which archive and which member of it."""
        try:
            yield
        except Flaw as flaw:
            raise self._told(flaw) from flaw
        except OSError as error:
            if error.errno in _FULL:
                raise ResourceExhausted(f"no space left for the files of {self._archive}: {error.strerror}") from error
            where = f" {error.filename!r}" if error.filename else ""
            raise InvalidParams(f"{self._archive}: cannot be unpacked:{where} {error.strerror}") from error

    def _told(self, flaw: Flaw) -> SupervisorError:
        member = self._member if flaw.member is None else flaw.member
        name = None if member is None else shown(member)
        message = f"{self._archive}: {flaw.why}" if name is None else f"{self._archive}: {name} {flaw.why}"
        if isinstance(flaw, TooMuch):
            return ResourceExhausted(message, path=str(self._archive), member=name)
        if isinstance(flaw, NoArchive):
            return InvalidParams(message, path=str(self._archive))
        return PackageRefused(message, path=str(self._archive), member=name)


@contextmanager
def _opened(archive: Path) -> Iterator[int]:
    """Its descriptor, once only root and we ourselves can change what is there."""
    try:
        # Not blocking: to open a pipe would wait for its other end.
        fd = os.open(archive, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise InvalidParams(f"{archive}: cannot be opened: {error.strerror}") from error
    except ValueError as error:
        raise InvalidParams(f"{str(archive)!r}: no name of a file holds NUL") from error
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise InvalidParams(f"{archive}: is no regular file; {_TAKEN}")
        if problem := file_problem(fd, archive, os.geteuid()):
            raise PackageRefused(problem, path=str(archive))
        yield fd
    finally:
        os.close(fd)


def _reader(fd: int, meter: Meter, limits: PackageLimits) -> TarReader | ZipReader:
    """By what the file begins with; its name says nothing."""
    start = os.pread(fd, BLOCK_BYTES, 0)
    if start.startswith(b"\x1f\x8b"):
        return TarReader(io.BufferedReader(GzipSource(FileSource(fd, meter)), CHUNK_BYTES), meter, limits)
    if start.startswith((b"PK\3\4", b"PK\5\6")):
        return ZipReader(fd, os.fstat(fd).st_size, meter, limits)
    if is_header(start):
        return TarReader(io.BufferedReader(FileSource(fd, meter), CHUNK_BYTES), meter, limits)
    if not start:
        raise NoArchive(f"is empty; {_TAKEN}")
    what = next((name for mark, name in _OTHERS if start.startswith(mark)), "no archive")
    if what == "no archive" and start[257:262] == b"ustar":
        raise Flaw("is damaged: its first tar header has a wrong checksum; build or download it again")
    raise NoArchive(f"is {what}; {_TAKEN}")


def _zip_reader(fd: int, meter: Meter, limits: PackageLimits) -> ZipReader:
    if os.pread(fd, 4, 0) != b"PK\3\4":
        raise NoArchive("is no wheel: a wheel is a zip archive; build or download it again")
    return ZipReader(fd, os.fstat(fd).st_size, meter, limits)
