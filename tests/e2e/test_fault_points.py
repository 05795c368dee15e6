"""The daemon killed at every fault point: after the next start each plugin is wholly before or wholly after.

A real daemon with a real worker, once for each point. What must hold then is the same for all; where a plugin may stand
is the path's.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from supervisor.faultpoints import VARIABLE, FaultPoint
from tests.e2e.conftest import PATIENCE_S, Daemon, Refused, Rpc
from tests.e2e.fork_server import ForkServer
from tests.e2e.versions import CAPABILITIES, KEY, stored, write_version

OTHER = "test.other"
SCHEMA = """
[config_schema.properties.level]
type = "integer"
"""
LAST_WORDS = {
    "ready": "plugin.enabled",
    "disabled": "plugin.disabled",
    "error": "plugin.error",
    "upgrade_pending": "plugin.upgrade_pending",
    "uninstalled": "plugin.unloaded",
}
Stand = tuple[Any, ...] | None
"""Status, version, version that waits, level of the configuration; None: there is no such plugin."""


def stand(status: str, version: str, staged: str | None = None, level: int | None = 1) -> Stand:
    return (status, version, staged, level)


ONE, TWO = stand("ready", "1.0"), stand("ready", "2.0")
GONE = stand("uninstalled", "1.0", level=None)
WAITING = stand("upgrade_pending", "1.0", "2.0")


@dataclass(frozen=True, kw_only=True)
class Trip:
    """Steps are [method, params]; a `source` in params is a name of `Sources.make`."""

    steps: Sequence[tuple[str, dict[str, Any]]] = ()
    before: Stand = ONE
    after: Stand = ONE
    key: str = KEY
    prepare: Sequence[tuple[str, dict[str, Any]]] = ()
    """Steps that an earlier daemon does, unharmed."""
    environment: dict[str, str] = field(default_factory=dict)


def do(verb: str, **params: Any) -> tuple[str, dict[str, Any]]:
    return f"plugins.{verb}", {"plugin": KEY, **params}


DISABLED, ASK = do("disable"), do("upgrade", source="more")
TRIPS = {
    "install": Trip(
        steps=[("plugins.install", {"source": "other"})],
        before=None,
        key=OTHER,
        after=stand("installed", "7.0", level=None),
    ),
    "upgrade": Trip(steps=[do("upgrade", source="two")], after=TWO),
    "upgrade_overlap": Trip(steps=[do("upgrade", source="two")], after=TWO),
    "upgrade_stop_first": Trip(steps=[do("upgrade", source="two_alone")], after=TWO),
    "upgrade_pending": Trip(steps=[ASK], after=WAITING),
    "upgrade_idle": Trip(
        steps=[DISABLED, do("upgrade", source="two")], before=stand("disabled", "1.0"), after=stand("disabled", "2.0")
    ),
    "upgrade_failed": Trip(steps=[do("upgrade", source="broken")]),
    "approve": Trip(steps=[ASK, do("approve")], before=WAITING, after=TWO),
    "approve_failed": Trip(steps=[do("upgrade", source="more_broken"), do("approve")], before=WAITING, after=ONE),
    "reject": Trip(steps=[ASK, do("reject")], before=WAITING, after=ONE),
    "rollback": Trip(steps=[do("upgrade", source="two_alone"), do("rollback")], before=TWO, after=ONE),
    "rollback_idle": Trip(
        steps=[do("upgrade", source="two"), DISABLED, do("rollback")],
        before=stand("disabled", "2.0"),
        after=stand("disabled", "1.0"),
    ),
    "probation": Trip(steps=[do("upgrade", source="dies_alone", probation_s=60)], before=TWO, after=ONE),
    "unload": Trip(steps=[do("unload")], after=GONE),
    "erase": Trip(steps=[do("unload", remove_data=True)], after=None),
    "purge": Trip(
        prepare=[do("unload")],
        before=GONE,
        after=None,
        environment={"PLUGIND_PURGE_AFTER_DAYS": "0.0000001"},
    ),
    "collect": Trip(
        steps=[do("upgrade", source=name) for name in ("two", "three", "four")],
        after=stand("ready", "4.0"),
        before=stand("ready", "4.0"),
    ),
    "config": Trip(steps=[do("config_set", config={"level": 2})], after=stand("ready", "1.0", level=2)),
    "boot": Trip(),
}
OWN_TRIPS = {
    FaultPoint.PROBATION_STOPPED: Trip(steps=[do("upgrade", source="lingers", probation_s=0.5)], before=TWO),
    FaultPoint.PROBATION_ENDED: Trip(steps=[do("upgrade", source="two", probation_s=0.3)], before=TWO, after=TWO),
    FaultPoint.PROBATION_FORMER_GONE: Trip(steps=[do("upgrade", source="dies", probation_s=60)], before=TWO),
    FaultPoint.ROLLBACK_FORMER_GONE: Trip(steps=[do("upgrade", source="two"), do("rollback")], before=TWO),
}
SPECIAL = {
    # With the former daemon's workers, open intents and owed words, a start has something to do.
    FaultPoint.BOOT_LEFTOVERS_REMOVED: FaultPoint.UPGRADE_OVERLAP_STARTED,
    FaultPoint.BOOT_INTENTS_ENDED: FaultPoint.UPGRADE_FILES_STORED,
    FaultPoint.BOOT_VERSIONS_DROPPED: FaultPoint.UPGRADE_OVERLAP_EXCHANGED,
    FaultPoint.BOOT_COLLECTED: FaultPoint.UPGRADE_FILES_STORED,
    FaultPoint.BOOT_WORDS_SAID: FaultPoint.UPGRADE_OVERLAP_EXCHANGED,
}


class Sources:
    """Directories of versions, made when they are asked for."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def make(self, name: str) -> str:
        more = (*CAPABILITIES, "events.emit")
        how: dict[str, dict[str, Any]] = {
            "one": {"version": "1.0"},
            "two": {"version": "2.0"},
            "three": {"version": "3.0"},
            "four": {"version": "4.0"},
            "two_alone": {"version": "2.0", "upgrade": "stop_first"},
            "broken": {"version": "2.0", "behaviour": "exits"},
            "lingers": {"version": "2.0", "behaviour": "dies_soon", "upgrade": "stop_first", "backoff_s": 20},
            "dies": {"version": "2.0", "behaviour": "dies_soon"},
            "dies_alone": {"version": "2.0", "behaviour": "dies_soon", "upgrade": "stop_first"},
            "more": {"version": "2.0", "capabilities": more},
            "more_broken": {"version": "2.0", "capabilities": more, "behaviour": "exits"},
            "other": {"version": "7.0", "key": OTHER},
        }
        directory = self._directory / name
        return str(directory if directory.exists() else write_version(directory, more=SCHEMA, **how[name]))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, forks: ForkServer) -> Path:
    """A state directory with version 1.0, ready and configured."""
    directory = tmp_path_factory.mktemp("template")
    daemon = Daemon(directory, forks)
    try:
        with daemon.start() as rpc:
            rpc.load(Path(Sources(directory / "sources").make("one")))
            rpc.call("plugins.config_set", plugin=KEY, config={"level": 1})
    finally:
        daemon.close()
    return daemon.state


