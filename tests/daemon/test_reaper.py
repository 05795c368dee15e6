# ruff: noqa: ASYNC110, ASYNC222, ASYNC240  -- that a pid has left /proc, or a grandchild has come, raises no event
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import trio

from supervisor.daemon.leftovers import Leftover, find_leftovers, remove_leftovers
from supervisor.daemon.reaper import become_subreaper, kill_strays, reap_orphans
from supervisor.worker.procfs import boot_id, children, has_variable, read_stat, start_ticks

# Each of these forks a process that is orphaned at once, and prints its pid.
ORPHAN = "import os, sys, time\nif (p := os.fork()): print(p, flush=True); os._exit(0)\nos.setsid()\n"
SLEEPER = ORPHAN + "os.close(1); time.sleep(600)"


@pytest.fixture(scope="module", autouse=True)
def _subreaper():
    become_subreaper()


@dataclass(frozen=True)
class Row:
    pid: int
    start_ticks: int
    boot_id: str


def python(code: str, **options) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-S", "-c", code], **options)


def orphan(code: str, **options) -> int:
    """Start it; the pid of what it leaves behind, which is our child by adoption."""
    return int(subprocess.check_output([sys.executable, "-S", "-c", code], **options))


@contextmanager
def sleeping(**options):
    """A child of ours that would sleep on."""
    with python("import time; print(flush=True); time.sleep(600)", stdout=subprocess.PIPE, **options) as process:
        try:
            process.stdout.readline()
            yield process
        finally:
            process.kill()


async def gone(pid: int) -> None:
    while os.path.exists(f"/proc/{pid}"):
        await trio.sleep(0.005)


async def test_orphans_are_reaped_and_ours_are_left():
    with trio.fail_after(20), python("raise SystemExit(7)") as ours:
        async with trio.open_nursery() as nursery:
            # Ours ends first: it must not hide what comes behind it.
            os.waitid(os.P_PID, ours.pid, os.WEXITED | os.WNOWAIT)
            await nursery.start(
                lambda *, task_status: reap_orphans(lambda p: p == ours.pid, grace_s=0.02, task_status=task_status)
            )
            for _ in range(3):
                pid = await trio.to_thread.run_sync(orphan, SLEEPER)
                assert pid in children()
                os.kill(pid, signal.SIGKILL)
                await gone(pid)
            nursery.cancel_scope.cancel()
        assert ours.wait() == 7


async def test_a_child_that_ends_before_it_is_known_is_given_time():
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(lambda *, task_status: reap_orphans(lambda _: False, task_status=task_status))
            for _ in range(5):
                done = await trio.run_process([sys.executable, "-S", "-c", "raise SystemExit(3)"], check=False)
                assert done.returncode == 3
            nursery.cancel_scope.cancel()


async def test_a_zombie_of_ours_does_not_make_it_spin():
    scans = 0

    def is_ours(_: int) -> bool:
        nonlocal scans
        scans += 1
        return True

    with trio.fail_after(20), python("") as ours:
        os.waitid(os.P_PID, ours.pid, os.WEXITED | os.WNOWAIT)
        with trio.move_on_after(0.3):
            await reap_orphans(is_ours, grace_s=0.001)
        assert ours.wait() == 0
    assert scans <= 3 * (len(children()) + 2)


async def test_strays_are_killed_with_what_they_leave():
    with trio.fail_after(20), sleeping() as ours:
        # Its child becomes ours only when it dies.
        tree = ORPHAN + "c = os.fork()\nif c == 0: os.setsid()\nos.close(1); time.sleep(600)"
        parent = await trio.to_thread.run_sync(orphan, tree)
        while not (grandchildren := [p for p in all_pids() if (s := read_stat(p)) and s.ppid == parent]):
            await trio.sleep(0.005)
        reaped = await kill_strays({ours.pid} | (set(children()) - {parent}))
        assert set(reaped) == {parent, *grandchildren}
        assert ours.poll() is None
        assert not any(os.path.exists(f"/proc/{pid}") for pid in reaped)


def all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def test_identity_of_a_process():
    with sleeping() as process:
        found = read_stat(process.pid)
        assert found.ppid == os.getpid()
        assert found.start_ticks == start_ticks(process.pid) > 0
        assert process.pid in children()
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert read_stat(process.pid).is_dead
    assert read_stat(process.pid) is None
    assert not has_variable(process.pid, b"A=b")
    assert len(boot_id()) == 36


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
        assert find_leftovers("x" * 32, [row_of(os.getpid())]) == []


def test_found_by_the_id_of_the_state_directory(not_ours):
    with sleeping(env={"PLUGIND_STATE_ID": "mine"}) as mine, sleeping(env={"PLUGIND_STATE_ID": "mine2"}):
        assert [leftover.pid for leftover in find_leftovers("mine", [])] == [mine.pid]


def test_our_own_descendants_are_no_leftovers():
    with sleeping(env={"PLUGIND_STATE_ID": "mine"}) as mine:
        assert find_leftovers("mine", [row_of(mine.pid)]) == []


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


async def test_a_stranger_with_a_recorded_pid_is_never_signalled(not_ours):
    with trio.fail_after(20), sleeping(start_new_session=True) as stranger:
        removal = await remove_leftovers("x" * 32, [row_of(stranger.pid, start_ticks=1)], term_grace_s=0.1)
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
