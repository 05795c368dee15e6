"""LogFile and read_log: rotation, full disks, and reading back what is there."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from supervisor.worker import logfile
from supervisor.worker.logfile import Entry, LogFile, read_log, rotated


def entry(n: int, **changes: Any) -> Entry:
    return Entry(**{"time_ms": n, "stream": "stdout", "level": "info", "message": f"line {n}", **changes})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "plugin.log"


@pytest.fixture
def log(path: Path) -> Iterator[LogFile]:
    file = LogFile(path, max_bytes=1000, files=10)
    yield file
    file.close()


def messages(path: Path, tail: int = 10**6, **filters: Any) -> list[str]:
    return [line["message"] for line in read_log(path, tail=tail, **filters)]


def test_an_entry_as_it_stands_in_the_file() -> None:
    assert json.loads(entry(1).to_json()) == {"time_ms": 1, "stream": "stdout", "level": "info", "message": "line 1"}
    full = entry(2, run_id="r", truncated=True, fields={"a": b"\xff", "n": float("nan"), "\ud800": "\ud800"})
    line = full.to_json()
    assert line.isascii()
    assert "\n" not in entry(3, message="a\nb\r\0\u2028\x1b[2J").to_json()
    assert json.loads(line)["fields"]["a"] == "b'\\xff'"


def test_rotation_keeps_ten_files_below_their_size(path: Path, log: LogFile) -> None:
    for n in range(1000):
        log.write([entry(n)])
    files = [rotated(path, n) for n in range(12)]
    assert [file.exists() for file in files] == [True] * 10 + [False] * 2
    assert all(file.stat().st_size <= 1000 for file in files[:10])
    assert all(file.stat().st_size > 900 for file in files[1:10])
    kept = messages(path)
    assert kept == [f"line {n}" for n in range(1000 - len(kept), 1000)]
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_file_that_is_full_already_is_rotated_at_the_first_line(path: Path) -> None:
    for n in range(10):
        one = LogFile(path, max_bytes=200, files=3)
        one.write([entry(n)])
        one.close()
    assert all(rotated(path, n).stat().st_size <= 200 for n in range(3))
    assert messages(path)[-1] == "line 9"
    assert not rotated(path, 3).exists()


def test_one_line_longer_than_a_file_has_a_file_of_its_own(path: Path, log: LogFile) -> None:
    log.write([entry(1)])
    log.write([entry(2, message="x" * 5000)])
    log.write([entry(3)])
    assert [len(message) for message in messages(path)] == [6, 5000, 6]
    assert log.lost == 0


def test_a_single_file_grows_no_further(path: Path) -> None:
    log = LogFile(path, max_bytes=300, files=1)
    for n in range(20):
        log.write([entry(n)])
    log.close()
    assert [file.name for file in path.parent.iterdir()] == ["plugin.log"]


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Writing past it fails as on a full disk: first short, then not at all."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", range(140, 200, 7))
def test_a_full_disk_tears_no_line(path: Path, size: int) -> None:
    log = LogFile(path, max_bytes=10**6, files=2)
    with file_size_limit(size):
        for n in range(6):
            log.write([entry(n)])
        assert path.read_bytes().endswith(b"}\n")
        assert log.lost == 6 - len(messages(path))
    log.write([entry(9)])
    assert log.lost == 0
    log.close()
    assert path.read_bytes().endswith(b"}\n")
    assert messages(path)[-1] == "line 9"
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_what_cannot_be_written_is_counted_and_never_raised(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "absent" / "x.log", max_bytes=100, files=2)
    log.write([entry(1), entry(2)])
    log.write([entry(3)])
    assert log.lost == 3
    (tmp_path / "absent").mkdir()
    log.write([entry(4)])
    log.close()
    assert (log.lost, messages(tmp_path / "absent" / "x.log")) == (0, ["line 4"])


def test_a_link_is_not_followed(path: Path, log: LogFile) -> None:
    path.symlink_to("/dev/full")
    log.write([entry(1)])
    assert log.lost == 1


def test_tail_since_level_run(path: Path, log: LogFile) -> None:
    levels = ("debug", "info", "warning", "error", "critical")
    for n in range(200):
        log.write([entry(n, level=levels[n % 5], run_id="even" if n % 2 == 0 else None)])
    every = [int(message[5:]) for message in messages(path)]
    assert len(every) > 100
    assert [int(m[5:]) for m in messages(path, tail=7)] == list(range(193, 200))
    assert messages(path, tail=0) == []
    assert [int(m[5:]) for m in messages(path, since_ms=150)] == list(range(150, 200))
    assert [int(m[5:]) for m in messages(path, level="error")] == [n for n in every if n % 5 >= 3]
    assert [int(m[5:]) for m in messages(path, level="warning", run_id="even", tail=3)] == [192, 194, 198]
    assert messages(path, run_id="absent") == []


def test_there_is_no_log_yet(path: Path) -> None:
    assert read_log(path, tail=10) == []


def test_a_record_comes_back_whole(path: Path, log: LogFile) -> None:
    log.write(
        [entry(5, stream="log", level="error", message="m\n\0\u00e9", run_id="r", truncated=True, fields={"k": [1]})]
    )
    assert read_log(path, tail=1) == [
        {
            "time_ms": 5,
            "stream": "log",
            "level": "error",
            "message": "m\n\0\u00e9",
            "run_id": "r",
            "truncated": True,
            "fields": {"k": [1]},
        }
    ]


FOREIGN = [
    b"not json",
    b"\xff\xfe\x00",
    b"{",
    b"[]",
    b"null",
    b'"text"',
    b"17",
    b"{}",
    b'{"time_ms": "x", "stream": "a", "level": "b", "message": "c"}',
    b'{"time_ms": Infinity, "stream": "a", "level": "b", "message": "c"}',
    b'{"time_ms": NaN, "stream": "a", "level": "b", "message": "c"}',
    b'{"time_ms": 1, "stream": "a", "level": "b", "message": "c", "fields": 3}',
    b"[" * 100_000,
    b"\0" * 5000,
]


@pytest.mark.parametrize("foreign", FOREIGN, ids=range(len(FOREIGN)))
def test_foreign_and_torn_lines_are_passed_over(path: Path, log: LogFile, foreign: bytes) -> None:
    log.write([entry(1)])
    with path.open("ab") as file:
        file.write(foreign + b"\n")
    log.write([entry(2)])
    with path.open("ab") as file:
        file.write(b'{"time_ms": 3, "str')
    assert messages(path) == ["line 1", "line 2"]
    assert messages(path, run_id="x", level="info") == []


def test_a_foreign_run_id_does_no_harm(path: Path) -> None:
    path.write_text('{"time_ms": 1, "stream": "a", "level": "odd", "message": "c", "run_id": []}\n')
    assert messages(path, run_id="r") == []
    assert [line["run_id"] for line in read_log(path, tail=1)] == ["[]"]


@pytest.mark.parametrize("block", [1, 2, 3, 50, 64 * 1024])
def test_blocks_of_any_size_make_no_difference(
    path: Path, log: LogFile, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logfile, "_BLOCK_BYTES", block)
    log.write([entry(n, message="" if n == 3 else f"{n}" * 20) for n in range(8)])
    assert messages(path) == ["" if n == 3 else f"{n}" * 20 for n in range(8)]


def test_a_rotation_while_it_is_read_doubles_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = LogFile(path, max_bytes=10**6, files=3)
    log.write([entry(n) for n in range(5)])
    whole, rotations = logfile._file_backwards, []

    def rotating(fd: int) -> Iterator[bytes]:
        yield from whole(fd)
        if not rotations:
            rotations.append(os.replace(path, rotated(path, 1)))

    monkeypatch.setattr(logfile, "_file_backwards", rotating)
    assert messages(path) == [f"line {n}" for n in range(5)]
    log.close()
