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

from tests.e2e.conftest import PATIENCE_S, PLUGIND, ROOT, Rpc, environ_of, pids

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


def test_signals_all_the_time_leave_nothing(short: Path) -> None:
    with nothing_left(short) as environment:
        demo = subprocess.Popen(
            [*DEMO, "--plain"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
        )
        assert demo.stdout is not None
        with demo:
            assert demo.stdout.readline().startswith("plugind demo: the socket is")
            deadline = time.monotonic() + PATIENCE_S
            # For as long as there is a directory, its removal included; Python's own end is not ours.
            while list(short.iterdir()) and time.monotonic() < deadline:
                demo.send_signal(signal.SIGINT)
                # As fast as a key repeats, and no faster: a process that is interrupted all the time gets nowhere.
                time.sleep(0.02)
            try:
                rest, errors = demo.communicate(timeout=PATIENCE_S)
            except subprocess.TimeoutExpired:
                demo.kill()
                raise
    assert (demo.returncode, errors) == (0, "")
    assert rest.splitlines()[-1].startswith("plugins: ")


def test_a_reader_that_has_seen_enough(short: Path) -> None:
    with nothing_left(short) as environment:
        demo = subprocess.Popen(DEMO, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
        assert demo.stdout is not None
        assert demo.stderr is not None
        with demo.stdout, demo.stderr:
            demo.stdout.readline()
            demo.stdout.close()
            assert demo.stderr.read() == b""
        assert demo.wait(PATIENCE_S) == 0


def test_a_full_disk_is_told_in_a_line(short: Path) -> None:
    with nothing_left(short) as environment, open("/dev/full", "w") as full:
        done = subprocess.run(
            [*DEMO, "--seconds", "4"], env=environment, stdout=full, stderr=subprocess.PIPE, timeout=30, cwd=ROOT
        )
    assert done.returncode == 1
    assert b"cannot write to standard output: No space left on device" in done.stderr
    assert b"Traceback" not in done.stderr


def test_its_daemon_stopped_from_outside_is_one_line(short: Path) -> None:
    with nothing_left(short) as environment:
        demo = subprocess.Popen(
            DEMO, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
        )
        assert demo.stdout is not None
        with demo:
            for line in demo.stdout:
                if "plugin.worker_started" in line:
                    break
            [socket] = short.glob("*/control.sock")
            with Rpc(socket) as rpc:
                assert rpc.call("daemon.stop") == {"ok": True}
            _, errors = demo.communicate(timeout=PATIENCE_S)
    assert demo.returncode == 1
    assert errors.startswith("plugind demo: ")
    assert len(errors.splitlines()) == 1


def test_the_next_one_removes_what_a_killed_one_left(short: Path) -> None:
    with nothing_left(short) as environment:
        demo = subprocess.Popen([*DEMO, "--plain"], env=environment, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert demo.stdout is not None
        with demo.stdout:
            for line in demo.stdout:
                if "plugin.worker_started" in line:
                    break
            demo.kill()
        demo.wait(PATIENCE_S)
        assert len(list(short.iterdir())) == 1
        done = subprocess.run([*DEMO, "--seconds", "4"], env=environment, capture_output=True, timeout=30, cwd=ROOT)
        assert (done.returncode, done.stderr) == (0, b"")


def test_seconds_that_are_none() -> None:
    for wrong in ("abc", "0", "-1", "nan"):
        done = subprocess.run([*DEMO, f"--seconds={wrong}"], capture_output=True, text=True, timeout=30, cwd=ROOT)
        assert done.returncode == 2
        assert f"it must be a positive number of seconds, such as 15, not {wrong!r}" in done.stderr


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
