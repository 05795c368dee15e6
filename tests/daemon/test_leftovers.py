# ruff: noqa: ASYNC110  -- that a pid has left /proc, or a grandchild has come, raises no event
import os
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import trio

from supervisor.daemon.leftovers import Leftover, find_leftovers, remove_leftovers
from supervisor.worker.badge import Badge, number_below
from supervisor.worker.procfs import boot_id, children, has_variable, read_stat, start_ticks
from tests.daemon.processes import all_pids, all_reaped, python, sleeping

RLIMIT_LOCKS = 10


@pytest.fixture(autouse=True)
def _reaped():
    with all_reaped():
        yield


@dataclass(frozen=True)
class Row:
    pid: int
    start_ticks: int
    boot_id: str


@contextmanager
def former_daemon(*workers: str, state_id: str = "none"):
    """Pids of processes that are neither our descendants nor our ancestors: another process adopted them."""
    code = (
        "import subprocess, sys, ctypes\nctypes.CDLL(None).prctl(36, 1, 0, 0, 0)\n"
        "for code in sys.argv[1:]:\n"
        "    p = subprocess.Popen([sys.executable, '-S', '-c', code], stdout=subprocess.PIPE, start_new_session=True)\n"
        "    p.stdout.readline(); print(p.pid, flush=True)\n"
        "print(flush=True)\nsys.stdin.read()"
    )
    # Started through an intermediate that ends, under a subreaper that is not us.
    with subprocess.Popen(
        ["setsid", "-f", "--", sys.executable, "-S", "-c", code, *workers],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PLUGIND_STATE_ID": state_id},
    ) as launcher:
        pids = [int(line) for line in iter(launcher.stdout.readline, "\n")]
        yield pids
        for pid in pids:
            if has_variable(pid, f"PLUGIND_STATE_ID={state_id}".encode()):
                os.kill(pid, signal.SIGKILL)


WORKER = "import time; print(flush=True); time.sleep(600)"
STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(600)"
FORKING = "import os, time\nif os.fork(): print(flush=True)\ntime.sleep(600)"


@pytest.fixture
def not_ours(monkeypatch):
    """The tests' processes descend from us; for these tests only the process itself is family."""
    monkeypatch.setattr("supervisor.daemon.leftovers._family", lambda known: {os.getpid(), os.getppid()})


def row_of(pid: int, **changes) -> Row:
    return Row(**{"pid": pid, "start_ticks": start_ticks(pid), "boot_id": boot_id(), **changes})


def test_found_by_recorded_identity_only_if_all_of_it_matches(not_ours):
    with sleeping() as process:
        pid = process.pid
        assert find_leftovers("x" * 32, [row_of(pid)]) == [Leftover(pid=pid, start_ticks=start_ticks(pid))]
        assert find_leftovers("x" * 32, [row_of(pid, start_ticks=start_ticks(pid) - 1)]) == []
        assert find_leftovers("x" * 32, [row_of(pid, boot_id="0" * 36)]) == []


def test_found_by_the_id_of_the_state_directory(not_ours):
    with sleeping(env={"PLUGIND_STATE_ID": "mine"}) as mine, sleeping(env={"PLUGIND_STATE_ID": "mine2"}):
        assert [leftover.pid for leftover in find_leftovers("mine", [])] == [mine.pid]


def test_found_by_the_badge_of_the_state_directory(not_ours):
    badge = Badge(number_below(1 << 64, "x" * 32), 1 << 64)
    with sleeping(env={}) as hidden, sleeping(env={}) as lowered, sleeping(env={}):
        resource.prlimit(hidden.pid, RLIMIT_LOCKS, (badge.number, badge.number))
        # It may be another daemon's.
        resource.prlimit(lowered.pid, RLIMIT_LOCKS, (badge.number - 1, badge.number - 1))
        assert [leftover.pid for leftover in find_leftovers("x" * 32, [], badge)] == [hidden.pid]


