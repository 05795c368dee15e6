"""A plugind that does not read, at the raw socket: threads that log wait, the event loop does not."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgpack
import pytest

from supervisor.sdk import AsyncContext, Context, Plugin
from supervisor.sdk.connection import Connection
from supervisor.sdk.serving import Worker
from supervisor.wire.limits import WORKER


class Plugind:
    """Speaks msgpack-RPC by hand, and reads only when it is told to."""

    def __init__(self, plugin: Plugin) -> None:
        self._near, far = socket.socketpair()
        self._near.settimeout(10)
        self._end = Connection(far.detach(), WORKER)
        self._worker = Worker(plugin, self._end, default_key="test.plugin", default_data_dir=".")
        self._thread = threading.Thread(target=self._worker.serve, daemon=True)
        self._thread.start()
        self._unpacker = msgpack.Unpacker()

    def ask(self, id_: int, method: str, /, **params: Any) -> None:
        self._near.sendall(msgpack.packb([0, id_, method, [params]]))

    def read(self) -> Iterator[list[Any]]:
        while True:
            yield from self._unpacker
            self._unpacker.feed(self._near.recv(65536))

    def read_answer(self, id_: int) -> list[list[Any]]:
        """Everything up to the answer, which comes last."""
        got = []
        for message in self.read():
            got.append(message)
            if message[:2] == [1, id_]:
                return got
        raise AssertionError

    def close(self) -> None:
        self._near.close()
        self._thread.join(10)
        self._end.close()


@contextmanager
def serving(plugin: Plugin) -> Iterator[Plugind]:
    plugind = Plugind(plugin)
    try:
        plugind.ask(0, "initialize", api_version=1)
        plugind.read_answer(0)
        yield plugind
    finally:
        plugind.close()


def lines(messages: list[list[Any]]) -> list[dict[str, Any]]:
    return [message[2][0] for message in messages if message[:2] == [2, "log"]]


@pytest.mark.parametrize("turn", range(3))
def test_the_event_loop_never_waits(turn: int) -> None:
    plugin = Plugin()
    over = threading.Event()

    @plugin.method("flood")
    async def flood(ctx: AsyncContext) -> str:
        for n in range(20_000):
            ctx.log.info("x" * 100, n=n)
        over.set()
        return "done"

    with serving(plugin) as plugind:
        plugind.ask(1, "call", method="flood", params=None)
        assert over.wait(10)  # And nobody has read a byte.
        answered = plugind.read_answer(1)
        assert answered[-1] == [1, 1, None, "done"]
        plugind.ask(2, "shutdown", drain_s=1)
        told = lines([*answered, *plugind.read_answer(2)])
    kept = [line["fields"]["n"] for line in told if "n" in line["fields"]]
    dropped = [line["fields"]["dropped"] for line in told if "dropped" in line["fields"]]
    assert kept == sorted(kept)
    assert len(kept) + sum(dropped) == 20_000
    assert len(kept) > 500
    assert sum(dropped) > 0
    assert "log lines were dropped: plugind read more slowly" in told[-1]["message"]


def test_what_the_loop_asks_and_answers_waits_for_room() -> None:
    """Nothing of it is lost, and what is held is bounded."""
    plugin = Plugin()

    @plugin.method("big")
    async def big(ctx: AsyncContext, n: int) -> bytes:
        await ctx.state.set("k", bytes([n]) * 500_000)
        return bytes([n]) * 500_000

    with serving(plugin) as plugind:
        for n in range(40):
            plugind.ask(n + 1, "call", method="big", params={"n": n})
        queued = plugind._end._writer
        wait_for(lambda: not queued.has_room)
        plugind.ask(99, "health")
        assert queued._put_bytes - queued._written_bytes < 48 * 500_100
        answers = {}
        for message in plugind.read():
            if message[0] == 0:
                assert message[2] == "state.set"
                plugind._near.sendall(msgpack.packb([1, message[1], None, {"revision": 1}]))
            else:
                answers[message[1]] = message[3]
            if len(answers) == 41:
                break
    assert answers.pop(99) == {"status": "ok"}
    assert {id_: value[0] for id_, value in answers.items()} == {n + 1: n for n in range(40)}


def test_threads_that_log_wait_and_the_reader_does_not() -> None:
    plugin = Plugin()
    over, taken = threading.Event(), threading.Event()

    @plugin.method("flood")
    def flood(ctx: Context) -> str:
        for n in range(5000):
            ctx.log.info("x" * 1000, n=n)
        over.set()
        return "done"

    @plugin.method("ping")
    def ping(ctx: Context) -> None:
        taken.set()

    with serving(plugin) as plugind:
        plugind.ask(1, "call", method="flood", params=None)
        wait_for(lambda: not select.select([], [plugind._end._fd], [], 0)[1])
        assert not over.is_set()
        for id_ in range(2, 62):
            plugind.ask(id_, "health")  # Taken in, one by one, though no answer can leave.
        plugind.ask(62, "call", method="ping", params=None)
        assert taken.wait(10)
        got = plugind.read_answer(1)
    assert [line["fields"]["n"] for line in lines(got)] == list(range(5000))


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
