"""Versions, approvals and configurations over the socket."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from supervisor.control.views import Outlook, plugin_details, summary
from supervisor.core.lifecycle import Status
from supervisor.core.package import Version
from supervisor.core.plugin import Capability, Plugin
from supervisor.lifecycle.operation import Operation
from supervisor.lifecycle.sources import Source
from supervisor.lifecycle.staging import Look
from supervisor.worker.phase import Phase
from supervisor.worker.view import WorkerView
from tests.control.world import ControlWorld, Wire
from tests.fakes import Script
from tests.worker.fakes import make_plugin

RUNNING = WorkerView(phase=Phase.RUNNING, pid=7, uptime_s=3, wanted=True)


@pytest.fixture
def source(tmp_path: Path) -> str:
    (tmp_path / "acme.new").mkdir()
    return str(tmp_path / "acme.new")


async def installed(world: ControlWorld, wire: Wire, source: str) -> dict[str, Any]:
    world.lifecycle_world.workers.scripts["acme.new"] = Script(up_after_s=0.01, stops_after_s=0.01)
    await wire.call("plugins.install", source=source)
    found: dict[str, Any] = await wire.call("plugins.load", plugin="acme.new")
    return found


async def test_what_was_not_agreed_to_is_told(wire: Wire, source: str) -> None:
    error = await wire.refused("plugins.install", source=source, capabilities=[])
    assert error["name"] == "APPROVAL_REQUIRED"
    assert (error["data"]["plugin"], error["data"]["version"]) == ("acme.new", "1.0")
    wanted = error["data"]["capabilities"]
    assert (await wire.call("plugins.install", source=source, capabilities=wanted))["status"] == "installed"
    details = await wire.call("plugins.get", plugin="acme.new")
    assert [approval["capability"] for approval in details["approvals"]] == wanted
    assert {approval["uid"] for approval in details["approvals"]} == {(await wire.call("rpc.hello"))["uid"]}
    assert details["source"] == source


async def test_upgrade_and_rollback(world: ControlWorld, wire: Wire, source: str) -> None:
    await installed(world, wire, source)
    world.lifecycle_world.packages.version = "2.0"
    upgraded = await wire.call("plugins.upgrade", plugin="acme.new", source=source)
    assert (upgraded["version"], upgraded["status"], upgraded["previous_version"]) == ("2.0", "ready", "1.0")
    versions = await wire.call("plugins.versions", plugin="acme.new")
    assert [(each["version"], each["state"], each["source"]) for each in versions] == [
        ("2.0", "active", source),
        ("1.0", "kept", source),
    ]
    assert all(each["activated_at_ms"] >= each["stored_at_ms"] for each in versions)
    back = await wire.call("plugins.rollback", plugin="acme.new")
    assert (back["version"], back["status"]) == ("1.0", "ready")
    forth = await wire.call("plugins.upgrade", plugin="acme.new", version="2.0", probation_s=60)
    assert forth["version"] == "2.0"
    assert 50 < forth["probation_left_s"] <= 60
    assert "2.0 is on probation for another " in forth["summary"]


async def test_an_upgrade_from_its_own_source(world: ControlWorld, wire: Wire, source: str, tmp_path: Path) -> None:
    """Where it came from is asked again, and no other index."""
    asked: list[Source] = []
    packages = world.lifecycle_world.packages
    staged = packages.staged

    def noted(source: Source, operation: Operation, look: Look) -> Any:
        asked.append(source)
        return staged(source, operation, look)

    packages.staged = noted  # type: ignore[method-assign]
    how = {"index_url": "https://me:secret@index.example/simple", "find_links": [str(tmp_path)]}
    world.lifecycle_world.workers.scripts["acme.new"] = Script(up_after_s=0.01, stops_after_s=0.01)
    await wire.call("plugins.install", source=source, **how)
    await wire.call("plugins.load", plugin="acme.new")
    details = await wire.call("plugins.get", plugin="acme.new")
    assert (details["index_url"], details["find_links"]) == ("https://***@index.example/simple", [str(tmp_path)])
    packages.version = "2.0"
    error = await wire.refused("plugins.upgrade", plugin="acme.new")
    assert error["name"] == "FAILED_PRECONDITION"
    assert "no password is kept: name the index again" in error["message"]
    assert len(asked) == 1
    again = await wire.call("plugins.upgrade", plugin="acme.new", index_url="https://two.example/simple")
    assert (again["version"], asked[-1].text, asked[-1].index_url) == ("2.0", source, "https://two.example/simple")
    packages.version = "3.0"
    await wire.call("plugins.upgrade", plugin="acme.new")
    assert (asked[-1].index_url, asked[-1].find_links) == ("https://two.example/simple", (str(tmp_path),))
    versions = await wire.call("plugins.versions", plugin="acme.new")
    assert [each["index_url"] for each in versions][:2] == ["https://two.example/simple"] * 2


async def test_an_upgrade_that_fails_says_why(world: ControlWorld, wire: Wire, source: str) -> None:
    await installed(world, wire, source)
    world.lifecycle_world.packages.version = "2.0"
    world.lifecycle_world.workers.scripts["acme.new@2.0"] = Script(up_after_s=0.01, fails="boom")
    error = await wire.refused("plugins.upgrade", plugin="acme.new", source=source)
    assert error["name"] == "UPGRADE_FAILED"
    assert "boom" in error["message"]
    assert (await wire.call("plugins.get", plugin="acme.new"))["version"] == "1.0"


async def test_configuration(world: ControlWorld, wire: Wire) -> None:
    await world.plugin()
    first = await wire.call("plugins.config_get", plugin="acme.one")
    assert (first["config"], first["revision"], first["set_at_ms"]) == ({}, 0, None)
    verdict = await wire.call("plugins.config_test", plugin="acme.one", config={"city": "Rome"})
    assert verdict == {"ok": True, "problems": [], "asked_worker": False}
    shown = await wire.call("plugins.config_set", plugin="acme.one", config={"city": "Rome"})
    assert (shown["config"], shown["revision"], shown["restarted"]) == ({"city": "Rome"}, 1, False)
    merged = await wire.call("plugins.config_set", plugin="acme.one", config={"port": 1}, merge=True)
    assert merged["config"] == {"city": "Rome", "port": 1}
    refused = await wire.refused("plugins.config_set", plugin="acme.one", config={}, expected_revision=1)
    assert (refused["name"], refused["data"]["revision"]) == ("CONFLICT", 2)
    history = await wire.call("plugins.config_history", plugin="acme.one")
    assert [(each["revision"], each["current"], each["names"]) for each in history] == [
        (2, True, ["city", "port"]),
        (1, False, ["city"]),
    ]
    restored = await wire.call("plugins.config_restore", plugin="acme.one", revision=1)
    assert (restored["config"], restored["revision"]) == ({"city": "Rome"}, 3)


def pending(capabilities: tuple[str, ...]) -> tuple[Plugin, Version]:
    plugin = dataclasses.replace(
        make_plugin(),
        status=Status.UPGRADE_PENDING,
        staged_dir="k/2.0-0",
        approved=frozenset({Capability("state.read")}),
    )
    manifest = dataclasses.replace(plugin.manifest, version="2.0", capabilities=tuple(map(Capability, capabilities)))
    staged = Version(
        plugin_id=plugin.id,
        package_dir="k/2.0-0",
        manifest=manifest,
        digest="0" * 64,
        source="/src",
        editable=None,
        previous_dir=None,
        stored_at=plugin.installed_at,
        activated_at=None,
    )
    return plugin, staged


def test_what_waits_and_both_ways_on() -> None:
    plugin, staged = pending(("state.read", "state.write", "network.outbound"))
    text = summary(plugin, WorkerView(), Outlook(staged=staged))
    assert text == (
        "Version 2.0 waits for approval: it asks for network.outbound, state.write; its worker is stopped until "
        f"`pluginctl approve {plugin.key}` allows this and runs it, or `pluginctl reject {plugin.key}` runs "
        f"{plugin.version} again."
    )
    places = {"package_dir": "/p", "data_dir": "/d", "log_file": "/l"}
    details = plugin_details(plugin, WorkerView(), places, Outlook(staged=staged))
    assert details["pending_capabilities"] == ["network.outbound", "state.write"]
    assert details["staged_version"] == "2.0"


def test_what_waits_and_wants_nothing_or_very_much() -> None:
    plugin, staged = pending(("state.read",))
    assert "it asks for nothing new" in summary(plugin, WorkerView(), Outlook(staged=staged))
    plugin, staged = pending(tuple(f"filesystem.read:/{i:04}" + "x" * 4000 for i in range(100)))
    text = summary(plugin, WorkerView(), Outlook(staged=staged))
    assert " and 95 more; " in text
    assert len(text) < 3000


def test_one_that_was_marked_by_hand() -> None:
    plugin = dataclasses.replace(make_plugin(), status=Status.UPGRADE_PENDING)
    assert f"`pluginctl approve {plugin.key}` or `pluginctl reject" in summary(plugin, WorkerView())


def test_probation_and_in_place_are_told() -> None:
    plugin, previous = pending(())
    plugin = dataclasses.replace(plugin, status=Status.READY, editable="/src/weather")
    text = summary(plugin, RUNNING, Outlook(previous=previous, probation_left_s=42))
    assert text == (
        f"Running as pid 7 for 3.0 s. {plugin.version} is on probation for another 42 s: if it is given up, 2.0 comes "
        "back. It runs in place, in /src/weather, and is restarted when a file changes."
    )
