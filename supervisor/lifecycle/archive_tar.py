"""Members of a tar archive: ustar, pax and GNU headers, read strictly, one after the other.

Readers of tar differ in what they make of a strange header, and that is how one tool's check is another's way out.
Here a strange header is refused.
"""

from __future__ import annotations

import io
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from supervisor.lifecycle.archive_names import AGAIN, Flaw, NoArchive, TooMuch, shown
from supervisor.lifecycle.archive_streams import CHUNK_BYTES, Member, Meter
from supervisor.lifecycle.copying import PackageLimits

BLOCK_BYTES: Final = 512
_ZEROS: Final = bytes(BLOCK_BYTES)
_OTHER: Final = "is compressed with gzip, but what is in it is no tar archive; pack the plugin's directory"
_MAX_PAX_BYTES: Final = 64 * 1024
_MAX_RECORDS: Final = 10
"""Of pax records for each entry that a package may have, in the mean."""
_MAX_LINK_BYTES: Final = 4096
_MAX_EXTENDED_BYTES: Final = 1024
"""Of extended headers for each entry that a package may have, in the mean."""
_OCTAL: Final = re.compile(rb"[ \0]*([0-7]*)[ \0]*")
_FILES: Final = (b"0", b"\0")
_DIRECTORY: Final = b"5"
_GNU_NAME, _GNU_LINK, _PAX, _PAX_GLOBAL = b"L", b"K", b"x", b"g"
_KINDS: Final[Mapping[bytes, str]] = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a named pipe",
    b"S": "a sparse file",
}


@dataclass(frozen=True, slots=True)
class _Header:
    name: bytes
    kind: bytes
    mode: int
    size: int


class TarReader:
    def __init__(self, stream: io.BufferedReader, meter: Meter, limits: PackageLimits) -> None:
        self._stream = stream
        self._meter = meter
        self._limits = limits
        self._at = 0
        self._extended_left = limits.max_entries * _MAX_EXTENDED_BYTES
        self._records_left = limits.max_entries * _MAX_RECORDS

    def members(self) -> Iterator[Member]:
        """
        Raises:
            Flaw: what is refused about the archive, or about a member's headers.
        """
        long_name: bytes | None = None
        pax: Mapping[bytes, bytes] | None = None
        while header := self._header():
            if header.kind == _GNU_NAME and long_name is None:
                long_name = self._extended(header, self._limits.max_name_bytes + 1).removesuffix(b"\0")
            elif header.kind == _PAX and pax is None:
                pax = self._pax(header)
            elif header.kind == _GNU_LINK:
                self._extended(header, _MAX_LINK_BYTES)  # of a link, which its own header is refused for
            elif header.kind == _PAX_GLOBAL:
                _refuse_global(self._pax(header))
            elif header.kind in (_GNU_NAME, _PAX):
                raise Flaw(f"has two extended headers for one member; {AGAIN}", header.name)
            else:
                yield from self._member(header, long_name, pax or {})
                long_name = pax = None
        if long_name is not None or pax is not None:
            raise Flaw(f"ends after an extended header, before its member; {AGAIN}")
        self._refuse_tail()

    def _member(self, header: _Header, long_name: bytes | None, pax: Mapping[bytes, bytes]) -> Iterator[Member]:
        name = pax.get(b"path", header.name if long_name is None else long_name)
        if long_name is not None and b"path" in pax:
            raise Flaw(f"has two long names, the other is {shown(long_name)}; {AGAIN}", name)
        if b"size" in pax and pax[b"size"] != b"%d" % header.size:
            raise Flaw(f"has two sizes: {header.size}, and {shown(pax[b'size'])} in its pax header; {AGAIN}", name)
        is_file = header.kind in _FILES
        if header.size and not is_file:
            raise Flaw(f"has content and is no regular file; {AGAIN}", name)
        content = self._content(name, header.size)
        yield Member(
            name=name,
            is_dir=header.kind == _DIRECTORY,
            executable=bool(header.mode & stat.S_IXUSR),
            size=header.size,
            content=content,
            problem=_kind_problem(header, name, pax),
        )
        for _ in content:  # what nobody wanted
            pass
        self._read(-header.size % BLOCK_BYTES, name)

    def _content(self, name: bytes, size: int) -> Iterator[bytes]:
        while size:
            chunk = self._read(min(size, CHUNK_BYTES), name)
            size -= len(chunk)
            yield chunk

    def _header(self) -> _Header | None:
        """The next one, or None at the mark of the archive's end."""
        start = self._at
        block = self._read(BLOCK_BYTES)
        if block == _ZEROS:
            if self._read(BLOCK_BYTES) != _ZEROS:
                raise Flaw(f"has data after its end, at byte {start + BLOCK_BYTES}; {AGAIN}")
            return None
        if not is_header(block):
            if start == 0:
                raise NoArchive(_OTHER)
            raise Flaw(f"is damaged: no tar header at byte {start} of what it unpacks to; {AGAIN}")
        name = block[:100].partition(b"\0")[0]
        prefix = block[345:500].partition(b"\0")[0]
        if prefix and block[257:263] == b"ustar\0":  # GNU keeps other things there
            name = prefix + b"/" + name
        return _Header(name, block[156:157], _octal(block[100:108], name), _octal(block[124:136], name))

    def _pax(self, header: _Header) -> Mapping[bytes, bytes]:
        records = _records(self._extended(header, _MAX_PAX_BYTES))
        self._records_left -= len(records)
        if self._records_left < 0:
            raise TooMuch(f"has more records in its pax headers than a package needs; {AGAIN}")
        return records

    def _extended(self, header: _Header, most: int) -> bytes:
        self._extended_left -= BLOCK_BYTES + header.size
        if header.size > most or self._extended_left < 0:
            raise TooMuch(f"has an extended header of {header.size} bytes, more than a package needs; {AGAIN}")
        data = self._read(header.size, header.name)
        self._read(-header.size % BLOCK_BYTES, header.name)
        return data

    def _refuse_tail(self) -> None:
        while chunk := self._stream.read(CHUNK_BYTES):
            self._meter.made(len(chunk))
            if chunk.strip(b"\0"):
                raise Flaw(f"has data after its end, behind byte {self._at}; {AGAIN}")

    def _read(self, count: int, member: bytes | None = None) -> bytes:
        data = self._stream.read(count)
        self._meter.made(len(data))
        self._at += len(data)
        if len(data) < count:
            if self._at < BLOCK_BYTES:
                raise NoArchive(_OTHER)
            raise Flaw(f"is truncated: it ends at byte {self._at} of what it unpacks to; {AGAIN}", member)
        return data


