"""Programs that an install runs: a flood of lines harms nobody, and what they leave is found."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import pytest
import trio

from supervisor.daemon.reaper import reap_orphans
from supervisor.lifecycle.children import Children
from supervisor.worker.procfs import read_stat
from tests.daemon.processes import as_subreaper

DAEMON = """
import os, sys
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        os.execve("/bin/sleep", ["sleep", "600"], {})
    os._exit(0)
os.wait()
sys.stdin.read()
"""


async def test_a_daemon_without_environment_does_not_outlive_it(tmp_path: Path) -> None:
    children, lines = Children(), list[str]()
    with trio.fail_after(20), as_subreaper():
        async with trio.open_nursery() as nursery:
            reaping = partial(reap_orphans, lambda pid: pid in children.pids(), grace_s=0.01)
            await nursery.start(lambda *, task_status: reaping(task_status=task_status))
            argv = [sys.executable, "-c", DAEMON]
            ended = await children.run(argv, env={}, cwd=tmp_path, on_line=lines.append)
            assert ended.code == 0
            while read_stat(int(lines[0])) is not None:  # noqa: ASYNC110  foreign processes tell nobody
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("line", ["ab", "x" * 3000])
async def test_a_flood_is_told_in_part_and_delays_nobody(line: str, tmp_path: Path) -> None:
    lines: list[str] = []
    many = 300_000 if len(line) < 10 else 3_000
    code = f"import sys; sys.stdout.write(({line!r} + chr(10)) * {many}); print('the end')"
    longest = [0.0]

    async def look() -> None:
        while True:
            before = trio.current_time()
            await trio.sleep(0.001)
            longest.append(trio.current_time() - before)

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            began = trio.current_time()
            await Children().run([sys.executable, "-c", code], env={}, cwd=tmp_path, on_line=lines.append)
            took = trio.current_time() - began
            nursery.cancel_scope.cancel()
    left_out = sum(int(text.split()[0][1:]) for text in lines if text.endswith("lines left out)"))
    assert lines[-1] == "the end"
    # What is left in the pipe at the end, up to 1 MiB, comes at once.
    assert len(lines) <= 2100 * (took + 1) + 17_000
    assert left_out + len(lines) >= many
    assert sorted(longest)[len(longest) // 2] < 0.05
