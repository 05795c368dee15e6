"""LogFile: rotation, full disks, torn lines, and files that others move away."""

from __future__ import annotations

import errno
import json
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from supervisor.worker.logfile import Entry, LogFile
from supervisor.worker.logparts import rotated
from supervisor.worker.output import Line
from tests.logs import read_log


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


def messages(path: Path) -> list[str]:
    return [line["message"] for line in read_log(path)]


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


def test_a_single_file_begins_anew(path: Path) -> None:
    log = LogFile(path, max_bytes=300, files=1)
    for n in range(20):
        log.write([entry(n)])
        assert path.stat().st_size <= 300
    log.close()
    assert [file.name for file in path.parent.iterdir()] == ["plugin.log"]
    assert messages(path)[-1] == "line 19"


@pytest.mark.parametrize("max_bytes", range(150, 420, 7))
def test_no_batch_makes_a_file_too_large_or_tears_a_line(path: Path, max_bytes: int) -> None:
    log = LogFile(path, max_bytes=max_bytes, files=100)
    for start in range(0, 40, 10):
        log.write_lines([Line(f"line {n}") for n in range(start, start + 10)], time_ms=1, stream="stdout", level="info")
    log.close()
    files = [rotated(path, n) for n in range(100) if rotated(path, n).exists()]
    assert all(file.stat().st_size <= max_bytes and file.read_bytes().endswith(b"}\n") for file in files)
    assert [line["message"] for line in read_log(path, files=100)] == [f"line {n}" for n in range(40)]


def test_files_that_a_larger_setting_left_are_removed(path: Path) -> None:
    for number in range(8):
        rotated(path, number).write_text("{}\n")
    log = LogFile(path, max_bytes=1000, files=3)
    log.write([entry(1)])
    log.close()
    assert sorted(file.name for file in path.parent.iterdir()) == ["plugin.log", "plugin.log.1", "plugin.log.2"]


@pytest.mark.parametrize("done", range(5))
def test_a_rotation_cut_short_by_kill_9_loses_nothing(path: Path, done: int) -> None:
    log = LogFile(path, max_bytes=80, files=6)
    for n in range(5):
        log.write([entry(n)])
    log.close()
    # So far had it come: the oldest ones are renamed, one number is free.
    for number in range(4, 4 - done, -1):
        rotated(path, number).rename(rotated(path, number + 1))
    assert messages(path) == [f"line {n}" for n in range(5)]
    log = LogFile(path, max_bytes=80, files=6)
    log.write([entry(5)])
    log.close()
    assert messages(path) == [f"line {n}" for n in range(6)]


def test_a_rotation_that_fails_halfway_goes_on_later(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = LogFile(path, max_bytes=80, files=6)
    for n in range(4):
        log.write([entry(n)])
    rename, calls = os.replace, []

    def failing(source: Any, target: Any) -> None:
        calls.append(target)
        if len(calls) in {2, 4}:
            raise PermissionError(errno.EACCES, "Permission denied")
        rename(source, target)

    monkeypatch.setattr("supervisor.worker.logparts.os.replace", failing)
    log.write([entry(4)])
    log.write([entry(5)])
    assert log.lost == 2
    log.write([entry(6)])
    log.close()
    lost = "2 lines of this log were lost here: Permission denied"
    assert messages(path) == [*(f"line {n}" for n in range(4)), lost, "line 6"]
    assert not rotated(path, 6).exists()


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Writing past it fails as on a full disk: first short, then not at all."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", range(70, 300, 9))
def test_a_full_disk_tears_no_line_and_is_told(path: Path, size: int) -> None:
    log = LogFile(path, max_bytes=10**6, files=2)
    with file_size_limit(size):
        for n in range(0, 6, 2):
            log.write([entry(n), entry(n + 1)])
        kept = size // 73
        assert path.read_bytes().endswith(b"}\n") or kept == 0
        assert log.lost == 6 - kept
        assert messages(path) == [f"line {n}" for n in range(kept)]
    log.write([entry(9)])
    assert log.lost == 0
    log.close()
    assert all(json.loads(line) for line in path.read_text().splitlines())
    *_, told, last = read_log(path)
    assert last["message"] == "line 9"
    assert told | {"message": 0} == {
        "time_ms": 9,
        "stream": "plugind",
        "level": "warning",
        "message": 0,
        "run_id": None,
        "truncated": False,
        "fields": {},
    }
    reasons = {os.strerror(number) for number in (errno.EFBIG, errno.ENOSPC)}
    assert told["message"] in {f"{6 - kept} lines of this log were lost here: {reason}" for reason in reasons}


