"""Large blocks between small ones that stay go back to the system."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import os, sys
from supervisor.daemon.heap import return_large_blocks

def resident_mb():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

if sys.argv[1] == "set":
    return_large_blocks()
for size in range(1, 9):
    bytearray(size << 20)  # what makes glibc change its mind
before = resident_mb()
large, small = [], []
for _ in range(64):
    large.append(b"x" * (1 << 20))
    small.append(b"x" * 5000)
large.clear()
print(resident_mb() - before)
"""


def left_mb(how: str) -> float:
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True, timeout=30)
    return float(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that keeps them")
def test_they_go_back() -> None:
    assert left_mb("not set") > 32  # or the test shows nothing
    assert left_mb("set") < 8
