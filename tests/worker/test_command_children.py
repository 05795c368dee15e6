"""Commands of jobs with real children: what they are given, what becomes of their output, and that nothing is left."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from supervisor.core.job import RunOutcome, RunState
from supervisor.core.plugin import Plugin
from supervisor.worker.commands import Commands
from supervisor.worker.launch import Launch, Surroundings, plan_launch
from supervisor.worker.logfile import LogFile
from supervisor.worker.process import ChildProcess, spawn
from supervisor.worker.shutdown import Graces
from supervisor.worker.tools import Tools
from tests.logs import read_log
from tests.worker.fakes import PLUGIN_ID, Even, FakeHost, make_plugin
from tests.worker.test_command import PATIENCE_S, wait_gone, wait_written
from tests.worker.test_commands import SPEC, make_run

MARK = "PLUGIND_RUN_ID"
TELL = """
import json, os, sys
print(json.dumps({"argv": sys.argv[1:], "env": dict(os.environ), "cwd": os.getcwd(), "stdin": sys.stdin.read(),
                  "leads": os.getpid() == os.getpgid(0) == os.getsid(0)}))
"""


class Shell:
    """A plugin's commands, over real processes."""

    def __init__(self, tmp_path: Path) -> None:
        self.package_dir = tmp_path / "package"
        self.data_dir = tmp_path / "data"
        for directory in (self.package_dir, self.data_dir):
            directory.mkdir()
        self.log_path = tmp_path / "plugin.log"
        self.log = LogFile(self.log_path, max_bytes=10**7, files=5)
        self.plugin = make_plugin(transport="none", env={"CITY": "Ghent"})
        self.host = FakeHost()
        self.processes: list[ChildProcess] = []
        tools = Tools(
            host=self.host,
            graces=Graces(term_s=0.3, kill_s=2),
            prepare=self.prepare,
            spawn=self.spawn,
            open_log=lambda _: self.log,
            now_ms=lambda: int(trio.current_time() * 1000),
            random=Even(),
        )
        self.commands = Commands(tools, lambda _: self.plugin)

    async def prepare(self, plugin: Plugin) -> Launch:
        return plan_launch(
            plugin,
            package_dir=self.package_dir,
            data_dir=self.data_dir,
            around=Surroundings(
                python=sys.executable, environ={"PATH": os.environ["PATH"], "SECRET": "x"}, state_id="S"
            ),
            is_file=Path.is_file,
            which=lambda name, path: shutil.which(name, path=path),
        )

    def spawn(self, launch: Launch) -> ChildProcess:
        self.processes.append(spawn(launch))
        return self.processes[-1]

    async def run(self, *command: str, timeout_s: float = PATIENCE_S, **run: Any) -> RunOutcome:
        with trio.fail_after(PATIENCE_S):
            return await self.commands.run_command(
                PLUGIN_ID, make_run(**run), replace(SPEC, command=command, timeout_s=timeout_s)
            )

    def lines(self, run_id: str = "run-1") -> list[tuple[str, str]]:
        return [(entry["stream"], entry["message"]) for entry in read_log(self.log_path, run_id=run_id)]


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """Afterwards all is reaped, closed and forgotten."""
    before = os.listdir("/proc/self/fd")
    made = Shell(tmp_path)
    yield made
    assert all(process.exit is not None for process in made.processes)
    assert (made.commands.pids(), made.host.known) == (set(), set())
    assert len(os.listdir("/proc/self/fd")) == len(before)


