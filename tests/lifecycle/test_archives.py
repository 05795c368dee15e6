"""Archives: the good ones unpack to what was packed, the evil ones are refused by name and leave nothing outside."""

from __future__ import annotations

import errno
import gzip
import io
import os
import random
import shutil
import stat
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supervisor.core.errors import InvalidParams, ResourceExhausted, SupervisorError
from supervisor.lifecycle import archives
from supervisor.lifecycle.archive_names import shown
from supervisor.lifecycle.archives import copy_archive, inspect_wheel, read_wheel_file, unpack, wheel_names
from supervisor.lifecycle.copying import PackageLimits, PackageRefused
from tests.lifecycle.archive_bytes import (
    MANIFEST,
    TAR_END,
    Zipped,
    directory,
    extra_field,
    gnu_long,
    gzip_zeros,
    header,
    link,
    member,
    pax,
    tar,
    tgz,
    zipped,
)
from tests.lifecycle.evil_archives import EVIL, Evil

Files = dict[str, bytes | None]
"""Path -> content, None for a directory."""


def nobody(*_: object) -> None:
    pass


class Place:
    """A directory with an archive and a target in it, and things beside them that must stay as they are."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.chmod(0o755)
        self.archive = root / "evil.archive"
        self.target = root / "staging" / "target"
        self.target.mkdir(parents=True)
        (root / "precious").write_bytes(b"precious")
        (root / "staging" / "other").write_bytes(b"other")

    def put(self, data: bytes) -> Path:
        self.archive.write_bytes(data)
        self.archive.chmod(0o644)
        return self.archive

    def unpack(self, data: bytes, **limits: int) -> Files:
        unpack(self.put(data), self.target, PackageLimits(**limits), nobody, nobody)
        return files_in(self.target)

    def assert_contained(self) -> None:
        """Nothing outside the target; inside, what a package may hold, with our modes."""
        outside = {p.relative_to(self.root).as_posix() for p in self.root.rglob("*") if self.target not in p.parents}
        assert outside == {"evil.archive", "precious", "staging", "staging/other", "staging/target"}
        assert (self.root / "precious").read_bytes() == b"precious"
        for path in self.target.rglob("*"):
            found = path.lstat()
            assert stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)
            assert stat.S_IMODE(found.st_mode) in ((0o700,) if path.is_dir() else (0o600, 0o700))
            assert found.st_nlink == 1 or path.is_dir()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def files_in(root: Path) -> Files:
    return {p.relative_to(root).as_posix(): None if p.is_dir() else p.read_bytes() for p in root.rglob("*")}


# --- the evil ones


def test_no_evil_is_named_twice() -> None:
    names = [evil.name for evil in EVIL]
    assert len(names) == len(set(names))
    assert len(names) > 100


@pytest.mark.parametrize("evil", EVIL, ids=lambda evil: evil.name)
def test_evil(place: Place, evil: Evil) -> None:
    with pytest.raises(SupervisorError) as caught:
        place.unpack(evil.build(), **evil.limits)
    assert type(caught.value) is evil.error
    message = caught.value.message
    assert message.startswith(f"{place.archive}: ")
    assert all(said in message for said in evil.says)
    assert message.isprintable()
    assert len(message) < len(str(place.archive)) + 400
    assert caught.value.details["path"] == str(place.archive)
    told = caught.value.details.get("member")
    assert (told is not None) is evil.names_member
    assert told is None or message.startswith(f"{place.archive}: {told} ")
    place.assert_contained()


@pytest.mark.parametrize(
    "evil", [e for e in EVIL if e.name.startswith("zip ") and "manifest" not in e.name], ids=lambda evil: evil.name
)
def test_an_evil_wheel(place: Place, evil: Evil) -> None:
    with pytest.raises(SupervisorError) as caught:
        inspect_wheel(place.put(evil.build()), PackageLimits(**evil.limits))
    assert type(caught.value) is evil.error
    assert all(said in caught.value.message for said in evil.says)
    assert files_in(place.target) == {}
    place.assert_contained()


def test_whatever_the_name_is_the_message_is_one_short_line() -> None:
    for name in (b"\xff" * 1000, b"\n\x1b[0m" * 1000, "é\u202e".encode() * 1000, b"'\"\\" * 1000, b""):
        assert shown(name).isprintable()
        assert len(shown(name)) <= 80


# Measured in a process of its own, so that nothing else that ran here counts.
MEASURE = """
import resource, sys
from pathlib import Path
from supervisor.core.errors import SupervisorError
from supervisor.lifecycle.archives import unpack
from supervisor.lifecycle.copying import PackageLimits

