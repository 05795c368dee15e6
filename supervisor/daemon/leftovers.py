"""Worker processes that a daemon killed before us has left behind: find them and end them, and nobody else.

A pid alone proves nothing: it may name a stranger by now. A leftover is who was recorded (pid, start time and boot id),
who carries the id of our state directory in its environment, or who wears the badge of a daemon on it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import trio

from supervisor.log import log
from supervisor.worker.badge import Badge
from supervisor.worker.launch import STATE_ID_VARIABLE
from supervisor.worker.procfs import ProcessStat, boot_id, has_variable, processes_of, read_stat


class Recorded(Protocol):
    """The identity of a worker as stored when it was spawned."""

    @property
    def pid(self) -> int: ...
    @property
    def start_ticks(self) -> int: ...
    @property
    def boot_id(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    pid: int
    start_ticks: int


@dataclass(slots=True, kw_only=True)
class Removal:
    gone: list[Leftover] = field(default_factory=list)
    survivors: list[Leftover] = field(default_factory=list)
    """Outlived SIGKILL: in uninterruptible sleep, mostly on a dead disk or mount."""


def find_leftovers(state_id: str, remembered: Sequence[Recorded], badge: Badge | None = None) -> list[Leftover]:
    """Living processes of an earlier daemon on this state directory; `remembered` is what it recorded of its workers.

    Never ourselves, our ancestors or our descendants. Who is recognised vouches for all below, and for the group and
    session that it leads.
    """
    known = {found.pid: found for found in processes_of(os.geteuid()) if not found.is_dead}
    this_boot = boot_id()
    recorded = {row.pid: row.start_ticks for row in remembered if row.boot_id == this_boot}
    mark = f"{STATE_ID_VARIABLE}={state_id}".encode()

    def is_one(pid: int) -> bool:
        was_recorded = recorded.get(pid) == known[pid].start_ticks
        return was_recorded or bool(has_variable(pid, mark)) or (badge is not None and badge.is_on(pid))

    sure = {pid for pid in known if is_one(pid)}
    found = _with_descendants(known, {pid for pid, it in known.items() if {pid, it.pgid, it.sid} & sure})
    return [Leftover(pid=pid, start_ticks=known[pid].start_ticks) for pid in sorted(found - _family(known))]


async def remove_leftovers(
    state_id: str,
    remembered: Sequence[Recorded],
    badge: Badge | None = None,
    *,
    term_grace_s: float = 5.0,
    kill_grace_s: float = 2.0,
) -> Removal:
    """SIGTERM to all leftovers, SIGKILL after `term_grace_s` seconds to those that are left and those they started
    meanwhile; lasts at most the sum of both.
    """
    removal = Removal()
    with _Targets() as targets:
        targets.add(find_leftovers(state_id, remembered, badge))
        for number, grace_s in ((signal.SIGTERM, term_grace_s), (signal.SIGKILL, kill_grace_s)):
            for leftover in targets.signal(number):
                log.warning("leftover.signalled", pid=leftover.pid, signal=number.name)
            removal.gone += await targets.wait_gone(grace_s)
            targets.add(find_leftovers(state_id, remembered, badge))
            if not targets.fds:
                return removal
        removal.survivors += targets.fds
    log.error("leftover.survived", pids=[leftover.pid for leftover in removal.survivors])
    return removal


class _Targets:
    """A pidfd for each leftover: it names the process for good, so no signal can reach who gets its pid next."""

    def __init__(self) -> None:
        self.fds: dict[Leftover, int] = {}

    def __enter__(self) -> _Targets:
        return self

    def __exit__(self, *_: object) -> None:
        self._close(list(self.fds))

    def add(self, leftovers: Iterable[Leftover]) -> None:
        for leftover in leftovers:
            if leftover in self.fds:
                continue
            try:
                fd = os.pidfd_open(leftover.pid)
            except ProcessLookupError:
                continue
            # Looked at again now that the descriptor is bound: it was found before, by pid.
            found = read_stat(leftover.pid)
            if found is None or found.is_dead or found.start_ticks != leftover.start_ticks:
                os.close(fd)
            else:
                self.fds[leftover] = fd

    def signal(self, number: signal.Signals) -> list[Leftover]:
        """Who was signalled."""
        reached = []
        for leftover, fd in self.fds.items():
            try:
                signal.pidfd_send_signal(fd, number)
            except ProcessLookupError:
                continue  # wait_gone() sees it end
            except PermissionError as error:
                # A set-user-id program changed its uid since; it will be reported as a survivor.
                log.error("leftover.not_ours", pid=leftover.pid, error=str(error))
                continue
            reached.append(leftover)
        return reached

    async def wait_gone(self, grace_s: float) -> list[Leftover]:
        """Who ended within `grace_s` seconds."""
        gone: list[Leftover] = []
        with trio.move_on_after(grace_s):
            async with trio.open_nursery() as nursery:
                for leftover, fd in self.fds.items():
                    nursery.start_soon(self._wait_one, leftover, fd, gone)
        self._close(gone)
        return gone

    async def _wait_one(self, leftover: Leftover, fd: int, gone: list[Leftover]) -> None:
        await trio.lowlevel.wait_readable(fd)
        gone.append(leftover)

    def _close(self, leftovers: list[Leftover]) -> None:
        for leftover in leftovers:
            os.close(self.fds.pop(leftover))


def _family(known: dict[int, ProcessStat]) -> set[int]:
    """Ourselves, our ancestors and our descendants."""
    me = os.getpid()
    family = _with_descendants(known, {me})
    ancestor = read_stat(me)
    while ancestor is not None and ancestor.ppid:
        family.add(ancestor.ppid)
        ancestor = read_stat(ancestor.ppid)
    return family


def _with_descendants(known: dict[int, ProcessStat], pids: set[int]) -> set[int]:
    found = set(pids)
    while more := {pid for pid, it in known.items() if it.ppid in found} - found:
        found |= more
    return found