def test_our_own_descendants_are_no_leftovers():
    with sleeping(env={"PLUGIND_STATE_ID": "mine"}) as mine:
        assert find_leftovers("mine", [row_of(mine.pid)]) == []
        assert find_leftovers("mine", [row_of(os.getpid())]) == []


async def test_leftovers_are_removed_the_stubborn_and_the_group_too(not_ours):
    state_id = f"test{os.getpid()}"
    with trio.fail_after(20), former_daemon(WORKER, STUBBORN, FORKING, state_id=state_id) as pids:
        manager = {read_stat(pid).ppid for pid in pids}
        removal = await remove_leftovers(state_id, [], term_grace_s=0.5)
        gone_pids = {leftover.pid for leftover in removal.gone}
        # The forked one and the process that started them carry the id as well.
        assert {*pids, *manager} < gone_pids
        assert len(gone_pids) == 5
        assert removal.survivors == []
        assert find_leftovers(state_id, []) == []


async def test_a_group_is_removed_with_its_recorded_leader(not_ours):
    with trio.fail_after(20), sleeping_group() as leader:
        while len(members := [p for p in all_pids() if (s := read_stat(p)) and s.sid == leader.pid]) < 2:
            await trio.sleep(0.005)
        removal = await remove_leftovers("x" * 32, [row_of(leader.pid)], term_grace_s=5)
        assert {leftover.pid for leftover in removal.gone} == set(members)


@contextmanager
def sleeping_group():
    with python(FORKING, stdout=subprocess.PIPE, start_new_session=True, env={}) as leader:
        leader.stdout.readline()
        yield leader
        leader.kill()


HIDING = (
    "import os, time\nprint(flush=True)\nif os.fork() == 0:\n"
    "    os.setsid(); os.execve('/bin/sleep', ['sleep', '600'], {})\ntime.sleep(600)"
)


async def test_who_has_left_session_and_environment_is_found_by_descent(not_ours):
    with trio.fail_after(20), python(HIDING, stdout=subprocess.PIPE, start_new_session=True, env={}) as leader:
        while not (hidden := [p for p in children(leader.pid) if (s := read_stat(p)) and s.name == "sleep"]):
            await trio.sleep(0.005)
        removal = await remove_leftovers("x" * 32, [row_of(leader.pid)], term_grace_s=5)
        assert {leftover.pid for leftover in removal.gone} == {leader.pid, *hidden}
        assert removal.survivors == []


@pytest.mark.parametrize("forged", [{"start_ticks": 1}, {"boot_id": "0" * 36}])
async def test_a_stranger_with_a_recorded_pid_is_never_signalled(not_ours, forged):
    with trio.fail_after(20), sleeping(start_new_session=True) as stranger:
        removal = await remove_leftovers("x" * 32, [row_of(stranger.pid, **forged)], term_grace_s=0.1)
        assert (removal.gone, removal.survivors) == ([], [])
        assert stranger.poll() is None


async def test_a_pid_that_changes_hands_between_finding_and_signalling(not_ours, monkeypatch):
    with trio.fail_after(20), sleeping() as stranger:
        stale = Leftover(pid=stranger.pid, start_ticks=1)
        monkeypatch.setattr("supervisor.daemon.leftovers.find_leftovers", lambda *_: [stale])
        removal = await remove_leftovers("x" * 32, [], term_grace_s=0.1)
        assert (removal.gone, removal.survivors) == ([], [])
        assert stranger.poll() is None


async def test_cancelled_removal_leaks_no_descriptor(not_ours):
    before = os.listdir("/proc/self/fd")
    with python(STUBBORN, stdout=subprocess.PIPE) as stubborn:
        stubborn.stdout.readline()
        with trio.move_on_after(0.1):
            await remove_leftovers("x" * 32, [row_of(stubborn.pid)], term_grace_s=60)
        stubborn.kill()
    assert len(os.listdir("/proc/self/fd")) == len(before)
