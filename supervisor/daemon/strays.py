"""End processes that outlived their worker: what nobody else would ever end."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Container, Iterable, Sequence
from contextlib import ExitStack
from typing import Final

import trio

from supervisor.daemon.reaper import reap
from supervisor.log import log
from supervisor.worker.host import Stray
from supervisor.worker.kin import Identity, below, find, identity_of, pidfd_of, send_signal
from supervisor.worker.procfs import ProcessStat, children, has_variable, read_stat

Which = Callable[[ProcessStat], bool | None]
"""None: that cannot be told at this moment."""
_AT_ONCE: Final = 100
_LOOK_AGAIN_S: Final = 0.1
_EXEC_S: Final = 0.002
_EXEC_LOOKS: Final = 50


def left_by(worker: int, assignment: bytes | None) -> Which:
    """Of our children: those of the session that the worker led, or with NAME=value in the environment that they were
    started with, which those of another life have not. Who is in its process group has been killed with it."""

    def is_its(found: ProcessStat) -> bool | None:
        return found.sid == worker or (assignment is not None and has_variable(found.pid, assignment))

    return lambda found: found.pgid != worker and is_its(found)


async def kill_strays(
    except_pids: Container[int],
    *,
    which: Which = lambda _: True,
    known: Iterable[Identity] = (),
    timeout_s: float = 2.0,
) -> list[Stray]:
    """SIGKILL and reap every child of ours that `which` picks and `except_pids` does not name, and those who are
    `known`, children or not; and all that is below them. Return who was killed.

    A process is signalled as the one that it was found to be, whoever has its pid by then. Lasts at most `timeout_s`
    seconds, and what is known to live then is logged. While we are out of descriptors it tries again.
    """
    killed: dict[Identity, Stray] = {}
    sure = tuple(known)

    def living() -> tuple[list[Identity], bool]:
        """And whether there is one of whom that cannot be told yet."""
        own = [found for pid in children() if pid not in except_pids and (found := read_stat(pid))]
        verdicts = [(found, which(found)) for found in own if not found.is_dead]
        picked = [found for found, is_one in verdicts if is_one]
        known_ = [found for one in {*sure, *killed} if (found := find(one))]
        return _with_descendants(picked + known_), any(is_one is None for _, is_one in verdicts)

    with trio.move_on_after(timeout_s) as patience:
        looks = 0
        while True:
            try:
                strays, unsure = living()
                if not strays and (not unsure or looks == _EXEC_LOOKS):
                    break
                if not strays:
                    # Somebody is in the middle of an exec, which takes a moment.
                    looks += 1
                    await trio.sleep(_EXEC_S)
                    continue
                killed |= {stray: Stray(pid=stray.pid, name=stray.name) for stray in strays}
                await _kill_all(strays)
            except OSError as error:
                log.error("stray.not_seen", error=str(error))
                await trio.sleep(_LOOK_AGAIN_S)
            await trio.lowlevel.checkpoint()
    if patience.cancelled_caught:
        log.error("stray.survived", pids=[stray.pid for stray in {*sure, *killed} if not _is_gone(stray)])
    return [stray for identity, stray in killed.items() if _is_gone(identity)]


def _is_gone(identity: Identity) -> bool:
    try:
        return find(identity) is None
    except OSError:
        return False  # We cannot see it.


def _with_descendants(roots: list[ProcessStat]) -> list[Identity]:
    found = {root.pid: root for root in roots}
    todo = list(found.values())
    while todo:
        new = [child for child in below(todo.pop()) if child.pid not in found]
        found |= {child.pid: child for child in new}
        todo += new
    return [identity_of(process) for process in found.values()]


async def _kill_all(strays: list[Identity]) -> None:
    for stray in strays:
        send_signal(stray, signal.SIGKILL)
    # A fork bomb may have more processes than we may have descriptors.
    for start in range(0, len(strays), _AT_ONCE):
        await _wait_gone(strays[start : start + _AT_ONCE])


async def _wait_gone(strays: Sequence[Identity]) -> None:
    with ExitStack() as held:
        fds: dict[int, int] = {}
        for stray in strays:
            if (fd := pidfd_of(stray)) is None:
                reap(stray.pid)
            else:
                held.callback(os.close, fd)
                fds[stray.pid] = fd
        async with trio.open_nursery() as waiting:
            for pid, fd in fds.items():
                waiting.start_soon(_wait_and_reap, pid, fd)


async def _wait_and_reap(pid: int, fd: int) -> None:
    await trio.lowlevel.wait_readable(fd)
    reap(pid)
