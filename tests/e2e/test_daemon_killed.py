"""The daemon killed at random moments while clients command it: what each next start finds and makes is explained."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from supervisor.core.lifecycle import STEPS, Status
from supervisor.worker.procfs import start_ticks
from tests.e2e.conftest import PATIENCE_S, Daemon, Refused, Rpc

KILLS = int(os.environ.get("PLUGIND_TEST_KILLS", "6"))
SEED = int(os.environ.get("PLUGIND_TEST_SEED", "0"))
"""0: another one each time; it is in the message of a failure."""
GONE = "gone"
OUTCOMES = {
    "install": {"installed"},
    "load": {"ready"},
    "enable": {"ready"},
    "disable": {"disabled"},
    "mark_error": {"error"},
    "unload": {"uninstalled"},
    "remove": {GONE, "uninstalled"},
    "stop": set[str](),
    "start": set[str](),
    "restart": set[str](),
}
"""Where a command leads, besides nowhere."""
FAILED = {"load": "error", "enable": "error"}
"""Where it leads when it fails midway."""
LAST_WORDS = {
    "ready": "plugin.enabled",
    "disabled": "plugin.disabled",
    "error": "plugin.error",
    "uninstalled": "plugin.unloaded",
}
EXECUTED = True


@dataclass
class Client:
    """One that commands one plugin; it knows what the plugin's status may be."""

    key: str
    source: Path
    dice: random.Random
    possible: set[str] = field(default_factory=lambda: {GONE})
    history: list[str] = field(default_factory=list)
    oddities: list[str] = field(default_factory=list)

    def command(self, socket: Path, over: threading.Event) -> None:
        """One command after the other, until the daemon is gone."""
        try:
            with Rpc(socket) as rpc:
                while not over.is_set():
                    self._command_once(rpc, self._choose())
        except (OSError, EOFError):
            return  # Killed: what the last command has done is not known.

    def _choose(self) -> str:
        (status,) = self.possible if len(self.possible) == 1 else ("",)
        likely = {
            GONE: ["install"],
            "installed": ["load", "load", "mark_error", "unload"],
            "ready": ["disable", "stop", "start", "restart", "mark_error", "unload", "remove", "enable"],
            "disabled": ["enable", "load", "disable", "unload"],
            "error": ["enable", "load", "unload"],
            "uninstalled": ["install", "install", "remove"],
        }
        return self.dice.choice(likely.get(status, list(OUTCOMES)))

    def _command_once(self, rpc: Rpc, what: str) -> None:
        before = set(self.possible)
        self.possible = before | OUTCOMES[what] | {FAILED.get(what, status) for status in before}
        self.history.append(what)
        try:
            if what == "install":
                rpc.call("plugins.install", source=str(self.source))
            elif what == "remove":
                rpc.call("plugins.unload", plugin=self.key, remove_data=True)
            elif what == "mark_error":
                rpc.call("plugins.mark_error", plugin=self.key, error="broken")
            else:
                rpc.call(f"plugins.{what}", plugin=self.key)
        except Refused as refused:
            self.history.append(refused.name)
            if refused.name == "INTERNAL":
                self.oddities.append(f"{what}: {refused}")
            self.possible = {FAILED[what]} if refused.name == "ACTIVATION_FAILED" else before
        else:
            self.possible = ({GONE} if what == "remove" else OUTCOMES[what]) or before


def test_whatever_was_under_way(daemon: Daemon, plugin: Callable[[str], Path], tmp_path: Path) -> None:
    seed = SEED or random.SystemRandom().randrange(1, 10**9)
    dice = random.Random(seed)
    clients = [
        Client(f"test.p{n}", copy(plugin, tmp_path, name, f"test.p{n}"), random.Random(dice.random()))
        for n, name in enumerate(("setsid_grandchild", "setsid_grandchild", "plain_program", "dies_on_fifth_job"))
    ]
    rpc = daemon.start()
    for number in range(KILLS):
        with told(f"kill {number} of seed {seed}", clients):
            with rpc:
                commanding(daemon, clients, for_s=dice.uniform(0.05, 0.8))
            former = {pid: start_ticks(pid) for pid in daemon.processes()}
            check_integrity(daemon.state / "plugind.db")
            rpc = daemon.start()
            check_state(rpc, clients)
            check_former_are_gone(former)
            check_processes(daemon, rpc)
    rpc.__exit__()


