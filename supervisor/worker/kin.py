"""Who belongs to a worker: everybody below it, wherever they have gone."""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from supervisor.log import log
from supervisor.worker.procfs import ProcessStat, children, has_variable, read_stat

_MOST: Final = 5000
"""A fork bomb must not hold us up while we count it."""
_LOOKS: Final = 5
_EXEC_S: Final = 0.0005


@dataclass(frozen=True, slots=True)
class Identity:
    """One process for good, as long as the machine is up: another one with this pid began at another tick."""

    pid: int
    start_ticks: int
    name: str


def identity_of(found: ProcessStat) -> Identity:
    return Identity(found.pid, found.start_ticks, found.name)


def find(identity: Identity) -> ProcessStat | None:
    """The process while it lives; None if it is gone, whoever has its pid now."""
    found = read_stat(identity.pid)
    return found if found and not found.is_dead and found.start_ticks == identity.start_ticks else None


def pidfd_of(identity: Identity) -> int | None:
    """A descriptor of exactly this process, the caller's to close; None if it is gone."""
    try:
        fd = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return None
    # Looked at now that the descriptor is bound to whoever has the pid.
    if find(identity) is None:
        os.close(fd)
        return None
    return fd


def send_signal(identity: Identity, number: int) -> bool:
    """Whether it was there, and was signalled. Never reaches another process."""
    try:
        fd = pidfd_of(identity)
        if fd is None:
            return False
        try:
            signal.pidfd_send_signal(fd, number)
        finally:
            os.close(fd)
    except ProcessLookupError:
        return False
    except OSError as error:
        # It has another user now, or we have no descriptor left: who waits for its end will see that it lives.
        log.error("process.not_signalled", pid=identity.pid, error=str(error))
        return False
    return True


class Kin:
    """The processes of one worker. Who was seen once stays known, also after its parent is gone and it came to us.

    `adopted` lists those of our own children that are nobody's worker: of them, who is in the worker's session is its.
    """

    def __init__(self, leader: int, adopted: Callable[[], Iterable[ProcessStat]], mark: bytes | None = None) -> None:
        """`leader` has not been reaped; `mark`: NAME=value in the environment that its processes begin with."""
        found = read_stat(leader)
        self._leader = identity_of(found) if found else None
        self._adopted = adopted
        self.mark = mark
        self._known: dict[int, Identity] = {}

    def look(self, adopted: Callable[[], Iterable[ProcessStat]] | None = None) -> list[ProcessStat]:
        """The living processes of the worker, itself first. `adopted`: those listed a moment ago, instead of now."""
        return self._remember(self._walk(self._orphans(adopted)))

    def note(self) -> list[ProcessStat]:
        """As `look`, without those that are in its session and have lost their parent: cheap, however many workers
        there are."""
        return self._remember(self._walk([]))

    def peek(self, adopted: Callable[[], Iterable[ProcessStat]] | None = None) -> list[ProcessStat]:
        """As `look`, and nobody is remembered for it: the one thing here that may be done in another thread."""
        return self._walk(self._orphans(adopted))

    def strays(self) -> list[Identity]:
        """Who is known, and alive, and cannot be reached by a signal to the worker's group."""
        group = self._leader.pid if self._leader else None
        return [known for known in self._known.values() if _may_live_outside(known, group)]

    def answers_for(self, process: ProcessStat) -> bool:
        """Whether it is the worker's, or comes from an orphan that is in no other worker's session: nobody's else."""
        if process.pid in {one.pid for one in self.look()} or self._is_marked(process):
            return True
        orphans = {orphan.pid for orphan in self._adopted()}
        while process.pid not in orphans:
            parent = read_stat(process.ppid)
            if parent is None:
                return False
            process = parent
        session = read_stat(process.sid)
        return session is None or session.ppid != os.getpid() or session.pid in orphans

    def _is_marked(self, process: ProcessStat) -> bool:
        if self.mark is None:
            return False
        for _ in range(_LOOKS):
            if (marked := has_variable(process.pid, self.mark)) is not None:
                return marked
            time.sleep(_EXEC_S)  # It makes way for an exec, which is over in less; nothing is cheaper to wait for.
        return False

    def _orphans(self, adopted: Callable[[], Iterable[ProcessStat]] | None) -> list[ProcessStat]:
        session = self._leader.pid if self._leader else None
        listed = [orphan for orphan in (adopted or self._adopted)() if orphan.sid == session]
        return [found for orphan in listed if (found := find(identity_of(orphan)))]

    def _walk(self, orphans: list[ProcessStat]) -> list[ProcessStat]:
        sure = [self._leader, *self._known.values()]
        todo = deque([found for one in sure if one and (found := find(one))] + orphans)
        seen: dict[int, ProcessStat] = {}
        while todo and len(seen) < _MOST:
            process = todo.popleft()
            if process.pid not in seen:
                seen[process.pid] = process
                todo += below(process)
        return list(seen.values())

    def _remember(self, found: list[ProcessStat]) -> list[ProcessStat]:
        leader = self._leader.pid if self._leader else None
        # Put in place as a whole: another thread may be going through the one before.
        self._known = {process.pid: identity_of(process) for process in found if process.pid != leader}
        return found


def _may_live_outside(known: Identity, group: int | None) -> bool:
    try:
        found = find(known)
    except OSError:
        return True  # We are out of descriptors and cannot see it: who is to end it looks again.
    return found is not None and found.pgid != group


def tracer_of(pid: int) -> ProcessStat | None:
    """The process that traces it, as a debugger does; None if there is none, or /proc hides it from us."""
    # What is told is the thread that does it.
    thread = _number_in_status(pid, b"TracerPid:")
    process = _number_in_status(thread, b"Tgid:") if thread else None
    return read_stat(process) if process else None


def _number_in_status(pid: int, field: bytes) -> int | None:
    try:
        lines = Path(f"/proc/{pid}/status").read_bytes().splitlines()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith(field)), None)


def below(process: ProcessStat) -> list[ProcessStat]:
    """Its living children, or what is ours since it has ended: a pid that it had may be a stranger's by now."""
    listed = (read_stat(pid) for pid in children(process.pid))
    return [found for found in listed if found and not found.is_dead and found.ppid in (process.pid, os.getpid())]
