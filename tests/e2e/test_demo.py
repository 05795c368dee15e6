"""`plugind demo` as somebody types it."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.conftest import PATIENCE_S, PLUGIND, ROOT, environ_of, pids

DEMO = [*PLUGIND, "demo"]


@contextmanager
def nothing_left(directory: Path) -> Iterator[dict[str, str]]:
    """An environment whose temporary directory is `directory`; nothing may be in it afterwards, and nobody alive."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PLUGIND_")}
    yield environment | {"TMPDIR": str(directory)}
    assert list(directory.iterdir()) == []
    mark = str(directory).encode()
    assert [pid for pid in pids() if any(mark in variable for variable in environ_of(pid))] == []


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Paths of sockets are short."""
    return tmp_path_factory.mktemp("d")


def test_it_shows_runs_and_restarts_and_leaves_nothing(short: Path) -> None:
    with nothing_left(short) as environment:
        done = subprocess.run(
            [*DEMO, "--seconds", "8"], env=environment, capture_output=True, text=True, timeout=30, cwd=ROOT
        )
    assert (done.returncode, done.stderr) == (0, "")
    summary = done.stdout.splitlines()[-1]
    found = re.search(r"(\d+) succeeded.*restarts: (\d+)", summary)
    assert found, summary
    assert int(found[1]) >= 1
    assert int(found[2]) >= 1


@pytest.mark.parametrize("signals", [[signal.SIGINT], [signal.SIGTERM], [signal.SIGHUP], [signal.SIGINT] * 3])
def test_signals_end_it_soon(short: Path, signals: list[signal.Signals]) -> None:
    with nothing_left(short) as environment:
        demo = subprocess.Popen([*DEMO, "--plain"], env=environment, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert demo.stdout is not None
        with demo.stdout:
            for line in demo.stdout:
                if "plugin.worker_started" in line:
                    break
            began = time.monotonic()
            for number in signals:
                demo.send_signal(number)
            rest = demo.stdout.read()
        assert demo.wait(PATIENCE_S) == 0
        assert time.monotonic() - began < 5
    assert rest.splitlines()[-1].startswith("plugins: ")


def test_on_a_terminal(short: Path) -> None:
    ours, theirs = pty.openpty()
    with nothing_left(short) as environment:
        environment |= {"TERM": "xterm", "COLUMNS": "100", "LINES": "40"}
        demo = subprocess.Popen([*DEMO, "--seconds", "4"], env=environment, stdout=theirs, cwd=ROOT)
        os.close(theirs)
        shown = b""
        while data := read(ours):
            shown += data
        os.close(ours)
        assert demo.wait(PATIENCE_S) == 0
    text = shown.decode()
    for expected in ("plugind demo", "example.heartbeat", "running", "\x1b[?1049h", "\x1b[?1049l", "plugins: "):
        assert expected in text


def read(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except OSError:  # the other end has gone: the last one closed the terminal
        return b""
