"""`pluginctl dev` as somebody types it: a private daemon, a plugin that is edited, and nothing left behind."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from client import Client
from tests.e2e.conftest import PATIENCE_S, ROOT, environ_of, pids

DEV = [sys.executable, "-m", "client.cli.main", "--json", "dev"]
MANIFEST = """
[plugin]
key = "test.edited"
version = "1.0"
api_version = 1
display_name = "Edited"
description = "Is edited while it runs."
author = "plugind's tests"
categories = ["automation"]
capabilities = ["jobs.schedule", "methods.register"]

[worker]
command = ["python", "main.py"]

[[jobs]]
key = "say"
display_name = "Say"

[[methods]]
name = "answer"

[config_schema]
type = "object"
required = ["city"]
properties = { city = { type = "string" } }
"""
MAIN = """
from supervisor.sdk import Plugin, run

plugin = Plugin()

@plugin.job("say")
def say(ctx):
    ctx.log.info("said", city=ctx.config.get("city"))

@plugin.method("answer")
def answer(ctx):
    return 1

run(plugin)
"""


class Dev:
    """The command, and what it has printed: a JSON object a line."""

    def __init__(self, directory: Path, source: Path, *words: str) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PLUGIND_")}
        self.process = subprocess.Popen(
            [*DEV, str(source), *words],
            env={**kept, "TMPDIR": str(directory)},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.seen: list[Any] = []
        self._rest = b""

    def wait(self, what: Callable[[Any], bool]) -> Any:
        """The next object of which `what` holds."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + PATIENCE_S
        while True:
            while b"\n" in self._rest:
                line, _, self._rest = self._rest.partition(b"\n")
                self.seen.append(json.loads(line))
                if what(self.seen[-1]):
                    return self.seen[-1]
            left_s = deadline - time.monotonic()
            ready = left_s > 0 and select.select([self.process.stdout], [], [], left_s)[0]
            data = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            assert data, self.seen
            self._rest += data

    def event(self, kind: str) -> Any:
        return self.wait(lambda told: told.get("event", {}).get("type") == kind)

    def told(self, text: str) -> str:
        found: str = self.wait(lambda told: text in told.get("dev", ""))["dev"]
        return found

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Paths of sockets are short."""
    return tmp_path_factory.mktemp("d")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    directory = tmp_path / "edited"
    directory.mkdir(0o755)
    (directory / "plugin.toml").write_text(MANIFEST)
    (directory / "main.py").write_text(MAIN)
    (tmp_path / "config.json").write_text('{"city": "Ghent"}')
    return directory


@pytest.fixture
def dev(short: Path, source: Path) -> Iterator[Callable[..., Dev]]:
    started: list[Dev] = []

    def start(*words: str) -> Dev:
        started.append(Dev(short, source, "--config", str(source.parent / "config.json"), *words))
        return started[-1]

    try:
        yield start
    finally:
        for each in started:
            if each.process.poll() is None:
                each.process.kill()
                each.process.wait()
            assert each.process.stdout is not None
            each.process.stdout.close()
        wait_gone(short)


def wait_gone(directory: Path) -> None:
    """Until no process has it, and nothing is in it."""
    mark = str(directory).encode()
    deadline = time.monotonic() + PATIENCE_S
    while True:
        alive = [pid for pid in pids() if pid != os.getpid() and any(mark in text for text in environ_of(pid))]
        left = [path for path in directory.iterdir() if not path.name.startswith("kept-")]
        if not alive and not left:
            return
        assert time.monotonic() < deadline, (alive, left)
        time.sleep(0.02)


def test_what_is_edited_is_run(dev: Callable[..., Dev], source: Path, short: Path) -> None:
    running = dev("--run", "say")
    place = running.wait(lambda told: "socket" in told)
    line = running.wait(lambda told: told.get("log", {}).get("message") == "said")
    assert line["log"]["fields"] == {"city": "Ghent"}
    with Client(place["socket"]) as client:
        assert client.plugins.call("test.edited", "answer")["result"] == 1
        before = client.plugins.get("test.edited")["pid"]
        (source / "main.py").write_text(MAIN.replace("return 1", "return 2"))
        assert "main.py" in running.told("changed: ")
        running.told("test.edited is restarted")
        client.wait_for("test.edited", timeout_s=PATIENCE_S)
        assert client.plugins.call("test.edited", "answer")["result"] == 2
        assert client.plugins.get("test.edited")["pid"] != before
    assert running.end() == 0
    assert list(short.iterdir()) == []


def test_a_broken_manifest_is_told_and_taken_up_when_it_is_mended(dev: Callable[..., Dev], source: Path) -> None:
    running = dev()
    running.event("plugin.enabled")
    (source / "plugin.toml").write_text(MANIFEST.replace('"1.0"', '"not one"', 1))
    assert "line 4: plugin.version: is no version" in running.told("has 1 problem")
    (source / "plugin.toml").write_text(MANIFEST.replace('"1.0"', '"1.1"', 1))
    running.told("test.edited is restarted")
    (source / "plugin.toml").write_text(MANIFEST.replace('"methods.register"]', '"methods.register", "events.emit"]'))
    running.told("what plugin.toml asks for now is allowed")
    (source / "plugin.toml").write_text(MANIFEST.replace("test.edited", "test.renamed"))
    running.told("test.renamed is installed in place, and test.edited is removed")
    running.event("plugin.enabled")
    assert running.end() == 0


def test_one_that_begins_broken(dev: Callable[..., Dev], source: Path) -> None:
    (source / "plugin.toml").write_text(MANIFEST.replace("api_version = 1", "api_version = 99"))
    (source / "main.py").write_text("raise SystemExit(3)")
    running = dev("--run", "say")
    running.told("has 1 problem")
    (source / "plugin.toml").write_text(MANIFEST)
    running.event("plugin.error")
    (source / "main.py").write_text(MAIN)
    running.event("plugin.enabled")
    assert running.end(signal.SIGTERM) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_however_it_ends_its_daemon_does_too(dev: Callable[..., Dev], short: Path, number: signal.Signals) -> None:
    running = dev()
    running.event("plugin.enabled")
    assert running.end(number) == (-number if number == signal.SIGKILL else 0)
    if number == signal.SIGKILL:
        wait_gone(short)
    assert list(short.iterdir()) == []


def test_ctrl_c_before_it_is_up(dev: Callable[..., Dev], short: Path) -> None:
    running = dev()
    deadline = time.monotonic() + PATIENCE_S
    while not list(short.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert running.end() == 0
    assert list(short.iterdir()) == []


def test_its_daemon_stopped_from_outside(dev: Callable[..., Dev]) -> None:
    running = dev()
    place = running.wait(lambda told: "socket" in told)
    running.event("plugin.enabled")
    with Client(place["socket"]) as client:
        client.daemon.stop()
    running.told("its plugind has ended")
    assert running.process.wait(PATIENCE_S) == 1


def test_what_is_kept(dev: Callable[..., Dev], short: Path) -> None:
    running = dev("--keep")
    running.event("plugin.enabled")
    assert running.end() == 0
    [kept] = short.iterdir()
    assert running.told(f"kept: {kept}")
    assert (kept / "state/plugind.db").is_file()


def test_a_terminal_that_is_closed(short: Path, source: Path) -> None:
    """In colours, and it ends with its terminal."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TMPDIR": str(short), "TERM": "xterm"}
    environment.pop("NO_COLOR", None)
    words = [
        sys.executable,
        "-m",
        "client.cli.main",
        "dev",
        str(source),
        "--config",
        str(source.parent / "config.json"),
    ]
    terminal = (
        "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", terminal, *words],
        env=environment,
        cwd=ROOT,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    shown = b""
    deadline = time.monotonic() + PATIENCE_S
    while b"plugin.enabled" not in shown:
        assert time.monotonic() < deadline, shown
        if select.select([ours], [], [], 0.1)[0]:
            shown += os.read(ours, 65536)
    assert b"\x1b[1;32m== plugind of its own" in shown
    assert f"export PLUGIND_SOCKET={short}".encode() in shown
    os.close(ours)
    process.wait(PATIENCE_S)
    wait_gone(short)


def test_a_directory_without_a_plugin(tmp_path: Path) -> None:
    done = subprocess.run([*DEV, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S)
    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no plugin.toml in it" in json.loads(done.stderr)["error"]["message"]
