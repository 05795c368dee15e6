"""What the daemon has of the machine, which nobody else can see: for `pluginctl doctor`."""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping
from pathlib import Path

from supervisor.wire.results import ResourceInfo


def look_at_resources(database: Path, logs: Path, controllers: Mapping[str, str | None] | None) -> ResourceInfo:
    """As it is now. `controllers`: of our control group, with why each cannot be used; None: we have no group.

    What cannot be seen, for lack of descriptors or on a disk that fails, is None: who asks is looking for just that.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    state_free, state_total = _disk(database.parent)
    log_free, log_total = _disk(logs)
    return {
        "open_files": _open_files(),
        "max_files": None if soft == resource.RLIM_INFINITY else soft,
        "database_bytes": _size(database),
        "wal_bytes": _size(database.with_name(f"{database.name}-wal")),
        "state_free_bytes": state_free,
        "state_total_bytes": state_total,
        "log_free_bytes": log_free,
        "log_total_bytes": log_total,
        "cgroup": controllers is not None,
        "controllers": {name: why or "" for name, why in (controllers or {}).items()},
    }


def _open_files() -> int | None:
    try:
        return len(os.listdir("/proc/self/fd")) - 1  # without the one that reads it
    except OSError:
        return None


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _disk(path: Path) -> tuple[int | None, int | None]:
    """Bytes that are free for us, and all of them."""
    try:
        found = os.statvfs(path)
    except OSError:
        return None, None
    return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
