"""Fixtures: a fake daemon that runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.fake_daemon import FakeDaemon
from tests.client.samples import answers


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
