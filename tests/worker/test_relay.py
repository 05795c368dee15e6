"""relay and Tail: a worker's output into its log, whatever it writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from supervisor.worker.logfile import LogFile, read_log
from supervisor.worker.output import Line
from supervisor.worker.relay import TAIL_CHARACTERS, Tail, relay

Clock = trio.testing.MockClock


def test_tail_keeps_the_last_words() -> None:
    tail = Tail()
    assert str(tail) == ""
    tail.add([])
    tail.add([Line("one"), Line("two")])
    tail.add([Line("three")])
    assert str(tail) == "one\ntwo\nthree"


@pytest.mark.parametrize("line", ["", "x", "y" * 100, "z" * 65_536])
def test_tail_is_bounded_under_a_flood(line: str) -> None:
    tail = Tail()
    for _ in range(5):
        tail.add([Line(line)] * 500)
        assert len(tail._text) <= TAIL_CHARACTERS
    tail.add([Line("the end")])
    assert str(tail).endswith("the end")
    assert len(str(tail)) <= TAIL_CHARACTERS == 8000


class Output:
    """A pipe whose reader is a relay."""

    def __init__(self, tmp_path: Path) -> None:
        self.path = tmp_path / "x.log"
        self.log = LogFile(self.path, max_bytes=10**7, files=2)
        self.tail = Tail()
        self.theirs, self.ours = trio.testing.memory_stream_one_way_pair()

    async def run(self) -> None:
        await relay(self.ours, self.log, name="stderr", level="warning", now_ms=lambda: 7, tail=self.tail)
        self.log.close()

    def lines(self) -> list[Any]:
        return [(line["message"], line["truncated"]) for line in read_log(self.path, tail=10**6)]


async def test_lines_arrive_with_stream_level_and_time(autojump_clock: Clock, tmp_path: Path) -> None:
    output = Output(tmp_path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(output.run)
        await output.theirs.send_all(b"one\ntw")
        await output.theirs.send_all(b"o\n\xff no end")
        output.theirs.close()
    assert output.lines() == [("one", False), ("two", False), ("\\xff no end", False)]
    line = read_log(output.path, tail=1)[0]
    assert (line["stream"], line["level"], line["time_ms"]) == ("stderr", "warning", 7)
    assert str(output.tail) == "one\ntwo\n\\xff no end"


@pytest.mark.parametrize("how", ["closed", "cancelled"])
async def test_what_stood_without_an_end_is_kept(autojump_clock: Clock, tmp_path: Path, how: str) -> None:
    output = Output(tmp_path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(output.run)
        await output.theirs.send_all(b"last words")
        await trio.testing.wait_all_tasks_blocked()
        if how == "closed":
            output.ours.close()
        else:
            nursery.cancel_scope.cancel()
    output.log.close()
    assert output.lines() == [("last words", False)]


async def test_a_flood_of_line_ends_lets_others_run(autojump_clock: Clock, tmp_path: Path) -> None:
    """What is read at once is bounded, so that one plugin's flood is not everybody's latency."""
    output, turns = Output(tmp_path), 0
    await output.theirs.send_all(b"\n" * 100_000)
    output.theirs.close()

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        await output.run()
        nursery.cancel_scope.cancel()
    assert turns >= 100_000 // (8 * 1024)
    assert len(output.lines()) == 100_000
