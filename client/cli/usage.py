"""What a worker uses and what it is limited to, for people. Pure."""

from __future__ import annotations

from client.cli.render import counted

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.wire.results import LimitInfo, UsageInfo

_MB = 1024 * 1024
_LIMITS = {
    "memory_mb": "{} MB memory",
    "pids": "{} processes and threads",
    "nofile": "{} open files in each process",
    "cpu_percent": "{} % CPU",
}
_ENFORCERS = {
    "cgroup": "by its cgroup",
    "rlimit": "by the kernel",
    "watch": "plugind watches it",
    "nothing": "NOT enforced",
}


def usage_line(usage: UsageInfo | None, calls_in_flight: int) -> str | None:
    """As in `3.1 % CPU, 24 MB memory (RSS), 5 threads, 1 process, 12 files; 2 calls in flight`."""
    if usage is None:
        return None
    cpu, pss, files = usage["cpu_percent"], usage["pss_bytes"], usage["open_files"]
    parts = [
        None if cpu is None else f"{cpu:.1f} % CPU",
        f"{megabytes(usage['rss_bytes'])} memory (RSS)",
        None if pss is None else f"{megabytes(pss)} (PSS)",
        counted(usage["threads"], "thread"),
        "1 process" if usage["processes"] == 1 else f"{usage['processes']} processes",
        None if files is None else counted(files, "file"),
    ]
    calls = f"; {counted(calls_in_flight, 'call')} in flight" if calls_in_flight else ""
    return ", ".join(part for part in parts if part) + calls


def limit_line(limits: Sequence[LimitInfo]) -> str:
    """What there is to each limit, and what enforces it."""
    return "; ".join(map(_limit, limits))


def _limit(info: LimitInfo) -> str:
    what = _LIMITS.get(info["limit"], info["limit"] + " {}").format(info["value"])
    note = f": {info['note']}" if info["note"] and info["enforced_by"] != "watch" else ""
    return f"{what} ({_ENFORCERS.get(info['enforced_by'], info['enforced_by'])}{note})"


def megabytes(size: int) -> str:
    """As in `24 MB`, `1.5 MB`; `size` in bytes."""
    return f"{size / _MB:.0f} MB" if size >= 10 * _MB else f"{size / _MB:.1f} MB"
