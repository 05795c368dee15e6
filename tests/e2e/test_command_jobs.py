"""Jobs that are commands, with the real daemon: what they are given, what is told of them, and that nothing is left."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import PATIENCE_S, ROOT, Daemon, Rpc

Make = Callable[..., Path]
KEY = "test.chores"
MANIFEST = f"""
[plugin]
key = "{KEY}"
version = "1"
api_version = 1
display_name = "chores"
description = "A program that knows nothing of plugind, and what is to be done beside it."
author = "plugind's tests"
categories = ["automation"]
capabilities = ["jobs.schedule"]

[worker]
command = ["sleep", "1000"]
transport = "none"
start_grace_s = 0
stop_timeout_s = 1
env = {{ CITY = "Ghent" }}
"""
TELL = """
import json, os
wanted = ["CITY", *("PLUGIND_" + name for name in ("RUN_ID", "JOB", "ATTEMPT", "TRIGGER", "DUE", "PARAMS"))]
print(json.dumps({"cwd": os.getcwd()} | {name: os.environ.get(name) for name in wanted}))
"""
# All of it deaf to SIGTERM: a child in its group, and one that has left it.
TREE = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for leaves in (False, True):
    if not os.fork():
        if leaves:
            os.setsid()
        open(f"ready-{leaves}", "w").close()
        time.sleep(1000)
while not (os.path.exists("ready-False") and os.path.exists("ready-True")):
    time.sleep(0.01)
print("deaf", flush=True)
open("ready", "w").close()
time.sleep(1000)
"""