@pytest.fixture
def site(tmp_path: Path, template: Path, forks: ForkServer) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path, forks)
    shutil.copytree(template, daemon.state)
    try:
        yield daemon
    finally:
        # Not asked to stop: how it stops is tested elsewhere, and here it would be waited for seventy times.
        if daemon.process is not None and daemon.process.poll() is None:
            daemon.kill()
        for pid in daemon.processes():
            os.kill(pid, signal.SIGKILL)
        until(lambda: not daemon.processes())
        daemon.close()


def lead_to_its_death(daemon: Daemon, trip: Trip, point: FaultPoint, sources: Sources) -> None:
    if trip.prepare:
        with daemon.start() as rpc:
            take(rpc, trip.prepare, sources)
        daemon.stop()
    told: list[str] = []
    try:
        with daemon.start(**{VARIABLE: str(point)}, **trip.environment) as rpc:
            told += take(rpc, trip.steps, sources)
        until(lambda: daemon.process is not None and daemon.process.poll() is not None)
    except (AssertionError, EOFError, ConnectionError) as error:
        told.append(repr(error))  # Its end cuts off whatever is asked of it, its start too.
    with suppress(subprocess.TimeoutExpired):
        if daemon.wait() == -9:
            return
    raise AssertionError(f"{point} was not reached: {told}; the log:\n{daemon.log.read_text()}")


