"""What is recorded of a package's files, and what of their changes is seen: everything."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from supervisor.core.errors import ResourceExhausted
from supervisor.core.package import FileRecord, PackageChanged
from supervisor.lifecycle.copying import PackageLimits, PackageRefused
from supervisor.lifecycle.records import digest_of, record, survey, verify

LIMITS = PackageLimits()
PYTHON = ".venv/bin/python"


def go_on() -> None:
    """Nobody cancels."""


def recorded(root: Path, limits: PackageLimits = LIMITS) -> list[FileRecord]:
    return record(root, limits, go_on, lambda _done, _total: None)


def check(root: Path, files: list[FileRecord]) -> None:
    verify(root, survey(root, LIMITS, go_on), files, go_on)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    root = tmp_path / "acme.weather/1.2-0123456789ab"
    (root / "weather/data").mkdir(parents=True)
    (root / ".venv/bin").mkdir(parents=True)
    (root / "plugin.toml").write_text("[plugin]\n")
    (root / "weather/main.py").write_text("print()\n")
    (root / "weather/data/big").write_bytes(b"x" * 1_000_000)
    (root / "weather.txt").write_text("beside the directory in the order of bytes")
    (root / "run").write_text("#!/bin/sh\n")
    (root / "run").chmod(0o755)
    (root / PYTHON).symlink_to("/usr/bin/env")
    return root


# Recording


def test_every_file_and_every_link_of_ours_is_recorded(package: Path) -> None:
    told: list[tuple[int, int | None]] = []
    files = record(package, LIMITS, go_on, lambda done, total: told.append((done, total)))
    assert [file.path for file in files] == sorted(file.path for file in files)
    by_path = {file.path: file for file in files}
    assert by_path["weather/main.py"] == FileRecord(
        path="weather/main.py", size=8, sha256=sha256(b"print()\n"), executable=False
    )
    assert by_path["run"].executable
    link = by_path[PYTHON]
    assert (link.link, link.sha256, link.executable) == ("/usr/bin/env", sha256(b"/usr/bin/env"), False)
    assert len(files) == 6
    assert told[-1] == (sum(file.size for file in files), told[0][1])


def test_files_get_their_mode_for_good(package: Path) -> None:
    (package / "weather/main.py").chmod(0o664)
    recorded(package)
    assert [oct((package / name).stat().st_mode & 0o7777) for name in ("run", "weather/main.py")] == ["0o700", "0o600"]


@pytest.mark.parametrize("kind", ["link", "pipe", "socket"])
def test_what_is_not_recorded_is_refused(package: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = package / "weather/bad"
    with socket.socket(socket.AF_UNIX) as sock:
        match kind:
            case "link":
                bad.symlink_to("/etc/passwd")
            case "pipe":
                os.mkfifo(bad)
            case "socket":
                monkeypatch.chdir(bad.parent)  # the whole path may be too long for an address
                sock.bind(bad.name)
        with pytest.raises(PackageRefused, match=r"'weather/bad' is a (symbolic link|named pipe|socket)"):
            recorded(package)


def test_a_package_of_too_many_files_is_refused(package: Path) -> None:
    with pytest.raises(ResourceExhausted, match=r"more files and directories than any package may \(3\)"):
        recorded(package, PackageLimits(max_stored_entries=3))


def test_recording_ends_when_it_is_cancelled(package: Path) -> None:
    def cancelled() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        record(package, LIMITS, cancelled, lambda _done, _total: None)


def test_the_digest_is_over_paths_kinds_and_contents(package: Path) -> None:
    files = recorded(package)
    first = digest_of(files)
    assert digest_of(reversed(files)) == first
    changes: list[Callable[[], object]] = [
        lambda: (package / "run").chmod(0o600),
        lambda: (package / "run").write_text("#!/bin/ksh\n"),
        lambda: (package / "run").rename(package / "walk"),
        lambda: relink(package / PYTHON, "/usr/bin/false"),
        lambda: (package / "more").touch(),
    ]
    seen = {first}
    for change in changes:
        change()
        seen.add(digest_of(recorded(package)))
    assert len(seen) == 6
    (package / "empty").mkdir()
    assert digest_of(recorded(package)) in seen


# Verifying


def relink(link: Path, target: str) -> None:
    link.unlink()
    link.symlink_to(target)


def rewrite_keeping_times(path: Path) -> None:
    """As somebody who covers his tracks: the size is the same, and the time of the change."""
    before = path.stat()
    with path.open("r+b") as file:
        file.write(b"PRINT")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def replace_by_link(path: Path) -> None:
    aside = next(parent for parent in path.parents if parent.name == "acme.weather").parent / "aside"
    path.rename(aside)
    path.symlink_to(aside)


def swap(path: Path) -> None:
    """A directory by another with the same names in it."""
    aside = path.with_name("aside")
    shutil.copytree(path, aside)
    (aside / "main.py").write_text("PRINT()\n")
    shutil.rmtree(path)
    aside.rename(path)


def replace_by_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "inside").touch()


def replace_by_empty_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


TAMPERING: dict[str, tuple[str, Callable[[Path], object], str, str]] = {
    "content": ("weather/main.py", rewrite_keeping_times, "weather/main.py", "its content is another"),
    "size": ("weather/main.py", lambda path: path.write_text("x"), "weather/main.py", "it has 1 bytes, not 8"),
    "made executable": ("weather/main.py", lambda path: path.chmod(0o700), "weather/main.py", "was made executable"),
    "not executable": ("run", lambda path: path.chmod(0o600), "run", "is not executable any more"),
    "file to link": ("weather/data/big", replace_by_link, "weather/data/big", "is a symbolic link now"),
    "file to pipe": ("run", replace_by_pipe, "run", "is a named pipe now"),
    "file to directory": ("run", replace_by_directory, "run", "is a directory now"),
    "file to empty directory": ("run", replace_by_empty_directory, "run", "is a directory now"),
    "added": ("weather/evil.py", Path.touch, "weather/evil.py", "was added after the package was installed"),
    "added bytecode": (
        "weather/__pycache__/main.cpython-311.pyc",
        lambda path: (path.parent.mkdir(), path.touch()),
        "weather/__pycache__/main.cpython-311.pyc",
        "was added",
    ),
    "added to the environment": (".venv/evil.pth", Path.touch, ".venv/evil.pth", "was added"),
    "removed": ("weather/main.py", Path.unlink, "weather/main.py", "is missing"),
    "directory removed": ("weather/data", shutil.rmtree, "weather/data/big", "is missing"),
    "directory swapped": ("weather", swap, "weather/main.py", "its content is another"),
    "directory to link": ("weather/data", replace_by_link, "weather/data", "is a symbolic link now, and was a dir"),
    "link elsewhere": (PYTHON, lambda path: relink(path, "/tmp/x"), PYTHON, r"leads to '/tmp/x' now, not to '/usr/"),
    "link to file": (PYTHON, lambda path: (path.unlink(), path.touch()), PYTHON, "is a file now"),
}


@pytest.mark.parametrize("kind", TAMPERING)
def test_each_kind_of_tampering_is_seen_and_named(package: Path, kind: str) -> None:
    name, tamper, named, problem = TAMPERING[kind]
    files = recorded(package)
    before = survey(package, LIMITS, go_on).mark
    check(package, files)
    tamper(package / name)
    assert survey(package, LIMITS, go_on).mark != before
    with pytest.raises(PackageChanged, match=problem) as caught:
        check(package, files)
    assert caught.value.details["path"] == named
    assert caught.value.details["package_dir"] == "acme.weather/1.2-0123456789ab"
    assert f"'{named}' in its package" in caught.value.message
    assert "unload and install it again" in caught.value.message


def test_the_whole_package_gone_or_replaced(package: Path, tmp_path: Path) -> None:
    files = recorded(package)
    package.rename(tmp_path / "aside")
    with pytest.raises(PackageChanged, match="is missing, with all its files"):
        check(package, files)
    package.symlink_to(tmp_path / "aside")
    with pytest.raises(PackageChanged, match="is a symbolic link now"):
        check(package, files)


def test_a_name_that_is_no_text_is_named_all_the_same(package: Path) -> None:
    files = recorded(package)
    Path(os.fsdecode(os.fsencode(package) + b"/caf\xe9")).touch()
    with pytest.raises(PackageChanged, match="was added") as caught:
        check(package, files)
    assert caught.value.details["path"] == r"caf\xe9"
    assert caught.value.message.isascii()


def test_an_empty_directory_more_is_no_harm(package: Path) -> None:
    files = recorded(package)
    before = survey(package, LIMITS, go_on).mark
    (package / "empty/deep").mkdir(parents=True)
    check(package, files)
    assert survey(package, LIMITS, go_on).mark == before


def test_a_file_that_was_put_back_is_well(package: Path) -> None:
    files = recorded(package)
    file = package / "weather/main.py"
    content = file.read_bytes()
    file.unlink()
    file.write_bytes(content)
    file.chmod(0o600)
    check(package, files)


def test_what_grows_while_it_is_read_is_not_read_for_ever(package: Path) -> None:
    files, found, grown = recorded(package), survey(package, LIMITS, go_on), 0
    big = package / "weather/data/big"

    def grow() -> None:
        nonlocal grown
        grown += 1
        with big.open("ab") as file:
            file.write(b"x" * 1_000_000)

    with pytest.raises(PackageChanged, match="its content is another"):
        verify(package, found, files, grow)
    assert grown < 30


def test_endless_directories_end_the_look(package: Path) -> None:
    recorded(package)
    for number in range(20):
        (package / f"weather/{number}").mkdir()
    with pytest.raises(PackageChanged, match="holds more files and directories than any package may"):
        survey(package, PackageLimits(max_stored_entries=20), go_on)


def test_only_what_has_settled_is_relied_upon(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not survey(package, LIMITS, go_on).is_settled
    monkeypatch.setattr("supervisor.lifecycle.records._SETTLED_NS", -10_000_000_000)
    assert survey(package, LIMITS, go_on).is_settled


def link_above(package: Path) -> None:
    package.parent.rename(package.parents[1] / "aside")
    package.parent.symlink_to(package.parents[1] / "aside")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda package: (package / "weather/main.py").chmod(0o666), r"main\.py.*may be written by others"),
        (lambda package: (package / "weather").chmod(0o777), "'weather'.*may be written by others"),
        (lambda package: package.chmod(0o777), "may be written by others"),
        (lambda package: package.parent.chmod(0o777), r"lies in .*acme\.weather, which may be written"),
        (link_above, "which is a symbolic link now"),
    ],
)
def test_what_others_could_change(spoil: Callable[[Path], None], words: str, package: Path) -> None:
    files = recorded(package)
    check(package, files)
    before = survey(package, LIMITS, go_on).mark
    spoil(package)
    assert survey(package, LIMITS, go_on).mark != before
    with pytest.raises(PackageChanged, match=words):
        check(package, files)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_belongs_to_somebody_else(package: Path) -> None:
    files = recorded(package)
    os.chown(package / "run", 65534, 65534)
    with pytest.raises(PackageChanged, match=r"'run'.*belongs to"):
        check(package, files)


def test_directories_that_a_build_left_open_are_closed(package: Path) -> None:
    (package / "weather").chmod(0o777)
    check(package, recorded(package))
