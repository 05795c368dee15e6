"""A manifest's limits -> what is to be set, and what a breach is called. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from supervisor.core.worker_spec import Limits
from supervisor.wire.results import LimitInfo
from supervisor.worker.crash import Crash, Reason

MIB: Final = 1024 * 1024
CGROUP, RLIMIT, WATCH, NOTHING = "cgroup", "rlimit", "watch", "nothing"
CONTROLLERS: Final[Mapping[str, str]] = {"memory_mb": "memory", "pids": "pids", "cpu_percent": "cpu"}
"""Limit -> the cgroup controller that can enforce it."""
_PERIOD_US: Final = 100_000
_DATA_SLACK: Final = 256 * MIB
TASK_SLACK: Final = 256
_OUT_OF_MEMORY = re.compile(
    r"\bMemoryError\b|Cannot allocate memory|\bbad_alloc\b|heap out of memory|\bOutOfMemoryError\b"
    r"|fatal error: runtime: (?:cannot allocate|out of) memory|memory allocation of \d+ bytes failed"
)


@dataclass(frozen=True, slots=True)
class Setting:
    """`text` goes into a group's `file`. `needed`: without it the limit is not enforced."""

    file: str
    text: str
    needed: bool = True


def declared(limits: Limits) -> dict[str, int]:
    """Those that are set, by name."""
    names = ("memory_mb", "pids", "nofile", "cpu_percent")
    return {name: value for name in names if (value := getattr(limits, name)) is not None}


def cgroup_settings(limit: str, value: int) -> list[Setting]:
    """What a group's files are to hold for one of `CONTROLLERS`' limits."""
    match limit:
        case "memory_mb":
            return [
                Setting("memory.max", str(value * MIB)),
                # All of the worker or nothing: half a worker is in a state that nobody has thought of.
                Setting("memory.oom.group", "1", needed=False),
                # Else it would go on beyond its limit, slowly, at the disk's expense.
                Setting("memory.swap.max", "0", needed=False),
            ]
        case "pids":
            return [Setting("pids.max", str(value))]
        case _:
            return [Setting("cpu.max", f"{value * _PERIOD_US // 100} {_PERIOD_US}")]


def data_rlimit(memory_mb: int) -> int:
    """RLIMIT_DATA in bytes, for each process: a backstop between two looks, and far above the limit itself.

    The kernel counts there what a program has reserved and may write, used or not: the stacks of threads (8 MiB each)
    and the arenas of malloc among it. A limit as low as the memory limit would end workers that keep it.
    """
    return 2 * memory_mb * MIB + _DATA_SLACK


def nproc_rlimit(pids: int, others: int) -> int:
    """RLIMIT_NPROC: the kernel counts all processes and threads of the user; `others` are not this worker's.

    The slack is for those that others start before it is set anew.
    """
    return others + pids + TASK_SLACK


def without_cgroup(limit: str, value: int, why: str, *, root: bool) -> LimitInfo:
    """What enforces a limit where no cgroup does. `why`: what was wrong with the cgroup; `root`: we are."""
    if limit == "nofile":
        return LimitInfo(limit=limit, value=value, enforced_by=RLIMIT, note=None)
    if limit == "cpu_percent":
        return LimitInfo(limit=limit, value=value, enforced_by=NOTHING, note=why)
    if limit == "memory_mb":
        backstop = f"no process may have more than {data_rlimit(value) // MIB} MB of data"
    else:
        backstop = "for root nothing bounds it in between" if root else "RLIMIT_NPROC bounds it in between"
    return LimitInfo(limit=limit, value=value, enforced_by=WATCH, note=f"looked at every second; {backstop}; {why}")


def breach(watched: Mapping[str, int], *, used_bytes: int, tasks: int) -> Crash | None:
    """What has been exceeded, of `memory_mb` and `pids`."""
    memory_mb, pids = watched.get("memory_mb"), watched.get("pids")
    if memory_mb is not None and used_bytes > memory_mb * MIB:
        used_mb = -(-used_bytes // MIB)
        return Crash(Reason.OUT_OF_MEMORY, f"used {used_mb} MB of memory, more than its limit of {memory_mb} MB")
    if pids is not None and tasks > pids:
        return Crash(Reason.LIMIT_EXCEEDED, f"had {tasks} processes and threads, more than its limit of {pids}")
    return None


def killed_by_oom(events: Mapping[str, int], memory_mb: int | None) -> Crash | None:
    """Out of a group's memory.events."""
    if not events.get("oom_kill") and not events.get("oom_group_kill"):
        return None
    if memory_mb is not None and events.get("oom"):
        return Crash(Reason.OUT_OF_MEMORY, f"was killed: out of memory (limit {memory_mb} MB)")
    own = f", with its own limit of {memory_mb} MB not reached" if memory_mb is not None else ""
    return Crash(Reason.OUT_OF_MEMORY, f"was killed: out of memory (of the machine or of plugind as a whole{own})")


def out_of_memory_words(text: str) -> bool:
    """Whether a program's last words say that it could not get memory."""
    return _OUT_OF_MEMORY.search(text) is not None