def copy(plugin: Callable[[str], Path], tmp_path: Path, name: str, key: str) -> Path:
    """A plugin of its own from one of the tests' programs."""
    first = tmp_path / "sources" / name
    target = tmp_path / "copies" / key
    shutil.copytree(first if first.is_dir() else plugin(name), target)
    target.parent.chmod(0o755)
    manifest = target / "plugin.toml"
    kept = [line for line in manifest.read_text().splitlines() if not line.startswith('key = "test.')]
    manifest.write_text("\n".join([kept[0], f'key = "{key}"', *kept[1:]]))
    return target


def commanding(daemon: Daemon, clients: list[Client], *, for_s: float) -> None:
    """Let them, and kill the daemon in the middle of it."""
    over = threading.Event()
    threads = [threading.Thread(target=client.command, args=(daemon.socket, over)) for client in clients]
    for thread in threads:
        thread.start()
    time.sleep(for_s)  # A moment of the dice's choice: that is the test.
    daemon.kill()
    over.set()
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


@contextmanager
def told(what: str, clients: list[Client]) -> Iterator[None]:
    """A failure says after what it came."""
    try:
        yield
        assert [client.oddities for client in clients if client.oddities] == []
        assert any(client.history for client in clients)
    except AssertionError as error:
        last = {client.key: client.history[-6:] for client in clients}
        raise AssertionError(f"{what}, after {last}: {error}") from error


def check_integrity(path: Path) -> None:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []


def check_state(rpc: Rpc, clients: list[Client]) -> None:
    """Each plugin's status is one that its last command, done or never begun, explains; the ready ones run."""
    found = {row["key"]: row for row in rpc.call("plugins.list", include_uninstalled=True)}
    for client in clients:
        status = found[client.key]["status"] if client.key in found else GONE
        assert status in client.possible, f"{client.key} is {status}, and may be {sorted(client.possible)}"
        client.possible = {status}
        if status == "ready":
            rpc.up(client.key)
        if status != GONE:
            check_events(rpc, client.key, status)


def check_events(rpc: Rpc, key: str, status: str) -> None:
    """Its changes of status form a chain that ends where it is, and the last word on it has been said once."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        events = all_events(rpc, key)
        changes = [event["data"] for event in events if event["type"] == "plugin.status_changed"]
        for earlier, later in pairwise(changes):
            assert later["previous"] == earlier["status"], f"{key}: {changes}"
            assert Status(later["status"]) in STEPS[Status(later["previous"])], f"{key}: {changes}"
        assert changes[-1]["status"] == status, f"{key} is {status}; its events say {changes[-1]}"
        if status not in LAST_WORDS:
            return
        since = [event["type"] for event in events]
        since = since[max(n for n, type_ in enumerate(since) if type_ == "plugin.status_changed") :]
        if LAST_WORDS[status] in since:
            assert since.count(LAST_WORDS[status]) == 1, f"{key}: {since}"
            return
        # The last word of a command that was cut is said once its worker is up.
        assert time.monotonic() < deadline, f"{key}: {LAST_WORDS[status]} is still owed: {since}"
        time.sleep(0.02)


def all_events(rpc: Rpc, key: str) -> list[Any]:
    found: list[Any] = []
    while True:
        page = rpc.call("events.list", plugins=[key], after_seq=found[-1]["seq"] if found else 0, limit=1000)["events"]
        found += page
        if len(page) < 1000:
            return found


def check_former_are_gone(former: dict[int, int | None]) -> None:
    """By pid and start: a number may be somebody else's by now. Those in sessions of their own included."""
    deadline = time.monotonic() + PATIENCE_S
    while left := [pid for pid, ticks in former.items() if ticks is not None and is_alive(pid, ticks)]:
        assert time.monotonic() < deadline, f"former workers live on: {left}"
        time.sleep(0.01)


def is_alive(pid: int, ticks: int) -> bool:
    if start_ticks(pid) != ticks:
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def check_processes(daemon: Daemon, rpc: Rpc) -> None:
    """Each worker has one process of its own, and the daemon knows it."""
    pids = {row["pid"] for row in rpc.call("plugins.list") if row["pid"] is not None}
    leaders = {pid for pid in daemon.processes() if os.getsid(pid) == pid and not is_sleep(pid)}
    assert pids <= leaders
    assert len(leaders) <= len(pids) + 1  # one may have been started again while we looked


def is_sleep(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"sleep\0")
    except OSError:
        return True
