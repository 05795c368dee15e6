"""Lists in the forms that programs and people want: wide, names, JSON, narrow."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import pytest

from tests.client import samples
from tests.client.fake_daemon import FakeDaemon
from tests.client.terminal import Terminal

Ctl = Callable[[str], int]


class Numbered(Terminal):
    def fileno(self) -> int:
        return 1


USAGE = {"cpu_percent": 3.14, "rss_bytes": 24 << 20, "pss_bytes": None, "threads": 5, "processes": 1, "open_files": 9}


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("list", "acme.weather\n"),
        ("jobs list", "acme.weather/refresh\n"),
        ("runs list", "r1\n"),
        ("versions acme.weather", "1.2.0\n"),
        ("state list acme.weather", "count\n"),
    ],
)
def test_the_names_alone(ctl: Ctl, capsys: Any, words: str, names: str) -> None:
    assert ctl(f"{words} -o name") == 0
    assert capsys.readouterr().out == names


@pytest.mark.parametrize("words", ["list", "status", "plugins get acme.weather", "audit", "ping", "runs list"])
def test_json_by_either_name(ctl: Ctl, capsys: Any, words: str) -> None:
    shown = []
    for form in ("-o json", "--output=json", "--json"):
        assert ctl(f"{words} {form}") == 0
        shown.append(json.loads(capsys.readouterr().out))
    if words != "ping":
        assert shown[0] == shown[1] == shown[2]


def test_errors_are_json_as_well(ctl: Ctl, capsys: Any) -> None:
    assert ctl("call a m {bad -o json") == 2
    assert json.loads(capsys.readouterr().err)["error"]["name"] == "USAGE"


@pytest.mark.parametrize(
    ("words", "heads"),
    [
        ("list", ["IN FLIGHT", "CRASHES", "ID"]),
        ("jobs list", ["TIME ZONE", "OVERLAP", "ID"]),
        ("audit", ["SEQ", "ROLE", "PID", "PROGRAM", "TOOK", "MESSAGE"]),
    ],
)
def test_wide_has_more_columns_and_cuts_nothing(
    ctl: Ctl, monkeypatch: pytest.MonkeyPatch, words: str, heads: list[str]
) -> None:
    monkeypatch.setattr("os.get_terminal_size", lambda *_: os.terminal_size((40, 24)))
    monkeypatch.setattr("sys.stdout", terminal := Numbered())
    assert ctl(words) == 0
    out = terminal.getvalue()
    assert not any(head in out.splitlines()[0] for head in heads[:2])
    assert "…" in out
    monkeypatch.setattr("sys.stdout", terminal := Numbered())
    assert ctl(f"{words} -o wide") == 0
    out = terminal.getvalue()
    assert all(head in out.splitlines()[0] for head in heads)
    assert "…" not in out


def test_what_each_worker_uses(ctl: Ctl, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    daemon.answers["plugins.list"] = [
        samples.plugin(usage=USAGE, calls=1234),
        samples.plugin(key="acme.down", phase="stopped", usage={**USAGE, "cpu_percent": None}),
        samples.plugin(key="acme.off", phase="stopped", usage=None),
    ]
    assert ctl("list --usage") == 0
    head, first, down, off = capsys.readouterr().out.splitlines()
    columns = slice(head.index("CPU"), head.index("WHAT"))
    assert [line[columns].split() for line in (head, first, down, off)] == [
        ["CPU", "MEMORY", "CALLS"],
        ["3.1%", "24", "MB", "1234"],
        ["-", "24", "MB", "12"],
        ["-", "-", "12"],
    ]
    monkeypatch.setattr("client.cli.output.Context.width", 80)
    assert ctl("list -u") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "UPTIME" not in lines[0]
    assert max(map(len, lines)) <= 80


def test_the_audit_pages_until_there_is_enough(ctl: Ctl, daemon: FakeDaemon, capsys: Any) -> None:
    entries = [samples.audit(seq=seq, user=None if seq == 2500 else "root") for seq in range(2500, 0, -1)]

    def page(params: dict[str, Any]) -> list[dict[str, Any]]:
        before = params["before"]
        return [entry for entry in entries if before is None or entry["seq"] < before][: params["limit"]]

    daemon.answers["audit.list"] = page
    assert ctl("audit -n 2300 -o json") == 0
    assert [entry["seq"] for entry in json.loads(capsys.readouterr().out)] == list(range(2500, 200, -1))
    assert [params["limit"] for params in daemon.asked("audit.list")] == [1000, 1000, 300]
    assert ctl("audit -n 1") == 0
    assert capsys.readouterr().out.splitlines()[1].split()[2:4] == ["0", "plugins.disable"]


def test_the_audit_of_a_narrow_terminal_says_what_became_of_it(
    ctl: Ctl, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    daemon.answers["audit.list"] = lambda params: (
        [] if params["before"] else [samples.audit(target="/" + "x" * 200, result="ALREADY_EXISTS", message="m\n\x1b")]
    )
    monkeypatch.setattr("client.cli.output.Context.width", 80)
    assert ctl("audit") == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split() == ["TIME", "USER", "METHOD", "RESULT", "TARGET"]
    assert len(row) == 80
    assert "ALREADY_EXISTS" in row


def test_what_is_not_there_in_the_audit(ctl: Ctl, daemon: FakeDaemon, capsys: Any) -> None:
    daemon.answers["audit.list"] = []
    assert ctl("audit nobody") == 0
    assert capsys.readouterr().out == "nothing was changed\n"


def test_the_numbers_of_the_daemon_as_they_come(ctl: Ctl, daemon: FakeDaemon, capsys: Any) -> None:
    daemon.answers["daemon.metrics"] = {"content_type": "text/plain", "text": 'a{b="\x1b"} 1\n'}
    assert ctl("metrics") == 0
    assert capsys.readouterr().out == 'a{b="\\x1b"} 1\n'


def test_a_reload_says_what_changed(ctl: Ctl, daemon: FakeDaemon, capsys: Any) -> None:
    assert ctl("reload") == 0
    assert capsys.readouterr().out.splitlines() == [
        "in force now: log_level",
        "at the next start of plugind only: socket",
        "warning: no user 'x'",
    ]
    daemon.answers["daemon.reload"] = {"changed": [], "need_restart": [], "warnings": []}
    assert ctl("daemon reload") == 0
    assert capsys.readouterr().out == "no setting has another value than before\n"


def test_a_stored_value_is_json(ctl: Ctl, daemon: FakeDaemon, capsys: Any) -> None:
    daemon.answers["plugins.state_get"] = {"key": "k", "value": {"a": b"\x01"}, "revision": 4}
    assert ctl("state get acme.weather k") == 0
    assert json.loads(capsys.readouterr().out) == {"a": {"$base64": "AQ=="}}
    assert ctl("state get acme.weather k --json") == 0
    assert json.loads(capsys.readouterr().out)["revision"] == 4
