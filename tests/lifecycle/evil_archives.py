"""Archives that must be refused, each with what its message must say."""

from __future__ import annotations

import gzip
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from supervisor.core.errors import InvalidParams, ResourceExhausted, SupervisorError
from supervisor.lifecycle.copying import PackageRefused
from tests.lifecycle.archive_bytes import (
    TAR_END,
    Zipped,
    deflated,
    directory,
    extra_field,
    gnu_long,
    gzip_zeros,
    header,
    link,
    member,
    overlapping_zip,
    padded,
    pax,
    tar,
    tgz,
    zipped,
)


@dataclass(frozen=True)
class Evil:
    name: str
    build: Callable[[], bytes]
    says: tuple[str, ...]
    """What the message must hold."""
    error: type[SupervisorError] = PackageRefused
    limits: dict[str, int] = field(default_factory=dict)
    names_member: bool = True


def _tar(name: str, says: str | tuple[str, ...], *parts: bytes, **options: object) -> Evil:
    said = (says,) if isinstance(says, str) else says
    return Evil(f"tar {name}", lambda: tgz(*parts), said, **options)  # type: ignore[arg-type]


def _zip(name: str, says: str | tuple[str, ...], *members: Zipped, **options: object) -> Evil:
    said = (says,) if isinstance(says, str) else says
    return Evil(f"zip {name}", lambda: zipped(*members), said, **options)  # type: ignore[arg-type]


def _raw(
    name: str,
    says: str | tuple[str, ...],
    build: Callable[[], bytes],
    error: type[SupervisorError] = PackageRefused,
    **options: object,
) -> Evil:
    said = (says,) if isinstance(says, str) else says
    return Evil(name, build, said, error, **{"names_member": False, **options})  # type: ignore[arg-type]


BAD_NAMES: list[tuple[str, bytes, str]] = [
    ("traversal", b"../../etc/cron.d/evil", "leads out of its directory with '..'"),
    ("traversal in the middle", b"a/../../evil", "leads out of its directory with '..'"),
    ("traversal at the end", b"a/..", "leads out of its directory with '..'"),
    ("traversal behind ./", b"./../evil", "leads out of its directory with '..'"),
    ("absolute path", b"/etc/cron.d/evil", "is an absolute path"),
    ("two slashes", b"//etc/cron.d/evil", "is an absolute path"),
    ("drive", b"C:/Windows/evil", "is an absolute path"),
    ("backslash", b"..\\..\\evil", "has a backslash"),
    ("line end", b"evil\nname", "has a control character"),
    ("escape", b"evil\x1b[2Jname", "has a control character"),
    ("reading direction", "evil\u202egnp.exe".encode(), "has a control character"),
    ("no UTF-8", b"evil\xff\xfe", "is not UTF-8"),
    ("overlong UTF-8", b"..\xc0\xaf..\xc0\xafevil", "is not UTF-8"),
    ("surrogate", b"evil\xed\xa0\x80", "is not UTF-8"),
    ("dot", b"a/./evil", "has an empty or '.' part"),
    ("empty part", b"a//evil", "has an empty or '.' part"),
    ("only a dot", b".", "in place of the archive's own top"),
]
FIFTY_DEEP = b"d/" * 50 + b"f"

