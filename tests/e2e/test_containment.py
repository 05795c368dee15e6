"""The daemon whole, with and without a cgroup of its own: nothing that a plugin has started outlives it."""

from __future__ import annotations

import json
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cgroups import delegated_group
from tests.e2e.conftest import PATIENCE_S, Daemon, Rpc

Copy = Callable[[str], Path]
RLIMIT_LOCKS = 10
INTO = """
import os, sys
with open({procs!r}, "w") as procs: procs.write(str(os.getpid()))
os.execv(sys.argv[1], sys.argv[1:])
"""
MANIFEST = """
[plugin]
key = "test.hides"
version = "1.0.0"
api_version = 1
display_name = "Hides a grandchild"
description = "In a session of its own, without the environment that it was given."
author = "plugind's tests"
categories = ["automation"]

[worker]
command = ["python", "main.py"]
transport = "none"
start_grace_s = 0.2
limits = { memory_mb = 200, nofile = 64, cpu_percent = 80 }
"""
HIDES = """
import os, time
child = os.fork()
if child == 0:
    os.setsid()
    os.execve("/bin/sleep", ["sleep", "120"], {})
with open("child", "w") as file:
    print(child, file=file)
time.sleep(120)
"""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def hides(tmp_path: Path) -> Path:
    source = tmp_path / "sources" / "hides"
    source.mkdir(parents=True, mode=0o755)
    for name, text in (("plugin.toml", MANIFEST), ("main.py", HIDES)):
        (source / name).write_text(text)
        (source / name).chmod(0o644)
    for directory in (source.parent, source):
        directory.chmod(0o755)
    return source


@pytest.fixture
def delegated() -> Iterator[Path]:
    with delegated_group() as group:
        yield group


def hidden(rpc: Rpc, key: str) -> int:
    """The pid of the grandchild, once it is as hidden as it will be."""
    file = Path(rpc.call("plugins.get", plugin=key)["data_dir"]) / "child"
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        text = file.read_text().strip() if file.exists() else ""
        if text and Path(f"/proc/{text}/comm").read_text() == "sleep\n":
            file.unlink()
            return int(text)
        time.sleep(0.01)
    raise AssertionError("there is no grandchild")


def logged(daemon: Daemon, event: str) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in daemon.log.read_text().splitlines() if line.startswith("{")]
    return [record for record in records if record["event"] == event]


def start_in(daemon: Daemon, group: Path) -> Rpc:
    leaf = group / "supervisor"
    procs = (leaf if leaf.exists() else group) / "cgroup.procs"
    return daemon.start(shim=INTO.format(procs=str(procs)))


def strays(rpc: Rpc, kind: str) -> list[list[int]]:
    return [event["data"]["strays"] for event in rpc.call("events.list", types=[kind], after_seq=0)["events"]]


def test_without_a_cgroup(daemon: Daemon, hides: Path) -> None:
    with daemon.start() as rpc:
        [ready] = logged(daemon, "containment.ready")
        key = rpc.load(hides)["key"]
        first = hidden(rpc, key)
        if ready["cgroup"] is None:
            seen = rpc.call("plugins.get", plugin=key, pss=True)
            assert [(it["limit"], it["enforced_by"]) for it in seen["limits"]] == [
                ("memory_mb", "watch"), ("nofile", "rlimit"), ("cpu_percent", "nothing"),
            ]  # fmt: skip
            assert (seen["usage"]["processes"], seen["usage"]["threads"]) == (2, 2)
            assert seen["usage"]["rss_bytes"] > seen["usage"]["pss_bytes"] > 10**6
        rpc.call("plugins.stop", plugin=key)
        assert not alive(first)
        assert strays(rpc, "plugin.worker_stopped") == [[first]]
        stopped = rpc.call("plugins.get", plugin=key)
        assert stopped["usage"] is None
        assert len(stopped["limits"]) == 3
        assert daemon.stop() == 0


def test_what_the_killed_daemon_left_in_sessions_of_its_own(daemon: Daemon, plugin: Copy) -> None:
    with daemon.start() as rpc:
        pid = rpc.load(plugin("setsid_grandchild"))["pid"]
        daemon.kill()
    assert len(daemon.processes()) >= 1
    former = daemon.processes()
    with daemon.start() as rpc:
        rpc.up("test.setsid-grandchild")
        assert not any(map(alive, [pid, *former]))
        assert daemon.stop() == 0


def test_in_a_cgroup_of_its_own(daemon: Daemon, hides: Path, delegated: Path) -> None:
    with start_in(daemon, delegated) as rpc:
        [ready] = logged(daemon, "containment.ready")
        assert (ready["cgroup"], ready["enforced"].split(", ")[0]) == (str(delegated), "kill")
        assert os.listdir(delegated / "workers").count("cgroup.procs") == 1
        key = rpc.load(hides)["key"]
        first = hidden(rpc, key)
        assert rpc.call("plugins.get", plugin=key)["usage"]["processes"] == 2
        rpc.call("plugins.restart", plugin=key)
        assert not alive(first)
        assert strays(rpc, "plugin.worker_stopped") == [[first]]
        left = [rpc.up(key)["pid"], hidden(rpc, key)]
        daemon.kill()
    assert all(map(alive, left))
    os.kill(left[0], signal.SIGKILL)
    # No environment, no session, no parent, no limit tells whose the grandchild is: only the group does.
    resource.prlimit(left[1], RLIMIT_LOCKS, (7, 7))
    with start_in(daemon, delegated) as rpc:
        assert not any(map(alive, left))
        [killed] = logged(daemon, "leftover.killed_in_cgroup")
        assert killed["pids"] == [left[1]]
        last = [rpc.up(key)["pid"], hidden(rpc, key)]
        assert daemon.stop() == 0
    assert not any(map(alive, last))
    assert not [path for path in (delegated / "workers").iterdir() if path.is_dir()]
