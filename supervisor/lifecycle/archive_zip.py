"""Members of a zip archive: deflated or stored, each byte of the file accounted for.

A zip names every member twice, in front of its content and in a directory at the end, and tools differ in which they
believe. Here both must say the same, and nothing may lie between, before or behind them.
"""

from __future__ import annotations

import os
import stat
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from supervisor.lifecycle.archive_names import AGAIN, Flaw, NoArchive, TooMuch, shown
from supervisor.lifecycle.archive_streams import CHUNK_BYTES, Member, Meter, inflated
from supervisor.lifecycle.copying import PackageLimits

_END: Final = struct.Struct("<4s4H2LH")
_END_MARK: Final = b"PK\5\6"
_CENTRAL: Final = struct.Struct("<4s6H3L5H2L")
_CENTRAL_MARK: Final = b"PK\1\2"
_LOCAL: Final = struct.Struct("<4s5H3L2H")
_LOCAL_MARK: Final = b"PK\3\4"
_DESCRIPTOR_MARK: Final = b"PK\7\x08"
_MAX_COMMENT_BYTES: Final = 0xFFFF
_MAX_DIRECTORY_BYTES: Final = 2048
"""Of the directory at the end, for each entry that a package may have, in the mean."""
_UNKNOWN: Final = 0xFFFFFFFF
"""In place of a size: it is in the zip64 extra field."""
_ENCRYPTED: Final = 0x0001 | 0x0040 | 0x2000
_DESCRIPTOR: Final = 0x0008
_PATCHED: Final = 0x0020
_SAME_FLAGS: Final = _ENCRYPTED | _DESCRIPTOR | _PATCHED | 0x0800
_STORED, _DEFLATED = 0, 8
_ZIP64, _UNICODE_PATH = 0x0001, 0x7075
_KINDS: Final[Mapping[int, str]] = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
}


@dataclass(frozen=True, slots=True)
class _Entry:
    name: bytes
    flags: int
    method: int
    crc: int
    packed: int
    """Bytes in the file."""
    size: int
    mode: int
    """Of Unix, or 0 where the tool knew none."""
    at: int
    """Of its local header."""


