"""The benchmarks still run. What they measure is for people to judge."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.parametrize(
    ("program", "small"),
    [
        ("control.py", ["-n", "20"]),
        ("workers.py", ["-n", "3", "--rounds", "1"]),
        ("start_up.py", ["-n", "1"]),
        ("sdk.py", ["-n", "1"]),
        ("jobs.py", ["--tiny", "--only", "next,declare,start,due,fair"]),
        ("cron_next.py", ["-n", "20", "--rounds", "1"]),
    ],
)
def test_it_prints_ratios(program: str, small: list[str]) -> None:
    done = subprocess.run([sys.executable, HERE / program, *small], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "x floor" in done.stdout