LEAVE = """
import os, time
if not os.fork():
    os.setsid()
    with open("new", "w") as file:
        file.write(str(os.getpid()))
    os.rename("new", "ready")
    time.sleep(1000)
while not os.path.exists("ready"):
    time.sleep(0.01)
"""


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A package with `jobs`, key -> what follows in its table; and those scripts."""

    def make(jobs: dict[str, str], **scripts: str) -> Path:
        package = tmp_path / "sources" / KEY
        package.mkdir(parents=True, mode=0o755)
        tables = "".join(f'\n[[jobs]]\nkey = "{key}"\ndisplay_name = "{key}"\n{text}\n' for key, text in jobs.items())
        (package / "plugin.toml").write_text(MANIFEST + tables)
        for name, text in scripts.items():
            (package / f"{name}.py").write_text(text)
        package.parent.chmod(0o755)
        for path in package.iterdir():
            path.chmod(0o644)
        return package

    return make


def data_dir(daemon: Daemon) -> Path:
    return daemon.state / "data" / KEY


def run(rpc: Rpc, job: str, **params: Any) -> Any:
    return rpc.call("jobs.run", job=f"{KEY}/{job}", wait=True, **params)


def lines(rpc: Rpc, run: Any) -> list[tuple[str, str]]:
    """What the log has of a run."""
    return [(line["stream"], line["message"]) for line in rpc.call("logs.read", plugin=KEY, run=run["id"])]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def wait_state(rpc: Rpc, run: Any, state: str) -> Any:
    wait_until(lambda: bool(rpc.call("jobs.get_run", run=run["id"])["state"] == state))
    return rpc.call("jobs.get_run", run=run["id"])


def begin_tree(daemon: Daemon, rpc: Rpc, job: str = "tree") -> Any:
    begun = rpc.call("jobs.run", job=f"{KEY}/{job}")
    wait_until((data_dir(daemon) / "ready").exists)
    return begun


def test_a_command_from_its_start_to_its_exit_code(daemon: Daemon, make: Make) -> None:
    jobs = {
        "tell": 'command = ["python", "tell.py"]',
        "fail": """command = ["sh", "-c", "echo begun; echo 'no such city' >&2; exit 7"]""",
        "absent": 'command = ["no-such-program"]',
    }
    with daemon.start() as rpc:
        rpc.load(make(jobs, tell=TELL))
        before = daemon.processes()

        done = run(rpc, "tell", params={"city": "Köln"})
        assert (done["state"], done["exit_code"], done["error"]) == ("succeeded", 0, None)
        [(stream, line)] = lines(rpc, done)
        told = json.loads(line)
        due = told.pop("PLUGIND_DUE")
        assert due.endswith("+00:00")
        assert (stream, json.loads(told.pop("PLUGIND_PARAMS")), told) == (
            "stdout",
            {"city": "Köln"},
            {
                "cwd": str(data_dir(daemon).resolve()),
                "CITY": "Ghent",
                "PLUGIND_RUN_ID": done["id"],
                "PLUGIND_JOB": "tell",
                "PLUGIND_ATTEMPT": "1",
                "PLUGIND_TRIGGER": "manual",
            },
        )

        failed = run(rpc, "fail")
        assert (failed["state"], failed["exit_code"]) == ("failed", 7)
        assert failed["error"] == "exited with code 7: no such city"
        assert sorted(lines(rpc, failed)) == [("stderr", "no such city"), ("stdout", "begun")]

        absent = run(rpc, "absent")
        told = "cannot be started: there is no program 'no-such-program', neither in the package nor in PATH"
        assert (absent["state"], absent["exit_code"], absent["error"]) == ("failed", None, told)

        assert daemon.processes() == before, "a command has left something behind"
        assert rpc.call("plugins.get", plugin=KEY)["restarts"] == 0
        # Their rows are gone too: a command is no worker that anybody is told of.
        types = {event["type"] for event in rpc.call("events.list", plugins=[KEY])["events"]}
        assert {"job.run_started", "job.run_failed"} <= types
        assert len(rpc.call("events.list", plugins=[KEY], types=["plugin.worker_*"])["events"]) == 1


def test_it_needs_no_worker(daemon: Daemon, make: Make) -> None:
    with daemon.start() as rpc:
        rpc.load(make({"tell": 'command = ["python", "tell.py"]'}, tell=TELL))
        rpc.call("plugins.stop", plugin=KEY)
        assert run(rpc, "tell")["state"] == "succeeded"


def test_on_a_terminal_its_exit_code_is_the_outcome(daemon: Daemon, make: Make) -> None:
    jobs = {"good": 'command = ["true"]', "bad": """command = ["sh", "-c", "echo 'no luck' >&2; exit 7"]"""}
    with daemon.start() as rpc:
        rpc.load(make(jobs))
        for job, code in {"good": 0, "bad": 1}.items():
            done = subprocess.run(
                [sys.executable, "-m", "client.cli.main", "jobs", "run", f"{KEY}/{job}", "--wait"],
                env=daemon.environment(PLUGIND_SOCKET=str(daemon.socket)),
                capture_output=True,
                timeout=PATIENCE_S,
                cwd=ROOT,
                check=False,
            )
            assert done.returncode == code, done
        assert b"no luck" in done.stdout + done.stderr


def test_a_timeout_kills_the_whole_tree(daemon: Daemon, make: Make) -> None:
    with daemon.start() as rpc:
        rpc.load(make({"tree": 'command = ["python", "tree.py"]\ntimeout_s = 1'}, tree=TREE))
        before = daemon.processes()
        begun = begin_tree(daemon, rpc)
        ended = wait_state(rpc, begun, "timed_out")
        assert ended["error"] == "did not end within timeout_s = 1 s; it was killed"
        assert ended["exit_code"] is None
        assert daemon.processes() == before
        # Whether what left its group is told of too depends on how soon it is dead.
        assert lines(rpc, begun)[0] == ("stdout", "deaf")


def test_what_leaves_its_group_is_ended_with_it(daemon: Daemon, make: Make) -> None:
    with daemon.start() as rpc:
        rpc.load(make({"leave": 'command = ["python", "leave.py"]'}, leave=LEAVE))
        before = daemon.processes()
        done = run(rpc, "leave")
        assert (done["state"], daemon.processes()) == ("succeeded", before)
        [(stream, note)] = lines(rpc, done)
        pid = (data_dir(daemon) / "ready").read_text()
        told = "killed what the command had left running outside its process group: pid"
        assert (stream, note.startswith(f"{told} {pid} (")) == ("plugind", True)


def test_cancelled_by_hand(daemon: Daemon, make: Make) -> None:
    with daemon.start() as rpc:
        rpc.load(make({"tree": 'command = ["python", "tree.py"]'}, tree=TREE))
        before = daemon.processes()
        begun = begin_tree(daemon, rpc)
        rpc.call("jobs.cancel", run=begun["id"])
        wait_state(rpc, begun, "cancelled")
        wait_until(lambda: daemon.processes() == before)


def test_the_daemon_is_killed_while_a_command_runs(daemon: Daemon, make: Make) -> None:
    with daemon.start() as rpc:
        rpc.load(make({"tree": 'command = ["python", "tree.py"]'}, tree=TREE))
        begun = begin_tree(daemon, rpc)
    left = set(daemon.processes())
    daemon.kill()
    assert len(left) == 4, "the worker, and the command with its two children"
    with daemon.start() as rpc:
        # They are ended before the daemon is ready.
        assert left.isdisjoint(daemon.processes())
        again = rpc.call("jobs.get_run", run=begun["id"])
        assert (again["state"], again["retry_at_ms"]) == ("interrupted", None)
        rpc.up(KEY)
        assert len(daemon.processes()) == 1


def test_the_daemon_is_stopped_while_a_command_runs(daemon: Daemon, make: Make) -> None:
    with daemon.start() as rpc:
        rpc.load(make({"tree": 'command = ["python", "tree.py"]'}, tree=TREE))
        begun = begin_tree(daemon, rpc)
    assert daemon.stop() == 0
    assert daemon.processes() == []
    with daemon.start() as rpc:
        assert rpc.call("jobs.get_run", run=begun["id"])["state"] == "interrupted"


def test_nothing_of_a_plugin_outlives_its_data(daemon: Daemon, make: Make) -> None:
    with daemon.start() as rpc:
        rpc.load(make({"tree": 'command = ["python", "tree.py"]'}, tree=TREE))
        begin_tree(daemon, rpc)
        rpc.call("plugins.unload", plugin=KEY, remove_data=True)
        assert daemon.processes() == []
        assert not data_dir(daemon).exists()
