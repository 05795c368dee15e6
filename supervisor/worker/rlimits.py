"""Limits that the kernel enforces on each process: set from outside, right after the spawn."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable
from typing import Final

import trio

from supervisor.log import log
from supervisor.worker.limits import TASK_SLACK, data_rlimit, nproc_rlimit
from supervisor.worker.procfs import ProcessStat, processes_of

_FRESH_S: Final = 0.9


def limit_files(pid: int, nofile: int) -> str | None:
    """Return what is to be said of it: None if it is as wanted.

    Raises:
        OSError: the kernel refused.
    """
    most = _lower(pid, resource.RLIMIT_NOFILE, nofile)
    return None if most == nofile else f"the daemon's own hard limit is {most}"


def limit_files_softly(pid: int, nofile: int) -> None:
    """Programs that count on low descriptors, as those that use select(), are safe; others may raise it again.

    Raises:
        OSError: the kernel refused.
    """
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (min(nofile, hard), hard))


def raise_files() -> int:
    """Our own soft limit of open files, up to the hard one, if the kernel lets us; return what it was."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:
        # As where the hard limit is higher than what the machine allows by now.
        log.warning("nofile.not_raised", soft=soft, hard=hard, error=str(error))
    return soft


def limit_data(pid: int, memory_mb: int) -> None:
    """See `data_rlimit`.

    Raises:
        OSError: the kernel refused.
    """
    _lower(pid, resource.RLIMIT_DATA, data_rlimit(memory_mb))


def _lower(pid: int, kind: int, value: int) -> int:
    """Soft and hard, so that the worker cannot raise it again; what is lower already stays."""
    _, hard = resource.prlimit(pid, kind)
    most = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.prlimit(pid, kind, (most, most))
    return most


class TaskCount:
    """How many processes and threads our user has; counted at most about once a second, however many ask."""

    def __init__(self) -> None:
        self._count = 0
        self._counted_at = -_FRESH_S

    def read(self) -> int:
        now = trio.current_time()
        if now - self._counted_at >= _FRESH_S:
            self._count = sum(process.threads for process in processes_of(os.geteuid()))
            self._counted_at = now
        return self._count


class TaskLimit:
    """RLIMIT_NPROC of one worker's processes. It does not bind root: then nothing is done here."""

    def __init__(self, pids: int, everybody: TaskCount) -> None:
        self._pids = pids
        self._everybody = everybody
        self._set_to: int | None = None

    def renew(self, processes: Iterable[ProcessStat]) -> None:
        """For the worker's `processes` as they are, as the number of the user's others has changed."""
        if os.geteuid() == 0:
            return
        ours = list(processes)
        others = max(0, self._everybody.read() - sum(process.threads for process in ours))
        wanted = nproc_rlimit(self._pids, others)
        if self._set_to is None or abs(wanted - self._set_to) > TASK_SLACK // 2:
            for process in ours:
                self._set(process.pid, wanted)
            self._set_to = wanted

    def _set(self, pid: int, wanted: int) -> None:
        try:
            _, hard = resource.prlimit(pid, resource.RLIMIT_NPROC)
            # The hard limit stays: without privileges it could never be raised again.
            soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.prlimit(pid, resource.RLIMIT_NPROC, (soft, hard))
        except (ProcessLookupError, PermissionError):
            return  # It is gone, or has another user now, whom this limit would not count.
