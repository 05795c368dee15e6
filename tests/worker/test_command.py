# ruff: noqa: ASYNC110, ASYNC240  -- that a child has written a file raises no event
"""Commands beside a worker, with real children: their ends, their output, and that nothing is left of them."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from supervisor.worker.command import OUTPUT_CHARACTERS, CommandResult, run_command
from supervisor.worker.launch import Launch
from supervisor.worker.process import ChildProcess, Exit, spawn

SH = shutil.which("sh") or "/bin/sh"
PATIENCE_S = 20.0


class Spawner:
    """The real `spawn`, which remembers what it made."""

    def __init__(self) -> None:
        self.launches: list[Launch] = []
        self.processes: list[ChildProcess] = []

    def __call__(self, launch: Launch) -> ChildProcess:
        self.launches.append(launch)
        self.processes.append(spawn(launch))
        return self.processes[-1]


@pytest.fixture
def spawner() -> Iterator[Spawner]:
    """Afterwards all that it made has been reaped, and nothing of it is open."""
    before = os.listdir("/proc/self/fd")
    made = Spawner()
    yield made
    assert all(process.exit is not None for process in made.processes)
    assert len(os.listdir("/proc/self/fd")) == len(before)


@pytest.fixture
def launch(tmp_path: Path) -> Launch:
    env = {"PATH": os.environ["PATH"], "WORD": "of the worker"}
    return Launch(argv=("/nosuch/worker",), env=env, cwd=tmp_path, rpc=True)


def wait_gone(pid: int) -> None:
    """Until it is reaped, or a zombie that waits for its new parent."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state == "Z":
            return
        assert time.monotonic() < deadline, f"{pid} lives on: {state}"
        os.sched_yield()


async def wait_written(path: Path) -> str:
    while not path.exists() or not path.read_text().endswith("\n"):
        await trio.sleep(0.005)
    return path.read_text()


async def run(spawner: Spawner, launch: Launch, script: str, timeout_s: float = PATIENCE_S) -> CommandResult:
    with trio.fail_after(PATIENCE_S):
        return await run_command(spawner, launch, (SH, "-c", script), timeout_s)


async def test_success_with_output_of_both_streams(spawner: Spawner, launch: Launch) -> None:
    result = await run(spawner, launch, "echo one; echo two >&2")
    assert (result.exit, result.problem) == (Exit(0, None), None)
    assert sorted(result.output.split()) == ["one", "two"]


async def test_it_runs_like_the_worker_but_without_rpc(spawner: Spawner, launch: Launch) -> None:
    result = await run(spawner, launch, 'echo "$WORD"; pwd -P; test -e /proc/$$/fd/3 || echo no fd 3')
    assert result.output.splitlines() == ["of the worker", str(launch.cwd.resolve()), "no fd 3"]
    assert spawner.launches[0].rpc is False
    assert spawner.processes[0].rpc is None


@pytest.mark.parametrize(
    ("script", "exit_", "problem"),
    [
        ("echo no; exit 3", Exit(3, None), "exited with code 3"),
        ("kill -SEGV $$", Exit(None, 11), "was killed by SIGSEGV"),
    ],
)
async def test_failures(spawner: Spawner, launch: Launch, script: str, exit_: Exit, problem: str) -> None:
    result = await run(spawner, launch, script)
    assert (result.exit, result.problem) == (exit_, problem)


async def test_a_program_that_is_not_there(spawner: Spawner, launch: Launch) -> None:
    result = await run_command(spawner, launch, ("/nosuch/program", "stop"), 1)
    assert result == CommandResult(
        exit=None, problem="cannot be run: /nosuch/program: No such file or directory", output=""
    )
    assert result.last_line == ""


async def test_a_hung_one_is_killed_with_its_whole_group(spawner: Spawner, launch: Launch) -> None:
    began = time.monotonic()
    result = await run(spawner, launch, "trap '' TERM INT; sleep 1000 & echo child $!; echo waiting; wait", 0.3)
    assert time.monotonic() - began < 10
    assert (result.exit, result.problem) == (None, "did not end within 0.3 s")
    assert result.last_line == "waiting"
    wait_gone(int(result.output.split()[1]))


async def test_a_cancelled_one_is_killed_and_reaped(spawner: Spawner, launch: Launch) -> None:
    written = launch.cwd / "child"
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            script = "sleep 1000 & echo $! >child; wait"
            nursery.start_soon(run_command, spawner, launch, (SH, "-c", script), PATIENCE_S)
            child = int(await wait_written(written))
            nursery.cancel_scope.cancel()
    wait_gone(child)
    assert spawner.processes[0].exit == Exit(None, 9)


async def test_what_left_its_group_and_keeps_the_pipes_keeps_nobody_waiting(spawner: Spawner, launch: Launch) -> None:
    (launch.cwd / "leaver.py").write_text(
        "import os, time\nos.setsid()\nwith open('new', 'w') as f:\n    print(os.getpid(), file=f)\n"
        "os.rename('new', 'pid')\ntime.sleep(1000)\n"
    )
    began = time.monotonic()
    result = await run(spawner, launch, f"{sys.executable} leaver.py & while ! test -e pid; do sleep 0.01; done")
    child = int((launch.cwd / "pid").read_text())
    try:
        assert result.exit == Exit(0, None)
        assert time.monotonic() - began < 10
        os.kill(child, 0)
    finally:
        os.kill(child, 9)
        wait_gone(child)


async def test_only_the_tail_of_a_flood_is_kept(spawner: Spawner, launch: Launch) -> None:
    result = await run(spawner, launch, "head -c 20000000 /dev/zero | tr '\\0' x; echo; echo the end")
    assert result.exit == Exit(0, None)
    assert len(result.output) == OUTPUT_CHARACTERS
    assert result.output.endswith("xxx\nthe end\n")
    assert result.last_line == "the end"


async def test_an_endless_flood_ends_in_time(spawner: Spawner, launch: Launch) -> None:
    result = await run(spawner, launch, "exec yes", 0.3)
    assert result.exit is None
    assert set(result.output.split()) == {"y"}


async def test_output_that_is_no_text(spawner: Spawner, launch: Launch) -> None:
    result = await run(spawner, launch, "printf 'a\\377\\000b\\n\\n'")
    assert result.output == "a\\xff\0b\n\n"
    assert result.last_line == "a\\xff\0b"
