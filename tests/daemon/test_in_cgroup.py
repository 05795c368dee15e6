"""The real code in a real cgroup v2 tree: a process of its own, moved into a group that is delegated to it."""

# ruff: noqa: ASYNC110  -- that a process has come raises no event
from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from supervisor.core.worker_spec import Limits
from supervisor.daemon.delegation import prepare_groups
from supervisor.daemon.reaper import become_subreaper
from supervisor.worker.cgroup import Groups
from supervisor.worker.containment import Containment
from supervisor.worker.launch import Launch
from supervisor.worker.process import ChildProcess, spawn
from supervisor.worker.procfs import read_stat
from tests.cgroups import delegated_group, mount

SOURCE = Path(__file__).parent.parent.parent
STATE_ID = "0123456789abcdef0123456789abcdef"
HIDDEN = "import os, time\nc = os.fork()\nif c == 0: os.setsid(); os.execve('/bin/sleep', ['sleep', '60'], {})\n"


@pytest.fixture
def delegated() -> Iterator[Path]:
    with delegated_group() as group:
        yield group


def act(group: Path, what: str) -> dict[str, Any]:
    """What `what` returns, when it is run by a process in `group` with the groups that it found to be its own."""
    code = (
        "import os, sys, trio\n"
        "with open(sys.argv[1] + '/cgroup.procs', 'w') as procs: procs.write(str(os.getpid()))\n"
        "from tests.daemon import test_in_cgroup\n"
        "trio.run(test_in_cgroup.act_inside, sys.argv[2])"
    )
    # Once the group hands controllers down it takes no processes, and the next daemon is started in the leaf.
    leaf = group / "supervisor"
    done = subprocess.run(
        [sys.executable, "-c", code, str(leaf if leaf.exists() else group), what],
        cwd=SOURCE, text=True, timeout=60, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


async def act_inside(what: str) -> None:
    become_subreaper()
    groups = prepare_groups(STATE_ID)
    assert groups is not None
    with trio.fail_after(30):
        print(json.dumps(await globals()[what](groups, Containment(groups))))


def start(containment: Containment, code: str, limits: Limits | None = None) -> ChildProcess:
    return spawn(
        Launch(
            argv=(sys.executable, "-S", "-c", code),
            env={},
            cwd=Path("/"),
            rpc=False,
            limits=limits or Limits(),
            plugin_id="p",
        ),
        containment,
    )


async def named_sleep(pid: int) -> None:
    while (found := read_stat(pid)) is None or found.name != "sleep":
        await trio.sleep(0.005)


def alive(pid: int) -> bool:
    found = read_stat(pid)
    return found is not None and not found.is_dead


def groups_left() -> list[str]:
    (own,) = [line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::")]
    top = mount()
    assert top is not None
    assert own.endswith("/supervisor")
    return sorted(path.name for path in (top / own.lstrip("/")).parent.joinpath("workers").iterdir() if path.is_dir())


async def a_hidden_grandchild(_: Groups, containment: Containment) -> dict[str, Any]:
    """The worker is killed by a stranger; then another one ends by itself; then one is killed by us."""
    told: dict[str, Any] = {}
    for how in ("crash", "exit", "kill"):
        end = "print(c, flush=True); time.sleep(60 if {} else 0)".format(how != "exit")
        process = start(containment, HIDDEN + end)
        ward = containment.ward(process.pid)
        assert ward is not None
        hidden = int(await process.stdout.receive_some())
        await named_sleep(hidden)
        there = groups_left()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(process.watch)
            if how != "exit":
                told["processes"] = len(ward.look())
                process.kill() if how == "kill" else os.kill(process.pid, 9)
            await process.wait()
        await process.aclose()
        killed = [(it.pid == hidden, it.name) for it in ward.killed]
        told[how] = {"there": there, "killed": killed, "alive": alive(hidden), "left": groups_left()}
    return told


def test_nobody_escapes_by_setsid(delegated: Path) -> None:
    told = act(delegated, "a_hidden_grandchild")
    stray = [[True, "sleep"]]
    assert told["crash"] == {"there": ["01234567.p.1"], "killed": stray, "alive": False, "left": []}
    assert told["exit"] == {"there": ["01234567.p.2"], "killed": stray, "alive": False, "left": []}
    # All of the group were killed at once: mostly there is nobody left to outlive the worker.
    assert told["kill"].pop("killed") in ([], stray)
    assert told["kill"] == {"there": ["01234567.p.3"], "alive": False, "left": []}
    assert told["processes"] == 2


async def forks_at_once(_: Groups, containment: Containment) -> dict[str, Any]:
    """Those that were forked before the worker was moved are moved too."""
    outside: list[int] = []
    for _again in range(20):
        process = spawn(
            Launch(argv=("/bin/sh", "-c", "sleep 60 & sleep 60 & sleep 60"), env={}, cwd=Path("/"), rpc=False),
            containment,
        )
        ward = containment.ward(process.pid)
        assert ward is not None
        while len(ward.look()) < 4:
            await trio.sleep(0.001)
        outside += [pid for pid in {it.pid for it in ward._kin.look()} if pid not in {it.pid for it in ward.look()}]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(process.watch)
            process.kill()
            await process.wait()
        await process.aclose()
    return {"outside": outside, "left": groups_left()}


def test_those_forked_before_the_move_are_in_too(delegated: Path) -> None:
    assert act(delegated, "forks_at_once") == {"outside": [], "left": []}


async def what_enforces_limits(groups: Groups, containment: Containment) -> dict[str, Any]:
    process = start(containment, "import time; time.sleep(60)", Limits(memory_mb=64, pids=5, cpu_percent=50))
    ward = containment.ward(process.pid)
    assert ward is not None
    told = {"limits": ward.limits, "controllers": groups.controllers, "files": {}}
    group = ward._group
    assert group is not None
    for name in ("memory.max", "pids.max", "cpu.max"):
        if (group.path / name).exists():
            told["files"][name] = (group.path / name).read_text().strip()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(process.watch)
        process.kill()
        await process.wait()
    await process.aclose()
    return told


def test_limits_are_enforced_by_what_there_is(delegated: Path) -> None:
    told = act(delegated, "what_enforces_limits")
    assert set(told["controllers"]) == {"memory", "pids", "cpu"}
    fallback = {"memory_mb": "watch", "pids": "watch", "cpu_percent": "nothing"}
    files = {"memory_mb": "memory.max", "pids": "pids.max", "cpu_percent": "cpu.max"}
    for info in told["limits"]:
        name = info["limit"]
        there = told["controllers"][name.removesuffix("_mb").removesuffix("_percent")] is None
        assert info["enforced_by"] == ("cgroup" if there else fallback[name])
        assert (files[name] in told["files"]) is there


async def leaves_a_worker(_: Groups, containment: Containment) -> dict[str, Any]:
    process = start(containment, HIDDEN + "print(c, flush=True); time.sleep(60)")
    hidden = int(await process.stdout.receive_some())
    await named_sleep(hidden)
    return {"pids": sorted((process.pid, hidden))}


async def cleans_up(groups: Groups, _: Containment) -> dict[str, Any]:
    there = groups_left()
    others = await Groups(groups._base, "another state directory", {}).remove_former(5)
    pids = await groups.remove_former(5)
    return {
        "there": there,
        "others": others,
        "pids": sorted(pids),
        "alive": list(map(alive, pids)),
        "left": groups_left(),
    }


def test_the_next_daemon_removes_what_the_last_one_left(delegated: Path) -> None:
    left = act(delegated, "leaves_a_worker")["pids"]
    assert all(map(alive, left))
    told = act(delegated, "cleans_up")
    assert told == {"there": ["01234567.p.1"], "others": [], "pids": left, "alive": [False, False], "left": []}


async def cannot_be_moved(groups: Groups, containment: Containment) -> dict[str, Any]:
    """Its group is gone before it can move in."""
    make = groups.make

    def make_and_lose(name: str, limits: Any) -> Any:
        group = make(name, limits)
        group.remove()
        return group

    groups.make = make_and_lose  # type: ignore[method-assign]
    process = start(containment, HIDDEN + "print(c, flush=True); time.sleep(60)", Limits(pids=50))
    ward = containment.ward(process.pid)
    assert ward is not None
    hidden = int(await process.stdout.receive_some())
    await named_sleep(hidden)
    seen = len(ward.look())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(process.watch)
        process.kill()
        await process.wait()
    await process.aclose()
    while alive(hidden):
        await trio.sleep(0.001)
    return {"processes": seen, "enforced_by": ward.limits[0]["enforced_by"], "left": groups_left()}


def test_a_worker_that_cannot_be_moved_runs_without(delegated: Path) -> None:
    assert act(delegated, "cannot_be_moved") == {"processes": 2, "enforced_by": "watch", "left": []}
