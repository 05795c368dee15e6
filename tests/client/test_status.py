"""pluginctl status: what is going on with one plugin, and when the next attempt comes."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from tests.client import samples
from tests.client.fake_daemon import FakeDaemon

KEY = "acme.weather"


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


@pytest.mark.parametrize(
    ("changes", "mark"),
    [
        ({}, "●"),
        ({"phase": "backoff"}, "×"),
        ({"status": "error", "phase": "stopped"}, "×"),
        ({"status": "disabled", "phase": "stopped"}, "○"),
        ({"phase": "stopped"}, "○"),
        ({"status": "upgrade_pending", "phase": "stopped"}, "●"),
    ],
)
def test_a_mark_a_name_and_a_sentence_come_first(
    ctl: Any, daemon: FakeDaemon, capsys: Any, changes: dict[str, Any], mark: str
) -> None:
    daemon.answers["plugins.get"] = samples.details(**changes)
    assert ctl(f"status {KEY}") == 0
    assert capsys.readouterr().out.startswith(f"{mark} {KEY} - Weather: Running since 3 minutes.\n")


CALLING = [
    samples.plugin(key="p.error", status="error", phase="stopped", last_error="killed by SIGSEGV", summary="Gave up."),
    samples.plugin(key="p.backoff", phase="backoff", summary="Crashed."),
    samples.plugin(key="p.waits", **WAITING, last_error="of long ago"),
    samples.plugin(key="p.pending", status="upgrade_pending", phase="stopped", summary="2.0 waits."),
]
QUIET = [
    samples.plugin(),
    samples.plugin(key="q.off", status="disabled", phase="stopped"),
    samples.plugin(key="q.held", phase="stopped", held=True),
    samples.plugin(key="q.new", status="installed", phase="stopped"),
]


def test_what_needs_attention_comes_before_the_rest(ctl: Any, daemon: FakeDaemon, capsys: Any) -> None:
    daemon.answers["plugins.list"] = [*QUIET, *CALLING]
    assert ctl("status") == 0
    head, attention, table = capsys.readouterr().out.split("\n\n")
    assert head.startswith("× plugind 0.1.0, pid 1, up 1m: 1 of 4 ready plugins running, 4 need attention, 1 warning\n")
    assert attention.splitlines() == [
        "needs attention (`pluginctl status KEY` tells more):",
        "× p.error: Gave up. killed by SIGSEGV",
        "× p.backoff: Crashed.",
        "○ p.waits: Waiting for acme.db, which is disabled.",
        "● p.pending: 2.0 waits.",
    ]
    assert len(table.splitlines()) == 1 + len(QUIET) + len(CALLING)


def test_all_is_well(ctl: Any, daemon: FakeDaemon, capsys: Any) -> None:
    daemon.answers["plugins.list"] = QUIET
    daemon.answers["daemon.status"]["warnings"] = []
    assert ctl("status") == 0
    head, _ = capsys.readouterr().out.split("\n\n")
    assert head.startswith("● plugind 0.1.0, pid 1, up 1m: 1 of 2 ready plugins running, all is well\n")
    daemon.answers["plugins.list"] = []
    assert ctl("status") == 0
    assert "no plugins yet\n" in capsys.readouterr().out


def test_long_lists_are_broken_and_paths_are_whole(
    ctl: Any, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    methods = [{"name": f"method_{n}"} for n in range(30)]
    daemon.answers["plugins.get"] = samples.details(methods=methods, data_dir="/" + "d" * 100)
    monkeypatch.setattr("client.cli.output.Context.width", 80)
    assert ctl(f"status {KEY} -n 0") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if len(line) > 80] == [f"     data: /{'d' * 100}"]
    assert sum("method_" in line for line in lines) > 3


def test_without_utf_8_the_marks_are_ascii(ctl: Any, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", out)
    assert ctl(f"status {KEY}") == 0
    out.seek(0)
    assert out.read().startswith(f"* {KEY} - Weather")


def test_several_stand_apart(ctl: Any, daemon: FakeDaemon, capsys: Any) -> None:
    daemon.answers["plugins.get"] = lambda params: samples.details(key=params["plugin"])
    assert ctl("status a.b c.d -n 0") == 0
    first, second = capsys.readouterr().out.split("\n\n")
    assert (first.split()[1], second.split()[1]) == ("a.b", "c.d")
