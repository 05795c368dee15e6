"""What README.md shows works as it is written."""

from __future__ import annotations

import re
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import client
from client import errors
from supervisor.core.worker_spec import ReadyProbe
from supervisor.daemon.checks import check_package
from supervisor.sdk import Plugin
from tests.client.fake_daemon import HANG_UP, FakeDaemon, Turns

README = (Path(__file__).parents[2] / "README.md").read_text()


def block(language: str, with_words: str) -> str:
    found = [text for text in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL) if with_words in text]
    assert len(found) == 1, with_words
    return str(found[0])


class Enough(Exception):
    """The snippet has printed what it was to print."""


def execute(code: str, monkeypatch: pytest.MonkeyPatch, daemon: FakeDaemon, lines: int) -> list[tuple[Any, ...]]:
    """Run a snippet until it has printed so many lines."""
    monkeypatch.setenv("PLUGIND_SOCKET", daemon.path)
    printed: list[tuple[Any, ...]] = []

    def show(*values: Any) -> None:
        printed.append(values)
        if len(printed) == lines:
            raise Enough

    with pytest.raises(Enough):
        exec(compile(code, "README.md", "exec"), {"__name__": "__main__", "print": show})
    return printed


def test_the_plugin(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(block("python", '@plugin.method("forecast")'))
    (tmp_path / "plugin.toml").write_text(block("toml", 'key = "acme.weather"'))
    manifest = check_package(tmp_path)
    space: dict[str, Any] = {"__name__": "readme"}
    exec(compile((tmp_path / "main.py").read_text(), "main.py", "exec"), space)
    assert isinstance(space["plugin"], Plugin)
    assert (manifest.key, [job.key for job in manifest.jobs]) == ("acme.weather", ["refresh"])
    assert space["forecast"](None, city="Rome") == {"city": "Rome", "sky": "clear"}


def test_the_async_plugin_and_its_test(monkeypatch: pytest.MonkeyPatch) -> None:
    main = ModuleType("main")
    exec(compile(block("python", "@plugin.background"), "main.py", "exec"), vars(main))
    monkeypatch.setitem(sys.modules, "main", main)
    space: dict[str, Any] = {"__name__": "test_main"}
    exec(compile(block("python", "import Harness"), "test_main.py", "exec"), space)
    space["test_report"]()


def test_any_program_at_all(tmp_path: Path) -> None:
    (tmp_path / "plugin.toml").write_text(block("toml", 'key = "acme.redis"'))
    worker = check_package(tmp_path).worker
    assert (worker.transport, worker.ready, worker.restart.policy) == ("none", ReadyProbe(tcp="6379"), "on_failure")
    assert worker.stop_command[0] == "redis-cli"


def test_the_blocking_client(monkeypatch: pytest.MonkeyPatch, daemon: FakeDaemon) -> None:
    def emit_when_followed() -> None:
        daemon.wait_asked("events.subscribe")
        daemon.emit("plugin.enabled", reason="none")

    other = threading.Thread(target=emit_when_followed)
    other.start()
    printed = execute(block("python", "plugind.events("), monkeypatch, daemon, 2)
    other.join(5)
    assert printed == [("acme.weather", "running"), ("plugin.enabled", {"reason": "none"})]
    assert daemon.asked("plugins.restart") == [{"plugin": "acme.weather"}]


def test_a_change_made_once(monkeypatch: pytest.MonkeyPatch, daemon: FakeDaemon) -> None:
    daemon.answers["jobs.run"] = Turns([HANG_UP, daemon.answers["jobs.run"]])
    assert execute(block("python", "once()"), monkeypatch, daemon, 1) == [("succeeded",)]
    ids = [params["$request_id"] for method, params in daemon.requests if method == "jobs.run"]
    assert len(ids) == 2
    assert ids[0] == ids[1]


def test_the_async_client(monkeypatch: pytest.MonkeyPatch, daemon: FakeDaemon) -> None:
    code = block("python", "AsyncClient.connect()")
    assert execute(code, monkeypatch, daemon, 1) == [({"sky": "clear"},)]
    daemon.answers["plugins.call"] = errors.NotFound("there is no plugin", plugin="acme.weather")
    assert execute(code, monkeypatch, daemon, 1) == [("there is no plugin", {"plugin": "acme.weather"})]


def test_the_public_door_has_every_error() -> None:
    assert set(errors.__all__) < set(client.__all__)
    for name in errors.__all__:
        assert getattr(client, name) is getattr(errors, name)
