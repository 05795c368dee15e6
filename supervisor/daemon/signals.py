"""Stop and reload by signal: SIGTERM and SIGINT stop, a later one hurries, SIGHUP reloads."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import Final

import trio

from supervisor.log import log

_STOP: Final = (signal.SIGTERM, signal.SIGINT)
_AGAIN_AFTER_S: Final = 1.0
"""One request to stop may come as several signals: timeout(1) and terminals signal the process and its group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """Signals that came while no event loop listened for them."""

    numbers: tuple[signal.Signals, ...] = ()
    heard: list[int] = field(default_factory=list)

    def note(self, number: int, _: FrameType | None) -> None:
        self.heard.append(number)

    def ignore(self) -> None:
        """For good. Children would inherit it: there must be none to come."""
        for number in self.numbers:
            signal.signal(number, signal.SIG_IGN)


def note_signals(*numbers: signal.Signals) -> Noted:
    """From now on these signals are noted and nothing else, save while others handle them. Main thread only.

    One that is ignored already, as by nohup(1), stays so.
    """
    noted = Noted(numbers=tuple(n for n in numbers if signal.getsignal(n) is not signal.SIG_IGN))
    for number in noted.numbers:
        signal.signal(number, noted.note)
    return noted


async def handle_signals(
    *,
    stop: Callable[[], None],
    hurry: Callable[[], None],
    reload: Callable[[], Awaitable[object]],
    noted: Noted | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Call back for each signal until cancelled; started once signals no longer end the process.

    A second SIGTERM or SIGINT hurries when it comes a second or more after the first. Those that were `noted` before
    are handled first, and ignored when this ends: the event loop is about to end too.

    `reload` runs in a task of its own, one at a time, so that a slow one keeps nobody from stopping; what arrives
    meanwhile leads to one more. Its exceptions are logged: a reload that fails changes nothing.
    """
    stopping = _Stopping(stop, hurry)
    wanted = _Wanted()

    def handle(number: int) -> None:
        log.info("signal.received", signal=signal.Signals(number).name)
        wanted.set() if number == signal.SIGHUP else stopping.ask()

    try:
        with trio.open_signal_receiver(*_STOP, signal.SIGHUP) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_reload_when_wanted, wanted, reload)
                task_status.started()
                for number in noted.heard if noted else ():
                    handle(number)
                async for number in signals:
                    handle(number)
    finally:
        # Not noted again: while trio closes its loop, a handler of any kind makes Python complain on stderr.
        if noted:
            noted.ignore()


class _Stopping:
    """Tells a wish to hurry from the echo of the first request."""

    def __init__(self, stop: Callable[[], None], hurry: Callable[[], None]) -> None:
        self._stop = stop
        self._hurry = hurry
        self._first: float | None = None

    def ask(self) -> None:
        now = trio.current_time()
        if self._first is None:
            self._first = now
            self._stop()
        elif now - self._first >= _AGAIN_AFTER_S:
            self._hurry()


class _Wanted:
    """An event that can be taken, and set again meanwhile."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def set(self) -> None:
        self._event.set()

    async def take(self) -> None:
        await self._event.wait()
        self._event = trio.Event()


async def _reload_when_wanted(wanted: _Wanted, reload: Callable[[], Awaitable[object]]) -> None:
    while True:
        await wanted.take()
        try:
            await reload()
        except Exception as error:  # noqa: BLE001  the top of a reload: the daemon goes on as it was
            log.error("reload.failed", error=str(error), exc_info=error)
