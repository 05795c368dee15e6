"""Operating jobs with pluginctl and the real daemon: run with params and wait, again, by its beginning, maintenance."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client.cli import main as cli
from tests.e2e.conftest import PATIENCE_S, Daemon

KEY = "test.operated"
MANIFEST = f"""
[plugin]
key = "{KEY}"
version = "1"
api_version = 1
display_name = "operated"
description = "Jobs that do as their params say."
author = "plugind's tests"
categories = ["automation"]
capabilities = ["jobs.schedule"]

[worker]
command = ["python", "main.py"]

[[jobs]]
key = "act"
display_name = "Act"
retries = 1
retry_backoff_s = 3600

[[jobs]]
key = "nightly"
display_name = "Nightly"
schedule = "30 2 * * *"
timezone = "Europe/Berlin"
"""
MAIN = """
from supervisor.sdk import Plugin, run

plugin = Plugin()


@plugin.job("act")
@plugin.job("nightly")
def act(ctx):
    ctx.log.info("begun", **ctx.params)
    ctx.progress(0.5, "half of it")
    if ctx.params.get("wait") and ctx.wait_cancelled(30):
        ctx.log.warning("told to stop")
        ctx.raise_if_cancelled()
    if ctx.params.get("fail") and ctx.attempt == 1:
        raise RuntimeError("no luck")
    ctx.log.info("the last word")
    return ctx.params


run(plugin)
"""
Ctl = Callable[..., tuple[int, str, str]]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    package = tmp_path / "sources" / "operated"
    package.mkdir(parents=True, mode=0o755)
    package.parent.chmod(0o755)
    for name, text in {"plugin.toml": MANIFEST, "main.py": MAIN}.items():
        (package / name).write_text(text)
        (package / name).chmod(0o644)
    return package


@pytest.fixture
def ctl(daemon: Daemon, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Ctl:
    monkeypatch.setenv("PLUGIND_SOCKET", str(daemon.socket))

    def run(*words: str) -> tuple[int, str, str]:
        code = cli.main(list(words))
        return code, *capsys.readouterr()

    return run


def asked(ctl: Ctl, *words: str) -> Any:
    code, out, err = ctl(*words, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def test_from_the_first_run_to_maintenance_over_a_restart(daemon: Daemon, package: Path, ctl: Ctl) -> None:
    with daemon.start() as rpc:
        rpc.load(package)
        _runs_and_their_outcomes(ctl)
        _one_that_waits(ctl)
        code, out, _ = ctl("jobs", "next", "--hours", "48")
        assert code == 0
        assert out.count(f"{KEY}/nightly") == 2
        assert "02:30:00+0" in out
        assert asked(ctl, "jobs", "pause", "--plugin", KEY)["jobs"] == 2
        assert asked(ctl, "jobs", "pause", "--all")["held"] is True
    daemon.stop()
    with daemon.start():
        assert [job["held_by"] for job in asked(ctl, "jobs", "list")] == ["scheduler"] * 2
        assert "all paused" in ctl("status")[1]
        assert ctl("jobs", "next")[1].startswith("the whole schedule is paused")
        assert asked(ctl, "jobs", "resume", "--all")["held"] is False
        assert [job["held_by"] for job in asked(ctl, "jobs", "list")] == ["plugin"] * 2
        assert ctl("run", f"{KEY}/nightly", "--wait")[0] == 0  # by hand it runs all the same
        assert asked(ctl, "jobs", "resume", "--plugin", KEY)["next_fire_ms"] > time.time() * 1000
        assert "all paused" not in ctl("status")[1]


def _runs_and_their_outcomes(ctl: Ctl) -> None:
    code, out, err = ctl("run", f"{KEY}/act", "--param", "city=Rome", "--param", "days=3", "--wait")
    assert code == 0
    first, last, *rest = out.splitlines()
    assert first.endswith("info    begun city=Rome days=3")
    assert last.endswith("info    the last word")
    assert json.loads("\n".join(rest[1:])) == {"city": "Rome", "days": 3}
    code, out, err = ctl("run", f"{KEY}/act", "--params", '{"fail": true}', "--wait")
    assert code == 1
    assert "RuntimeError: no luck\nit is tried again in " in out
    [failed] = asked(ctl, "runs", "list", f"{KEY}/act", "--state", "failed", "--trigger", "manual", "--since", "1h")
    beginning = failed["id"][:8]
    assert asked(ctl, "runs", "show", beginning) == failed
    assert failed["params"] == {"fail": True}
    assert next(line["message"] for line in asked(ctl, "runs", "logs", beginning)) == "begun"
    code, _, err = ctl("run", f"{KEY}/act", "--param", "wait=1", "--param", "x=@/nonexistent")
    assert (code, "cannot read" in err) == (2, True)
    assert ctl("runs", "retry", beginning, "--wait")[0] == 0
    assert asked(ctl, "runs", "show", beginning)["retry_at_ms"] is None
    [retried] = asked(ctl, "runs", "list", "--trigger", "retry")
    assert (retried["attempt"], retried["result"], retried["due_ms"]) == (2, {"fail": True}, failed["due_ms"])
    code, _, err = ctl("runs", "retry", retried["id"])
    assert (code, "there is nothing to try again" in err) == (3, True)
    code, _, err = ctl("run", f"{KEY}/atc")
    assert (code, f"did you mean '{KEY}/act'?" in err) == (4, True)


def _one_that_waits(ctl: Ctl) -> None:
    run = asked(ctl, "run", f"{KEY}/act", "--param", "wait=true")
    deadline = time.monotonic() + PATIENCE_S
    while (shown := asked(ctl, "runs", "show", run["id"]))["progress"] is None:
        assert time.monotonic() < deadline, shown
        time.sleep(0.02)
    assert (shown["progress"]["fraction"], shown["progress"]["message"]) == (0.5, "half of it")
    assert "50 % half of it" in ctl("runs", "list")[1]
    code, _, err = ctl("run", f"{KEY}/act")
    assert (code, f"`pluginctl runs cancel {run['id']}`" in err) == (3, True)
    assert asked(ctl, "runs", "cancel", run["id"])["state"] == "cancelled"
    assert ctl("runs", "cancel", run["id"])[0] == 3
    assert ctl("runs", "logs", "-f", run["id"])[0] == 0