class ZipReader:
    """`fd` is read with pread only; `length` is the file's size."""

    def __init__(self, fd: int, length: int, meter: Meter, limits: PackageLimits) -> None:
        self._fd = fd
        self._length = length
        self._meter = meter
        self._limits = limits

    def members(self) -> Iterator[Member]:
        """In the order of the file.

        Raises:
            Flaw: what is refused about the archive, or about a member's headers.
        """
        entries, end = self._directory()
        entries.sort(key=lambda entry: entry.at)
        following = [entry.at for entry in entries[1:]] + [end]
        if entries and entries[0].at:
            raise Flaw(f"has data before its first member; {AGAIN}")
        for entry, until in zip(entries, following, strict=True):
            content_at = self._check_local(entry)
            self._check_end(entry, content_at + entry.packed, until)
            yield Member(
                name=entry.name,
                is_dir=entry.name.endswith(b"/"),
                executable=bool(entry.mode & stat.S_IXUSR),
                size=entry.size,
                content=self._content(entry, content_at),
                problem=_problem(entry),
            )

    def _directory(self) -> tuple[list[_Entry], int]:
        """The entries of the directory, and where it begins."""
        count, size, at = self._end()
        if count > self._limits.max_entries:
            raise TooMuch(f"has {count} members, at most {self._limits.max_entries} are allowed; pack fewer")
        if size > self._limits.max_entries * _MAX_DIRECTORY_BYTES:
            raise TooMuch(f"has a directory of {size} bytes, more than a package needs; {AGAIN}")
        data = self._pread(size, at)
        entries: list[_Entry] = []
        place = 0
        for _ in range(count):
            entry, place = _central(data, place)
            if entry.at + entry.packed >= at:
                raise Flaw(f"is said to be where the archive has no members; {AGAIN}", entry.name)
            entries.append(entry)
        if place != size:
            raise Flaw(f"has more in its directory than the {count} members it counts; {AGAIN}")
        return entries, at

    def _end(self) -> tuple[int, int, int]:
        """Count of the entries, size and place of the directory. The end record is found by where its comment ends."""
        start = max(0, self._length - _END.size - _MAX_COMMENT_BYTES)
        tail = self._pread(self._length - start, start)
        found: list[tuple[int, ...]] = []
        place = tail.rfind(_END_MARK)
        while place >= 0:
            if place + _END.size <= len(tail):
                fields = _END.unpack_from(tail, place)
                if place + _END.size + fields[-1] == len(tail):
                    found.append((start + place, *fields[1:-1]))
            place = tail.rfind(_END_MARK, 0, place + len(_END_MARK) - 1)
        if not found:
            raise Flaw(f"is truncated, or has data after its end: the end record of a zip is not there; {AGAIN}")
        if len(found) > 1:
            raise Flaw(f"has two ends, one hidden in the other's comment; {AGAIN}")
        end, disk, first_disk, here, count, size, at = found[0]
        if disk or first_disk or here != count:
            raise Flaw(f"is one part of several; {AGAIN} as one file")
        if count == 0xFFFF or _UNKNOWN in (size, at):
            raise TooMuch("has the directory of a zip64, which only archives that are too large need; pack fewer files")
        if at + size != end:
            raise Flaw(f"has data that belongs to no member, or another place for its directory than it says; {AGAIN}")
        if not count:
            raise NoArchive("is an empty zip archive; pack the plugin's directory")
        return count, size, at

    def _check_local(self, entry: _Entry) -> int:
        """Where the content begins. What stands there says the same as the directory, or the entry is refused."""
        mark, _, flags, method, _, _, crc, packed, size, name_bytes, extra_bytes = _LOCAL.unpack(
            self._pread(_LOCAL.size, entry.at, entry.name)
        )
        rest = self._pread(name_bytes + extra_bytes, entry.at + _LOCAL.size, entry.name)
        if mark != _LOCAL_MARK:
            raise Flaw(f"is not where the directory says; {AGAIN}", entry.name)
        if rest[:name_bytes] != entry.name:
            raise Flaw(f"is called {shown(rest[:name_bytes])} in its own header; {AGAIN}", entry.name)
        extra = _extra(rest[name_bytes:], entry.name)
        size, packed = _widened(extra, entry.name, size, packed)
        told = (crc, packed, size)
        real = (entry.crc, entry.packed, entry.size)
        # Where a descriptor follows the content, zero stands for what was not known yet.
        agree = all(one == two or (not one and entry.flags & _DESCRIPTOR) for one, two in zip(told, real, strict=True))
        if not agree or method != entry.method or (flags ^ entry.flags) & _SAME_FLAGS:
            raise Flaw(
                f"has another size, checksum or method in its own header than in the directory; {AGAIN}", entry.name
            )
        content_at: int = entry.at + _LOCAL.size + name_bytes + extra_bytes
        return content_at

    def _check_end(self, entry: _Entry, end: int, until: int) -> None:
        """From the content's end to the next header there is a data descriptor or nothing."""
        if end > until:
            raise Flaw(f"overlaps what follows it, as in a bomb; {AGAIN}", entry.name)
        gap = self._pread(until - end, end, entry.name) if until - end <= 24 else None
        allowed = [b""]
        if entry.flags & _DESCRIPTOR:
            short = struct.pack("<3L", entry.crc, min(entry.packed, _UNKNOWN), min(entry.size, _UNKNOWN))
            long = struct.pack("<L2Q", entry.crc, entry.packed, entry.size)
            allowed = [mark + numbers for mark in (_DESCRIPTOR_MARK, b"") for numbers in (short, long)]
        if gap not in allowed:
            raise Flaw(f"is followed by data that belongs to no member; {AGAIN}", entry.name)

    def _content(self, entry: _Entry, at: int) -> Iterator[bytes]:
        made = crc = 0
        for chunk in self._unpacked(entry, at):
            made += len(chunk)
            self._meter.made(len(chunk))
            if made > entry.size:
                raise Flaw(f"is larger than the {entry.size} bytes it declares; {AGAIN}", entry.name)
            crc = zlib.crc32(chunk, crc)
            yield chunk
        if made != entry.size:
            raise Flaw(f"is {made} bytes, and declares {entry.size}; {AGAIN}", entry.name)
        if crc != entry.crc:
            raise Flaw(f"is damaged: its checksum is another; {AGAIN}", entry.name)

    def _unpacked(self, entry: _Entry, at: int) -> Iterator[bytes]:
        inflate = zlib.decompressobj(wbits=-15)
        left = entry.packed
        while left:
            data = self._pread(min(left, CHUNK_BYTES // 4), at, entry.name)
            at += len(data)
            left -= len(data)
            self._meter.took(len(data))
            if entry.method == _STORED:
                yield data
                continue
            while made := inflated(inflate, data, CHUNK_BYTES):
                yield made
                data = inflate.unconsumed_tail
            if inflate.unused_data or (inflate.eof and left):
                raise Flaw(f"has data after the end of its content; {AGAIN}", entry.name)
        if entry.method == _DEFLATED and entry.packed and not inflate.eof:
            raise Flaw(f"is truncated; {AGAIN}", entry.name)

    def _pread(self, count: int, at: int, member: bytes | None = None) -> bytes:
        data = os.pread(self._fd, count, at)
        if len(data) < count:
            raise Flaw(f"is truncated: it ends at byte {self._length}; {AGAIN}", member)
        return data


def _central(data: bytes, at: int) -> tuple[_Entry, int]:
    """The directory's entry at `at`, and where the next one is."""
    if len(data) - at < _CENTRAL.size or data[at : at + 4] != _CENTRAL_MARK:
        raise Flaw(f"is damaged: no entry at byte {at} of its directory; {AGAIN}")
    fields = _CENTRAL.unpack_from(data, at)
    flags, method, crc, packed, size, name_bytes, extra_bytes, comment_bytes, disk = (*fields[3:5], *fields[7:14])
    attributes, header_at = fields[15:]
    name_at = at + _CENTRAL.size
    extra_at = name_at + name_bytes
    name = data[name_at:extra_at]
    extra = _extra(data[extra_at : extra_at + extra_bytes], name)
    size, packed, header_at = _widened(extra, name, size, packed, header_at)
    other = extra.get(_UNICODE_PATH)
    if other is not None and other[5:] != name:
        raise Flaw(f"has a second name in an extra field, {shown(other[5:])}; {AGAIN}", name)
    if disk:
        raise Flaw(f"is on another part of the archive; {AGAIN} as one file", name)
    entry = _Entry(name, flags, method, crc, packed, size, attributes >> 16, header_at)
    return entry, extra_at + extra_bytes + comment_bytes


def _extra(data: bytes, member: bytes) -> Mapping[int, bytes]:
    fields: dict[int, bytes] = {}
    at = 0
    while at < len(data):
        kind, size = struct.unpack_from("<2H", data, at) if len(data) - at >= 4 else (0, len(data))
        if at + 4 + size > len(data) or kind in fields:
            raise Flaw(f"has extra fields that are not well-formed; {AGAIN}", member)
        fields[kind] = data[at + 4 : at + 4 + size]
        at += 4 + size
    return fields


def _widened(extra: Mapping[int, bytes], member: bytes, *values: int) -> tuple[int, ...]:
    """The values, those that do not fit 32 bits taken from the zip64 field."""
    wide = extra.get(_ZIP64, b"")
    real: list[int] = []
    at = 0
    for value in values:
        if value != _UNKNOWN:
            real.append(value)
            continue
        if len(wide) < at + 8:
            raise Flaw(f"has no zip64 field for a size that needs one; {AGAIN}", member)
        real.append(struct.unpack_from("<Q", wide, at)[0])
        at += 8
    return tuple(real)


def _problem(entry: _Entry) -> str | None:
    kind = stat.S_IFMT(entry.mode)
    is_dir = entry.name.endswith(b"/")
    if entry.flags & _ENCRYPTED:
        return "is encrypted; pack it without a password"
    if entry.flags & _PATCHED or entry.method not in (_STORED, _DEFLATED):
        return f"is compressed by method {entry.method}; only deflated and stored members can be read: pack it again"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        what = _KINDS.get(kind, "of an unknown kind")
        return f"is {what}; a package holds regular files and directories only: leave it out"
    if kind and (kind == stat.S_IFDIR) != is_dir:
        return f"is a file by its name or by its mode, and a directory by the other; {AGAIN}"
    if is_dir and entry.size:
        return f"is a directory with content; {AGAIN}"
    if not is_dir and entry.mode & (stat.S_ISUID | stat.S_ISGID):
        return "has the setuid or setgid bit, which nothing in a package needs: chmod ug-s"
    return None
