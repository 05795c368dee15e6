"""Build tar and zip archives byte by byte, those too that libraries would not make."""

from __future__ import annotations

import gzip
import struct
import zlib
from dataclasses import dataclass

MANIFEST = b'[plugin]\nkey = "acme.evil"\n'
TAR_END = bytes(1024)


# --- tar


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def header(
    name: bytes,
    size: int | bytes = 0,
    *,
    kind: bytes = b"0",
    mode: int | bytes = 0o644,
    link: bytes = b"",
    prefix: bytes = b"",
    magic: bytes = b"ustar\x0000",
    checksum: bytes | None = None,
) -> bytes:
    def number(value: int | bytes, width: int) -> bytes:
        return value.ljust(width, b"\0") if isinstance(value, bytes) else b"%0*o\0" % (width - 1, value)

    block = b"".join(
        (
            name.ljust(100, b"\0"),
            number(mode, 8),
            number(0, 8),
            number(0, 8),
            number(size, 12),
            number(0, 12),
            b" " * 8,
            kind,
            link.ljust(100, b"\0"),
            magic.ljust(8, b"\0"),
            bytes(64),
            number(0, 8),
            number(0, 8),
            prefix.ljust(155, b"\0"),
            bytes(12),
        )
    )
    assert len(block) == 512
    return block[:148] + (checksum or b"%06o\0 " % sum(block)) + block[156:]


def member(name: bytes, data: bytes = b"x", *, kind: bytes = b"0", mode: int = 0o644) -> bytes:
    return header(name, len(data), kind=kind, mode=mode) + padded(data)


def directory(name: bytes) -> bytes:
    return header(name, kind=b"5", mode=0o755)


def link(name: bytes, to: bytes, kind: bytes) -> bytes:
    return header(name, kind=kind, link=to)


def record(key: bytes, value: bytes) -> bytes:
    body = b" " + key + b"=" + value + b"\n"
    length = len(body)
    while len(b"%d" % length) + len(body) != length:
        length = len(b"%d" % length) + len(body)
    return b"%d" % length + body


def pax(*records: tuple[bytes, bytes], kind: bytes = b"x") -> bytes:
    return member(b"./PaxHeaders/x", b"".join(record(*each) for each in records), kind=kind)


def gnu_long(name: bytes, kind: bytes = b"L") -> bytes:
    return member(b"././@LongLink", name + b"\0", kind=kind)


def tar(*parts: bytes) -> bytes:
    return member(b"plugin.toml", MANIFEST) + b"".join(parts) + TAR_END


def tgz(*parts: bytes) -> bytes:
    return gzip.compress(tar(*parts), mtime=0)


def gzip_zeros(mebibytes: int, before: bytes = b"") -> bytes:
    """`before` and so many MiB of zeros. Its checksum is wrong: nobody comes that far."""
    pack = zlib.compressobj(9, wbits=-15)
    start = pack.compress(before) + pack.flush(zlib.Z_FULL_FLUSH)
    one = pack.compress(bytes(1 << 20)) + pack.flush(zlib.Z_FULL_FLUSH)  # a full flush ends at a byte, forgets what was
    return gzip.compress(b"", mtime=0)[:10] + start + one * mebibytes + pack.flush() + bytes(8)


# --- zip


@dataclass(frozen=True, kw_only=True)
class Zipped:
    """A member; what is None is as it should be."""

    name: bytes
    data: bytes = b"x"
    method: int = 8
    flags: int = 0
    mode: int = 0o100644
    packed: bytes | None = None
    size: int | None = None
    packed_size: int | None = None
    crc: int | None = None
    extra: bytes = b""
    local_name: bytes | None = None
    local_size: int | None = None
    local_crc: int | None = None
    local_method: int | None = None
    local_at: int | None = None
    local_mark: bytes = b"PK\3\4"
    behind: bytes = b""
    disk: int = 0

    def content(self) -> bytes:
        if self.packed is not None:
            return self.packed
        return deflated(self.data) if self.method == 8 else self.data


def deflated(data: bytes) -> bytes:
    pack = zlib.compressobj(9, wbits=-15)
    return pack.compress(data) + pack.flush()


def either(value: int | None, default: int) -> int:
    return default if value is None else value


def zipped(
    *members: Zipped,
    comment: bytes = b"",
    before: bytes = b"",
    between: bytes = b"",
    behind: bytes = b"",
    count: int | None = None,
    place: int | None = None,
) -> bytes:
    body, central = bytearray(before), bytearray()
    all_members = (Zipped(name=b"plugin.toml", data=MANIFEST), *members)
    for each in all_members:
        content = each.content()
        size = either(each.size, len(each.data))
        packed_size = either(each.packed_size, len(content))
        crc = either(each.crc, zlib.crc32(each.data))
        at = either(each.local_at, len(body))
        own_name = each.name if each.local_name is None else each.local_name
        body += struct.pack(
            "<4s5H3L2H",
            each.local_mark,
            20,
            each.flags,
            either(each.local_method, each.method),
            0,
            0x21,
            either(each.local_crc, crc),
            packed_size,
            either(each.local_size, size),
            len(own_name),
            0,
        )
        body += own_name + content + each.behind
        central += struct.pack(
            "<4s6H3L5H2L",
            b"PK\1\2",
            (3 << 8) | 20,
            20,
            each.flags,
            each.method,
            0,
            0x21,
            crc,
            packed_size,
            size,
            len(each.name),
            len(each.extra),
            0,
            each.disk,
            0,
            each.mode << 16,
            at,
        )
        central += each.name + each.extra
    body += between
    number = either(count, len(all_members))
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, number, number, len(central), either(place, len(body)), len(comment))
    return bytes(body + central + end + comment + behind)


def extra_field(kind: int, data: bytes) -> bytes:
    return struct.pack("<2H", kind, len(data)) + data


def overlapping_zip() -> bytes:
    """Two hundred members that share the content of one, as the bomb 42 of its kind does."""
    first = 30 + len(b"plugin.toml") + len(deflated(MANIFEST))
    shared = [Zipped(name=b"bomb", data=bytes(1 << 16))]
    shared += [
        Zipped(name=b"bomb", data=bytes(1 << 16), packed=b"", packed_size=len(deflated(bytes(1 << 16))), local_at=first)
    ]
    return zipped(*shared)
