"""What `pluginctl status KEY` says of use and limits."""

from __future__ import annotations

from typing import Any

import pytest

from client.cli.usage import limit_line, usage_line

MIB = 1024 * 1024
USAGE: dict[str, Any] = {
    "cpu_percent": 3.1, "rss_bytes": 24 * MIB, "pss_bytes": None, "threads": 5, "processes": 1, "open_files": 12,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "calls", "line"),
    [
        ({}, 2, "3.1 % CPU, 24 MB memory (RSS), 5 threads, 1 process, 12 files; 2 calls in flight"),
        ({"cpu_percent": None, "open_files": None}, 0, "24 MB memory (RSS), 5 threads, 1 process"),
        (
            {"cpu_percent": 150.0, "rss_bytes": 3 * MIB // 2, "pss_bytes": MIB, "threads": 1, "processes": 3},
            1,
            "150.0 % CPU, 1.5 MB memory (RSS), 1.0 MB (PSS), 1 thread, 3 processes, 12 files; 1 call in flight",
        ),
    ],
)
def test_what_it_uses(changes: dict[str, Any], calls: int, line: str) -> None:
    assert usage_line({**USAGE, **changes}, calls) == line  # type: ignore[typeddict-item]


def test_without_a_process_it_uses_nothing() -> None:
    assert usage_line(None, 3) is None


@pytest.mark.parametrize(
    ("limit", "enforced_by", "note", "line"),
    [
        ("memory_mb", "cgroup", None, "50 MB memory (by its cgroup)"),
        ("pids", "watch", "looked at every second", "50 processes and threads (plugind watches it)"),
        ("nofile", "rlimit", "the daemon's is 40", "50 open files in each process (by the kernel: the daemon's is 40)"),
        ("cpu_percent", "nothing", "no cgroup", "50 % CPU (NOT enforced: no cgroup)"),
        ("of_a_newer_daemon", "magic", None, "of_a_newer_daemon 50 (magic)"),
    ],
)
def test_what_enforces_a_limit(limit: str, enforced_by: str, note: str | None, line: str) -> None:
    assert limit_line([{"limit": limit, "value": 50, "enforced_by": enforced_by, "note": note}]) == line


def test_several_limits() -> None:
    one: Any = {"limit": "pids", "value": 5, "enforced_by": "cgroup", "note": None}
    assert limit_line([]) == ""
    assert limit_line([one, one]).count("; ") == 1
