"""Following a log, against a list of what was written: everything in order, unless a gap is told."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.core.errors import InvalidParams
from supervisor.worker.logfile import Entry, LogFile
from supervisor.worker.logfollow import Follower
from supervisor.worker.logparts import rotated
from supervisor.worker.logread import Wanted
from tests.logs import read_log


def entry(n: int, **changes: Any) -> Entry:
    return Entry(**{"time_ms": n, "stream": "stdout", "level": "info", "message": f"line {n}", **changes})


class Seen:
    """What one follower was told; a new Follower takes over at its place when `follower` is replaced."""

    def __init__(self) -> None:
        self.follower: Follower
        self.last: int | None = None
        self.gaps = 0

    async def read(self, most: int = 10**6) -> bool:
        batch = await self.follower.read(most)
        assert len(batch.lines) <= most
        for line in batch.lines:
            number = line["time_ms"]
            if batch.skipped == 0 or line is not batch.lines[0]:
                assert self.last is None or number == self.last + 1
            else:
                assert self.last is None or number >= self.last + 1
                self.gaps += 1
            self.last = number
        return batch.moved or batch.skipped != 0

    async def read_all(self) -> None:
        while await self.read():
            pass


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(1, 12), st.integers(0, 150)),
        st.tuples(st.just("read"), st.integers(1, 9)),
        st.tuples(st.just("read_all")),
        st.tuples(st.just("resume")),
        st.tuples(st.just("close")),
        st.tuples(st.just("restart")),
        st.tuples(st.just("kill"), st.integers(0, 60)),
        st.tuples(st.just("tail"), st.integers(0, 30)),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(max_bytes=st.integers(100, 700), files=st.integers(1, 5), operations=OPERATIONS)
def test_any_course_of_events(max_bytes: int, files: int, operations: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        trio.run(_course, Path(directory) / "x.log", max_bytes, files, operations)


async def _course(path: Path, max_bytes: int, files: int, operations: list[tuple[Any, ...]]) -> None:
    threads = trio.CapacityLimiter(1)
    seen, written = Seen(), 0

    def opened() -> LogFile:
        return LogFile(path, max_bytes=max_bytes, files=files)

    async def follow(**begin: Any) -> Follower:
        follower = Follower(log, Wanted(level="info"), threads)
        await follower.begin(**begin)
        return follower

    log = opened()
    seen.follower = await follow()
    for name, *numbers in operations:
        match name:
            case "write":
                count, size = numbers
                log.write([entry(n, message="x" * size) for n in range(written, written + count)])
                written += count
            case "read":
                await seen.read(numbers[0])
            case "read_all":
                await seen.read_all()
                assert written == 0 or seen.last == written - 1
            case "resume":
                seen.follower = await follow(after=seen.follower.place)
            case "close":
                log.close()
            case "restart" | "kill":
                log.close()
                if name == "kill" and written:
                    with path.open("ab") as file:
                        file.write(entry(written).to_json().encode()[: numbers[0]])
                log = opened()
                seen.follower = await follow(after=seen.follower.place)
            case "tail":
                kept = [line["time_ms"] for line in read_log(path, files=files)]
                assert kept == list(range(written - len(kept), written))
                other = Seen()
                other.follower = await follow(tail=numbers[0])
                await other.read()
                whole = min(len(kept), numbers[0])
                assert other.last is None or other.last < written
                if whole:
                    assert other.last is not None
                    other = Seen()
                    other.follower = await follow(tail=numbers[0])
                    first = (await other.follower.read(1)).lines[0]["time_ms"]
                    assert first == written - whole
                else:
                    assert other.last is None
    await seen.read_all()
    assert written == 0 or seen.last == written - 1
    assert log.lost == 0
    log.close()


async def test_a_flood_is_followed_without_gap_or_double(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "x.log", max_bytes=100_000, files=3)
    threads, total = trio.CapacityLimiter(2), 20_000
    seen = [Seen() for _ in range(3)]

    async def follow(one: Seen) -> None:
        one.follower = Follower(log, Wanted(), threads)
        await one.follower.begin()
        while one.last != total - 1:
            changed = log.changed()
            more = await one.read()
            behind.set()
            if not more:
                await changed.wait()

    behind = trio.Event()

    async def write() -> None:
        nonlocal behind
        for start in range(0, total, 50):
            log.write([entry(n) for n in range(start, start + 50)])
            # As fast as they can take it, so that rotation deletes nothing that they want.
            while any(start - (one.last or 0) > 1500 for one in seen):
                behind = trio.Event()
                await behind.wait()
            await trio.lowlevel.checkpoint()

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for one in seen:
                nursery.start_soon(follow, one)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(write)
    assert [one.gaps for one in seen] == [0, 0, 0]
    log.close()


async def test_a_gap_says_how_many_bytes(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    log = LogFile(path, max_bytes=160, files=3)
    follower = Follower(log, Wanted(), trio.CapacityLimiter(1))
    await follower.begin()
    for n in range(10, 30):
        log.write([entry(n)])
    length = len(entry(10).to_json()) + 1
    kept = len(read_log(path, files=3))
    batch = await follower.read(1)
    assert batch.skipped == (20 - kept) * length
    assert batch.lines[0]["time_ms"] == 30 - kept
    # A part of it came; the rest is lost meanwhile.
    for n in range(30, 50):
        log.write([entry(n)])
    batch = await follower.read(1)
    assert (batch.skipped, batch.lines[0]["time_ms"]) == ((50 - kept - (31 - kept)) * length, 50 - kept)
    place = follower.place
    for n in range(50, 70):
        log.write([entry(n)])
    later = Follower(log, Wanted(), trio.CapacityLimiter(1))
    await later.begin(after=place)
    batch = await later.read(1)
    assert (batch.skipped, batch.lines[0]["time_ms"]) == (None, 70 - kept)
    assert (await later.read(1)).skipped == 0
    log.close()


async def test_an_inode_that_is_used_again_is_not_taken_for_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    log = LogFile(path, max_bytes=1000, files=2)
    log.write([entry(n) for n in range(5)])
    follower = Follower(log, Wanted(), trio.CapacityLimiter(1))
    await follower.begin()
    log.close()
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"time_ms": 0', b'"time_ms": 9', 1))
    again = Follower(LogFile(path, max_bytes=1000, files=2), Wanted(), trio.CapacityLimiter(1))
    await again.begin(after=follower.place)
    assert (await again.read(1)).skipped is None
    path.write_bytes(content)
    await again.begin(after=follower.place)
    assert (await again.read(1)).skipped == 0


@pytest.mark.parametrize("how", ["moved", "removed", "cut"])
async def test_a_file_that_somebody_takes_away(tmp_path: Path, how: str) -> None:
    path = tmp_path / "x.log"
    log = LogFile(path, max_bytes=10_000, files=3)
    log.write([entry(1)])
    seen = Seen()
    seen.follower = Follower(log, Wanted(), trio.CapacityLimiter(1))
    await seen.follower.begin(tail=5)
    await seen.read_all()
    match how:
        case "moved":
            path.rename(rotated(path, 1))
        case "removed":
            path.unlink()
        case "cut":
            os.truncate(path, 0)
    # The same second: it goes where nobody will find it, but who follows still gets it.
    if how != "cut":
        log.write([entry(2)])
        await seen.read_all()
        assert seen.last == 2
    log.write([entry(2000)])
    seen.last = 1999
    await seen.read_all()
    assert (seen.last, seen.gaps) == (2000, 0)
    log.close()


async def test_filters_since_and_what_is_no_place(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "x.log", max_bytes=10_000, files=3)
    log.write([entry(n, level="error" if n % 2 else "info") for n in range(20)])
    follower = Follower(log, Wanted(level="error"), trio.CapacityLimiter(1))

    async def begun(**begin: Any) -> list[int]:
        await follower.begin(**begin)
        return [line["time_ms"] for line in (await follower.read(100)).lines]

    assert await begun(since_ms=15) == [15, 17, 19]
    assert await begun(since_ms=5, tail=2) == [17, 19]
    assert await begun(tail=3) == [15, 17, 19]
    assert await begun(tail=0, since_ms=0) == await begun() == []
    for place in ("x", "1-2", "1-2-3-4", "", "g-0-0"):
        with pytest.raises(InvalidParams, match="after must be a place"):
            await follower.begin(after=place)
    log.close()


async def test_a_clock_that_steps_back_hides_nothing_new(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "x.log", max_bytes=10_000, files=3)
    log.write([entry(1000)])
    follower = Follower(log, Wanted(), trio.CapacityLimiter(1))
    await follower.begin(since_ms=900)
    log.write([entry(5)])
    assert [line["time_ms"] for line in (await follower.read(10)).lines] == [1000, 5]
    log.close()


async def test_a_foreign_file_under_one_of_the_names_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    log = LogFile(path, max_bytes=160, files=3)
    log.write([entry(n) for n in range(10, 16)])
    follower = Follower(log, Wanted(), trio.CapacityLimiter(1))
    await follower.begin(tail=3)
    stranger = tmp_path / "stranger"
    stranger.write_text(f"{entry(77).to_json()}\n" * 2)
    stranger.replace(rotated(path, 1))
    batch = await follower.read(10)
    length = len(entry(10).to_json()) + 1
    assert ([line["time_ms"] for line in batch.lines], batch.skipped) == ([14, 15], length)
    log.close()
