"""What /proc says about processes: who is who, and whose child."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_PROC: Final = "/proc"
"""Paths are plain text: this is read several times for each start and end of a worker, and pathlib is dear."""
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessStat:
    pid: int
    name: str
    """At most 15 bytes, as the process calls itself: foreign text."""
    state: str
    """One letter, as in ps: Z is a zombie."""
    ppid: int
    pgid: int
    sid: int
    start_ticks: int
    """Clock ticks from boot to its start. With the pid and the boot id it names one process for good."""
    cpu_ticks: int
    """Clock ticks that it has run, with those of the children it has waited for."""
    threads: int
    rss_bytes: int

    @property
    def is_dead(self) -> bool:
        return self.state in "ZX"


def boot_id() -> str:
    """A UUID that changes with each boot."""
    return _read(f"{_PROC}/sys/kernel/random/boot_id").decode().strip()


def start_ticks(pid: int) -> int | None:
    """When this process started, or None if there is none."""
    found = read_stat(pid)
    return found.start_ticks if found else None


def read_stat(pid: int) -> ProcessStat | None:
    """None if there is no such process (any more), or /proc hides it from us."""
    try:
        text = _read(f"{_PROC}/{pid}/stat")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    # The name in parentheses may hold anything, parentheses and spaces included.
    end = text.rindex(b")")
    fields = text[end + 2 :].split()
    return ProcessStat(
        pid=pid,
        name=text[text.index(b"(") + 1 : end].decode("utf-8", "backslashreplace"),
        state=fields[0].decode(),
        ppid=int(fields[1]),
        pgid=int(fields[2]),
        sid=int(fields[3]),
        start_ticks=int(fields[19]),
        cpu_ticks=sum(map(int, fields[11:15])),
        threads=int(fields[17]),
        rss_bytes=int(fields[21]) * _PAGE_BYTES,
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


def has_variable(pid: int, assignment: bytes) -> bool | None:
    """Whether NAME=value stood in the environment that the process was started with. None: it is in the middle of an
    exec, when there is none to be seen; look again."""
    try:
        environ = _read(f"{_PROC}/{pid}/environ")
        return assignment in environ.split(b"\0") if environ else _has_none_to_show(pid)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False


def _has_none_to_show(pid: int) -> bool | None:
    """False: it is dead, or was started with no variables at all."""
    fields = _read(f"{_PROC}/{pid}/stat").rpartition(b")")[2].split()
    # Where its code begins, which the kernel sets last in an exec; and where its environment begins and ends.
    is_through, is_empty = int(fields[23]) != 0, fields[47] == fields[48]
    return False if fields[0] in b"ZX" or (is_through and is_empty) else None


def open_files(pid: int) -> int | None:
    """How many descriptors it has open; None if that is not ours to know, or it is gone."""
    try:
        return len(os.listdir(f"{_PROC}/{pid}/fd"))
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None


def pss_bytes(pid: int) -> int | None:
    """Its memory, with its share of what it shares; dear to ask. None if that is not ours to know, or it is gone."""
    try:
        lines = _read(f"{_PROC}/{pid}/smaps_rollup").splitlines()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(b"Pss:")), None)


def oom_kills() -> int | None:
    """How many processes the kernel has killed since boot because memory was short; None if it does not count them."""
    try:
        lines = _read(f"{_PROC}/vmstat").splitlines()
    except (FileNotFoundError, PermissionError):
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith(b"oom_kill ")), None)


def children(pid: int | None = None) -> list[int]:
    """Pids of the direct children, zombies and adopted ones included; our own unless `pid` says whose."""
    parent = os.getpid() if pid is None else pid
    try:
        tasks = os.listdir(f"{_PROC}/{parent}/task")
    except (FileNotFoundError, ProcessLookupError):
        return []
    try:
        lists = [_read_children(parent, task) for task in tasks]
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        pids = (int(entry.name) for entry in os.scandir(_PROC) if entry.name.isdigit())
        return [pid for pid in pids if (found := read_stat(pid)) and found.ppid == parent]
    return [int(pid) for pids in lists for pid in pids]


def _read_children(parent: int, task: str) -> list[bytes]:
    where = f"{_PROC}/{parent}/task/{task}"
    try:
        return _read(f"{where}/children").split()
    except FileNotFoundError:
        if os.path.exists(where):
            raise
        return []  # a thread that has ended since; its children moved to another one
    except ProcessLookupError:
        return []


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.readall()
