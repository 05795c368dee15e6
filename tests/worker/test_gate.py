from __future__ import annotations

import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from supervisor.core.worker_spec import Limits
from supervisor.worker.cgroup import Group
from supervisor.worker.containment import Containment, Ward
from supervisor.worker.gate import can_be_held
from supervisor.worker.launch import Launch
from supervisor.worker.process import ChildProcess, Exit, spawn


class Slow(Containment):
    """As on a machine that is busy elsewhere just then."""

    def enclose(self, pid: int, launch: Launch, group: Group | None) -> Ward:
        time.sleep(0.1)
        return super().enclose(pid, launch, group)


def launch_of(*argv: str, limits: Limits | None = None, **env: str) -> Launch:
    return Launch(argv=argv, env=env, cwd=Path("/"), rpc=False, limits=limits or Limits(nofile=77))


@asynccontextmanager
async def running(launch: Launch, containment: Containment) -> AsyncIterator[ChildProcess]:
    process = spawn(launch, containment)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(process.watch)
            try:
                yield process
            finally:
                process.kill()
                await process.wait()
                await process.aclose()


async def told(launch: Launch, containment: Containment | None = None) -> str:
    text = b""
    async with running(launch, containment or Containment()) as process:
        async for part in process.stdout:
            text += part
        assert await process.wait() == Exit(0, None)
    return text.decode()


async def test_a_program_does_not_begin_before_its_limits_are_set() -> None:
    assert await told(launch_of("/bin/sh", "-c", "ulimit -n"), Slow()) == "77\n"


async def test_words_and_environment_arrive_as_they_are() -> None:
    code = "import os, sys; print([sys.argv[1:], dict(os.environ), os.listdir('/proc/self/fd')])"
    words = ("a b", "", "$HOME", "'\"", "-x", "é\n")
    held = launch_of(sys.executable, "-S", "-c", code, *words, A="1 $B", HOME="/h")
    argv, env, descriptors = eval(await told(held))
    assert argv == list(words)
    assert {name: value for name, value in env.items() if name != "LC_CTYPE"} == {"A": "1 $B", "HOME": "/h"}
    assert (argv, env, descriptors) == tuple(eval(await told(replace(held, limits=Limits()))))


async def test_it_is_the_child_itself() -> None:
    assert await told(launch_of("/bin/sh", "-c", "echo $PPID; ps -o comm= -p $$ || cat /proc/$$/comm")) == (
        f"{os.getpid()}\nsh\n"
    )


async def test_who_dies_in_it_is_reaped() -> None:
    async with running(launch_of("/bin/sleep", "600"), Containment()) as process:
        process.kill()
        assert await process.wait() == Exit(None, 9)


def script(path: Path, text: str, mode: int = 0o755) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


@pytest.mark.parametrize(
    ("text", "held"),
    [("#!/bin/sh\n", True), ("#! /bin/sh -e\n", True), ("#!/no/such\n", False), ("#!\n", False), ("echo\n", False)],
)
def test_of_what_a_shell_would_take_otherwise_the_kernel_decides(tmp_path: Path, text: str, held: bool) -> None:
    assert can_be_held(script(tmp_path / "program", text)) is held


def test_other_programs(tmp_path: Path) -> None:
    assert can_be_held(os.path.realpath(sys.executable))
    assert not can_be_held(str(tmp_path / "none"))
    assert not can_be_held(script(tmp_path / "plain", "#!/bin/sh\n", 0o644))
    foreign = tmp_path / "foreign"
    head: Any = bytearray(Path("/bin/sh").read_bytes()[:64])
    head[18] ^= 0x55  # another machine
    foreign.write_bytes(head)
    foreign.chmod(0o755)
    assert not can_be_held(str(foreign))


async def test_the_kernel_says_what_is_wrong(tmp_path: Path) -> None:
    for name, text in (("interpreter", "#!/no/such/thing\n"), ("format", "no program\n")):
        with pytest.raises(OSError):
            spawn(launch_of(script(tmp_path / name, text)), Containment())
