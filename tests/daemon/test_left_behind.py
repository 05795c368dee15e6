"""What a worker leaves behind, from its spawn to the host's forgetting it: all dead, all reported, and nobody else."""

# ruff: noqa: ASYNC110  -- that a process has come raises no event
from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import trio

from supervisor.core.plugin import PluginId
from supervisor.core.worker_spec import Limits
from supervisor.daemon.host import StoreHost
from supervisor.worker.containment import Containment
from supervisor.worker.launch import Launch
from supervisor.worker.process import ChildProcess, spawn
from supervisor.worker.procfs import children, has_variable, read_stat
from tests.daemon.processes import as_subreaper, sleeping

PLUGIN = PluginId("11111111-1111-4111-8111-111111111111")
MARK = b"PLUGIND_LIFE_ID=this"
HEAD = "import os, sys, time, signal\n"
BARE = "os.setsid(); os.execve('/bin/sleep', ['sleep', '60'], {})"


@pytest.fixture(autouse=True)
def _subreaper() -> Iterator[None]:
    with as_subreaper():
        yield


class NoBook:
    async def remember(self, *_: Any) -> None: ...
    async def forget(self, *_: Any) -> None: ...


@dataclass
class Life:
    process: ChildProcess
    host: StoreHost

    async def numbers(self) -> list[int]:
        """The first line of its stdout."""
        text = b""
        while not text.endswith(b"\n"):
            text += await self.process.stdout.receive_some()
        return [int(word) for word in text.split()]

    async def end(self, number: int = signal.SIGTERM) -> list[tuple[int, str]]:
        """What it had left, in the order of the pids."""
        self.process.note_kin()
        os.kill(self.process.pid, number)
        await self.process.wait()
        return sorted((stray.pid, stray.name) for stray in await self.host.forget(PLUGIN, self.process.pid))


@asynccontextmanager
async def life(code: str, limits: Limits | None = None) -> AsyncIterator[Life]:
    containment = Containment()
    host = StoreHost(cast(Any, None), cast(Any, None), cast(Any, NoBook()), containment)
    launch = Launch(
        argv=(sys.executable, "-S", "-c", HEAD + code),
        env={"PLUGIND_PLUGIN_ID": PLUGIN},
        cwd=Path("/"),
        rpc=False,
        limits=limits or Limits(),
    ).as_life("this")
    process = spawn(launch, containment)
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(process.watch)
            await host.remember(PLUGIN, process.pid)
            try:
                yield Life(process, host)
            finally:
                process.kill()
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 10):
                    await process.wait()
                    await host.forget(PLUGIN, process.pid)
                    await process.aclose()


def alive(pid: int) -> bool:
    found = read_stat(pid)
    return found is not None and not found.is_dead


async def named_sleep(pid: int) -> None:
    while (found := read_stat(pid)) is None or found.name != "sleep":
        await trio.sleep(0.005)


async def test_a_grandchild_without_session_group_and_environment() -> None:
    code = f"c = os.fork()\nif c == 0: {BARE}\nprint(c, flush=True); time.sleep(60)"
    async with life(code) as it:
        (hidden,) = await it.numbers()
        await named_sleep(hidden)
        assert not has_variable(hidden, MARK)
        assert await it.end() == [(hidden, "sleep")]
        assert read_stat(hidden) is None


async def test_a_whole_tree_below_it() -> None:
    code = (
        "r, w = os.pipe()\nc = os.fork()\nif c == 0:\n"
        f"    os.setsid(); g = os.fork()\n    if g == 0: {BARE}\n"
        "    os.write(w, str(g).encode()); time.sleep(60)\n"
        "print(c, os.read(r, 99).decode(), flush=True); time.sleep(60)"
    )
    async with life(code) as it:
        child, grandchild = await it.numbers()
        await named_sleep(grandchild)
        assert [pid for pid, _ in await it.end(signal.SIGKILL)] == sorted((child, grandchild))
        assert not alive(grandchild)


async def test_an_orphan_is_found_by_its_environment() -> None:
    """It lost its parent long ago, and was never seen below the worker."""
    code = (
        "r, w = os.pipe()\nif os.fork() == 0:\n    os.setsid()\n    if os.fork(): os._exit(0)\n"
        "    os.write(w, str(os.getpid()).encode()); time.sleep(60)\n"
        "print(os.read(r, 99).decode(), flush=True); time.sleep(60)"
    )
    async with life(code) as it:
        (orphan,) = await it.numbers()
        while orphan not in children():
            await trio.sleep(0.005)
        name = read_stat(orphan).name  # type: ignore[union-attr]
        assert await it.end() == [(orphan, name)]


async def test_an_orphan_of_its_session_without_environment() -> None:
    code = (
        "r, w = os.pipe()\nif os.fork() == 0:\n    os.setpgid(0, 0)\n    if os.fork(): os._exit(0)\n"
        "    os.write(w, str(os.getpid()).encode()); os.execve('/bin/sleep', ['sleep', '60'], {})\n"
        "print(os.read(r, 99).decode(), flush=True); time.sleep(60)"
    )
    async with life(code) as it:
        (orphan,) = await it.numbers()
        await named_sleep(orphan)
        while orphan not in children():
            await trio.sleep(0.005)
        assert await it.end() == [(orphan, "sleep")]


async def test_what_is_in_its_group_is_no_stray() -> None:
    async with life("if os.fork(): print(0, flush=True)\ntime.sleep(60)") as it:
        await it.numbers()
        assert await it.end() == []


async def test_nobody_else_is_touched() -> None:
    another = {"PLUGIND_PLUGIN_ID": PLUGIN, "PLUGIND_LIFE_ID": "this0"}
    with sleeping() as child, sleeping(start_new_session=True, env=another) as other:
        async with life("print(0, flush=True); time.sleep(60)") as it:
            await it.numbers()
            assert await it.end() == []
        assert (child.poll(), other.poll()) == (None, None)


@pytest.mark.parametrize("_again", range(3))
async def test_a_bomb_that_goes_on_while_it_is_killed(_again: int) -> None:
    """Each process starts more, each in a session of its own, as long as there is something in the pipe: 300 times."""
    code = (
        "signal.alarm(60)\nr, w = os.pipe()\nos.write(w, b'x' * 300); os.close(w)\nprint(0, flush=True)\n"
        "while os.read(r, 1):\n    time.sleep(0.001)\n    if os.fork() == 0: os.setsid(); signal.alarm(60)\n"
        "time.sleep(60)"
    )
    async with life(code) as it:
        await it.numbers()
        while len(children(it.process.pid)) < 5:
            await trio.sleep(0.001)
        it.process.kill()
        await it.process.wait()
        strays = await it.host.forget(PLUGIN, it.process.pid)
        assert not any(alive(stray.pid) for stray in strays)
        assert not [pid for pid in children() if has_variable(pid, MARK)]
