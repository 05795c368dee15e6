"""Fixtures: a fake daemon that runs."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from client.cli import main as cli
from tests.client.fake_daemon import FakeDaemon
from tests.client.samples import answers
from tests.client.terminal import Terminal


@pytest.fixture(autouse=True)
def typed_ahead(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The terminals of these tests are texts in memory: which of them were asked to drop what was typed ahead."""
    dropped: list[object] = []
    monkeypatch.setattr("termios.tcflush", lambda terminal, _: dropped.append(terminal))
    return dropped


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with FakeDaemon(str(tmp_path / "control.sock"), answers()) as fake:
        yield fake


@pytest.fixture
def ctl(daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], int]:
    """pluginctl with these words, before the fake daemon and without a terminal: its exit code."""
    monkeypatch.setenv("PLUGIND_SOCKET", daemon.path)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    return lambda words: cli.main(words.split())


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Terminal]:
    """Answers typed on one; what is shown there is returned."""

    def type_in(answers: str) -> Terminal:
        monkeypatch.setattr("sys.stdin", Terminal(answers))
        monkeypatch.setattr("sys.stderr", shown := Terminal())
        return shown

    return type_in
