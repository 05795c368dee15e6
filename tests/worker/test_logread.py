"""Reading a log: filters, junk of every kind, blocks of every size, rotation meanwhile."""

from __future__ import annotations

import os
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from supervisor.core.errors import Unavailable
from supervisor.wire.codec import encode
from supervisor.wire.message import Response
from supervisor.wire.results import LogLine
from supervisor.worker import logread
from supervisor.worker.logfile import Entry, LogFile
from supervisor.worker.logparts import rotated
from supervisor.worker.logread import Lookback, Wanted, lines_backwards, lines_onward
from tests.logs import look_back, read_log


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


def messages(path: Path, **filters: Any) -> list[str]:
    return [line["message"] for line in read_log(path, **filters)]


def test_tail_since_until_level_run_stream(path: Path, log: LogFile) -> None:
    levels, streams = ("debug", "info", "warning", "error", "critical"), ("stdout", "stderr", "log")
    for n in range(200):
        log.write([entry(n, level=levels[n % 5], stream=streams[n % 3], run_id="even" if n % 2 == 0 else None)])
    every = [int(message[5:]) for message in messages(path)]
    assert len(every) == 100

    def found(**filters: Any) -> list[int]:
        return [int(message[5:]) for message in messages(path, **filters)]

    assert found(tail=7) == list(range(193, 200))
    assert found(tail=0) == []
    assert found(since_ms=150) == list(range(150, 200))
    assert found(since_ms=150, until_ms=160) == list(range(150, 161))
    assert found(until_ms=160, tail=3) == [158, 159, 160]
    assert found(level="error") == [n for n in every if n % 5 >= 3]
    assert found(level="warning", run_id="even", tail=3) == [192, 194, 198]
    assert found(stream="stderr") == [n for n in every if n % 3 == 1]
    assert found(run_id="absent") == []


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
    b'{"time_ms": 1e30, "stream": "a", "level": "b", "message": "c"}',
    b'{"time_ms": 1, "stream": "a", "level": "b", "message": "c", "fields": 3}',
    b'{"time_ms": 1, "stream": "a", "level": "b", "message": "c", "fields": {"n": 9223372036854775808}}',
    b'{"time_ms": 1, "stream": "a", "level": "b", "message": "half \\ud83d a pair"}',
    b'{"time_ms": 1, "stream": "a", "level": "b", "message": "c", "fields": {"a": ' + b"[" * 20 + b"]" * 20 + b"}}",
    b'{"time_ms": 1, "stream": "stdout", "level": "info", "message": "torn',
    b"[" * 100_000,
    b"{" * 100_000,
    b'{"a":' * 100_000,
    b"\0" * 5000,
    b"x" * (logread.MOST_BYTES - 1),
    b"x" * (logread.MOST_BYTES + 1),
    b"x" * 3_000_000,
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
    assert [line["message"] for line in onward(path)] == ["line 1", "line 2"]


def onward(path: Path) -> list[LogLine]:
    """From the first byte on, as a follower does."""
    found: list[LogLine] = []
    with path.open("rb") as file:
        offset = 0
        while True:
            raws, behind = lines_onward(file.fileno(), offset, None)
            found += [line for raw in raws if (line := Wanted().pick(raw))]
            if behind == offset:
                return found
            offset = behind


def test_whatever_is_read_can_be_sent(path: Path) -> None:
    path.write_bytes(b"".join(line + b"\n" for line in FOREIGN))
    lines = read_log(path)
    frame = encode(Response(1, None, lines), max_bytes=1 << 22)
    assert frame


def test_pairs_of_surrogates_are_text(path: Path, log: LogFile) -> None:
    log.write([entry(1, message="\U0001f600")])
    assert messages(path) == ["\U0001f600"]


def test_a_foreign_run_id_does_no_harm(path: Path) -> None:
    path.write_text('{"time_ms": 1, "stream": "a", "level": "odd", "message": "c", "run_id": []}\n')
    assert messages(path, run_id="r") == []
    assert [line["run_id"] for line in read_log(path, tail=1)] == ["[]"]


@pytest.mark.parametrize("block", [1, 2, 3, 50, 64 * 1024])
@pytest.mark.parametrize("end", [b"", b'{"torn'])
def test_blocks_of_any_size_make_no_difference(
    path: Path, log: LogFile, block: int, end: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logread, "_BLOCK_BYTES", block)
    wanted = ["" if n == 3 else f"{n}" * 20 for n in range(8)]
    log.write([entry(n, message=message) for n, message in enumerate(wanted)])
    path.write_bytes(path.read_bytes() + end)
    assert messages(path) == wanted
    assert [line["message"] for line in onward(path)] == wanted


@pytest.mark.parametrize("block", [1, 7, 64])
@pytest.mark.parametrize("longest", [3, 10, 64])
def test_too_long_lines_at_every_size_of_block(
    path: Path, block: int, longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logread, "_BLOCK_BYTES", block)
    monkeypatch.setattr(logread, "MOST_BYTES", longest)
    path.write_bytes(b"ab\n" + b"x" * 200 + b"\ncd\n" + b"y" * 300 + b"\nef\n")
    with path.open("rb") as file:
        found = list(lines_backwards(file.fileno(), path.stat().st_size))
        assert [line for _, line in found if line in {b"ab", b"cd", b"ef"}] == [b"ef", b"cd", b"ab"]
        assert [offset for offset, line in found if line in {b"ab", b"cd", b"ef"}] == [508, 204, 0]
        assert all(len(line) <= longest + block for _, line in found)