def test_what_cannot_be_written_is_counted_and_never_raised(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "absent" / "x.log", max_bytes=1000, files=2)
    log.write([entry(1), entry(2)])
    log.write_lines([Line("x")] * 4, time_ms=5, stream="stdout", level="info")
    assert log.lost == 6
    (tmp_path / "absent").mkdir()
    log.write([entry(4)])
    log.write([entry(5)])
    log.close()
    assert log.lost == 0
    lost = "6 lines of this log were lost here: No such file or directory"
    assert messages(tmp_path / "absent" / "x.log") == [lost, "line 4", "line 5"]


def test_one_line_that_was_lost(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "absent" / "x.log", max_bytes=1000, files=2)
    log.write([entry(1)])
    (tmp_path / "absent").mkdir()
    log.write([entry(4)])
    log.close()
    assert messages(tmp_path / "absent" / "x.log")[0].startswith("1 line of this log was lost here")


@pytest.mark.parametrize("torn", [b'{"time_ms": 1, "str', b"x", b'{"time_ms": 2}'])
def test_a_line_torn_by_kill_9_is_ended_by_the_next_writer(path: Path, log: LogFile, torn: bytes) -> None:
    log.write([entry(1)])
    log.close()
    with path.open("ab") as file:
        file.write(torn)
    after = LogFile(path, max_bytes=1000, files=10)
    after.write([entry(2)])
    after.close()
    assert torn + b"\n{" in path.read_bytes()
    assert messages(path) == ["line 1", "line 2"]


@pytest.mark.parametrize("how", ["moved", "removed", "replaced", "cut"])
def test_a_file_that_somebody_took_away_is_noticed_within_a_second(path: Path, log: LogFile, how: str) -> None:
    log.write([entry(1000)])
    elsewhere = path.with_name("elsewhere")
    match how:
        case "removed":
            path.unlink()
        case "cut":
            os.truncate(path, 0)
        case _:
            path.rename(elsewhere)
    if how == "replaced":
        path.write_text("")
    log.write([entry(1999), entry(2000)])
    log.write([entry(3001), entry(3002)])
    assert messages(path)[-2:] == ["line 3001", "line 3002"]
    assert log.lost == 0


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_not_written_to(path: Path, log: LogFile, make: Any) -> None:
    make(path)
    for n in range(3):
        log.write([entry(n)])
    assert log.lost == 3


def test_a_log_that_is_retired_is_not_made_again(path: Path, log: LogFile) -> None:
    log.write([entry(1)])
    log.retire()
    path.unlink()
    log.write([entry(2)])
    assert not path.exists()
    assert log.gone.is_set()


def test_what_is_too_much_for_an_answer_is_cut(path: Path, log: LogFile) -> None:
    deep: Any = {}
    for _ in range(9):
        deep = {"d": deep}
    for fields in (deep, {"long": "x" * 70_000}, {"big": 2**63}):
        line = entry(1, fields=fields).to_json()
        assert json.loads(line)["truncated"] is True
        assert json.loads(line)["fields"]["cut"].startswith("{")
    worst = entry(1, message="\U0001f600" * 10**5, run_id="\0" * 10**6, fields={"x": "\0" * 10_000}).to_json()
    assert len(worst) < 500_000
    assert len(json.loads(worst)["message"]) == 32 * 1024


def test_a_link_is_not_followed(path: Path, log: LogFile) -> None:
    path.symlink_to("/dev/full")
    log.write([entry(1)])
    assert log.lost == 1