def peak_kib():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))

def cpu_s():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime

before = peak_kib()
began = cpu_s()
try:
    unpack(Path(sys.argv[1]), Path(sys.argv[2]), PackageLimits(), lambda: None, lambda *_: None)
    outcome = "unpacked"
except SupervisorError as error:
    outcome = error.code
print(outcome, cpu_s() - began, (peak_kib() - before) / 1024)
"""


def many_pax_records() -> bytes:
    header_of_many = pax(*((b"%x" % i, b"") for i in range(64)))
    return gzip.compress(b"".join(header_of_many + member(b".git/%d" % i) for i in range(19_000)) + TAR_END, 1)


def empty_blocks() -> bytes:
    """A gzip stream of ten million bytes that is nothing but empty blocks."""
    return gzip.compress(b"")[:10] + b"\0\0\0\xff\xff" * 2_000_000


def wide_zip_directory() -> bytes:
    """As large as a directory of honest names gets. Nothing of it is written: it is reading that is measured."""
    return zipped(*(Zipped(name=b".git/%05d" % i + b"x" * 235, data=b"") for i in range(15_000)))


@pytest.mark.parametrize(
    ("build", "outcome"),
    [
        (lambda: gzip_zeros(9_000, tar()[:-1024] + header(b"z", 400 << 20)), "RESOURCE_EXHAUSTED"),
        (lambda: gzip.compress(b"\x1f\x8b" + random.Random(4).randbytes(10 << 20), 1), "INVALID_PARAMS"),
        (empty_blocks, "INVALID_PARAMS"),
        (lambda: tgz() + gzip.compress(b"") * 500_000, "INVALID_PARAMS"),
        (lambda: tar(gnu_long(b"x" * (10 << 20))), "RESOURCE_EXHAUSTED"),
        (lambda: tar(pax((b"path", b"../" * (3 << 20)))), "RESOURCE_EXHAUSTED"),
        (many_pax_records, "RESOURCE_EXHAUSTED"),
        (lambda: zipped(*(Zipped(name=b"a", data=b"", flags=1) for _ in range(65_000))), "RESOURCE_EXHAUSTED"),
        (lambda: zipped(comment=b"PK\5\6" * 16_000) + bytes(10 << 20), "INVALID_PARAMS"),
        (wide_zip_directory, "unpacked"),
    ],
    ids=[
        "zeros",
        "gzip of noise",
        "empty blocks",
        "gzip members",
        "GNU name",
        "pax path",
        "pax records",
        "zip members",
        "ends",
        "zip directory",
    ],
)
def test_ten_evil_megabytes_cost_little(place: Place, build: Callable[[], bytes], outcome: str) -> None:
    command = [sys.executable, "-c", MEASURE, str(place.put(build())), str(place.target)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    said, cpu_s, mebibytes = done.stdout.split()
    assert said == outcome
    assert float(cpu_s) < 4  # a third of it, on a machine with nothing else to do
    assert float(mebibytes) < 100


# --- the good ones

GOOD: Files = {
    "plugin.toml": MANIFEST,
    "src": None,
    "src/weather": None,
    "src/weather/__init__.py": b"",
    "src/weather/große.py": "print('ünï')".encode() * 500,
    "plugin": None,
    "plugin/plugin.toml": b"another",
    "empty": None,
    "bin": None,
    "bin/run": b"#!/bin/sh\n",
}


def packed_tar(mode: str, files: Files = GOOD, top: str = "", **options: object) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode, **options) as file:  # type: ignore[call-overload]
        if top:
            root = tarfile.TarInfo(top)
            root.type, root.mode = tarfile.DIRTYPE, 0o755
            file.addfile(root)
        for name, data in files.items():
            info = tarfile.TarInfo(f"{top}/{name}" if top else name)
            info.mtime = 1234567890.25  # a pax record of its own
            info.mode = 0o755 if name == "bin/run" or data is None else 0o664
            info.type = tarfile.DIRTYPE if data is None else tarfile.REGTYPE
            info.size = len(data or b"")
            file.addfile(info, io.BytesIO(data or b""))
    return out.getvalue()


class Unseekable(io.BytesIO):
    """zipfile writes data descriptors where it cannot go back."""

    def seekable(self) -> bool:
        return False

    def seek(self, *_: object) -> int:
        raise io.UnsupportedOperation

    def tell(self) -> int:
        raise io.UnsupportedOperation


def packed_zip(files: Files = GOOD, top: str = "", out: io.BytesIO | None = None, force_zip64: bool = False) -> bytes:
    out = out or io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in files.items():
            info = zipfile.ZipInfo(f"{top}/{name}" if top else name)
            info.compress_type = zipfile.ZIP_STORED if name == "bin/run" else zipfile.ZIP_DEFLATED
            if data is None:
                info.filename += "/"
                info.external_attr = 0o40755 << 16
                file.writestr(info, b"")
                continue
            info.external_attr = (0o100755 if name == "bin/run" else 0o100664) << 16
            with file.open(info, "w", force_zip64=force_zip64) as inside:
                inside.write(data)
    return out.getvalue()


GOOD_ARCHIVES: dict[str, Callable[[], bytes]] = {
    "tar.gz": lambda: packed_tar("w:gz"),
    "tar": lambda: packed_tar("w:"),
    "GNU": lambda: packed_tar("w:gz", format=tarfile.GNU_FORMAT),
    "ustar": lambda: packed_tar("w:gz", format=tarfile.USTAR_FORMAT),
    "sdist": lambda: packed_tar("w:gz", top="acme_weather-1.2.0"),
    "top of the same name": lambda: packed_tar("w:gz", top="plugin"),
    "dot": lambda: packed_tar("w:", top="."),
    "global pax header": lambda: packed_tar("w:", pax_headers={"comment": "0123456789abcdef"}),
    "zip": packed_zip,
    "zip with a top": lambda: packed_zip(top="weather"),
    "zip from a pipe": lambda: packed_zip(out=Unseekable()),
    "zip64 from a pipe": lambda: packed_zip(out=Unseekable(), force_zip64=True),
    "zip64": lambda: packed_zip(force_zip64=True),
}


@pytest.mark.parametrize("name", GOOD_ARCHIVES)
def test_good(place: Place, name: str) -> None:
    assert place.unpack(GOOD_ARCHIVES[name]()) == GOOD
    place.assert_contained()
    executable = {p.name for p in place.target.rglob("*") if p.is_file() and p.stat().st_mode & stat.S_IXUSR}
    assert executable == {"run"}


@pytest.mark.parametrize(
    ("data", "files"),
    [
        (tar(member(b"./a/b")), {"plugin.toml": MANIFEST, "a": None, "a/b": b"x"}),
        (tar(member(b"a/b"), directory(b"a/")), {"plugin.toml": MANIFEST, "a": None, "a/b": b"x"}),
        (tar(gnu_long(b"a/" * 45 + b"z"), member(b"a")), None),
        (tar(header(b"b", prefix=b"a")), {"plugin.toml": MANIFEST, "a": None, "a/b": b""}),
        (tar() + bytes(1 << 20), {"plugin.toml": MANIFEST}),
        (member(b"a/b/plugin.toml") + TAR_END, {"b": None, "b/plugin.toml": b"x"}),
        (member(b"one") + TAR_END, {"one": b"x"}),
        (tar(member(b"..a"), member(b"...")), {"plugin.toml": MANIFEST, "..a": b"x", "...": b"x"}),
        (zipped(comment=b"a comment"), {"plugin.toml": MANIFEST}),
        (zipped(Zipped(name=b"d/", data=b"", mode=0)), {"plugin.toml": MANIFEST, "d": None}),
        (zipped(Zipped(name="é".encode(), mode=0)), {"plugin.toml": MANIFEST, "é": b"x"}),
        (zipped(Zipped(name=b"e", data=b"", packed=b"")), {"plugin.toml": MANIFEST, "e": b""}),
        (
            zipped(Zipped(name=b"e", size=0xFFFFFFFF, local_size=1, extra=extra_field(1, b"\1" + bytes(7)))),
            {"plugin.toml": MANIFEST, "e": b"x"},
        ),
    ],
    ids=[
        "dot before",
        "directory afterwards",
        "deep",
        "prefix",
        "padding",
        "only one top is stripped",
        "one file",
        "dots",
        "comment",
        "no modes",
        "not marked as UTF-8",
        "nothing deflated",
        "zip64",
    ],
)
def test_odd_but_good(place: Place, data: bytes, files: Files | None) -> None:
    unpacked = place.unpack(data)
    assert files is None or unpacked == files
    place.assert_contained()


def test_what_is_not_copied_from_a_directory_is_not_unpacked_either(place: Place) -> None:
    clutter = (
        directory(b"w/.venv/"),
        link(b"w/.venv/python", b"/usr/bin/python3", b"2"),
        member(b"w/__pycache__/x.pyc"),
        member(b"w/.git/config"),
        member(b"__MACOSX/w/._plugin.toml"),
    )
    packed = b"".join((*clutter, member(b"w/plugin.toml"), member(b"w/.gitignore"), TAR_END))
    assert place.unpack(packed) == {"plugin.toml": b"x", ".gitignore": b"x"}


def floor_s(files: Files, target: Path) -> float:
    """CPU seconds that it takes to write them plainly."""
    began = time.process_time()
    for name, data in files.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data or b"")
    return time.process_time() - began


@pytest.mark.parametrize("pack", [lambda files, top: packed_tar("w:gz", files, top), packed_zip], ids=["tar", "zip"])
def test_five_thousand_small_files_are_fast(place: Place, pack: Callable[[Files, str], bytes]) -> None:
    files: Files = {f"d{i // 100}/f{i}": b"%d" % i * 20 for i in range(5_000)}
    archive = place.put(pack(files, "w"))
    began = time.process_time()
    unpack(archive, place.target, PackageLimits(), nobody, nobody)
    took_s = time.process_time() - began
    # What the kernel takes for so many files is the floor; to open each from the top by descriptors doubles it.
    assert took_s < 4 * floor_s(files, place.target.parent / "floor") + 0.5
    assert {name: data for name, data in files_in(place.target).items() if data is not None} == files


def test_progress_is_told_and_cancelling_is_noticed(place: Place) -> None:
    data = packed_tar("w:", {f"f{i}": random.Random(i).randbytes(1 << 20) for i in range(8)})
    told: list[tuple[int, int | None]] = []
    unpack(place.put(data), place.target, PackageLimits(), nobody, lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert len(told) >= 8
    assert told[-1] == (len(data), len(data))

    class Stop(BaseException):
        pass

    def cancelled() -> None:
        raise Stop

    fresh = place.root / "staging" / "fresh"
    fresh.mkdir()
    for archive in (data, packed_zip()):
        before = os.listdir("/proc/self/fd")
        with pytest.raises(Stop):
            unpack(place.put(archive), fresh, PackageLimits(), cancelled, nobody)
        assert len(os.listdir("/proc/self/fd")) == len(before)


@pytest.mark.parametrize(
    ("number", "error", "says"),
    [
        (errno.ENOSPC, ResourceExhausted, "no space left for the files of"),
        (errno.EIO, InvalidParams, "cannot be unpacked: Input/output error"),
    ],
)
def test_a_full_disk(
    place: Place, monkeypatch: pytest.MonkeyPatch, number: int, error: type[SupervisorError], says: str
) -> None:
    def write(fd: int, data: memoryview) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("supervisor.lifecycle.archive_tree.os", SimpleNamespace(**{**vars(os), "write": write}))
    with pytest.raises(error, match=says):
        place.unpack(tgz())


def test_no_link_is_followed_whoever_made_it(place: Place) -> None:
    (place.target / "d").symlink_to(place.root / "staging")
    (place.target / "other").symlink_to(place.root / "staging" / "other")
    for evil in (member(b"d/evil"), member(b"other", b"changed")):
        with pytest.raises(InvalidParams, match=r"cannot be unpacked: '(d|other)'"):
            place.unpack(evil + TAR_END)
    assert not (place.root / "staging" / "evil").exists()
    assert (place.root / "staging" / "other").read_bytes() == b"other"


# --- whose file it is


def test_an_archive_that_others_may_change(place: Place) -> None:
    place.put(tgz()).chmod(0o666)
    with pytest.raises(PackageRefused, match=r"may be written by others \(mode 0666\): chmod"):
        unpack(place.archive, place.target, PackageLimits(), nobody, nobody)
    with pytest.raises(PackageRefused, match="may be written by others"):
        inspect_wheel(place.archive, PackageLimits())
    with pytest.raises(PackageRefused, match="may be written by others"):
        copy_archive(place.archive, place.target, PackageLimits(), nobody, nobody)
    assert files_in(place.target) == {}


def test_an_archive_where_others_may_rename(place: Place) -> None:
    place.put(tgz())
    place.root.chmod(0o777)
    with pytest.raises(PackageRefused, match="may be written by everybody: chmod o-w"):
        unpack(place.archive, place.target, PackageLimits(), nobody, nobody)
    assert files_in(place.target) == {}


def test_an_archive_behind_a_link_is_looked_at_where_it_is(place: Place) -> None:
    open_to_all = place.root / "open"
    open_to_all.mkdir()
    named = place.root / "link"
    place.put(tgz()).rename(open_to_all / "real")
    named.symlink_to(open_to_all / "real")
    unpack(named, place.target, PackageLimits(), nobody, nobody)
    assert files_in(place.target) == {"plugin.toml": MANIFEST}
    open_to_all.chmod(0o777)
    with pytest.raises(PackageRefused, match="may be written by everybody"):
        unpack(named, place.target, PackageLimits(), nobody, nobody)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_an_archive_of_somebody_else(place: Place) -> None:
    os.chown(place.put(tgz()), 4711, 4711)
    with pytest.raises(PackageRefused, match="belongs to uid 4711, who could change it"):
        unpack(place.archive, place.target, PackageLimits(), nobody, nobody)


def test_it_is_swapped_after_it_was_opened(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    check = archives.file_problem

    def swap(fd: int, path: Path, uid: int) -> str | None:
        problem = check(fd, path, uid)
        path.unlink()
        path.write_bytes(tgz(member(b"swapped")))
        return problem

    monkeypatch.setattr(archives, "file_problem", swap)
    assert place.unpack(tgz()) == {"plugin.toml": MANIFEST}


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (Path.mkdir, "is no regular file"),
        (os.mkfifo, "is no regular file"),
        (lambda path: None, "cannot be opened: No such file or directory"),
        (lambda path: path.symlink_to(path), "cannot be opened: Too many levels of symbolic links"),
    ],
    ids=["directory", "pipe", "nothing", "loop"],
)
def test_no_file(place: Place, make: Callable[[Path], object], says: str) -> None:
    make(place.archive)
    with pytest.raises(InvalidParams, match=says):
        unpack(place.archive, place.target, PackageLimits(), nobody, nobody)


def test_a_name_with_nul_is_no_file(place: Place) -> None:
    with pytest.raises(InvalidParams, match="no name of a file holds NUL"):
        unpack(Path("/a\0b"), place.target, PackageLimits(), nobody, nobody)


# --- wheels

WHEEL: Files = {
    "weather/__init__.py": b"",
    "weather/plugin.toml": MANIFEST,
    "weather-1.2.dist-info/WHEEL": b"Wheel-Version: 1.0\n",
    "weather-1.2.dist-info/RECORD": b"",
}


def test_a_wheel(place: Place) -> None:
    wheel = place.put(packed_zip({"weather": None, **WHEEL}))
    inspect_wheel(wheel, PackageLimits())
    assert wheel_names(wheel) == list(WHEEL)
    assert read_wheel_file(wheel, "weather/plugin.toml", len(MANIFEST)) == MANIFEST
    assert read_wheel_file(wheel, "weather/__init__.py", 0) == b""
    with pytest.raises(ResourceExhausted, match=rf"'weather/plugin.toml' is larger than {len(MANIFEST) - 1} bytes"):
        read_wheel_file(wheel, "weather/plugin.toml", len(MANIFEST) - 1)
    for name in ("weather", "weather/", "../plugin.toml", ""):
        with pytest.raises(InvalidParams, match="has no file"):
            read_wheel_file(wheel, name, 100)


@pytest.mark.parametrize("data", [b"", b"text", tgz(), b"PK\5\6" + bytes(18)], ids=["nothing", "text", "tar", "empty"])
def test_no_wheel(place: Place, data: bytes) -> None:
    place.put(data)
    for ask in (
        lambda: inspect_wheel(place.archive, PackageLimits()),
        lambda: wheel_names(place.archive),
        lambda: read_wheel_file(place.archive, "x", 1),
    ):
        with pytest.raises(InvalidParams, match="is no wheel"):
            ask()


def test_a_wheel_holds_its_content_to_what_it_declares(place: Place) -> None:
    wheel = place.put(zipped(Zipped(name=b"evil", data=b"x" * 500, size=1)))
    with pytest.raises(PackageRefused, match="is larger than the 1 bytes it declares"):
        read_wheel_file(wheel, "evil", 100)
    wheel = place.put(zipped(Zipped(name=b"../evil")))
    with pytest.raises(PackageRefused, match=r"leads out of its directory"):
        wheel_names(wheel)


def test_a_copy_is_ours_and_keeps_its_name(place: Place) -> None:
    data = packed_zip(WHEEL)
    source = place.put(data)
    copy = copy_archive(source, place.target, PackageLimits(), nobody, nobody)
    assert copy == place.target / source.name
    assert copy.read_bytes() == data
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    copy.unlink()
    with pytest.raises(ResourceExhausted, match=r"is larger than 10 bytes"):
        copy_archive(source, place.target, PackageLimits(max_bytes=10), nobody, nobody)


# --- anything at all

SMALL: Files = {"plugin.toml": MANIFEST, "a": None, "a/run": b"#!" * 300, "é": b"", "b/c": b"y" * 700}
SEEDS: tuple[tuple[bytes, bool], ...] = (
    (packed_tar("w:", SMALL), False),
    (packed_tar("w:", SMALL), True),
    (packed_tar("w:gz", SMALL), False),
    (packed_tar("w:", SMALL, "top", format=tarfile.GNU_FORMAT), True),
    (packed_zip(SMALL), False),
    (packed_zip(SMALL, out=Unseekable()), False),
    (tar(gnu_long(b"x/" * 60), pax((b"path", b"p"))), True),
)
Change = tuple[int, int, bytes]
"""Where (of 2^20 parts of the whole), how many bytes go, what comes in their place."""
TOKENS = (b"..", b"/", b"\0", b"\\", b"2", b"x", b"PK\1\2", b"PK\3\4", b"PK\5\6", b"\xff\xff\xff\xff", bytes(512), b"a")


def changes() -> st.SearchStrategy[list[Change]]:
    change = st.tuples(
        st.integers(0, (1 << 20) - 1),
        st.sampled_from((0, 1, 2, 4, 30, 512)),
        st.one_of(st.binary(max_size=8), st.sampled_from(TOKENS)),
    )
    return st.lists(change, min_size=1, max_size=6)


def changed(data: bytes, steps: list[Change]) -> bytes:
    for where, gone, new in steps:
        at = where * len(data) >> 20
        data = data[:at] + new + data[at + gone :]
    return data


def with_true_checksums(data: bytes) -> bytes:
    """A mutated tar is to be refused for more than its checksums."""
    blocks = [data[at : at + 512] for at in range(0, len(data), 512)]
    for number, block in enumerate(blocks):
        if len(block) == 512 and block[257:262] == b"ustar":
            total = sum(block[:148]) + 256 + sum(block[156:])
            blocks[number] = block[:148] + b"%06o\0 " % total + block[156:]
    return b"".join(blocks)


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("arena")


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.sampled_from(SEEDS), steps=changes(), number=st.integers())
def test_mutations(arena: Path, seed: tuple[bytes, bool], steps: list[Change], number: int) -> None:
    root = arena / str(len(os.listdir(arena)))
    root.mkdir(mode=0o755)
    place = Place(root)
    error: SupervisorError | None
    data, mended = seed
    data = changed(data, steps)
    if mended:
        data = with_true_checksums(data)
        data = gzip.compress(data, 1) if number % 2 else data
    try:
        unpacked = place.unpack(data, max_entries=200, max_bytes=1 << 20)
    except SupervisorError as refused:
        error = refused
    else:
        assert any(content is not None for content in unpacked.values())
        assert sum(len(content or b"") for content in unpacked.values()) <= 1 << 20
        error = None
    assert error is None or (error.message.isprintable() and error.code in ("INVALID_PARAMS", "RESOURCE_EXHAUSTED"))
    place.assert_contained()
    shutil.rmtree(root)


@given(data=st.binary(max_size=2000), start=st.sampled_from((b"", b"PK\3\4", b"\x1f\x8b\x08\0")))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_noise(arena: Path, data: bytes, start: bytes) -> None:
    root = arena / f"noise{len(os.listdir(arena))}"
    root.mkdir(mode=0o755)
    place = Place(root)
    with pytest.raises(InvalidParams):
        place.unpack(start + data)
    place.assert_contained()
    shutil.rmtree(root)
