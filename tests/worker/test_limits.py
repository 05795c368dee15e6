"""What is set for a limit, what enforces it, and what a breach is called."""

from __future__ import annotations

import pytest

from supervisor.core.worker_spec import Limits
from supervisor.worker.crash import Crash, Reason
from supervisor.worker.limits import (
    MIB,
    Setting,
    breach,
    cgroup_settings,
    data_rlimit,
    declared,
    killed_by_oom,
    nproc_rlimit,
    out_of_memory_words,
    without_cgroup,
)


def test_what_is_declared() -> None:
    assert declared(Limits()) == {}
    assert declared(Limits(pids=3, cpu_percent=50)) == {"pids": 3, "cpu_percent": 50}


@pytest.mark.parametrize(
    ("limit", "value", "settings"),
    [
        (
            "memory_mb",
            50,
            [
                Setting("memory.max", "52428800"),
                Setting("memory.oom.group", "1", needed=False),
                Setting("memory.swap.max", "0", needed=False),
            ],
        ),
        ("pids", 20, [Setting("pids.max", "20")]),
        ("cpu_percent", 150, [Setting("cpu.max", "150000 100000")]),
        ("cpu_percent", 1, [Setting("cpu.max", "1000 100000")]),
    ],
)
def test_what_goes_into_a_group(limit: str, value: int, settings: list[Setting]) -> None:
    assert cgroup_settings(limit, value) == settings


def test_backstops_are_far_above_the_limit() -> None:
    assert data_rlimit(50) == 356 * MIB
    assert nproc_rlimit(20, others=100) == 376


@pytest.mark.parametrize(
    ("limit", "root", "enforced_by", "note"),
    [
        ("nofile", False, "rlimit", None),
        ("cpu_percent", False, "nothing", "why not"),
        ("memory_mb", False, "watch", "looked at every second; no process may have more than 276 MB of data; why not"),
        ("pids", False, "watch", "looked at every second; RLIMIT_NPROC bounds it in between; why not"),
        ("pids", True, "watch", "looked at every second; for root nothing bounds it in between; why not"),
    ],
)
def test_what_enforces_it_without_a_cgroup(limit: str, root: bool, enforced_by: str, note: str | None) -> None:
    found = without_cgroup(limit, 10, "why not", root=root)
    assert found == {"limit": limit, "value": 10, "enforced_by": enforced_by, "note": note}


@pytest.mark.parametrize(
    ("watched", "used", "tasks", "crash"),
    [
        ({}, 10**12, 10**6, None),
        ({"memory_mb": 50}, 50 * MIB, 10**6, None),
        (
            {"memory_mb": 50},
            60 * MIB + 1,
            1,
            Crash(Reason.OUT_OF_MEMORY, "used 61 MB of memory, more than its limit of 50 MB"),
        ),
        ({"pids": 20}, 10**12, 20, None),
        ({"pids": 20}, 0, 57, Crash(Reason.LIMIT_EXCEEDED, "had 57 processes and threads, more than its limit of 20")),
        (
            {"memory_mb": 1, "pids": 1},
            2 * MIB,
            2,
            Crash(Reason.OUT_OF_MEMORY, "used 2 MB of memory, more than its limit of 1 MB"),
        ),
    ],
)
def test_what_a_breach_is(watched: dict[str, int], used: int, tasks: int, crash: Crash | None) -> None:
    assert breach(watched, used_bytes=used, tasks=tasks) == crash


@pytest.mark.parametrize(
    ("events", "limit", "cause"),
    [
        ({}, 50, None),
        ({"oom": 3, "oom_kill": 0, "oom_group_kill": 0}, 50, None),
        ({"oom": 1, "oom_kill": 2, "oom_group_kill": 1}, 50, "was killed: out of memory (limit 50 MB)"),
        (
            {"oom": 0, "oom_kill": 1},
            50,
            "was killed: out of memory (of the machine or of plugind as a whole, "
            "with its own limit of 50 MB not reached)",
        ),
        ({"oom_group_kill": 1}, None, "was killed: out of memory (of the machine or of plugind as a whole)"),
    ],
)
def test_what_the_kernel_tells_of_a_kill(events: dict[str, int], limit: int | None, cause: str | None) -> None:
    assert killed_by_oom(events, limit) == (Crash(Reason.OUT_OF_MEMORY, cause) if cause else None)


@pytest.mark.parametrize(
    ("words", "is_it"),
    [
        ("Traceback (most recent call last):\nMemoryError", True),
        ("sh: 1: Cannot fork\nsh: Cannot allocate memory", True),
        ("terminate called after throwing an instance of 'std::bad_alloc'", True),
        ("FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory", True),
        ("fatal error: runtime: out of memory", True),
        ("java.lang.OutOfMemoryError: Java heap space", True),
        ("memory allocation of 1073741824 bytes failed", True),
        ("", False),
        ("NoMemoryErrors were found", False),
        ("the memory card cannot be read", False),
    ],
)
def test_last_words_of_who_gets_no_memory(words: str, is_it: bool) -> None:
    assert out_of_memory_words(words) is is_it