def take(rpc: Rpc, steps: Sequence[tuple[str, dict[str, Any]]], sources: Sources) -> list[str]:
    """The refusals: some are meant."""
    refused = []
    for method, params in steps:
        named = {"source": sources.make(params["source"])} if "source" in params else {}
        try:
            rpc.call(method, **{**params, **named})
        except Refused as error:
            refused.append(str(error))
    return refused


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def look(rpc: Rpc, key: str) -> Stand:
    listed = [info for info in rpc.call("plugins.list", include_uninstalled=True) if info["key"] == key]
    if not listed:
        return None
    info = listed[0]
    configured = info["status"] != "uninstalled"
    level = rpc.call("plugins.config_get", plugin=key)["config"].get("level") if configured else None
    return (info["status"], info["version"], info["staged_version"], level)


def check_whole(daemon: Daemon, rpc: Rpc) -> None:
    """What holds of every plugin, wherever the daemon was killed."""
    packages: dict[str, list[str]] = {"": []}
    pids = []
    for info in rpc.call("plugins.list", include_uninstalled=True):
        if info["status"] == "ready":
            info = rpc.up(info["key"])
            answer = rpc.call("plugins.call", plugin=info["key"], method="version")
            assert answer["result"] == info["version"]
            pids.append(info["pid"])
        if info["status"] != "installed":
            word = LAST_WORDS[info["status"]]
            until(lambda info=info, word=word: said_last(rpc, info) == word)  # type: ignore[misc]
        kept = rpc.call("plugins.versions", plugin=info["key"])
        active = [version for version in kept if version["state"] == "active"]
        if info["status"] != "uninstalled":
            packages[info["key"]] = sorted(version["package_dir"].rpartition("/")[2] for version in kept)
            (running,) = active
            approved = {entry["capability"] for entry in rpc.call("plugins.get", plugin=info["key"])["approvals"]}
            assert (running["version"], set(running["capabilities"]) <= approved) == (info["version"], True)
        staged = [version["version"] for version in kept if version["state"] == "staged"]
        assert staged == ([info["staged_version"]] if info["staged_version"] else [])
    assert stored(daemon.state) == packages
    assert sorted(daemon.processes()) == sorted(pids)
    with closing(sqlite3.connect(f"file:{daemon.state}/plugind.db?mode=ro", uri=True)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []
        assert database.execute("SELECT * FROM intent").fetchall() == []


def said_last(rpc: Rpc, info: dict[str, Any]) -> str:
    types = ["plugin.status_changed", *LAST_WORDS.values()]
    page = rpc.call("events.list", types=types, plugins=[info["id"]], limit=1)
    return str(page["events"][-1]["type"])


def check_data(daemon: Daemon, rpc: Rpc) -> None:
    """Data directories are those of the plugins that there are."""
    keys = {info["key"] for info in rpc.call("plugins.list", include_uninstalled=True)}
    assert set(os.listdir(daemon.state / "data")) <= keys


@pytest.mark.parametrize("point", [p for p in FaultPoint if p not in SPECIAL])
def test_killed_at(point: FaultPoint, site: Daemon, tmp_path: Path) -> None:
    trip, sources = OWN_TRIPS.get(point, TRIPS[point.partition(".")[0]]), Sources(tmp_path / "sources")
    lead_to_its_death(site, trip, point, sources)
    with site.start(**trip.environment) as rpc:
        if trip.environment:
            until(lambda: look(rpc, trip.key) == trip.after)
        assert look(rpc, trip.key) in (trip.before, trip.after)
        check_whole(site, rpc)
        check_data(site, rpc)
        # And it goes on to work: what was begun can be done again, or is done.
        if look(rpc, KEY) == GONE:
            rpc.load(Path(sources.make("one")))
        if trip.key == KEY and trip.after is not None:
            assert rpc.call("plugins.config_set", plugin=KEY, config={"level": 3})["config"] == {"level": 3}


@pytest.mark.parametrize("point", SPECIAL)
def test_killed_in_the_start_after_a_kill(point: FaultPoint, site: Daemon, tmp_path: Path) -> None:
    sources = Sources(tmp_path / "sources")
    lead_to_its_death(site, TRIPS["upgrade"], SPECIAL[point], sources)
    lead_to_its_death(site, Trip(), point, sources)
    with site.start() as rpc:
        assert look(rpc, KEY) in (ONE, TWO)
        check_whole(site, rpc)


def test_every_path_has_a_trip() -> None:
    assert {point.partition(".")[0] for point in FaultPoint} == set(TRIPS)