async def test_what_it_is_given(shell: Shell) -> None:
    (shell.package_dir / "tell.py").write_text(TELL)
    outcome = await shell.run("python", "tell.py", "tell.py", "x", params={"n": 1}, attempt=3)
    assert outcome == RunOutcome(state=RunState.SUCCEEDED, exit_code=0)
    [(_, line)] = shell.lines()
    told = json.loads(line)
    assert told["argv"] == [str(shell.package_dir / "tell.py"), "x"]
    assert (told["cwd"], told["stdin"], told["leads"]) == (str(shell.data_dir.resolve()), "", True)
    env = told["env"]
    assert {name: env.get(name) for name in ("CITY", "HOME", "SECRET", MARK, "PLUGIND_ATTEMPT", "PLUGIND_PARAMS")} == {
        "CITY": "Ghent",
        "HOME": str(shell.data_dir),
        "SECRET": None,
        MARK: "run-1",
        "PLUGIND_ATTEMPT": "3",
        "PLUGIND_PARAMS": '{"n": 1}',
    }
    assert env["PYTHONPATH"] == str(shell.package_dir)
    assert len(env["PLUGIND_LIFE_ID"]) == 16


async def test_its_exit_code_and_its_last_words(shell: Shell) -> None:
    outcome = await shell.run("sh", "-c", "echo begun; echo 'no such city' >&2; exit 7")
    assert outcome == RunOutcome(state=RunState.FAILED, error="exited with code 7: no such city", exit_code=7)
    assert sorted(shell.lines()) == [("stderr", "no such city"), ("stdout", "begun")]


async def test_a_signal_is_named(shell: Shell) -> None:
    assert (await shell.run("sh", "-c", "kill -SEGV $$")).error == "was killed by SIGSEGV"


async def test_a_program_that_is_not_there(shell: Shell) -> None:
    outcome = await shell.run("no-such-program")
    told = "cannot be started: there is no program 'no-such-program', neither in the package nor in PATH"
    assert outcome == RunOutcome(state=RunState.FAILED, error=told)


async def test_too_much_to_give(shell: Shell) -> None:
    outcome = await shell.run("sh", "-c", ":", "x" * 200_000)
    assert (outcome.state, "Argument list too long" in (outcome.error or "")) == (RunState.FAILED, True)


GRANDCHILD = """
trap '' TERM
sh -c 'trap "" TERM; echo $$ >new; mv new child; exec sleep 1000' &
while ! test -e child; do sleep 0.01; done
echo both deaf
wait
"""


async def test_a_timeout_ends_the_whole_tree(shell: Shell) -> None:
    outcome = await shell.run("sh", "-c", GRANDCHILD, timeout_s=0.5)
    told = "did not end within timeout_s = 0.5 s; it was killed"
    assert outcome == RunOutcome(state=RunState.TIMED_OUT, error=told)
    wait_gone(int((shell.data_dir / "child").read_text()))
    assert shell.lines() == [("stdout", "both deaf")]


async def test_a_child_that_it_leaves_behind_is_ended(shell: Shell) -> None:
    outcome = await shell.run("sh", "-c", "sleep 1000 & echo $! >child")
    assert outcome == RunOutcome(state=RunState.SUCCEEDED, exit_code=0)
    wait_gone(int((shell.data_dir / "child").read_text()))


async def test_cancelled(shell: Shell) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shell.run, "sh", "-c", "trap 'echo bye; exit 0' TERM; echo $$ >pid; sleep 1000 & wait")
        await wait_written(shell.data_dir / "pid")
        await trio.testing.wait_all_tasks_blocked()
        [process] = shell.processes
        assert shell.commands.pids() == {process.pid} == shell.host.known
        nursery.cancel_scope.cancel()
    assert process.exit is not None
    assert shell.lines() == [("stdout", "bye")]


async def test_two_runs_beside_each_other(shell: Shell) -> None:
    script = 'echo "I am $PLUGIND_RUN_ID"; : >$PLUGIND_RUN_ID; while ! test -e a -a -e b; do sleep 0.01; done'
    async with trio.open_nursery() as nursery:
        for id_ in ("a", "b"):

            async def run(id_: str = id_) -> None:
                await shell.run("sh", "-c", script, id=id_)

            nursery.start_soon(run)
    assert {id_: shell.lines(id_) for id_ in ("a", "b")} == {
        "a": [("stdout", "I am a")],
        "b": [("stdout", "I am b")],
    }
    assert len(read_log(shell.log_path)) == 2
