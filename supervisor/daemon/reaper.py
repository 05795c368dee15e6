"""Child subreaper: processes that our plugins orphan become our children, and somebody has to reap them."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable, Container
from typing import Final

import trio

from supervisor.log import log
from supervisor.worker.procfs import children, has_variable, read_stat

_PR_SET_CHILD_SUBREAPER: Final = 36


def become_subreaper() -> None:
    """From now on orphans below us come to us instead of PID 1. Not inherited by children.

    Raises:
        OSError: the kernel refused.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl(PR_SET_CHILD_SUBREAPER): {os.strerror(number)}")


async def reap_orphans(
    is_ours: Callable[[int], bool],
    *,
    grace_s: float = 1.0,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Reap adopted children until cancelled. `is_ours(pid)`: somebody else waits for this one, leave it.

    A zombie is reaped only if it is still there, and still nobody's, `grace_s` seconds after it was first seen: a child
    that was just spawned in a thread may be dead before anybody could learn its pid. The pause also gathers signals, so
    that the list of children is read about once a `grace_s` while hundreds of workers end, and not for each of them.
    """
    with trio.open_signal_receiver(signal.SIGCHLD) as signals:
        task_status.started()
        suspects = _zombies(is_ours)  # from before the receiver stood
        while True:
            if not suspects:
                await anext(signals)
            await trio.sleep(grace_s)
            zombies = _zombies(is_ours)
            for pid in zombies & suspects:
                _reap(pid)
            suspects = zombies - suspects


async def kill_strays(
    except_pids: Container[int], *, assignment: bytes | None = None, timeout_s: float = 2.0
) -> list[int]:
    """SIGKILL and reap every direct child that is not in `except_pids`; return the pids reaped. With `assignment`
    only those that have it, such as `NAME=value`, in their environment.

    The children of what dies come to us and are next. Lasts at most `timeout_s` seconds, and what still lives then is
    logged.
    """
    reaped: list[int] = []

    def found() -> list[int]:
        strays = [pid for pid in children() if pid not in except_pids]
        return strays if assignment is None else [pid for pid in strays if has_variable(pid, assignment)]

    with trio.move_on_after(timeout_s) as patience:
        while strays := found():
            for pid in strays:
                if await _kill(pid):
                    reaped.append(pid)
            await trio.lowlevel.checkpoint()
    if patience.cancelled_caught:
        log.error("stray.survived", pids=found())
    return reaped


async def _kill(pid: int) -> bool:
    """Whether we reaped it."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        found = read_stat(pid)
        if found is None or found.ppid != os.getpid():
            return False
        signal.pidfd_send_signal(fd, signal.SIGKILL)
        await trio.lowlevel.wait_readable(fd)
        return _reap(pid)
    except ProcessLookupError:
        return False
    finally:
        os.close(fd)


def _zombies(is_ours: Callable[[int], bool]) -> set[int]:
    return {pid for pid in children() if not is_ours(pid) and _has_ended(pid)}


def _has_ended(pid: int) -> bool:
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False


def _reap(pid: int) -> bool:
    try:
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return False
    if ended is None:
        return False
    log.debug("orphan.reaped", pid=pid, status=ended.si_status)
    return True
