"""`pluginctl top` without a terminal: one snapshot, as text, JSON or image."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from client.cli.main import main
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


def test_on_a_terminal(daemon: FakeDaemon) -> None:
    """The real thing: it takes the terminal, q ends it, and the terminal is as before."""
    ours, theirs = pty.openpty()
    environ = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
    words = [sys.executable, "-m", "client.cli.main", "--socket", daemon.path, "top"]
    with subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, env=environ) as process:
        os.close(theirs)
        said = read_until(ours, b"acme.weather")
        os.write(ours, b"q")
        said += read_until(ours, b"\x1b[?1049l")
        assert process.wait(10) == 0
    os.close(ours)
    assert b"\x1b[?1049h" in said


def read_until(terminal: int, wanted: bytes) -> bytes:
    """EOF raises OSError: the program ended before it said so."""
    said = b""
    while wanted not in said:
        said += os.read(terminal, 65_536)
    return said
