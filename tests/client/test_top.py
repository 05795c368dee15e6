"""`pluginctl top` without a terminal: one snapshot, as text, JSON or image."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from client.cli.main import main
from client.cli.top_signals import Signals
from tests.client.fake_daemon import FakeDaemon
from tests.client.test_weight import modules
from tests.client.top_samples import make_daemon


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with make_daemon(str(tmp_path / "control.sock")) as fake:
        yield fake


@pytest.fixture
def run(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def call(*words: str) -> tuple[int, str, str]:
        code = main(["--socket", daemon.path, "top", *words])
        return code, *capsys.readouterr()

    return call


def test_once(run: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = run("--once")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("plugind 0.1.0  up 3d 4h  2 runs  6 plugins: 2 running")
    assert "warning: disk is nearly full" in lines
    assert any(line.split()[:4] == ["acme.weather", "running", "12.3", "46M"] for line in lines)
    assert any(line.startswith("acme.db/vacuum") and "25 % asking [b]the database" in line for line in lines)
    assert any("plugin.worker_crashed acme.weather cause=exited with code 1" in line for line in lines)
    assert all(char.isprintable() or char == "\n" for char in out)


def test_without_a_terminal_it_says_so(run: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = run()
    assert code == 0
    assert "there is no terminal to show it on" in err
    assert out.startswith("plugind 0.1.0")


def test_json(run: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = run("--json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert set(told) == {"daemon", "plugins", "runs", "next", "events"}
    assert told["daemon"]["version"] == "0.1.0"
    assert told["plugins"][0]["usage"]["cpu_percent"] == 12.34
    assert [event["seq"] for event in told["events"]] == [1, 2, 3, 4]


def test_an_image(run: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.cli.top_app._IMAGE_AFTER_S", 0.5)
    code, _, err = run("--svg", str(tmp_path / "top.svg"), "--interval", "0.1")
    assert code == 0
    assert "an image of the screen is in" in err
    image = (tmp_path / "top.svg").read_text()
    assert image.startswith("<svg")
    assert "acme.weather" in image
    assert str(tmp_path) not in image
    assert "url(https" not in image
    assert "@font-face" not in image
    assert len(image) < 150_000


def test_no_daemon(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--socket", str(tmp_path / "none"), "top"]) == 5
    assert "plugind is not running" in capsys.readouterr().err


def test_a_wrong_interval(run: Callable[..., tuple[int, str, str]]) -> None:
    code, _, err = run("--interval", "soon")
    assert code == 2
    assert "must be a number of seconds above 0" in err


def test_textual_is_imported_only_for_the_screen(daemon: FakeDaemon) -> None:
    loaded = modules("from client.cli.main import main; assert main(['top', '--once']) == 0", daemon)
    assert not {name for name in loaded if name.partition(".")[0] in {"textual", "asyncio"}}


def test_an_image_of_a_screen_that_fails(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> NoReturn:
        raise LookupError("no such thing")

    monkeypatch.setattr("client.cli.top_board.alerts", fail)
    monkeypatch.setattr("client.cli.top_app._IMAGE_AFTER_S", 10.0)  # a mistake is told at once
    code, _, err = run("--svg", str(tmp_path / "top.svg"))
    assert code == 1
    assert err.count("\n") == 1
    assert "the screen was ended by a mistake of its own" in err
    assert "LookupError('no such thing') (test_top.py, line" in err
    assert not (tmp_path / "top.svg").exists()


def test_on_a_terminal(daemon: FakeDaemon) -> None:
    """The real thing: it takes the terminal, Ctrl-C ends it from a question, and the terminal is as before."""
    with Terminal(daemon) as terminal:
        said = terminal.read_until(b"acme.weather")
        assert b"\x1b[?1049h" in said
        os.write(terminal.ours, b"r")
        terminal.read_until(b"y yes")
        os.write(terminal.ours, b"\x03")
        assert terminal.end() == 0


def test_a_signal_ends_it_on_a_terminal_without_a_size(daemon: FakeDaemon) -> None:
    with Terminal(daemon, size=(0, 0)) as terminal:
        said = terminal.read_until(b"acme.weather")
        os.write(terminal.ours, b"?")  # and it is not deaf
        said += terminal.read_until(b"Tab, Shift-Tab")
        assert len(said) < 100_000
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.end() == 128 + signal.SIGTERM


def test_a_mistake_of_ours_on_a_terminal(daemon: FakeDaemon) -> None:
    with Terminal(daemon, "import client.cli.top_board as board; del board.alerts") as terminal:
        assert terminal.end() == 1
        assert b"NameError" in terminal.last
        assert terminal.last.count(b"\n") == 1


def test_a_terminal_that_takes_nothing_holds_up_no_end(daemon: FakeDaemon) -> None:
    stuck = "import client.cli.top_signals as s; s._PATIENCE_S = 0.2; import client.cli.top_board as b, time;"
    with Terminal(daemon, f"{stuck} b.alerts = lambda *_: time.sleep(60)") as terminal:
        terminal.read_until(b"\x1b[?1049h")
        # It stands still from its first line on; a signal that comes before is none too early.
        terminal.process.send_signal(signal.SIGHUP)
        assert terminal.end() == 128 + signal.SIGHUP


def test_a_terminal_that_has_gone(daemon: FakeDaemon) -> None:
    """Without SIGHUP, as under nohup."""
    with Terminal(daemon, "import client.cli.top_app as app; app._TERMINAL_S = 0.1") as terminal:
        terminal.read_until(b"acme.weather")
        terminal.hang_up()
        assert terminal.process.wait(10) == 128 + signal.SIGHUP


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT])
def test_the_first_signal_counts(number: signal.Signals) -> None:
    before, ended = signal.getsignal(number), list[int]()
    with Signals(ended.append).handled():
        signal.raise_signal(number)
        signal.raise_signal(signal.SIGTERM)
        assert ended == [128 + number]
    assert signal.getsignal(number) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_an_ignored_signal_stays_ignored() -> None:
    before, ended = signal.signal(signal.SIGHUP, signal.SIG_IGN), list[int]()
    try:
        with Signals(ended.append).handled():
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert ended == []


class Terminal:
    """pluginctl top on a terminal of its own, of so many lines and columns, after `first` was executed in it."""

    def __init__(self, daemon: FakeDaemon, first: str = "", size: tuple[int, int] = (24, 80)) -> None:
        self.last = b""
        """What was said after the screen was left."""
        self.ours, self._theirs = pty.openpty()
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("4H", *size, 0, 0))
        self._attributes = termios.tcgetattr(self._theirs)
        code = f"{first}\nimport sys\nfrom client.cli.main import main\nsys.exit(main(sys.argv[1:]))"
        words = [sys.executable, "-c", code, "--socket", daemon.path, "top"]
        environ = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}}
        theirs = self._theirs
        self.process = subprocess.Popen(
            words, stdin=theirs, stdout=theirs, stderr=theirs, env={**environ, "TERM": "xterm-256color"}
        )

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *exc_info: object) -> None:
        with self.process:
            self.process.kill()
        os.close(self.ours)
        os.close(self._theirs)

    def read_until(self, wanted: bytes, within_s: float = 10.0) -> bytes:
        said, end = b"", time.monotonic() + within_s
        while wanted not in said:
            assert select.select([self.ours], [], [], max(0.0, end - time.monotonic()))[0], said
            said += os.read(self.ours, 65_536)
        return said

    def hang_up(self) -> None:
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, self.ours)
        os.close(null)

    def end(self) -> int:
        """Its exit code; the terminal is as it was before."""
        said = self.read_until(b"\x1b[?1049l")
        code = self.process.wait(10)
        while select.select([self.ours], [], [], 0)[0]:
            said += os.read(self.ours, 65_536)
        self.last = said.split(b"\x1b[?1049l", 1)[1]
        assert b"\x1b[?25h" in self.last
        assert termios.tcgetattr(self._theirs) == self._attributes
        return code
