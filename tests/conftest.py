"""How many processes run the tests, and what they hand down to those that they start."""

from __future__ import annotations

import os

import pytest

MOST = 4
"""A container sees all of its host's cores, whatever share of them it may use."""

# Hundreds of daemons and clients are started: none is to compile anew what the one before has.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Files that are named and tests that print run right here: one's own terminal, and no other process to start."""
    named = all(argument.split("::")[0].endswith(".py") for argument in config.args)
    return 0 if named or config.option.capture == "no" else min(MOST, len(os.sched_getaffinity(0)))