def test_ten_megabytes_without_a_newline_take_little_memory(path: Path, log: LogFile) -> None:
    log.write([entry(1)])
    with path.open("ab") as file:
        file.write(b"x" * 10_000_000 + b"\n")
    log.write([entry(2)])
    tracemalloc.start()
    try:
        assert messages(path) == ["line 1", "line 2"]
        assert len(onward(path)) == 2
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


def test_an_answer_holds_what_fits(path: Path) -> None:
    log = LogFile(path, max_bytes=1 << 30, files=2)
    log.write([entry(n, message=f"{n} " + "\0" * 5000) for n in range(100)])
    lookback = Lookback(Wanted(), most=None, most_bytes=100_000)
    lines = look_back(log, lookback)
    assert [line["time_ms"] for line in lines] == list(range(97, 100))
    many = [entry(n, stream="log", fields={"x": [[]] * 500}) for n in range(1000)]
    log.write(many)
    lines = look_back(log, Lookback(Wanted(), most=10_000, most_bytes=3 << 20))
    log.close()
    assert 100 < len(lines) < 260
    assert encode(Response(1, None, lines), max_bytes=4 << 20)


async def test_a_rotation_while_it_is_read_doubles_and_misses_nothing(path: Path) -> None:
    log = LogFile(path, max_bytes=2000, files=6)
    written = 0
    threads = trio.CapacityLimiter(2)

    async def write() -> None:
        nonlocal written
        while True:
            log.write([entry(written)])
            written += 1
            if written % 7 == 0:
                await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        while not written:
            await trio.lowlevel.checkpoint()
        for _ in range(60):
            lookback = Lookback(Wanted(), most=None, most_bytes=1 << 30)
            before = written
            await logread.read_log(log, lookback, threads)
            times = [line["time_ms"] for line in reversed(lookback.lines)]
            assert times == list(range(times[0], times[-1] + 1)) if times else not before
            assert times == [] or times[-1] >= before - 1
        nursery.cancel_scope.cancel()
    log.close()
    assert written > 500


async def test_a_read_that_is_cancelled_leaves_no_file_open(path: Path) -> None:
    log = LogFile(path, max_bytes=1 << 30, files=2)
    log.write([entry(n) for n in range(20_000)])
    log.close()
    busy = trio.CapacityLimiter(1)
    before = set(os.listdir("/proc/self/fd"))
    for wait_s in (0.0, 0.0001, 0.001, 0.003):
        for limiter in (trio.CapacityLimiter(1), busy):
            if limiter is busy:
                await busy.acquire_on_behalf_of("another")
            with trio.move_on_after(wait_s):
                await logread.read_log(log, Lookback(Wanted(), most=None), limiter)
            if limiter is busy:
                busy.release_on_behalf_of("another")
    # Those that were given up end by themselves.
    deadline = time.monotonic() + 5
    while set(os.listdir("/proc/self/fd")) - before:
        assert time.monotonic() < deadline


async def test_files_that_are_not_there_are_passed_over_and_others_are_told(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = LogFile(path, max_bytes=200, files=6)
    log.write([entry(n) for n in range(11)])
    rotated(path, 1).unlink()
    rotated(path, 3).unlink()
    rotated(path, 3).symlink_to("/etc/passwd")
    lookback = Lookback(Wanted(), most=None, most_bytes=1 << 20)
    await logread.read_log(log, lookback, trio.CapacityLimiter(1))
    assert [line["time_ms"] for line in reversed(lookback.lines)] == [0, 1, 2, 3, 6, 7, 10]

    def full(*_: Any, **__: Any) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("supervisor.worker.logfile.os.dup", full)
    with pytest.raises(Unavailable, match="cannot be read: Too many open files"):
        await logread.read_log(log, Lookback(Wanted(), most=None), trio.CapacityLimiter(1))
    log.close()


async def test_who_waits_for_a_thread_holds_no_file(path: Path) -> None:
    log = LogFile(path, max_bytes=1 << 30, files=2)
    log.write([entry(1)])
    threads = trio.CapacityLimiter(1)
    before = len(os.listdir("/proc/self/fd"))
    lookbacks = [Lookback(Wanted(), most=None, most_bytes=1 << 20) for _ in range(50)]
    async with threads, trio.open_nursery() as nursery:
        for lookback in lookbacks:
            nursery.start_soon(logread.read_log, log, lookback, threads)
        await trio.testing.wait_all_tasks_blocked()
        assert len(os.listdir("/proc/self/fd")) == before
        assert threads.statistics().tasks_waiting == 50
        threads.total_tokens = 2
    log.close()
    assert all(len(lookback.lines) == 1 for lookback in lookbacks)


async def test_a_long_look_lets_a_short_one_in_between(path: Path) -> None:
    log = LogFile(path, max_bytes=1 << 30, files=2)
    log.write([entry(n, message="x" * 1000) for n in range(6_000)])
    threads, ended = trio.CapacityLimiter(1), []

    async def look(name: str, lookback: Lookback) -> None:
        await logread.read_log(log, lookback, threads)
        ended.append(name)

    long = Lookback(Wanted(), most=None, most_bytes=1 << 30)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(look, "long", long)
        while not threads.borrowed_tokens:
            await trio.lowlevel.checkpoint()
        nursery.start_soon(look, "short", Lookback(Wanted(), most=1, most_bytes=1 << 20))
    log.close()
    assert ended == ["short", "long"]
    assert [line["time_ms"] for line in reversed(long.lines)] == list(range(6_000))
