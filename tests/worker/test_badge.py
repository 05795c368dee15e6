"""What tells those that a daemon has started, wherever they have gone."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from supervisor.worker.badge import Badge, number_below

ID, OTHER = "a" * 32, "b" * 32
UNLIMITED = 1 << 64
PIN = """
import json, resource, subprocess, sys
from supervisor.worker.badge import pin_badge
badge = pin_badge(sys.argv[1])
print(json.dumps(badge))
if sys.argv[2:]:
    sys.stdout.flush()
    sys.exit(subprocess.run(sys.argv[2:], env={}, start_new_session=True).returncode)
"""
LIMITED = """
import resource, subprocess, sys
resource.setrlimit(10, (int(sys.argv[1]), int(sys.argv[1])))
sys.exit(subprocess.run([sys.executable, *sys.argv[2:]]).returncode)
"""
LIVING = """
import resource, sys
for limit in map(int, sys.argv[1:]):
    resource.setrlimit(10, (limit, limit))
print()
input()
"""


def pinned(*argv: str) -> Badge:
    """In a process of its own, or it would be ours for good."""
    done = subprocess.run([sys.executable, "-c", PIN, *argv], check=True, capture_output=True, text=True)
    return Badge(*json.loads(done.stdout.splitlines()[0]))


@contextmanager
def living(*limits: int) -> Iterator[subprocess.Popen[str]]:
    """A stranger that has set itself these limits, one after the other."""
    command = [sys.executable, "-c", LIVING, *map(str, limits)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={}) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "\n"
        yield process
        process.communicate("")


def test_it_goes_with_those_who_are_started_and_can_be_lowered_only() -> None:
    badge = pinned(ID)
    assert badge == (number_below(UNLIMITED, ID), UNLIMITED)
    with living() as stranger:
        assert (badge.is_on(stranger.pid), badge.tells_of(stranger.pid)) == (False, False)
    with living(badge.number) as own:
        assert (badge.is_on(own.pid), badge.tells_of(own.pid)) == (True, True)
    with living(badge.number, 1000) as sly:
        assert (badge.is_on(sly.pid), badge.tells_of(sly.pid)) == (False, True)
    assert (badge.is_on(own.pid), badge.tells_of(own.pid)) == (False, False), "it has gone"


def test_one_daemon_below_another() -> None:
    """Its clients come from the outside, or from beside it; its own plugins have less than both."""
    told = subprocess.run(
        [sys.executable, "-c", PIN, ID, sys.executable, "-c", PIN, OTHER], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    outer, inner = (Badge(*json.loads(line)) for line in told)
    assert inner.above == outer.number
    assert inner.number < outer.number
    with living(outer.number) as beside:
        assert not inner.tells_of(beside.pid)
        assert outer.tells_of(beside.pid)


@pytest.mark.parametrize("above", [UNLIMITED, 1 << 62, (1 << 62) - 1, 1 << 50, 2 << 48])
def test_it_is_always_less_and_tells_of_the_state_directory(above: int) -> None:
    number, other = number_below(above, ID), number_below(above, OTHER)
    assert number is not None
    assert other is not None
    assert 1000 < number < above
    assert number != other


def test_where_there_is_no_room_it_does_without() -> None:
    assert [number_below(above, ID) for above in (0, 1000, (2 << 48) - 1)] == [None] * 3
    command = [sys.executable, "-c", LIMITED, "1000", "-c", PIN, ID]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "badge.not_pinned" in done.stdout + done.stderr
    assert done.stdout.endswith("null\n")
