# ruff: noqa: ASYNC222  -- the children here end by themselves
import os
import signal
import sys

import pytest
import trio

from supervisor.daemon.reaper import reap_orphans
from supervisor.worker.procfs import boot_id, children, has_variable, read_stat, start_ticks
from tests.daemon.processes import SLEEPER, as_subreaper, gone, orphan, python, refusing, sleeping


@pytest.fixture(autouse=True)
def _subreaper():
    with as_subreaper():
        yield


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


async def test_out_of_descriptors_it_looks_again(monkeypatch):
    monkeypatch.setattr("supervisor.daemon.reaper.children", refusing(3, children))
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: reap_orphans(lambda _: False, grace_s=0.02))
            pid = await trio.to_thread.run_sync(orphan, SLEEPER)
            os.kill(pid, signal.SIGKILL)
            await gone(pid)
            nursery.cancel_scope.cancel()
