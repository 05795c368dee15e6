"""pluginctl install, upgrade, approve, purge …: what is asked, in which order, and what is said."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from client.cli import main as cli
from client.cli.source import source_for_daemon
from client.errors import ApprovalRequired, CallCancelled, InvalidParams, UpgradeFailed
from tests.client import samples
from tests.client.fake_daemon import NEVER, FakeDaemon, Operating, Turns
from tests.client.test_cli import KEY, pluginctl

WANTED = ApprovalRequired(
    "acme.weather 2.0 asks for more than was agreed to",
    plugin=KEY,
    version="2.0",
    capabilities=["network.outbound", "state.read"],
)
PENDING = samples.plugin(status="upgrade_pending", staged_version="2.0", summary="Version 2.0 waits for approval.")
PENDING_DETAILS = {**samples.details(), **PENDING, "pending_capabilities": ["network.outbound"]}


@pytest.mark.parametrize(
    ("words", "sent"),
    [
        ("acme-weather>=1.2", "acme-weather>=1.2"),
        ("acme-weather[extra]", "acme-weather[extra]"),
        ("acme @ file:///srv/acme.whl", "acme @ file:///srv/acme.whl"),
        ("https://example.org/acme.whl", "https://example.org/acme.whl"),
        ("./acme", "{cwd}/acme"),
        (".", "{cwd}"),
        ("dist/acme.tar.gz", "{cwd}/dist/acme.tar.gz"),
        ("acme-1.0.tar.gz", "{cwd}/acme-1.0.tar.gz"),
        ("acme-1.0-py3-none-any.whl", "{cwd}/acme-1.0-py3-none-any.whl"),
        ("/srv/acme", "/srv/acme"),
        ("there", "{cwd}/there"),
        ("", ""),
    ],
)
def test_what_is_a_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: str, sent: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    assert source_for_daemon(words) == sent.format(cwd=tmp_path)


def test_all_of_a_source(ctl: Any, daemon: FakeDaemon) -> None:
    hashes = f"sha256:{'0' * 64}"
    options = f"--index-url https://i --find-links ./wheels --find-links https://l --hash {hashes}"
    assert ctl(f"install acme>=1 --yes --no-load {options}") == 0
    assert daemon.asked("plugins.install") == [
        {
            "source": "acme>=1",
            "editable": False,
            "index_url": "https://i",
            "find_links": [os.path.abspath("wheels"), "https://l"],
            "hashes": [hashes],
            "capabilities": None,
        }
    ]
    assert ctl("install ./x --editable --yes") == 0
    assert daemon.asked("plugins.install")[-1]["editable"]
    assert ctl(f"upgrade {KEY} --verbose acme>=2 --yes --probation 1m30s {options}") == 0
    asked = daemon.asked("plugins.upgrade")[-1]
    assert (asked["source"], asked["approve"], asked["probation_s"]) == ("acme>=2", True, 90)
    assert (asked["index_url"], asked["hashes"]) == ("https://i", [hashes])


def test_what_it_wants_is_shown_and_asked_about(ctl: Any, daemon: FakeDaemon, terminal: Any, capsys: Any) -> None:
    more = ApprovalRequired("more", plugin=KEY, version="2.1", capabilities=["network.listen", "state.read"])
    daemon.answers["plugins.install"] = Turns([WANTED, more, samples.plugin()])
    shown = terminal("y\ny\n")
    assert ctl("install ./weather") == 0
    assert [asked["capabilities"] for asked in daemon.asked("plugins.install")] == [
        [],
        ["network.outbound", "state.read"],
        ["network.listen", "network.outbound", "state.read"],
    ]
    source = os.path.abspath("weather")
    text = shown.getvalue().replace("\r\x1b[K", "")
    assert f"{KEY} 2.0 from {source} wants to be allowed:\n  network.outbound\n  state.read\nInstall {KEY} 2.0" in text
    assert capsys.readouterr().out == f"{KEY} 1.2.0: installed and loaded. Running since 3 minutes.\n"


def test_no_means_no(ctl: Any, daemon: FakeDaemon, terminal: Any) -> None:
    daemon.answers["plugins.install"] = WANTED
    shown = terminal("n\n")
    assert ctl("install ./weather") == 1
    assert shown.getvalue().endswith("pluginctl: nothing was done\n")
    assert len(daemon.asked("plugins.install")) == 1


def test_without_a_terminal_a_script_says_yes(ctl: Any, daemon: FakeDaemon, capsys: Any) -> None:
    daemon.answers["plugins.install"] = WANTED
    assert ctl("install ./weather") == 2
    assert "  network.outbound\n" in (err := capsys.readouterr().err)
    assert "needs --yes" in err
    daemon.answers["plugins.install"] = samples.plugin()
    assert ctl("install ./weather") == 0  # nothing is wanted: nothing is asked
    assert capsys.readouterr().err == ""


def test_nobody_is_asked_about_what_cannot_be_installed(ctl: Any, daemon: FakeDaemon, terminal: Any) -> None:
    daemon.answers["plugins.install"] = InvalidParams("worker.command[1]: is not in the package")
    shown = terminal("y\n")
    assert ctl("install ./weather") == 3
    assert "[y/N]" not in shown.getvalue()
    assert cli.main(["--socket", "/nonexistent/s", "install", "./weather"]) == 5
    assert "[y/N]" not in shown.getvalue()


def test_a_daemon_that_is_never_content_is_not_asked_for_ever(ctl: Any, daemon: FakeDaemon, terminal: Any) -> None:
    daemon.answers["plugins.install"] = WANTED
    shown = terminal("y\ny\ny\n")
    assert ctl("install ./weather") == 3
    assert "pluginctl: acme.weather 2.0 asks for more than was agreed to" in shown.getvalue()
    assert len(daemon.asked("plugins.install")) == 2


def test_an_upgrade_says_from_where_to_where(ctl: Any, daemon: FakeDaemon, capsys: Any) -> None:
    daemon.answers["plugins.upgrade"] = samples.plugin(version="2.0")
    assert ctl(f"upgrade {KEY} ./weather") == 0
    assert capsys.readouterr().out == f"{KEY}: upgraded from 1.2.0 to 2.0. Running since 3 minutes.\n"
    daemon.answers["plugins.upgrade"] = samples.plugin()
    assert ctl(f"upgrade {KEY} ./weather") == 0
    assert "1.2.0 was exchanged for another build of it" in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["approve --yes", "reject", "rollback"])
def test_what_is_not_waited_for_goes_on(
    ctl: Any, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, capsys: Any, verb: str
) -> None:
    monkeypatch.setattr("client.cli.wait.REFUSAL_S", 0.05)
    daemon.answers[f"plugins.{verb.split()[0]}"] = NEVER
    assert ctl(f"{verb} {KEY} --no-wait") == 0
    assert capsys.readouterr().out == f"{KEY}: plugind goes on with it. Running since 3 minutes.\n"
    assert ctl(f"{verb} {KEY} --timeout 0.05") == 1
    assert "not done within 0.05 s; plugind goes on with it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "changes", "code", "says"),
    [
        ("./w --version 1", {}, 2, "cannot stand together"),
        ("", {"source": ""}, 2, "name SOURCE"),
        ("", {"editable": True}, 3, "runs in place"),
        ("--probation soon", {}, 2, "such as 30s or 5m, above 0, not 'soon'"),
        ("--probation 0s", {}, 2, "above 0"),
    ],
)
def test_what_to_upgrade_to(
    ctl: Any, daemon: FakeDaemon, capsys: Any, words: str, changes: dict[str, Any], code: int, says: str
) -> None:
    daemon.answers["plugins.get"] = samples.details(**changes)
    assert ctl(f"upgrade {KEY} {words}") == code
    assert says in capsys.readouterr().err
    assert daemon.asked("plugins.upgrade") == []


def test_an_upgrade_that_waits(ctl: Any, daemon: FakeDaemon, capsys: Any) -> None:
    daemon.answers["plugins.upgrade"] = PENDING
    daemon.answers["plugins.get"] = PENDING_DETAILS
    assert ctl(f"upgrade {KEY} ./weather") == 3
    out, err = capsys.readouterr()
    assert out == f"{KEY}: Version 2.0 waits for approval.\n"
    assert "beside what was approved before:\n  network.outbound\n" in err
    assert f"`pluginctl approve {KEY}` allows what it asks for and runs it, `pluginctl reject {KEY}` runs" in err
    assert daemon.asked("plugins.approve") == []
    assert ctl(f"upgrade {KEY} ./weather --json") == 3
    assert json.loads(capsys.readouterr().out)["status"] == "upgrade_pending"


@pytest.mark.parametrize(
    ("answer", "code", "approved"), [("y\n", 0, [{"plugin": KEY, "version": "2.0"}]), ("\n", 1, [])]
)
def test_an_upgrade_that_asks(
    ctl: Any, daemon: FakeDaemon, terminal: Any, answer: str, code: int, approved: list[dict[str, Any]]
) -> None:
    daemon.answers["plugins.upgrade"] = PENDING
    daemon.answers["plugins.get"] = PENDING_DETAILS
    shown = terminal(answer)
    assert ctl(f"upgrade {KEY} ./weather") == code
    assert daemon.asked("plugins.approve") == approved
    assert ("waits for approval: `pluginctl approve" in shown.getvalue()) is bool(code)


def test_one_that_is_disabled_is_asked_about_before(ctl: Any, daemon: FakeDaemon, terminal: Any) -> None:
    daemon.answers["plugins.upgrade"] = Turns(
        [ApprovalRequired("more", plugin=KEY, added=["network.outbound"]), samples.plugin(status="disabled")]
    )
    shown = terminal("y\n")
    assert ctl(f"upgrade {KEY} ./weather") == 0
    assert [asked["capabilities"] for asked in daemon.asked("plugins.upgrade")] == [[], ["network.outbound"]]
    assert not any(asked["approve"] for asked in daemon.asked("plugins.upgrade"))
    assert "  network.outbound\n" in shown.getvalue()


def test_an_upgrade_that_failed(ctl: Any, daemon: FakeDaemon, capsys: Any) -> None:
    daemon.answers["plugins.upgrade"] = UpgradeFailed("2.0 did not come up", stderr_tail="boom")
    assert ctl(f"upgrade {KEY} ./weather") == 1
    err = capsys.readouterr().err
    assert "boom" in err
    assert "hint: the version before goes on" in err


def test_approve_shows_what_is_added(ctl: Any, daemon: FakeDaemon, terminal: Any) -> None:
    daemon.answers["plugins.get"] = PENDING_DETAILS
    shown = terminal("y\n")
    assert ctl(f"approve {KEY}") == 0
    assert f"{KEY} 2.0 wants to be allowed, beside what was approved before:\n  network.outbound\n" in shown.getvalue()
    # The one that was shown, and no other that has come meanwhile.
    assert daemon.asked("plugins.approve") == [{"plugin": KEY, "version": "2.0"}]
    assert ctl(f"approve {KEY} --version 3") == 3
    assert f"{KEY} 3 does not wait for approval: it is 2.0" in shown.getvalue()
    assert len(daemon.asked("plugins.approve")) == 1


def test_approve_needs_somebody_to_ask(ctl: Any, daemon: FakeDaemon, capsys: Any) -> None:
    daemon.answers["plugins.get"] = PENDING_DETAILS
    assert ctl(f"approve {KEY}") == 2
    assert "needs --yes" in capsys.readouterr().err
    assert ctl(f"approve {KEY} --yes") == 0
    assert daemon.asked("plugins.approve") == [{"plugin": KEY, "version": "2.0"}]


def test_versions(ctl: Any, daemon: FakeDaemon, capsys: Any) -> None:
    daemon.answers["plugins.versions"] = [samples.version(version="2", state="staged", activated_at_ms=None)]
    assert ctl(f"versions {KEY}") == 0
    heads, row = capsys.readouterr().out.splitlines()
    assert heads.split()[:3] == ["VERSION", "STATE", "STORED"]
    assert row.split()[:2] == ["2", "staged"]
    assert "never" in row
    assert "0123456789ab" in row


def test_purge_is_for_what_is_uninstalled(ctl: Any, daemon: FakeDaemon, terminal: Any, capsys: Any) -> None:
    assert ctl(f"purge {KEY} --yes") == 3
    assert f"`pluginctl uninstall {KEY} --purge`" in capsys.readouterr().err
    assert daemon.asked("plugins.unload") == []
    # Installed again while the question stands.
    gone = samples.details(status="uninstalled")
    daemon.answers["plugins.get"] = Turns([gone, samples.details()])
    terminal("y\n")
    assert ctl(f"purge {KEY}") == 3
    assert daemon.asked("plugins.unload") == []
    daemon.answers["plugins.get"] = gone
    terminal("y\n")
    assert ctl(f"purge {KEY}") == 0
    assert daemon.asked("plugins.unload") == [{"plugin": KEY, "remove_data": True}]


PROGRESS = [
    {"phase": "fetch", "done": 512 * 1024, "total": 2 * 1024 * 1024},
    {"phase": "environment"},
    {"phase": "environment", "line": "Collecting acme\x1b[31m"},
]


def test_progress_on_a_terminal_is_one_line(ctl: Any, daemon: FakeDaemon, terminal: Any) -> None:
    daemon.answers["plugins.install"] = Operating(PROGRESS, samples.plugin())
    shown = terminal("")
    assert ctl("install ./weather --yes") == 0
    assert shown.getvalue().split("\r\x1b[K") == [
        "",
        "fetching [#####               ] 512 KiB of 2.0 MiB",
        "building its environment …",
        "building its environment: Collecting acme\\x1b[31m",
        "",
    ]


@pytest.mark.parametrize(
    ("flag", "lines"),
    [("", []), ("--verbose", ["fetching", "building its environment", "  Collecting acme\\x1b[31m"]), ("--json", [])],
)
def test_progress_elsewhere(ctl: Any, daemon: FakeDaemon, capsys: Any, flag: str, lines: list[str]) -> None:
    daemon.answers["plugins.install"] = Operating(PROGRESS, samples.plugin())
    assert ctl(f"install ./weather --yes {flag}") == 0
    assert capsys.readouterr().err.splitlines() == lines


@pytest.mark.parametrize(
    ("becomes", "says"),
    [
        (CallCancelled("cancelled by its caller"), "cancelled: nothing has changed"),
        (samples.plugin(), f"too late to cancel: {KEY} 1.2.0 is installed and not loaded"),
        (InvalidParams("no manifest"), "it had failed before it could be cancelled: no manifest"),
    ],
)
def test_ctrl_c_says_what_became_of_it(daemon: FakeDaemon, becomes: Any, says: str) -> None:
    daemon.answers["plugins.install"] = Operating([], None, becomes)
    with pluginctl(daemon, "install", "--yes", "./weather") as process:
        daemon.wait_asked("plugins.install")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=5)
    assert (process.returncode, err) == (130, f"{says}\n")
    assert daemon.asked("plugins.load") == []
