"""Subscribers that follow a busy journal over kills and restarts of the real daemon: nothing missed, nothing twice."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgpack

from tests.e2e.conftest import PATIENCE_S, Daemon, Rpc

KEY = "test.emits"
A_ROUND = 100
"""Events between two ends of the daemon."""


class Follower:
    """A client of few words that subscribes anew, after the last event it has seen, whenever it was cut off."""

    def __init__(self, path: Path, *, chunk: int = 65536, credit: int | None = None, **filters: Any) -> None:
        self.seqs: list[int] = []
        self.types: set[str] = set()
        self.lives = 0
        self.overflows = 0
        self.failure: BaseException | None = None
        self._path, self._chunk, self._credit, self._filters = path, chunk, credit, filters
        self._after = 0
        self._left = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    @contextmanager
    def following(self) -> Iterator[Follower]:
        self._thread.start()
        try:
            yield self
        finally:
            self._over.set()
            self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        if self.failure is not None:
            raise self.failure

    def _run(self) -> None:
        try:
            while not self._over.is_set():
                try:
                    self._follow()
                except OSError:
                    time.sleep(0.01)  # Between two daemons; nothing tells when the next one is there.
        except BaseException as error:  # noqa: BLE001  raised where the test waits
            self.failure = error

    def _follow(self) -> None:
        with socket.socket(socket.AF_UNIX) as dialled:
            dialled.settimeout(0.2)
            dialled.connect(str(self._path))
            params = {"after_seq": self._after, "credit": self._credit, **self._filters}
            dialled.sendall(
                msgpack.packb([0, 1, "rpc.hello", []]) + msgpack.packb([0, 2, "events.subscribe", [params]])
            )
            self.lives += 1
            self._left = self._credit or 0
            unpacker = msgpack.Unpacker()
            while not self._over.is_set():
                try:
                    data = dialled.recv(self._chunk)
                except TimeoutError:
                    continue
                if not data:
                    return
                unpacker.feed(data)
                for message in unpacker:
                    if not self._take(dialled, message):
                        return

    def _take(self, dialled: socket.socket, message: Any) -> bool:
        """False: the subscription has ended."""
        if message[0] == 1:
            if message[2] is not None and message[2]["name"] == "UNAVAILABLE":
                return False  # It is stopping.
            assert message[2] is None, message
            return True
        [item] = message[2]
        if "end" in item:
            assert (item["reason"], item["last_seq"]) == ("overflow", self._after)
            self.overflows += 1
            return False
        event = item["event"]
        assert event["seq"] > self._after, "twice, or out of order"
        self._after = event["seq"]
        self.seqs.append(event["seq"])
        self.types.add(event["type"])
        if self._credit is not None:
            self._left -= 1
            if self._left == 0:
                self._left = self._credit
                more = {"subscription": item["subscription"], "n": self._credit}
                dialled.sendall(msgpack.packb([0, 3, "events.credit", [more]]))
        return True


def until(look: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def journal(rpc: Rpc, **filters: Any) -> list[int]:
    """All of it, a page at a time."""
    seqs = [0]
    while page := rpc.call("events.list", after_seq=seqs[-1], limit=500, **filters)["events"]:
        seqs += [event["seq"] for event in page]
    return seqs[1:]


def test_nothing_is_missed_or_doubled_over_kills_and_restarts(daemon: Daemon, plugin: Callable[[str], Path]) -> None:
    everything = Follower(daemon.socket)
    by_fives = Follower(daemon.socket, credit=5)
    some = Follower(daemon.socket, types=["emitted.even", "plugin.worker_*"], plugins=[KEY])
    followers = [everything, by_fives, some]
    with daemon.start() as rpc:
        rpc.load(plugin("emits"))
    with everything.following(), by_fives.following(), some.following():
        for end in (signal.SIGKILL, signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
            seen = [len(follower.seqs) for follower in followers]
            until(lambda seen=seen: all(len(f.seqs) > n + A_ROUND for f, n in zip(followers, seen, strict=True)))
            daemon.signal(end)
            daemon.wait()
            daemon.start().__exit__()
        with Rpc(daemon.socket) as rpc:
            rpc.call("plugins.disable", plugin=KEY)
            whole = journal(rpc)
            wanted = journal(rpc, types=["emitted.even", "plugin.worker_*"], plugins=[KEY])
            until(lambda: everything.seqs[-1:] == by_fives.seqs[-1:] == whole[-1:] and some.seqs[-1:] == wanted[-1:])
    assert whole == list(range(1, whole[-1] + 1))
    assert everything.seqs == by_fives.seqs == whole
    assert some.seqs == wanted
    assert some.types >= {"emitted.even", "plugin.worker_started", "plugin.worker_stopped"}
    assert all(follower.lives >= 5 for follower in followers)


def test_who_reads_too_slowly_is_ended_alone_and_goes_on_without_a_gap(
    daemon: Daemon, plugin: Callable[[str], Path]
) -> None:
    """He gets the place to go on from as his last word; meanwhile somebody who reads hears everything at once."""
    quick = Follower(daemon.socket)
    with daemon.start() as rpc, socket.socket(socket.AF_UNIX) as slow, quick.following():
        slow.settimeout(PATIENCE_S)
        slow.connect(str(daemon.socket))
        # Its credit is all it takes for now: what comes then is kept for it, up to a limit.
        slow.sendall(msgpack.packb([0, 1, "events.subscribe", [{"after_seq": None, "credit": 3}]]))
        rpc.load(plugin("emits"))
        until(lambda: len(quick.seqs) > 1300)  # it keeps 1,024
        slow.sendall(msgpack.packb([0, 2, "events.credit", [{"subscription": 1, "n": 10_000}]]))
        unpacker, seqs, end = msgpack.Unpacker(), list[int](), None
        while end is None:
            unpacker.feed(slow.recv(65536))
            for message in unpacker:
                if message[0] == 2 and "event" in message[2][0]:
                    seqs.append(message[2][0]["event"]["seq"])
                elif message[0] == 2:
                    [end] = message[2]
        assert end == {"subscription": 1, "end": True, "reason": "overflow", "last_seq": seqs[-1]}
        assert seqs == list(range(seqs[0], seqs[-1] + 1))
        rpc.call("plugins.disable", plugin=KEY)
        whole = journal(rpc)
        until(lambda: quick.seqs[-1] == whole[-1])
        assert quick.seqs == whole
        resumed = Follower(daemon.socket)
        resumed._after = seqs[-1]
        with resumed.following():
            until(lambda: resumed.seqs[-1:] == whole[-1:])
        assert seqs + resumed.seqs == whole[whole.index(seqs[0]) :]
        assert (quick.overflows, quick.lives) == (0, 1)
