"""Child subreaper: processes that our plugins orphan become our children, and somebody has to reap them."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable
from typing import Final

import trio

from supervisor.log import log
from supervisor.worker.procfs import children

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
        suspects = await _look(is_ours, grace_s)  # from before the receiver stood
        while True:
            if not suspects:
                await anext(signals)
            await trio.sleep(grace_s)
            zombies = await _look(is_ours, grace_s)
            for pid in zombies & suspects:
                reap(pid)
            suspects = zombies - suspects


async def _look(is_ours: Callable[[int], bool], again_s: float) -> set[int]:
    while True:
        try:
            return _zombies(is_ours)
        except OSError as error:
            # We are out of descriptors: zombies can wait, and the daemon is not to end for it.
            log.error("orphan.not_seen", error=str(error))
            await trio.sleep(again_s)


def _zombies(is_ours: Callable[[int], bool]) -> set[int]:
    return {pid for pid in children() if not is_ours(pid) and _has_ended(pid)}


def _has_ended(pid: int) -> bool:
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False


def reap(pid: int) -> bool:
    """Whether it was a child of ours that had ended and was still to be waited for."""
    try:
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return False
    if ended is None:
        return False
    log.debug("orphan.reaped", pid=pid, status=ended.si_status)
    return True
