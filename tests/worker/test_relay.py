"""Relay, Output and Tail: a worker's output into its log, whatever it writes, and to its last word."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from supervisor.wire.message import Notification
from supervisor.worker.discretion import Discretion
from supervisor.worker.logfile import LogFile
from supervisor.worker.output import Line
from supervisor.worker.relay import TAIL_CHARACTERS, Relay, Tail, log_entry
from tests.logs import read_log

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


def make_relay(
    stream: trio.abc.ReceiveStream, log: LogFile, discretion: Discretion | None = None, **more: Any
) -> Relay:
    kept = discretion or Discretion()
    return Relay(stream, log, name="stderr", level="warning", now_ms=lambda: 7, discretion=kept, **more)


class Output:
    """A pipe whose reader is a relay."""

    def __init__(self, tmp_path: Path) -> None:
        self.path = tmp_path / "x.log"
        self.log = LogFile(self.path, max_bytes=10**7, files=2)
        self.tail = Tail()
        self.theirs, self.ours = trio.testing.memory_stream_one_way_pair()
        self.relay = make_relay(self.ours, self.log, on_lines=self.tail.add)

    async def run(self) -> None:
        await self.relay.run()
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


# The end of a real pipe: what its writer has written before it went, and nothing that others add.

LINE = b"0123456789" * 10 + b"\n"


class Pipe:
    """Both ends of a pipe of 1 MiB; `write` never waits."""

    def __init__(self, tmp_path: Path) -> None:
        ours, self.theirs = os.pipe()
        fcntl.fcntl(ours, fcntl.F_SETPIPE_SZ, 1024 * 1024)
        os.set_blocking(self.theirs, False)
        self.ours = trio.lowlevel.FdStream(ours)
        self.path = tmp_path / "x.log"
        self.log = LogFile(self.path, max_bytes=10**8, files=2)
        self.relay = make_relay(self.ours, self.log)

    def write(self, data: bytes) -> None:
        assert os.write(self.theirs, data) == len(data)

    async def __aenter__(self) -> Pipe:
        return self

    async def __aexit__(self, *_: object) -> None:
        os.close(self.theirs)
        await trio.aclose_forcefully(self.ours)
        self.log.close()

    def lines(self) -> list[str]:
        return [line["message"] for line in read_log(self.path, tail=10**6)]


@pytest.mark.parametrize("count", [0, 1, 200, 9000])
@pytest.mark.parametrize("when", ["before it runs", "while it reads", "while it waits"])
async def test_all_that_stands_in_the_pipe_is_read(tmp_path: Path, count: int, when: str) -> None:
    """A pipe that stays open, as a grandchild keeps it."""
    async with Pipe(tmp_path) as pipe:
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                if when == "while it waits":
                    nursery.start_soon(pipe.relay.run)
                    await trio.testing.wait_all_tasks_blocked()
                pipe.write(LINE * count + b"no end")
                if when == "while it reads":
                    nursery.start_soon(pipe.relay.run)
                    await trio.lowlevel.checkpoint()
                await pipe.relay.finish()
                if when == "before it runs":
                    nursery.start_soon(pipe.relay.run)
        assert pipe.lines() == [LINE.decode().strip()] * count + ["no end"]
        assert pipe.relay.unread_bytes == 0


async def test_nothing_more_is_waited_for(tmp_path: Path) -> None:
    async with Pipe(tmp_path) as pipe:
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pipe.relay.run)
                pipe.write(b"done\n")
                while not pipe.lines():
                    await trio.lowlevel.checkpoint()
                await pipe.relay.finish()
        assert pipe.lines() == ["done"]


async def test_a_flood_of_others_does_not_keep_it(tmp_path: Path) -> None:
    async with Pipe(tmp_path) as pipe:

        async def flood() -> None:
            while True:
                await trio.lowlevel.wait_writable(pipe.theirs)
                with contextlib.suppress(BlockingIOError):
                    os.write(pipe.theirs, b"flood\n" * 5000)

        pipe.write(LINE * 5000)
        with trio.fail_after(5):
            async with trio.open_nursery() as flooding:
                flooding.start_soon(flood)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(pipe.relay.run)
                    await pipe.relay.finish()
                flooding.cancel_scope.cancel()
        lines = pipe.lines()
        assert lines[:5000] == [LINE.decode().strip()] * 5000
        assert len(lines) < 5000 + 2**20


async def test_cancelled_it_tells_what_it_has_left(tmp_path: Path) -> None:
    async with Pipe(tmp_path) as pipe:
        pipe.write(LINE * 9000)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pipe.relay.run)
            await pipe.relay.finish()
            while not pipe.path.exists():
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        lines = "".join(f"{line}\n" for line in pipe.lines())
        assert 0 < len(lines) < 9000 * len(LINE)
        assert pipe.relay.unread_bytes == pytest.approx(9000 * len(LINE) - len(lines), abs=len(LINE))


@pytest.mark.parametrize("message", [[1] * 200_000, {"a": ["x"] * 200_000}, b"\xff" * 4_000_000, "x" * 4_000_000])
def test_of_a_huge_message_only_the_beginning_is_made(message: Any) -> None:
    tracemalloc.start()
    try:
        entry = log_entry(Notification("log", [{"message": message, "fields": {"a": message}}]), 1, Discretion())
        text = entry.to_json()
        # One piece, as of a long text, may be made whole.
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
    assert len(entry.message) == 10_000
    assert entry.message.startswith(("[1, 1", '{"a": ["x"', "b'\\xff", "xxx"))
    assert json.loads(text)["truncated"] is True


@pytest.mark.parametrize(
    ("message", "shown"), [("a", "a"), (1, "1"), (None, "None"), (1.5, "1.5"), ([1, b"a"], """[1, "b'a'"]""")]
)
def test_what_is_no_text_is_shown(message: Any, shown: str) -> None:
    assert log_entry(Notification("log", [{"message": message}]), 1, Discretion()).message == shown


def keeping(*secrets: str) -> Discretion:
    discretion = Discretion()
    discretion.learn(secrets)
    return discretion


@pytest.mark.parametrize("at", range(1, 22))
async def test_a_secret_is_hidden_wherever_it_is_cut(autojump_clock: Clock, tmp_path: Path, at: int) -> None:
    output, looked = Output(tmp_path), list[Line]()
    output.relay = make_relay(output.ours, output.log, discretion=keeping("hunter2-ü"), on_lines=looked.extend)
    data = "password hunter2-ü!\n".encode()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(output.run)
        await output.theirs.send_all(data[:at])
        await trio.testing.wait_all_tasks_blocked()
        await output.theirs.send_all(data[at:])
        output.theirs.close()
    assert output.lines() == [("password ********!", False)]
    assert looked == [Line("password ********!")]


@pytest.mark.parametrize("seen", range(1, 7))
async def test_a_long_line_ends_with_no_half_of_a_secret(autojump_clock: Clock, tmp_path: Path, seen: int) -> None:
    output, looked = Output(tmp_path), list[Line]()
    output.relay = make_relay(output.ours, output.log, discretion=keeping("hunter2"), on_lines=looked.extend)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(output.run)
        await output.theirs.send_all(b"x" * (65_536 - seen) + b"hunter2" + b"y" * 100_000 + b"\n")
        output.theirs.close()
    assert looked == [Line("x" * (65_536 - seen) + "********", truncated=True)]


@pytest.mark.parametrize("size", [1, 10_000, 100_000], ids=["short", "long", "cut"])
def test_a_record_says_no_secret(size: int) -> None:
    secret, rest = "s3cret-token", "." * size
    record = {
        "message": f"{rest[2:]}{secret}{rest}",
        "run_id": secret,
        "fields": {"a": [{"b": secret}], secret: 1, "pin": 271828, "long": [rest] * 10, "end": secret},
    }
    entry = log_entry(Notification("log", [record]), 1, keeping(secret, "271828"))
    line = entry.to_json()
    assert not any(text in line for text in ("s3cret", "token", "271828"))
    assert entry.run_id == "********"
    assert ('"cut"' in line) == (size > 1)


def test_what_is_cut_of_long_fields_ends_with_no_half() -> None:
    for before in range(1970, 2000):
        fields = {"a": "." * before + "s3cret-token" + "." * 100_000}
        entry = log_entry(Notification("log", [{"message": "x", "fields": fields}]), 1, keeping("s3cret-token"))
        assert entry.truncated
        assert "s3" not in entry.to_json()
