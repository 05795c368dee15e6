"""Two clients at once, every pair of commands, on one plugin: each gets an answer, and what is left is legal."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import combinations_with_replacement, pairwise
from pathlib import Path
from typing import Any

from supervisor.core.lifecycle import STEPS, Status
from tests.e2e.conftest import Daemon, Refused, Rpc

KEY = "test.raced"
_MANIFEST = """
[plugin]
key = "test.raced"
version = "{version}"
api_version = 1
display_name = "Raced"
description = "Any program."
author = "plugind's tests"
categories = ["automation"]
capabilities = {capabilities}

[worker]
command = ["sleep", "600"]
transport = "none"
start_grace_s = 0
stop_timeout_s = 1
upgrade = "{upgrade}"

[config_schema.properties.level]
type = "integer"
"""
REFUSALS = {
    "ALREADY_EXISTS",
    "APPROVAL_REQUIRED",
    "CANCELLED",
    "CONFLICT",
    "FAILED_PRECONDITION",
    "INVALID_TRANSITION",
    "NOT_FOUND",
    "UPGRADE_FAILED",
}
COMMANDS: dict[str, tuple[str, dict[str, Any]]] = {
    "load": ("plugins.load", {"plugin": KEY}),
    "enable": ("plugins.enable", {"plugin": KEY}),
    "disable": ("plugins.disable", {"plugin": KEY}),
    "start": ("plugins.start", {"plugin": KEY}),
    "stop": ("plugins.stop", {"plugin": KEY}),
    "restart": ("plugins.restart", {"plugin": KEY}),
    "mark_error": ("plugins.mark_error", {"plugin": KEY, "error": "by hand"}),
    "mark_upgrade_pending": ("plugins.mark_upgrade_pending", {"plugin": KEY}),
    "unload": ("plugins.unload", {"plugin": KEY}),
    "remove": ("plugins.unload", {"plugin": KEY, "remove_data": True}),
    "install": ("plugins.install", {"source": "1.0"}),
    "upgrade": ("plugins.upgrade", {"plugin": KEY, "source": "2.0"}),
    "upgrade_stop_first": ("plugins.upgrade", {"plugin": KEY, "source": "3.0"}),
    "upgrade_for_more": ("plugins.upgrade", {"plugin": KEY, "source": "4.0"}),
    "approve": ("plugins.approve", {"plugin": KEY}),
    "reject": ("plugins.reject", {"plugin": KEY}),
    "rollback": ("plugins.rollback", {"plugin": KEY}),
    "config_set": ("plugins.config_set", {"plugin": KEY, "config": {"level": 2}}),
}
DECIDING = {"approve", "reject", "enable", "unload", "upgrade", "upgrade_for_more"}
"""Commands that do something else in status upgrade_pending than in ready."""
PAIRS = [("ready", names) for names in combinations_with_replacement(COMMANDS, 2)]
PAIRS += [("upgrade_pending", names) for _, names in PAIRS if DECIDING & {*names}]


def write(directory: Path, version: str, *, upgrade: str = "overlap", capabilities: str = "[]") -> str:
    source = directory / version
    source.mkdir(mode=0o755, parents=True)
    manifest = source / "plugin.toml"
    manifest.write_text(_MANIFEST.format(version=version, upgrade=upgrade, capabilities=capabilities))
    manifest.chmod(0o644)
    return str(source)


class Race:
    def __init__(self, daemon: Daemon, directory: Path) -> None:
        self._socket = daemon.socket
        self._sources = {
            "1.0": write(directory, "1.0"),
            "2.0": write(directory, "2.0"),
            "3.0": write(directory, "3.0", upgrade="stop_first"),
            "4.0": write(directory, "4.0", capabilities='["state.read"]'),
        }

    def command(self, rpc: Rpc, name: str) -> str:
        """How it ended: ok, or the name of the error, and all of it where that is none that may be."""
        method, params = COMMANDS[name]
        if "source" in params:
            params = params | {"source": self._sources[params["source"]]}
        try:
            rpc.call(method, **params)
        except Refused as refused:
            return refused.name if refused.name in REFUSALS and KEY in str(refused) else str(refused)
        return "ok"

    def begin(self, rpc: Rpc, status: str) -> None:
        """Lead it to 1.0, ready, and from there to `status`."""
        self.command(rpc, "unload")
        self.command(rpc, "remove")
        assert self.command(rpc, "install") == "ok"
        assert self.command(rpc, "load") == "ok"
        if status == "upgrade_pending":
            assert self.command(rpc, "upgrade_for_more") == "ok"

    def both(self, rpcs: tuple[Rpc, Rpc], names: tuple[str, str]) -> list[str]:
        outcomes = ["", ""]
        ready = threading.Barrier(2)

        def one(i: int) -> None:
            ready.wait()
            outcomes[i] = self.command(rpcs[i], names[i])

        threads = [threading.Thread(target=one, args=(i,)) for i in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return outcomes


def look(rpc: Rpc) -> Any:
    listed = rpc.call("plugins.list", include_uninstalled=True)
    return rpc.call("plugins.get", plugin=KEY) if listed else None


def is_whole(rpc: Rpc, state: Path) -> Callable[[], str | None]:
    def problem() -> str | None:
        """What is not as it should be; None: all is well."""
        info = look(rpc)
        named = {entry["package_dir"].rpartition("/")[2] for entry in versions(rpc)} if info else set()
        parent = state / "packages" / KEY
        there = {entry.name for entry in parent.iterdir()} if parent.exists() else set()
        if there != named:
            return f"packages {there} and rows {named}"
        if info and (info["pid"] is not None) != (info["status"] == "ready" and not info["held"]):
            return f"{info['status']} with pid {info['pid']}, held {info['held']}"
        return None

    return problem


def versions(rpc: Rpc) -> Any:
    return rpc.call("plugins.versions", plugin=KEY)


def test_every_pair_of_commands(daemon: Daemon, tmp_path: Path) -> None:
    race = Race(daemon, tmp_path / "sources")
    with daemon.start() as rpc, Rpc(daemon.socket) as other:
        problem = is_whole(rpc, daemon.state)
        for beginning, names in PAIRS:
            race.begin(rpc, beginning)
            outcomes = race.both((rpc, other), names)
            where = f"{names} from {beginning}: {outcomes}"
            assert {*outcomes} <= REFUSALS | {"ok"}, where
            assert problem() is None, f"{where}: {problem()}"
        seen = rpc.call("events.list", types=["plugin.status_changed"], limit=1000)["events"]
        for event in seen:
            before, after = event["data"]["previous"], event["data"]["status"]
            assert before is None or Status(after) in STEPS[Status(before)], event
        by_plugin: dict[str, list[dict[str, Any]]] = {}
        for event in seen:
            by_plugin.setdefault(event["plugin_id"], []).append(event["data"])
        for told in by_plugin.values():
            assert all(former["status"] == later["previous"] for former, later in pairwise(told))
