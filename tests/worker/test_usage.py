"""How a worker's use is measured: exact figures from made-up processes, and real ones from a real tree."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio
from trio.testing import MockClock

from supervisor.worker.kin import Kin
from supervisor.worker.procfs import TICKS_PER_S, ProcessStat, open_files, pss_bytes, read_stat
from supervisor.worker.usage import Meter
from supervisor.worker.watch import shared_out_bytes
from tests.daemon.processes import all_reaped

MIB = 1024 * 1024
NOBODY = 2**22 + 1
"""A pid beyond the kernel's largest."""


@pytest.fixture(autouse=True)
def _reaped() -> Iterator[None]:
    with all_reaped():
        yield


def process(cpu_s: float = 0, *, rss: int = 0, threads: int = 1, pid: int = NOBODY) -> ProcessStat:
    return ProcessStat(
        pid=pid,
        name="x",
        state="S",
        ppid=1,
        pgid=1,
        sid=1,
        start_ticks=1,
        cpu_ticks=int(cpu_s * TICKS_PER_S),
        threads=threads,
        rss_bytes=rss,
    )


class World:
    def __init__(self) -> None:
        self.processes: list[ProcessStat] = []
        self.counted: float | None = None
        self.looks = 0

    def look(self, _: object = None) -> list[ProcessStat]:
        self.looks += 1
        return self.processes

    def meter(self) -> Meter:
        return Meter(self.look, lambda: self.counted)


async def test_the_share_of_the_processor(autojump_clock: MockClock) -> None:
    world = World()
    meter = world.meter()
    world.processes = [process(1.0, rss=MIB, threads=3), process(0.5, rss=2 * MIB)]
    first = meter.renew(trio.current_time())
    assert first == {
        "cpu_percent": None,
        "rss_bytes": 3 * MIB,
        "pss_bytes": None,
        "threads": 4,
        "processes": 2,
        "open_files": None,
    }
    await trio.sleep(2)
    world.processes = [process(1.5), process(2.0)]
    assert meter.renew(trio.current_time())["cpu_percent"] == 100.0  # 2 s of processor time in 2 s
    await trio.sleep(10)
    # One is gone, and nobody has waited for it: its time is lost, and no share is below nought.
    world.processes = [process(1.7)]
    assert meter.renew(trio.current_time())["cpu_percent"] == 0.0
    await trio.sleep(1)
    world.processes = [process(2.7), process(0.5)]
    assert meter.renew(trio.current_time())["cpu_percent"] == 150.0


async def test_at_first_it_is_the_share_since_the_start(autojump_clock: MockClock) -> None:
    world = World()
    meter = world.meter()
    await trio.sleep(4)
    world.processes = [process(1.0)]
    assert meter.renew(trio.current_time())["cpu_percent"] == 25.0


async def test_what_was_found_is_fresh_for_a_second(autojump_clock: MockClock) -> None:
    world = World()
    meter = world.meter()
    assert meter.last(trio.current_time()) is None
    world.processes = [process(0)]
    found = meter.renew(trio.current_time())
    await trio.sleep(0.999)
    assert meter.last(trio.current_time()) is found
    await trio.sleep(0.001)
    assert meter.last(trio.current_time()) is None
    world.processes = []
    assert meter.renew(trio.current_time()) is meter.last(trio.current_time()) is None


async def test_somebody_has_counted_the_time_of_all(autojump_clock: MockClock) -> None:
    world = World()
    meter = world.meter()
    await trio.sleep(2)
    world.processes, world.counted = [process(0)], 3.0
    assert meter.renew(trio.current_time())["cpu_percent"] == 150.0


async def test_of_nobody_nothing_is_told(autojump_clock: MockClock) -> None:
    assert World().meter().renew(trio.current_time()) is None


def test_what_is_not_there_is_no_error() -> None:
    assert (read_stat(NOBODY), open_files(NOBODY), pss_bytes(NOBODY)) == (None, None, None)
    assert shared_out_bytes([process(rss=5)]) == 5


@contextmanager
def tree() -> Iterator[tuple[int, int]]:
    """A session of a process and its child, which holds 20 MiB that it shares with its parent."""
    code = (
        "import os, sys, time\nkept = b'x' * (20 << 20)\nchild = os.fork()\n"
        "if child: print(child, flush=True)\ntime.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-S", "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as leader:
        assert leader.stdout
        try:
            yield leader.pid, int(leader.stdout.readline())
        finally:
            os.killpg(leader.pid, 9)


async def test_a_real_tree() -> None:
    with tree() as (leader, child):
        kin = Kin(leader, list)
        assert {process.pid for process in kin.look()} == {leader, child}
        usage = Meter(kin.peek, lambda: None).renew(trio.current_time())
        assert usage is not None
        assert (usage["processes"], usage["threads"]) == (2, 2)
        assert usage["rss_bytes"] > 40 * MIB
        # Each has stdin, stdout and stderr at least.
        assert 6 <= (usage["open_files"] or 0) < 100
        shared = shared_out_bytes(kin.look())
        if pss_bytes(child) is None:
            pytest.skip("the kernel has no smaps_rollup")
        assert 20 * MIB < shared < usage["rss_bytes"] - 15 * MIB
