"""What workers ask of the real daemon: a worker without an SDK asks, and a client looks at what came of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from tests.e2e.conftest import PATIENCE_S, ROOT, Daemon, Refused, Rpc

KEY = "test.asks"
CONFIG = {"city": "Oslo", "token": "t0ps3cret"}


@pytest.fixture
def rpc(daemon: Daemon, plugin: Callable[[str], Path]) -> Iterator[Rpc]:
    """With a configuration."""
    with daemon.start() as rpc:
        rpc.install(plugin("asks_host"))
        rpc.call("plugins.config_set", plugin=KEY, config=CONFIG)
        rpc.call("plugins.load", plugin=KEY)
        yield rpc


def call(rpc: Rpc, method: str, /, **params: Any) -> Any:
    return rpc.call("plugins.call", plugin=KEY, method=method, params=params or None)["result"]


def ask(rpc: Rpc, method: str, /, **params: Any) -> Any:
    answer = call(rpc, "ask", method=method, params=params)
    assert answer["error"] is None, answer["error"]
    return answer["result"]


def refused(rpc: Rpc, method: str, /, **params: Any) -> str:
    answer = call(rpc, "ask", method=method, params=params)
    assert answer["result"] is None
    return str(answer["error"]["name"])


def until(look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not look():
        assert time.monotonic() < deadline


def test_configuration_and_secrets(daemon: Daemon, rpc: Rpc) -> None:
    assert ask(rpc, "config.get") == {"config": CONFIG}
    assert rpc.call("plugins.health", plugin=KEY)["message"] == "['city', 'token']"  # what came with initialize
    assert ask(rpc, "secrets.get", name="token") == {"value": "t0ps3cret"}
    assert refused(rpc, "secrets.get", name="city") == "NOT_FOUND"
    shown = rpc.call("plugins.config_get", plugin=KEY)
    assert (shown["config"], shown["secrets"]) == ({"city": "Oslo", "token": "********"}, ["token"])
    assert (shown["revision"], shown["good"]) == (1, True)  # it has shaken hands with it
    told = [rpc.call("events.list", limit=1000), rpc.call("plugins.get", plugin=KEY), rpc.call("daemon.settings")]
    log = Path(rpc.call("plugins.get", plugin=KEY)["log_file"])
    assert "t0ps3cret" not in repr(told) + daemon.log.read_text() + (log.read_text() if log.exists() else "")


def test_a_configuration_that_changes_under_a_worker(rpc: Rpc, tmp_path: Path) -> None:
    greeter = "example.greeter"
    rpc.load(ROOT / "supervisor" / "daemon" / "examples" / "greeter")
    pid = rpc.call("plugins.get", plugin=greeter)["pid"]

    def greet() -> str:
        return str(
            rpc.call("plugins.call", plugin=greeter, method="greet", params={"name": "Ada"})["result"]["greeting"]
        )

    assert greet() == "Hello, Ada!"
    changed = rpc.call("plugins.config_set", plugin=greeter, config={"language": "de"})
    assert (changed["revision"], changed["good"], changed["restarted"], greet()) == (1, True, False, "Guten Tag, Ada!")
    with pytest.raises(Refused, match="INVALID_PARAMS"):
        rpc.call("plugins.config_set", plugin=greeter, config={"language": "xx"})
    secret = tmp_path / "language"
    secret.write_text("no\n")
    secret.chmod(0o600)
    changed = rpc.call("plugins.config_set", plugin=greeter, config={"language": f"$file:{secret}"})
    assert (changed["config"], changed["good"], greet()) == ({"language": f"$file:{secret}"}, True, "Hei, Ada!")
    assert rpc.call("plugins.get", plugin=greeter)["pid"] == pid
    secret.unlink()
    with pytest.raises(Refused, match=r"No such file or directory"):
        rpc.call("plugins.restart", plugin=greeter)
    restored = rpc.call("plugins.config_restore", plugin=greeter)
    assert restored["config"] == {"language": "de"}
    until(lambda: bool(rpc.call("plugins.get", plugin=greeter)["phase"] == "running"))
    assert greet() == "Guten Tag, Ada!"
    history = rpc.call("plugins.config_history", plugin=greeter)
    assert [(one["revision"], one["current"], one["good"]) for one in history] == [
        (3, True, True),
        (2, False, True),
        (1, False, True),
    ]


def test_state_and_events(rpc: Rpc) -> None:
    assert ask(rpc, "state.set", key="a", value={"n": [1, b"\x00"]}) == {"revision": 1}
    assert ask(rpc, "state.get", key="a") == {"found": True, "value": {"n": [1, b"\x00"]}, "revision": 1}
    entry = {"key": "a", "value": {"n": [1, b"\x00"]}, "revision": 1}
    assert ask(rpc, "state.list") == {"entries": [entry], "next": None}
    assert refused(rpc, "state.set", key="a", value=2, if_revision=0) == "CONFLICT"
    assert ask(rpc, "state.delete", key="a") == {"found": True}
    begun = ask(rpc, "events.subscribe", types=["emitted.*"])
    sent = [ask(rpc, "events.emit", name="beat", payload=n)["seq"] for n in range(3)]
    heard = call(rpc, "heard", count=3)
    assert [(item["subscription"], item["event"]["seq"]) for item in heard] == [
        (begun["subscription"], seq) for seq in sent
    ]
    replayed = ask(rpc, "events.subscribe", types=["emitted.*"], plugins=[KEY], after_seq=sent[0])
    again = [item for item in call(rpc, "heard", count=5) if item["subscription"] == replayed["subscription"]]
    assert [item["event"]["data"]["payload"] for item in again] == [1, 2]
    assert ask(rpc, "events.unsubscribe", subscription=begun["subscription"]) == {}
    assert refused(rpc, "events.unsubscribe", subscription=begun["subscription"]) == "NOT_FOUND"


def test_metrics_over_restarts_until_the_data_goes(daemon: Daemon, rpc: Rpc) -> None:
    sample = {"name": "rows_total", "value": 2, "kind": "counter", "labels": {"table": "a"}}
    assert ask(rpc, "metrics.write", metrics=[sample]) == {}
    rpc.call("plugins.restart", plugin=KEY)
    assert ask(rpc, "metrics.write", metrics=[sample, {"name": "depth", "value": 0.5}]) == {}
    depth, rows = rpc.call("plugins.metrics", plugin=KEY)
    assert (depth["name"], depth["value"], depth["kind"]) == ("depth", 0.5, "gauge")
    assert (rows["name"], rows["value"], rows["labels"]) == ("rows_total", 4.0, {"table": "a"})
    words = ["--socket", str(daemon.socket), "metrics", KEY]
    shown = subprocess.run([sys.executable, "-m", "client.cli.main", *words], cwd=ROOT, capture_output=True, text=True)
    assert 'rows_total{table="a"}  counter  4' in shown.stdout, shown.stderr
    words.append("--json")
    shown = subprocess.run([sys.executable, "-m", "client.cli.main", *words], cwd=ROOT, capture_output=True, text=True)
    assert json.loads(shown.stdout) == [depth, rows]
    rpc.call("plugins.unload", plugin=KEY, remove_data=True)
    with pytest.raises(Refused, match="NOT_FOUND"):
        rpc.call("plugins.metrics", plugin=KEY)


def test_other_plugins(rpc: Rpc, plugin: Callable[[str], Path]) -> None:
    good = plugin("good")
    rpc.load(good)
    listed = {p["key"]: p for p in ask(rpc, "plugins.list")["plugins"]}
    assert listed["test.good"] == {
        "key": "test.good",
        "version": "1.0.0",
        "status": "ready",
        "phase": "running",
        "methods": ["echo", "pid", "crash", "sleep"],
    }
    echo = {"plugin": "test.good", "method": "echo", "params": {"value": {"a": [1]}}}
    assert ask(rpc, "plugins.call", **echo) == {"result": {"a": [1]}}
    own = ask(rpc, "plugins.call", plugin=KEY, method="ask", params={"method": "state.get", "params": {"key": "k"}})
    assert own["result"]["result"] == {"found": False, "value": None, "revision": 0}
    assert refused(rpc, "plugins.call", plugin="test.good", method="nothing") == "NOT_FOUND"
    slow = {"plugin": "test.good", "method": "sleep", "params": {"s": 60}}
    assert refused(rpc, "plugins.call", **slow, timeout_s=0.05) == "DEADLINE_EXCEEDED"
    crash = call(rpc, "ask", method="plugins.call", params={"plugin": "test.good", "method": "crash"})
    assert crash["error"]["name"] == "PLUGIN_CRASHED"
    assert crash["error"]["data"] == {"exit_code": 7, "signal": None}
    rpc.call("plugins.disable", plugin="test.good")
    assert refused(rpc, "plugins.call", **echo) == "UNAVAILABLE"


def test_cancelling_the_outer_call_cancels_the_inner_one(rpc: Rpc) -> None:
    """A plugin that calls itself: client → ask → daemon → hold."""
    hold = {"method": "plugins.call", "params": {"plugin": KEY, "method": "hold"}}
    outer = rpc.send("plugins.call", plugin=KEY, method="ask", params=hold)
    until(lambda: call(rpc, "held") == [1, 0])
    rpc._socket.sendall(msgpack.packb([2, "rpc.cancel", [outer]]))
    with pytest.raises(Refused, match="CANCELLED"):
        rpc.answer(outer)
    until(lambda: call(rpc, "held") == [0, 1])


def test_the_callers_end_cancels_what_it_called(daemon: Daemon, rpc: Rpc, tmp_path: Path) -> None:
    twin = shutil.copytree(tmp_path / "sources" / "asks_host", tmp_path / "sources" / "twin")
    manifest = twin / "plugin.toml"
    manifest.write_text(manifest.read_text().replace(KEY, "test.twin"))
    rpc.load(twin)
    hold = {"method": "plugins.call", "params": {"plugin": KEY, "method": "hold"}}
    outer = rpc.send("plugins.call", plugin="test.twin", method="ask", params=hold)
    with Rpc(daemon.socket) as other:
        until(lambda: call(other, "held") == [1, 0])
        with pytest.raises(Refused, match="PLUGIN_CRASHED"):
            other.call("plugins.call", plugin="test.twin", method="crash")
        with pytest.raises(Refused, match="PLUGIN_CRASHED"):
            rpc.answer(outer)
        until(lambda: call(other, "held") == [0, 1])


def test_circles_end_by_the_number_of_calls(daemon: Daemon, rpc: Rpc) -> None:
    """It asks itself to ask itself … deeper than there may be calls in flight."""
    nested: dict[str, Any] = {"method": "plugins.list", "params": {}}
    # The depth of params is bounded, so nobody can ask for more than a few at once.
    for _ in range(5):
        nested = {"method": "plugins.call", "params": {"plugin": KEY, "method": "ask", "params": nested}}
    answer = call(rpc, "ask", **nested)
    for _ in range(5):
        assert answer["error"] is None
        answer = answer["result"]["result"]
    assert answer["result"]["plugins"][0]["key"] == KEY
    hold = {"method": "plugins.call", "params": {"plugin": KEY, "method": "hold"}}
    waiting = {rpc.send("plugins.call", plugin=KEY, method="ask", params=hold) for _ in range(40)}
    with Rpc(daemon.socket) as other:
        until(lambda: holds_or_is_full(other))
        other.call("plugins.restart", plugin=KEY)
        ends = answers(rpc, waiting)
        assert call(other, "held") == [0, 0]
    # Those for which there was no room below were told so; all others were ended by the restart.
    assert {error["name"] if error else result["result"]["error"]["name"] for error, result in ends} <= {
        "RESOURCE_EXHAUSTED",
        "CANCELLED",
    }


def holds_or_is_full(rpc: Rpc) -> bool:
    try:
        return bool(call(rpc, "held")[0] > 0)
    except Refused as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return True  # All 64 places are taken: there is none for asking either.


def answers(rpc: Rpc, ids: set[int]) -> list[tuple[Any, Any]]:
    """(error, result) of each, in whatever order."""
    ends: list[tuple[Any, Any]] = []
    while ids:
        for _, id_, error, result in rpc._unpacker:
            ids.discard(id_)
            ends.append((error, result))
        if ids:
            rpc._unpacker.feed(rpc._socket.recv(65536))
    return ends


def test_progress_of_a_run(daemon: Daemon, rpc: Rpc) -> None:
    run = rpc.call("jobs.run", job=f"{KEY}/walk")["id"]
    until(lambda: rpc.call("jobs.runs", limit=1)[0]["state"] == "running")
    until(lambda: call(rpc, "held") == [1, 0])
    assert ask(rpc, "run.progress", run_id=run, fraction=0.25, message="a quarter") == {}
    [shown] = rpc.call("jobs.runs")
    assert (shown["progress"]["fraction"], shown["progress"]["message"]) == (0.25, "a quarter")
    assert rpc.call("jobs.get", job=f"{KEY}/walk")["progress"] == [shown["progress"]]
    words = [sys.executable, "-m", "client.cli.main", "--socket", str(daemon.socket), "runs", "list"]
    listed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert "25 % a quarter" in listed.stdout, listed.stderr
    rpc.call("jobs.cancel", run=run)
    assert refused(rpc, "run.progress", run_id=run, fraction=0.5) == "NOT_FOUND"
    assert rpc.call("jobs.runs")[0]["progress"] is None


def test_without_capabilities(daemon: Daemon, plugin: Callable[[str], Path]) -> None:
    source = plugin("asks_host")
    manifest = source / "plugin.toml"
    text = manifest.read_text()
    head, rest = text.split("capabilities = [", 1)
    manifest.write_text(
        f'{head}capabilities = ["methods.register", "jobs.schedule", "secrets.read"]{rest.split("]", 1)[1]}'
    )
    with daemon.start() as rpc:
        rpc.load(source)
        for method, params in {
            "config.get": {},
            "state.get": {"key": "k"},
            "state.set": {"key": "k", "value": 1},
            "state.delete": {"key": "k"},
            "state.list": {},
            "events.emit": {"name": "n"},
            "events.subscribe": {},
            "events.unsubscribe": {"subscription": 1},
            "metrics.write": {"metrics": []},
            "plugins.list": {},
            "plugins.call": {"plugin": KEY, "method": "held"},
        }.items():
            assert refused(rpc, method, **params) == "PERMISSION_DENIED"
