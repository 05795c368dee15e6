"""pluginctl status: what is going on with one plugin, and when the next attempt comes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from client.cli import main as cli
from tests.client import samples
from tests.client.fake_daemon import FakeDaemon

KEY = "acme.weather"


@pytest.fixture
def ctl(daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("PLUGIND_SOCKET", daemon.path)
    return lambda words: cli.main(words.split())


WAITING = {"phase": "stopped", "waiting_for": ["acme.db"], "summary": "Waiting for acme.db, which is disabled."}
TOLD = [
    ({"last_reason": "out_of_memory"}, ["last crash", "out of memory"]),
    ({"next_restart_in_s": 4.0, "phase": "backoff"}, ["next start", "in 4"]),
    ({"next_recovery_in_s": 480.0, "status": "error"}, ["tried again", "in 8"]),
    ({**WAITING, "requires": ["acme.db"]}, ["waits for", "acme.db", "requires", "which is disabled"]),
    ({"required_by": ["acme.app", "acme.web"]}, ["required by", "acme.app, acme.web"]),
]


@pytest.mark.parametrize(("changes", "words"), TOLD)
def test_text_and_json(ctl: Any, daemon: FakeDaemon, capsys: Any, changes: dict[str, Any], words: list[str]) -> None:
    daemon.answers["plugins.get"] = samples.details(**changes)
    assert ctl(f"status {KEY}") == 0
    text = capsys.readouterr().out
    assert all(word in text for word in words), text
    assert ctl(f"status {KEY} --json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert {name: shown[name] for name in changes} == changes


def test_what_does_not_apply_is_not_shown(ctl: Any, capsys: Any) -> None:
    assert ctl(f"status {KEY}") == 0
    text = capsys.readouterr().out
    assert not any(word in text for word in ("last crash", "next start", "tried again", "waits for", "require"))


def test_the_list_says_what_is_waited_for(ctl: Any, daemon: FakeDaemon, capsys: Any) -> None:
    """More than how the worker ended before that."""
    daemon.answers["plugins.list"] = [samples.plugin(**WAITING, last_error="was killed by SIGSEGV")]
    assert ctl("list") == 0
    assert "Waiting for acme.db" in capsys.readouterr().out
