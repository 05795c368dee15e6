"""A cgroup of the tests' own, delegated to whoever moves into it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from supervisor.daemon.delegation import cgroup2_mounts


def mount() -> Path | None:
    found = cgroup2_mounts(Path("/proc/self/mountinfo").read_text())
    return found[0].point if found else None


@contextmanager
def delegated_group() -> Iterator[Path]:
    """It is removed, with all that was made in it and all who live there. Skips the test where there can be none."""
    top = mount()
    if top is None or os.geteuid() != 0:
        pytest.skip("needs root and a cgroup v2 mount")
    group = top / f"plugind-test-{os.getpid()}-{time.monotonic_ns()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no group can be made here: {error}")
    try:
        try:
            os.setxattr(group, "user.delegate", b"1")
        except OSError as error:
            pytest.skip(f"no group can be delegated here: {error}")
        if not (group / "cgroup.kill").exists():
            pytest.skip("the kernel has no cgroup.kill")
        yield group
    finally:
        _remove(group)


def _remove(group: Path) -> None:
    if (group / "cgroup.kill").exists():
        (group / "cgroup.kill").write_text("1")
    until = time.monotonic() + 10
    while b"populated 1" in (group / "cgroup.events").read_bytes():
        assert time.monotonic() < until, f"somebody lives on in {group}"
        time.sleep(0.005)
    for directory, _, _ in os.walk(group, topdown=False):
        Path(directory).rmdir()