def is_header(block: bytes) -> bool:
    """Whether this is a header of a tar archive, POSIX or GNU, by its magic and its checksum."""
    if len(block) < BLOCK_BYTES or block[257:262] != b"ustar" or block[262:263] not in (b"\0", b" "):
        return False
    stored = _OCTAL.fullmatch(block[148:156])
    if not stored or not stored[1]:
        return False
    return int(stored[1], 8) == sum(block[:148]) + 8 * 0x20 + sum(block[156:])  # its own field counts as spaces


def _octal(field: bytes, member: bytes) -> int:
    found = _OCTAL.fullmatch(field)
    if not found:  # text, or a binary number, which only sizes beyond 8 GiB and negative ones need
        raise Flaw(f"has a size or mode that is no plain number: {shown(field)}; {AGAIN}", member)
    return int(found[1] or b"0", 8)


def _records(data: bytes) -> Mapping[bytes, bytes]:
    """The records "<length> <key>=<value>\\n" of a pax header."""
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 8)
        length = data[at:space] if space > 0 else b""
        end = at + int(length) if length.isdigit() else 0
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if not (space + 1 < end <= len(data) and equals and data[end - 1 : end] == b"\n") or key in records:
            raise Flaw(f"has a pax header that is not well-formed, at its byte {at}; {AGAIN}")
        records[key] = value
        at = end
    return records


def _refuse_global(records: Mapping[bytes, bytes]) -> None:
    for key in records:
        if key in (b"path", b"linkpath", b"size") or key.startswith(b"GNU.sparse."):
            raise Flaw(f"has a pax header that gives all members one {shown(key)}; {AGAIN}")


def _kind_problem(header: _Header, name: bytes, pax: Mapping[bytes, bytes]) -> str | None:
    kind = _KINDS.get(header.kind)
    if any(key.startswith(b"GNU.sparse.") for key in pax):
        kind = _KINDS[b"S"]
    elif header.kind in _FILES and b"linkpath" in pax:
        kind = "a file with the target of a link"
    elif kind is None and header.kind not in (*_FILES, _DIRECTORY):
        kind = f"of an unknown kind ({shown(header.kind)})"
    if kind:
        return f"is {kind}; a package holds regular files and directories only: leave it out"
    if header.kind in _FILES and name.endswith(b"/"):
        return f"is a file with the name of a directory; {AGAIN}"
    if header.kind in _FILES and header.mode & (stat.S_ISUID | stat.S_ISGID):
        return "has the setuid or setgid bit, which nothing in a package needs: chmod ug-s"
    return None
