"""What /proc says about processes: who is who, and whose child."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessStat:
    pid: int
    state: str
    """One letter, as in ps: Z is a zombie."""
    ppid: int
    pgid: int
    sid: int
    start_ticks: int
    """Clock ticks from boot to its start. With the pid and the boot id it names one process for good."""

    @property
    def is_dead(self) -> bool:
        return self.state in "ZX"


def boot_id() -> str:
    """A UUID that changes with each boot."""
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def start_ticks(pid: int) -> int | None:
    """When this process started, or None if there is none."""
    found = read_stat(pid)
    return found.start_ticks if found else None


def read_stat(pid: int) -> ProcessStat | None:
    """None if there is no such process (any more), or /proc hides it from us."""
    try:
        text = (_PROC / str(pid) / "stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    # The name in parentheses may hold anything, parentheses and spaces included.
    fields = text[text.rindex(b")") + 2 :].split()
    return ProcessStat(
        pid=pid,
        state=fields[0].decode(),
        ppid=int(fields[1]),
        pgid=int(fields[2]),
        sid=int(fields[3]),
        start_ticks=int(fields[19]),
    )


def processes_of(uid: int) -> Iterator[ProcessStat]:
    """The processes that run as `uid`."""
    for entry in os.scandir(_PROC):
        if entry.name.isdigit():
            try:
                owner = entry.stat().st_uid
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
            if owner == uid and (found := read_stat(int(entry.name))):
                yield found


def has_variable(pid: int, assignment: bytes) -> bool:
    """Whether NAME=value stood in the environment that the process was started with."""
    try:
        return assignment in (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False


def children() -> list[int]:
    """Pids of our direct children, zombies and adopted ones included."""
    try:
        lists = [_read_children(task) for task in (_PROC / "self/task").iterdir()]
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        me = os.getpid()
        pids = (int(entry.name) for entry in os.scandir(_PROC) if entry.name.isdigit())
        return [pid for pid in pids if (found := read_stat(pid)) and found.ppid == me]
    return [int(pid) for pids in lists for pid in pids]


def _read_children(task: Path) -> list[bytes]:
    try:
        return (task / "children").read_bytes().split()
    except FileNotFoundError:
        if task.exists():
            raise
        return []  # a thread that has ended since; its children moved to another one
    except ProcessLookupError:
        return []
