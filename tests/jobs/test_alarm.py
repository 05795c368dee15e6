"""The kernel's alarm on real time, and what stands in for it."""

from __future__ import annotations

import errno
import os
import select
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import trio

from supervisor.clock import to_ms
from supervisor.jobs import alarm as alarm_module
from supervisor.jobs.alarm import WATCH_S, Alarm, TimerfdAlarm, WatchAlarm, open_alarm
from tests.jobs.world import NOON, FakeAlarm, WallClock


@pytest.fixture
def kernels() -> Iterator[TimerfdAlarm]:
    alarm = TimerfdAlarm()
    yield alarm
    alarm.close()


def now_ms() -> float:
    return time.time() * 1000


async def test_it_rings_on_time_and_never_early(kernels: TimerfdAlarm) -> None:
    with trio.fail_after(10):
        for _ in range(20):
            at_ms = int(now_ms()) + 12
            await kernels.wait_until(at_ms)
            assert now_ms() >= at_ms


@pytest.mark.parametrize("at_ms", [-5, 0, 1, 1000])
async def test_what_has_passed_rings_at_once(kernels: TimerfdAlarm, at_ms: int) -> None:
    with trio.fail_after(5):
        await kernels.wait_until(at_ms)
        await kernels.wait_until(int(now_ms()))


async def test_a_nudge_wakes_whoever_waits(kernels: TimerfdAlarm) -> None:
    with trio.fail_after(5):
        for at_ms in (None, int(now_ms()) + 3_600_000, 2**62):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(kernels.wait_until, at_ms)
                await trio.testing.wait_all_tasks_blocked()
                kernels.nudge()
                kernels.nudge()
    assert not await rings_within(kernels, 0.05)  # and it is heard once


async def test_a_nudge_before_is_heard_once(kernels: TimerfdAlarm) -> None:
    kernels.nudge()
    with trio.fail_after(5):
        await kernels.wait_until(None)
    assert not await rings_within(kernels, 0.05)


async def rings_within(alarm: Alarm, wait_s: float) -> bool:
    with trio.move_on_after(wait_s):
        await alarm.wait_until(None)
        return True
    return False


async def test_nothing_due_nothing_wakes(kernels: TimerfdAlarm) -> None:
    assert not await rings_within(kernels, 1.0)
    assert not select.select([kernels._fd], [], [], 0)[0]
    # Armed all the same, on the wall clock, by its date, and told of its being set.
    assert {"clockid: 0", "settime flags: 03"} <= set(fdinfo(kernels._fd))


def fdinfo(fd: int) -> list[str]:
    return Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines()


async def test_after_a_wait_that_was_cancelled_it_goes_on(kernels: TimerfdAlarm) -> None:
    with trio.move_on_after(0.01):
        await kernels.wait_until(int(now_ms()) + 3_600_000)
    kernels.nudge()
    with trio.fail_after(5):
        await kernels.wait_until(None)
        await kernels.wait_until(int(now_ms()) + 5)


@pytest.mark.parametrize("failing", ["read", "settime"])
async def test_a_clock_that_was_set_wakes(kernels: TimerfdAlarm, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    """As the kernel tells it: reading the timer, or arming it, fails with ECANCELED."""

    def cancelled(*_: object) -> Any:
        raise OSError(errno.ECANCELED, os.strerror(errno.ECANCELED))

    if failing == "read":
        monkeypatch.setattr(alarm_module.os, "read", cancelled)
        at_ms = int(now_ms()) + 5
    else:
        monkeypatch.setattr(alarm_module, "_checked", cancelled)
        at_ms = int(now_ms()) + 3_600_000
    with trio.fail_after(5):
        await kernels.wait_until(at_ms)
    monkeypatch.undo()
    assert not await rings_within(kernels, 0.05)


async def test_another_failure_is_told(kernels: TimerfdAlarm, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Any:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(alarm_module.os, "read", broken)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        await kernels.wait_until(1)


def test_the_kernel_is_asked_first_and_does_not_leak_to_children() -> None:
    alarm = open_alarm(WallClock.__new__(WallClock))
    assert isinstance(alarm, TimerfdAlarm)
    assert not os.get_inheritable(alarm._fd)
    fd = alarm._fd
    alarm.close()
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        os.fstat(fd)


async def test_without_the_kernels_help_it_looks_from_time_to_time(
    autojump_clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> Any:
        raise OSError(errno.ENOSYS, "no timerfd_create")

    monkeypatch.setattr(alarm_module, "_libc", none)
    clock = WallClock()
    alarm = open_alarm(clock)
    assert isinstance(alarm, WatchAlarm)
    await alarm.wait_until(to_ms(NOON) + 100_000)
    assert clock.now() == NOON + timedelta(seconds=WATCH_S)
    clock.step(timedelta(seconds=65))
    await alarm.wait_until(to_ms(NOON) + 100_000)
    assert clock.now() == NOON + timedelta(seconds=100)
    assert not await rings_within(alarm, 1e6)
    alarm.nudge()
    assert await rings_within(alarm, 1)
    alarm.close()


@pytest.mark.parametrize("make", [FakeAlarm, WatchAlarm])
async def test_stand_ins_do_as_the_kernels_does(autojump_clock: Any, make: Any) -> None:
    clock = WallClock()
    alarm = make(clock)
    await alarm.wait_until(to_ms(NOON) + 10_000)
    assert clock.now() == NOON + timedelta(seconds=10)
    await alarm.wait_until(1)
    alarm.nudge()
    assert await rings_within(alarm, 1)
    assert not await rings_within(alarm, 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(alarm.wait_until, to_ms(NOON) + 3_600_000)
        await trio.testing.wait_all_tasks_blocked()
        alarm.nudge()
    assert clock.now() == NOON + timedelta(seconds=11)