EVIL: list[Evil] = [
    *(_tar(name, says, member(raw)) for name, raw, says in BAD_NAMES),
    *(_zip(name, says, Zipped(name=raw)) for name, raw, says in BAD_NAMES),
    # Names that only some formats can hold
    _tar("empty name", "has an empty name", member(b"")),
    _zip("empty name", "has an empty name", Zipped(name=b"")),
    _tar("NUL in a pax path", "has a control character", pax((b"path", b"good\0/../evil")), member(b"good")),
    _zip("NUL", "has a control character", Zipped(name=b"plugin\0.toml")),
    _tar("part too long", "a part of more than 255 bytes", pax((b"path", b"x" * 300)), member(b"x")),
    _zip("part too long", "a part of more than 255 bytes", Zipped(name=b"x" * 300)),
    _tar(
        "name too long",
        "has a name of 2001 bytes",
        pax((b"path", b"x/" * 1000 + b"y")),
        member(b"x"),
        error=ResourceExhausted,
    ),
    _zip("name too long", "has a name of 60000 bytes", Zipped(name=b"x" * 60000), error=ResourceExhausted),
    _tar("too deep", "is more than 49 directories deep", gnu_long(FIFTY_DEEP), member(b"x"), error=ResourceExhausted),
    _zip("too deep", "is more than 49 directories deep", Zipped(name=FIFTY_DEEP), error=ResourceExhausted),
    _tar("traversal in the prefix", "'..'", header(b"evil", prefix=b"../..")),
    _tar("traversal in a pax path", "'..'", pax((b"path", b"../../evil")), member(b"good")),
    _tar("traversal in a GNU long name", "'..'", gnu_long(b"../../evil"), member(b"good")),
    _tar("traversal of a directory", "'..'", directory(b"../evil/")),
    _zip("traversal of a directory", "'..'", Zipped(name=b"../evil/", data=b"", mode=0o40755)),
    # Kinds
    _tar("symbolic link", "is a symbolic link", link(b"evil", b"/etc/passwd", b"2")),
    _tar("link, then through it", "is a symbolic link", link(b"d", b"/tmp", b"2"), member(b"d/evil")),
    _tar("hard link", "is a hard link", link(b"evil", b"/etc/passwd", b"1")),
    _tar("hard link inside", "is a hard link", link(b"evil", b"plugin.toml", b"1")),
    _tar("link with a long target", "is a symbolic link", gnu_long(b"../" * 100, b"K"), link(b"evil", b"x", b"2")),
    _tar("pax linkpath of a file", "the target of a link", pax((b"linkpath", b"/etc/passwd")), member(b"evil")),
    _tar("character device", "is a character device", header(b"evil", kind=b"3")),
    _tar("block device", "is a block device", header(b"evil", kind=b"4")),
    _tar("named pipe", "is a named pipe", header(b"evil", kind=b"6")),
    _tar("sparse file", "is a sparse file", header(b"evil", kind=b"S", magic=b"ustar  \0")),
    _tar(
        "sparse file by pax",
        "is a sparse file",
        pax((b"GNU.sparse.major", b"1"), (b"GNU.sparse.name", b"../x")),
        member(b"evil"),
    ),
    _tar("unknown kind", "is of an unknown kind ('Z')", header(b"evil", kind=b"Z")),
    _tar("volume label", "is of an unknown kind ('V')", header(b"evil", kind=b"V")),
    _tar("setuid", "has the setuid or setgid bit", member(b"evil", mode=0o4755)),
    _tar("setgid", "has the setuid or setgid bit", member(b"evil", mode=0o2755)),
    _zip("symbolic link", "is a symbolic link", Zipped(name=b"evil", data=b"/etc/passwd", mode=0o120777)),
    _zip("device", "is a block device", Zipped(name=b"evil", mode=0o60666)),
    _zip("socket", "is a socket", Zipped(name=b"evil", mode=0o140666)),
    _zip("unknown kind", "is of an unknown kind", Zipped(name=b"evil", mode=0o30666)),
    _zip("setuid", "has the setuid or setgid bit", Zipped(name=b"evil", mode=0o104755)),
    _zip("file with a directory's mode", "a directory by the other", Zipped(name=b"evil", mode=0o40755)),
    _zip("directory with a file's mode", "a directory by the other", Zipped(name=b"evil/", data=b"", mode=0o100644)),
    _zip("directory with content", "is a directory with content", Zipped(name=b"evil/", mode=0o40755)),
    _tar("directory with content", "has content and is no regular file", member(b"evil/", kind=b"5")),
    _tar("link with content", "has content and is no regular file", member(b"evil", kind=b"2")),
    _tar("file with a directory's name", "is a file with the name of a directory", member(b"evil/")),
    # Two for one
    _tar("duplicate", "is in it twice", member(b"plugin.toml", b"other")),
    _zip("duplicate", "is in it twice", Zipped(name=b"plugin.toml", data=b"other")),
    _tar("duplicate behind ./", "is in it twice", member(b"./plugin.toml", b"other")),
    _tar("directory twice", "is in it twice", directory(b"d/"), directory(b"d")),
    _tar("case twin", ("'Plugin.TOML' and 'plugin.toml'", "the same name"), member(b"Plugin.TOML")),
    _zip("case twin", ("'Plugin.TOML' and 'plugin.toml'", "the same name"), Zipped(name=b"Plugin.TOML")),
    _tar("twin directories", "the same name", member(b"Lib/a"), member(b"lib/b")),
    _tar("Unicode twin", "the same name", member("caf\u00e9".encode()), member("cafe\u0301".encode())),
    _zip("Unicode twin", "the same name", Zipped(name="caf\u00e9".encode()), Zipped(name="CAFE\u0301".encode())),
    _tar("twin by folding", "the same name", member("stra\u00dfe".encode()), member(b"STRASSE")),
    _tar("file as directory", "uses the file 'plugin.toml' as a directory", member(b"plugin.toml/evil")),
    _zip("file as directory", "uses the file 'plugin.toml' as a directory", Zipped(name=b"plugin.toml/evil")),
    _tar("directory as file", "is a file and a directory at once", member(b"d/x"), member(b"d")),
    _tar("file, then directory", "is a file and a directory at once", member(b"d"), directory(b"d/")),
    _tar("two long names", "has two long names", gnu_long(b"one"), pax((b"path", b"two")), member(b"x")),
    # Headers that lie
    _tar("two pax headers", "two extended headers", pax((b"path", b"a")), pax((b"path", b"b")), member(b"x")),
    _tar("two GNU names", "two extended headers", gnu_long(b"a"), gnu_long(b"b"), member(b"x")),
    _tar("pax size", "has two sizes: 1, and '0'", pax((b"size", b"0")), member(b"evil")),
    _tar("pax size of nonsense", "has two sizes: 1, and '-9e99'", pax((b"size", b"-9e99")), member(b"evil")),
    _tar(
        "pax record twice",
        "is not well-formed",
        pax((b"path", b"a"), (b"path", b"../b")),
        member(b"x"),
        names_member=False,
    ),
    _tar(
        "pax record too long",
        "is not well-formed",
        member(b"p", b"99 path=x\n", kind=b"x"),
        member(b"x"),
        names_member=False,
    ),
    _tar(
        "pax record of length 0",
        "is not well-formed",
        member(b"p", b"0 path=x\n", kind=b"x"),
        member(b"x"),
        names_member=False,
    ),
    _tar("pax garbage", "is not well-formed", member(b"p", b"\xff" * 400, kind=b"x"), member(b"x"), names_member=False),
    _tar(
        "many pax records",
        "more records in its pax headers",
        pax(*((b"k%d" % i, b"") for i in range(100))),
        member(b"x"),
        error=ResourceExhausted,
        names_member=False,
        limits={"max_entries": 9},
    ),
    _tar(
        "huge pax header",
        "has an extended header of 104859",
        pax((b"comment", b"x" * (1 << 20))),
        member(b"x"),
        error=ResourceExhausted,
        names_member=False,
    ),
    _tar(
        "huge GNU name",
        "has an extended header of 1048577 bytes",
        gnu_long(b"x" * (1 << 20)),
        member(b"x"),
        error=ResourceExhausted,
        names_member=False,
    ),
    _tar(
        "pax header without its end",
        "is truncated",
        header(b"p", 2000, kind=b"x"),
        error=PackageRefused,
        names_member=True,
    ),
    _tar(
        "global pax path",
        "gives all members one 'path'",
        pax((b"path", b"../x"), kind=b"g"),
        member(b"x"),
        names_member=False,
    ),
    _tar(
        "global pax size",
        "gives all members one 'size'",
        pax((b"size", b"0"), kind=b"g"),
        member(b"x"),
        names_member=False,
    ),
    _tar("pax header for nothing", "ends after an extended header", pax((b"path", b"x")), names_member=False),
    _tar("negative size", "no plain number", header(b"evil", b"\xff" * 12)),
    _tar("binary size", "no plain number", header(b"evil", b"\x80" + bytes(10) + b"\x01") + padded(b"x")),
    _tar("size of letters", "no plain number", header(b"evil", b"lots")),
    _tar(
        "size of terabytes",
        "files of more than 536870912 bytes",
        header(b"evil", 0o77777777777),
        error=ResourceExhausted,
    ),
    _tar("size too large", "is truncated", header(b"evil", 5000) + padded(b"x")),
    _tar("size too small", "no tar header at byte", header(b"evil", 0) + padded(b"x" * 600), names_member=False),
    _tar("wrong checksum", "no tar header at byte 1024", header(b"evil", checksum=b"000001\0 "), names_member=False),
    _tar("no magic", "no tar header at byte 1024", header(b"evil", magic=b"evil"), names_member=False),
    _zip("local name", "is called '../../evil' in its own header", Zipped(name=b"good", local_name=b"../../evil")),
    _zip("local size", "has another size, checksum or method", Zipped(name=b"evil", local_size=9)),
    _zip("local checksum", "has another size, checksum or method", Zipped(name=b"evil", local_crc=9)),
    _zip("local method", "has another size, checksum or method", Zipped(name=b"evil", local_method=0)),
    _zip("no local header", "is not where the directory says", Zipped(name=b"evil", local_mark=b"evil")),
    _zip("local header outside", "where the archive has no members", Zipped(name=b"evil", local_at=0xFFFFFFF0)),
    _zip(
        "second name",
        "has a second name in an extra field",
        Zipped(name=b"good", extra=extra_field(0x7075, b"\1\0\0\0\0../evil")),
    ),
    _zip(
        "extra field without its end",
        "extra fields that are not well-formed",
        Zipped(name=b"evil", extra=b"\1\0\xff\xff"),
    ),
    _zip("zip64 field missing", "has no zip64 field", Zipped(name=b"evil", size=0xFFFFFFFF)),
    _zip(
        "zip64 place of exabytes",
        "where the archive has no members",
        Zipped(name=b"evil", local_at=0xFFFFFFFF, extra=extra_field(1, struct.pack("<Q", 1 << 63))),
    ),
    _zip("declares less", "is larger than the 1 bytes it declares", Zipped(name=b"evil", data=b"x" * 500, size=1)),
    _zip("declares more", "is 1 bytes, and declares 500", Zipped(name=b"evil", size=500)),
    _zip(
        "stored, declares less", "is larger than the 1 bytes", Zipped(name=b"evil", data=b"x" * 500, method=0, size=1)
    ),
    _zip("wrong checksum", "its checksum is another", Zipped(name=b"evil", crc=1)),
    _zip("damaged content", "is damaged", Zipped(name=b"evil", packed=b"\xff" * 30)),
    _zip(
        "content cut short",
        "is truncated",
        Zipped(name=b"evil", data=os.urandom(500), packed=deflated(bytes(range(200)))[:50]),
    ),
    _zip(
        "data in a member behind its end",
        "has data after the end of its content",
        Zipped(name=b"evil", packed=deflated(b"x") + b"hidden"),
    ),
    _zip(
        "data between members", "data that belongs to no member", Zipped(name=b"a", behind=b"hidden"), Zipped(name=b"b")
    ),
    _zip(
        "descriptor that lies",
        "data that belongs to no member",
        Zipped(name=b"a", flags=8, behind=b"PK\7\x08" + bytes(12)),
    ),
    _zip("descriptor missing", "data that belongs to no member", Zipped(name=b"a", flags=8)),
    Evil("zip overlapping", overlapping_zip, ("overlaps what follows it",)),
    _zip("encrypted", "is encrypted", Zipped(name=b"evil", flags=1)),
    _zip("strongly encrypted", "is encrypted", Zipped(name=b"evil", flags=0x41)),
    _zip("bzip2 method", "is compressed by method 12", Zipped(name=b"evil", method=12)),
    _zip("xz method", "is compressed by method 95", Zipped(name=b"evil", method=95)),
    _zip("patched data", "is compressed by method 8", Zipped(name=b"evil", flags=0x20)),
    _zip("of two parts", "is on another part", Zipped(name=b"evil", disk=1)),
    _raw("zip counts fewer", "more in its directory than the 1 members", lambda: zipped(Zipped(name=b"evil"), count=1)),
    _raw("zip counts more", "no entry at byte", lambda: zipped(count=2)),
    _raw("zip directory elsewhere", "another place for its directory", lambda: zipped(place=5)),
    _raw("zip with a program before", "belongs to no member", lambda: b"PK\3\4" + zipped(before=b"", behind=b"")),
    _raw("zip with honest data before", "has data before its first member", lambda: zipped(before=b"PK\3\4program")),
    _raw(
        "zip with data before its directory",
        "data that belongs to no member",
        lambda: zipped(between=b"x" * 99),
        names_member=True,
    ),
    _raw("zip with data behind", "or has data after its end", lambda: zipped(behind=b"x" * 99)),
    _raw("zip within a comment", "has two ends", lambda: zipped(comment=zipped(Zipped(name=b"evil")))),
    _raw("zip truncated", "is truncated", lambda: zipped()[:-5]),
    _raw(
        "zip64 directory",
        "the directory of a zip64",
        lambda: zipped(count=0xFFFF),
        ResourceExhausted,
        limits={"max_entries": 70_000},
    ),
    # Bombs
    _raw(
        "gzip bomb",
        "more than 100 times its size",
        lambda: gzip_zeros(300, header(b"zeros", 300 << 20)),
        ResourceExhausted,
        names_member=True,
    ),
    _raw("gzip bomb behind the end", "more than 100 times its size", lambda: gzip_zeros(300, tar()), ResourceExhausted),
    _raw("gzip bomb, no tar", "no tar archive", lambda: gzip_zeros(20, b"x"), InvalidParams),
    _raw("gzip members", "data after the end of its gzip stream", lambda: tgz() + gzip.compress(b"") * 100_000),
    _raw("gzip of two archives", "data after the end of its gzip stream", lambda: tgz() + tgz()),
    _raw("gzip with garbage behind", "data after the end of its gzip stream", lambda: tgz() + b"garbage"),
    _zip("bomb", "more than 100 times its size", Zipped(name=b"zeros", data=bytes(24 << 20)), error=ResourceExhausted),
    _zip(
        "bomb that declares little", "is larger than the 9 bytes", Zipped(name=b"zeros", data=bytes(24 << 20), size=9)
    ),
    _tar(
        "too many files",
        "is one too many",
        *(member(b"f%d" % i) for i in range(60)),
        error=ResourceExhausted,
        limits={"max_entries": 50},
    ),
    _tar(
        "too many directories",
        "is one too many",
        *(member(b"d%d/e/f" % i) for i in range(20)),
        error=ResourceExhausted,
        limits={"max_entries": 50},
    ),
    _tar(
        "too many headers",
        "has an extended header",
        *(pax((b"a", b"b"), kind=b"g") for _ in range(120)),
        error=ResourceExhausted,
        limits={"max_entries": 50},
        names_member=False,
    ),
    _zip(
        "too many members",
        "at most 50 are allowed",
        *(Zipped(name=b"f%d" % i) for i in range(60)),
        error=ResourceExhausted,
        limits={"max_entries": 50},
        names_member=False,
    ),
    _tar(
        "too large",
        "files of more than 1000 bytes in all",
        member(b"a", b"x" * 600),
        member(b"b", b"x" * 600),
        error=ResourceExhausted,
        limits={"max_bytes": 1000},
    ),
    _zip(
        "too large",
        "files of more than 1000 bytes in all",
        Zipped(name=b"a", data=b"x" * 600),
        Zipped(name=b"b", data=b"x" * 600),
        error=ResourceExhausted,
        limits={"max_bytes": 1000},
    ),
    Evil(
        "tar huge manifest",
        lambda: gzip.compress(member(b"plugin.toml", b"#" * (1 << 20) + b"#") + TAR_END),
        ("is a manifest of 1048577 bytes",),
    ),
    Evil(
        "tar huge manifest in a directory",
        lambda: gzip.compress(member(b"d/plugin.toml", b"#" * (2 << 20)) + TAR_END),
        ("is a manifest of 2097152 bytes",),
    ),
    _zip("huge manifest", "is a manifest of 2097152 bytes", Zipped(name=b"d/plugin.toml", data=b"#" * (2 << 20))),
    # Cut short, or too long
    _raw(
        "tar truncated in a file", "is truncated", lambda: tar(member(b"evil", b"x" * 9999))[:3000], names_member=True
    ),
    _raw("tar truncated in a header", "is truncated", lambda: tar(member(b"evil"))[:1300]),
    _raw("tar without its end", "is truncated", lambda: tar()[:1024]),
    _raw("tar with half its end", "is truncated", lambda: tar()[:1536]),
    _raw("tar with data after its end", "has data after its end", lambda: tar() + member(b"hidden")),
    _raw("tar with data in its end", "has data after its end", lambda: tar()[:1536] + member(b"hidden")),
    _raw(
        "tar whose first checksum is wrong", "a wrong checksum", lambda: header(b"x", checksum=b"000001\0 ") + TAR_END
    ),
    _raw("gzip truncated", "its gzip stream has no end", lambda: tgz(member(b"a", os.urandom(9999)))[:-1]),
    _raw("gzip with a wrong checksum", "incorrect data check", lambda: tgz()[:-8] + b"evil" + tgz()[-4:]),
    _raw("gzip with a wrong length", "incorrect length check", lambda: tgz()[:-4] + b"evil"),
    # Nothing, or something else
    _raw("no bytes", "is empty", lambda: b"", InvalidParams),
    _raw("empty tar", "is no archive", lambda: bytes(10240), InvalidParams),
    _raw("empty tar.gz", "no tar archive", lambda: gzip.compress(b""), InvalidParams),
    _raw(
        "empty zip", "is an empty zip", lambda: struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0, 0, 0, 0, 0), InvalidParams
    ),
    _raw("only directories", "holds no files", lambda: directory(b"d/") + TAR_END, InvalidParams),
    _raw("text", "is no archive", lambda: b"hello, world\n" * 100, InvalidParams),
    _raw("script", "is a script", lambda: b"#!/bin/sh\nrm -rf /\n", InvalidParams),
    _raw("picture", "is a PNG picture", lambda: b"\x89PNG\r\n\x1a\n" + bytes(100), InvalidParams),
    _raw("rpm", "is an rpm package", lambda: b"\xed\xab\xee\xdb\3\0" + bytes(600), InvalidParams),
    _raw("7z", "is a 7z archive", lambda: b"7z\xbc\xaf\x27\x1c" + bytes(600), InvalidParams),
    _raw("xz", "is an xz file", lambda: b"\xfd7zXZ\0" + bytes(600), InvalidParams),
    _raw("gzip of a text", "no tar archive", lambda: gzip.compress(b"hello\n" * 1000), InvalidParams),
    _raw("only the mark of a gzip", "is truncated", lambda: b"\x1f\x8b"),
    _raw("only the mark of a zip", "is truncated", lambda: b"PK\3\4"),
]
