"""Processes to be found, left behind and ended; every one that is started here is waited for or killed."""

# ruff: noqa: ASYNC110, ASYNC240  -- that a pid has left /proc raises no event
import ctypes
import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import trio

from supervisor.daemon.reaper import become_subreaper, reap
from supervisor.worker.procfs import children, read_stat

_T = TypeVar("_T")

# Each of these forks a process that is orphaned at once, and prints its pid.
ORPHAN = "import os, sys, time\nif (p := os.fork()): print(p, flush=True); os._exit(0)\nos.setsid()\n"
SLEEPER = ORPHAN + "os.close(1); time.sleep(600)"


def python(code: str, **options) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-S", "-c", code], **options)


def orphan(code: str, **options) -> int:
    """Start it; the pid of what it leaves behind, which is our child by adoption."""
    return int(subprocess.check_output([sys.executable, "-S", "-c", code], **options))


@contextmanager
def sleeping(**options):
    """A child of ours that would sleep on."""
    with python("import time; print(flush=True); time.sleep(600)", stdout=subprocess.PIPE, **options) as process:
        try:
            process.stdout.readline()
            yield process
        finally:
            process.kill()


async def gone(pid: int) -> None:
    while os.path.exists(f"/proc/{pid}"):
        await trio.sleep(0.005)


def all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


@contextmanager
def all_reaped() -> Iterator[None]:
    """What a test starts, and what it adopts where it is a subreaper, is not left to the next one."""
    before = set(children())
    yield
    until = time.monotonic() + 10
    while left := set(children()) - before:
        for pid in left:
            reap(pid)
        assert time.monotonic() < until, f"still alive: {[read_stat(pid) for pid in left]}"
        time.sleep(0.005)


@contextmanager
def as_subreaper() -> Iterator[None]:
    """For one test only: orphans of the next ones are no business of this process, and would fill it with zombies."""
    become_subreaper()
    try:
        with all_reaped():
            yield
    finally:
        assert ctypes.CDLL(None).prctl(36, 0, 0, 0, 0) == 0


def refusing(times: int, look: Callable[[], _T]) -> Callable[[], _T]:
    """As when there is no descriptor left for so many looks."""
    left = iter(range(times))

    def scarce() -> _T:
        if next(left, None) is not None:
            raise OSError(errno.EMFILE, "Too many open files")
        return look()

    return scarce
