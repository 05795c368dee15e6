"""Commands on several plugins, by name and by pattern; how long they wait."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from client.cli import main as cli
from client.errors import InvalidTransition, NotFound, Unavailable
from tests.client import samples
from tests.client.fake_daemon import NEVER, FakeDaemon
from tests.client.terminal import Terminal

Ctl = Callable[[str], int]
KEYS = ("acme.a", "acme.b", "other.c")


def named(params: dict[str, Any]) -> dict[str, Any]:
    return samples.plugin(key=params["plugin"])


@pytest.fixture
def ctl(daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> Ctl:
    monkeypatch.setenv("PLUGIND_SOCKET", daemon.path)
    daemon.answers["plugins.list"] = [samples.plugin(key=key) for key in KEYS]
    daemon.answers["plugins.get"] = lambda params: samples.details(key=params["plugin"])
    for verb in ("load", "enable", "disable", "start", "stop", "restart", "mark_upgrade_pending"):
        daemon.answers[f"plugins.{verb}"] = named
    return lambda words: cli.main(words.split())


def asked(daemon: FakeDaemon, method: str) -> list[str]:
    return [params["plugin"] for params in daemon.asked(method)]


@pytest.mark.parametrize("verb", ["load", "enable", "disable", "start", "stop", "restart", "status"])
@pytest.mark.parametrize(
    ("words", "keys"),
    [
        ("acme.a other.c", ["acme.a", "other.c"]),
        ("acme.a acme.a other.c", ["acme.a", "other.c"]),
        ("acme.* --yes", ["acme.a", "acme.b"]),
        ("other.c acme.? -y", ["other.c", "acme.a", "acme.b"]),
        ("*.c", ["other.c"]),
    ],
)
def test_each_is_asked_once_in_order(
    ctl: Ctl, daemon: FakeDaemon, capsys: Any, verb: str, words: str, keys: list[str]
) -> None:
    words = words if verb != "status" else words.replace("--yes", "").replace("-y", "")
    assert ctl(f"{verb} {words}") == 0
    method = "plugins.get" if verb == "status" else f"plugins.{verb}"
    assert asked(daemon, method) == keys
    out = capsys.readouterr().out
    assert [out.index(key) for key in keys] == sorted(out.index(key) for key in keys)
    assert ctl(f"{verb} {words} --json") == 0
    assert [info["key"] for info in json.loads(capsys.readouterr().out)] == keys


def test_one_that_is_named_is_answered_as_one(ctl: Ctl, capsys: Any) -> None:
    for verb in ("restart", "status"):
        assert ctl(f"{verb} acme.a --json") == 0
        assert json.loads(capsys.readouterr().out)["key"] == "acme.a"


def test_all_are_tried_and_the_highest_exit_code_counts(ctl: Ctl, daemon: FakeDaemon, capsys: Any) -> None:
    def restart(params: dict[str, Any]) -> dict[str, Any]:
        wrong = {
            "gone": NotFound("there is no plugin 'gone'", plugin="gone"),
            "acme.a": InvalidTransition("not now", plugin="acme.a"),
        }
        if error := wrong.get(params["plugin"]):
            raise error
        return named(params)

    daemon.answers["plugins.restart"] = restart
    assert ctl("restart acme.a gone acme.b") == 4
    out, err = capsys.readouterr()
    assert out.startswith("acme.b: worker restarted.")
    assert [line for line in err.splitlines() if line.startswith("pluginctl: ")] == [
        "pluginctl: not now",
        "pluginctl: there is no plugin 'gone'",
    ]
    assert ctl("restart acme.a acme.b --json") == 3
    out, err = capsys.readouterr()
    assert [info["key"] for info in json.loads(out)] == ["acme.b"]
    assert json.loads(err)["error"]["name"] == "INVALID_TRANSITION"


def test_a_daemon_that_goes_away_ends_it(ctl: Ctl, daemon: FakeDaemon, capsys: Any) -> None:
    daemon.answers["plugins.stop"] = lambda params: _raise() if params["plugin"] == "acme.b" else named(params)
    assert ctl("stop acme.a acme.b other.c --json") == 5
    assert asked(daemon, "plugins.stop") == ["acme.a", "acme.b"]
    assert [info["key"] for info in json.loads(capsys.readouterr().out)] == ["acme.a"]


def _raise() -> None:
    raise Unavailable("the daemon is stopping")


@pytest.mark.parametrize(("answer", "code", "count"), [("y\n", 0, 2), ("n\n", 1, 0)])
def test_a_pattern_that_matches_several_asks_first(
    ctl: Ctl, daemon: FakeDaemon, terminal: Callable[[str], Terminal], answer: str, code: int, count: int
) -> None:
    shown = terminal(answer)
    assert ctl("disable acme.*") == code
    assert "Disable 2 plugins (acme.a, acme.b)? [y/N]" in shown.getvalue()
    assert len(asked(daemon, "plugins.disable")) == count


def test_nothing_is_done_without_an_answer_or_a_match(ctl: Ctl, daemon: FakeDaemon, capsys: Any) -> None:
    assert ctl("stop acme.* --json") == 2
    assert "needs --yes" in capsys.readouterr().err
    assert ctl("stop acme.a nothing.* --yes") == 4
    assert "no plugin's key matches 'nothing.*'; nothing was done" in capsys.readouterr().err
    assert asked(daemon, "plugins.stop") == []


@pytest.mark.parametrize(
    ("details", "methods"),
    [
        ({"status": "ready", "held": True}, ["plugins.get", "plugins.start"]),
        ({"status": "ready", "held": False}, ["plugins.get"]),
        ({"status": "disabled"}, ["plugins.get", "plugins.enable"]),
    ],
)
def test_enable_now_leaves_it_running(
    ctl: Ctl, daemon: FakeDaemon, capsys: Any, details: dict[str, Any], methods: list[str]
) -> None:
    daemon.answers["plugins.get"] = samples.details(**details)
    assert ctl("enable --now acme.weather") == 0
    assert [method for method, _ in daemon.requests if method != "rpc.hello"] == methods
    assert capsys.readouterr().out.startswith("acme.weather: enabled.")


def test_now_says_nothing_more_to_disable(ctl: Ctl, daemon: FakeDaemon) -> None:
    assert ctl("disable --now acme.a") == 0
    assert daemon.asked("plugins.disable") == [{"plugin": "acme.a", "reason": None}]


def test_no_wait_ends_once_it_goes_on(
    ctl: Ctl, daemon: FakeDaemon, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.cli.wait.REFUSAL_S", 0.05)
    daemon.answers["plugins.restart"] = NEVER
    assert ctl("restart acme.a --no-wait") == 0
    assert capsys.readouterr().out.startswith("acme.a: plugind goes on with it. ")
    daemon.answers["plugins.restart"] = InvalidTransition("not now", plugin="acme.a")
    assert ctl("restart acme.a --no-wait") == 3


def test_a_time_limit_says_that_it_goes_on(ctl: Ctl, daemon: FakeDaemon, capsys: Any) -> None:
    daemon.answers["plugins.start"] = NEVER
    assert ctl("start acme.a --timeout 0.05") == 1
    err = capsys.readouterr().err
    assert "acme.a: not done within 0.05 s; plugind goes on with it\n" in err
    assert "`pluginctl status acme.a`" in err
    assert ctl("start acme.a --timeout 0.05 --json") == 1
    error = json.loads(capsys.readouterr().err)["error"]
    assert (error["name"], error["data"]["plugin"]) == ("DEADLINE_EXCEEDED", "acme.a")
