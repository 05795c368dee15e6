"""Alarm: sleep until the wall clock shows a time. trio's clock sees neither a step of it nor a suspended machine."""

from __future__ import annotations

import ctypes
import errno
import os
import time
from typing import Final, Protocol

import trio

from supervisor.clock import Clock, to_ms

WATCH_S: Final = 30.0
"""How late a step of the clock is noticed where the kernel does not tell."""
_FAR_AWAY_MS: Final = 9_000_000_000_000
"""The year 2255; the kernel counts nanoseconds up to 2262."""
_ABSTIME: Final = 1
_CANCEL_ON_SET: Final = 2
_NONBLOCK_CLOEXEC: Final = os.O_NONBLOCK | os.O_CLOEXEC


class Alarm(Protocol):
    """For one task to wait with."""

    async def wait_until(self, at_ms: int | None) -> None:
        """Return when the wall clock has reached `at_ms` (UTC milliseconds; None: whenever), was set, or `nudge` was
        called, be it since the last return. Which of them, the caller finds out by looking."""

    def nudge(self) -> None: ...

    def close(self) -> None: ...


def open_alarm(clock: Clock) -> Alarm:
    """The kernel's timer, or where it has none a look at `clock` from time to time."""
    try:
        return TimerfdAlarm()
    except OSError:
        return WatchAlarm(clock)


class TimerfdAlarm:
    """A timer of the kernel's wall clock, which is told of its being set. Nothing wakes up while nothing is due."""

    def __init__(self) -> None:
        """Raises OSError: there is none to be had."""
        self._libc = _libc()
        self._fd = _checked(int(self._libc.timerfd_create(time.CLOCK_REALTIME, _NONBLOCK_CLOEXEC)))
        self._waiting = False
        self._nudged = False

    async def wait_until(self, at_ms: int | None) -> None:
        if self._nudged or not self._arm(at_ms):
            self._nudged = False
            await trio.lowlevel.checkpoint()
            return
        self._waiting = True
        try:
            await trio.lowlevel.wait_readable(self._fd)
        finally:
            self._waiting = False
        self._nudged = False
        self._drain()

    def nudge(self) -> None:
        self._nudged = True
        if self._waiting:
            self._arm(0)

    def close(self) -> None:
        """Once nobody waits any more."""
        os.close(self._fd)

    def _arm(self, at_ms: int | None) -> bool:
        """False: the clock was set since it was armed before, which the caller is to see first."""
        # Armed with nothing due, too: a step of the clock is to be seen. Zero would disarm it.
        at_ns = min(max(_FAR_AWAY_MS if at_ms is None else at_ms, 1), _FAR_AWAY_MS) * 1_000_000
        spec = _TimerSpec(0, 0, at_ns // 1_000_000_000, at_ns % 1_000_000_000)
        try:
            _checked(self._libc.timerfd_settime(self._fd, _ABSTIME | _CANCEL_ON_SET, ctypes.byref(spec), None))
        except OSError as error:
            if error.errno != errno.ECANCELED:
                raise
            return False
        return True

    def _drain(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            pass  # it was armed anew meanwhile
        except OSError as error:
            if error.errno != errno.ECANCELED:  # the clock was set
                raise


class WatchAlarm:
    """Without a timer of the kernel's: sleeps WATCH_S at most while something is due."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._nudged = trio.Event()

    async def wait_until(self, at_ms: int | None) -> None:
        wait_s = float("inf") if at_ms is None else (at_ms - to_ms(self._clock.now())) / 1000
        # With nothing due no step of the clock makes a difference.
        with trio.move_on_after(wait_s if at_ms is None else max(0.0, min(wait_s, WATCH_S))):
            await self._nudged.wait()
        self._nudged = trio.Event()

    def nudge(self) -> None:
        self._nudged.set()

    def close(self) -> None:
        pass


class _TimerSpec(ctypes.Structure):
    """struct itimerspec, where time_t is a long."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


def _libc() -> ctypes.CDLL:
    if ctypes.sizeof(ctypes.c_long) < 8:
        raise OSError(errno.ENOSYS, "struct itimerspec is not known on this machine")
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "timerfd_create"):
        raise OSError(errno.ENOSYS, "the C library has no timerfd_create")
    return libc


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
