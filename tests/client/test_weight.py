"""What the blocking client and pluginctl import: they start often, so it has to be little."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.client.fake_daemon import FakeDaemon

HEAVY = {"trio", "peewee", "rich", "msgspec", "structlog", "dataclasses", "inspect", "logging", "pathlib", "threading"}


def modules(code: str, daemon: FakeDaemon) -> set[str]:
    """Imported by `code`, beyond what this environment's own start-up imports."""
    tell = "; import json, sys; print('\\n' + json.dumps(sorted(sys.modules)))"
    environ = {**os.environ, "PLUGIND_SOCKET": daemon.path}
    found = []
    for script in ("pass", code):
        done = subprocess.run([sys.executable, "-c", script + tell], env=environ, capture_output=True, check=True)
        found.append(set(json.loads(done.stdout.splitlines()[-1])))
    return found[1] - found[0]


@pytest.mark.parametrize("words", [["ping"], ["list"], ["load", "acme.weather"]])
def test_pluginctl(daemon: FakeDaemon, words: list[str]) -> None:
    loaded = modules(f"from client.cli.main import main; assert main({words!r}) == 0", daemon)
    assert "client.sync_client" in loaded
    assert loaded & HEAVY == set()
    nouns = ("jobs", "events", "logs", "develop", "packages", "install", "upgrade", "progress", "config")
    other = {*(f"client.cli.{noun}" for noun in nouns), "client.async_client"}
    assert loaded & other == set()


def test_the_blocking_client(daemon: FakeDaemon) -> None:
    loaded = modules("from client import Client; Client().plugins.list()", daemon)
    assert loaded & (HEAVY | {"argparse", "client.async_client"}) == set()
    assert {name for name in loaded if name.startswith("supervisor.")} <= {
        "supervisor.core",
        "supervisor.core.errors",
        "supervisor.wire",
        "supervisor.wire.address",
    }


def test_the_public_door(daemon: FakeDaemon) -> None:
    assert modules("import client; client.AsyncClient", daemon) >= {"trio", "client.async_client"}
    assert "trio" not in modules("import client; client.Client", daemon)
