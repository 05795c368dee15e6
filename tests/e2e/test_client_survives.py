"""Clients go on while the daemon is killed and restarted: reads by themselves, changes exactly once, streams whole."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio

from client import AsyncClient, Client, FailedPrecondition
from tests.e2e.conftest import PATIENCE_S, Daemon

KEY, JOB = "test.good", "test.good/tick"
THE_END = "the end"


class Work:
    """What goes on at the client's end, each in a thread of its own; what one of them raises is in `failures`."""

    def __init__(self, socket: Path) -> None:
        self.client = Client(str(socket), reconnect_s=PATIENCE_S)
        self.over = threading.Event()
        self.reads = 0
        self.async_reads = 0
        self.made: set[str] = set()
        """Changes that were answered: they have been made."""
        self.unknown: set[str] = set()
        """Changes that the daemon's end cut short."""
        self.seqs: list[int] = []
        self.lines: list[tuple[int, str, str]] = []
        self.failures: list[BaseException] = []
        self._log = self.client.logs(KEY, tail=0)
        works = (self.read, lambda: trio.run(self.read_on_trio), self.change, self.follow_events, self.follow_log)
        self._threads = [threading.Thread(target=self._noting_failures, args=(work,)) for work in works]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def wait_progress(self) -> None:
        """Until everything has got further, so that it is under way when the daemon ends."""
        began = self._how_far()
        self.eventually(lambda: all(now > then for now, then in zip(self._how_far(), began, strict=True)))

    def eventually(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            assert not self.failures, self.failures
            assert time.monotonic() < deadline, self._how_far()
            time.sleep(0.002)

    def finish(self) -> None:
        """No more changes; then the last one, which the stream of events waits for."""
        self.over.set()
        for thread in self._threads[:3]:
            thread.join(PATIENCE_S)
        self.client.once().plugins.disable(KEY, THE_END)
        self._threads[3].join(PATIENCE_S)
        written = self.client.logs.read(KEY, tail=10_000)
        self.eventually(lambda: len(self.lines) >= len(written))
        self._log.close()
        self._threads[4].join(PATIENCE_S)
        assert not self.failures
        assert not any(thread.is_alive() for thread in self._threads)
        assert self.lines == [(line["time_ms"], line["stream"], line["message"]) for line in written]

    def read(self) -> None:
        while not self.over.is_set():
            assert [plugin["key"] for plugin in self.client.plugins.list()] == [KEY]
            self.reads += 1

    async def read_on_trio(self) -> None:
        async with AsyncClient.connect(self.client.path, reconnect_s=PATIENCE_S) as client:
            while not self.over.is_set():
                assert (await client.plugins.get(KEY))["key"] == KEY
                self.async_reads += 1

    def change(self) -> None:
        number = 0
        while not self.over.is_set():
            number += 1
            self._once(f"run {number}", lambda once, n=number: once.jobs.run(JOB, params={"n": n}))
            if number % 5 == 0:
                self._once(f"disable {number}", lambda once, n=number: once.plugins.disable(KEY, f"disable {n}"))
                while self.client.plugins.get(KEY)["status"] != "ready":
                    self._once(f"enable after {number}", lambda once: once.plugins.enable(KEY))

    def follow_events(self) -> None:
        with self.client.events(after=0) as events:
            for event in events:
                self.seqs.append(event["seq"])
                if event["data"].get("reason") == THE_END:
                    return

    def follow_log(self) -> None:
        with self._log as lines:
            for line in lines:
                self.lines.append((line["time_ms"], line["stream"], line["message"]))

    def _once(self, name: str, change: Callable[[Client], Any]) -> None:
        try:
            change(self.client.once())
            self.made.add(name)
        except FailedPrecondition as error:
            if "cut short" not in error.message:
                raise
            self.unknown.add(name)

    def _how_far(self) -> list[int]:
        return [self.reads, self.async_reads, len(self.made), len(self.seqs), len(self.lines)]

    def _noting_failures(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  said by the test itself
            self.failures.append(error)
            self.over.set()


def test_everything_goes_on(daemon: Daemon, plugin: Callable[[str], Path]) -> None:
    with daemon.start() as rpc:
        source = plugin("good")
        manifest = source / "plugin.toml"
        manifest.write_text(manifest.read_text().replace('key = "tick"', 'key = "tick"\noverlap = "allow"'))
        rpc.install(source)
    work = Work(daemon.socket)
    with work.client as client:
        client.plugins.load(KEY)
        work.start()
        try:
            for end in (daemon.kill, daemon.stop, daemon.kill, daemon.kill):
                work.wait_progress()
                end()
                with daemon.start():
                    pass
            work.wait_progress()
            work.finish()
        finally:
            work.over.set()
            work._log.close()
        assert work.seqs == every_seq(client)
        check_made_once(work, client)


def every_seq(client: Client) -> list[int]:
    seqs: list[int] = []
    while page := client.events.list(after_seq=seqs[-1] if seqs else 0, limit=1000)["events"]:
        seqs += [event["seq"] for event in page]
    return seqs


def check_made_once(work: Work, client: Client) -> None:
    runs: list[Any] = []
    while page := client.jobs.runs(JOB, limit=200, before=runs[-1]["id"] if runs else None):
        runs += page
    made = Counter(f"run {run['params']['n']}" for run in runs)
    after = 0
    while events := client.events.list(after, ["plugin.disabled"], limit=1000)["events"]:
        made.update(event["data"]["reason"] for event in events)
        after = events[-1]["seq"]
    assert made.pop(THE_END) == 1
    assert set(made.values()) == {1}
    counted = {name for name in work.made if not name.startswith("enable")}
    assert counted <= made.keys() <= counted | work.unknown
