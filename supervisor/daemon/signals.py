"""Stop and reload by signal: SIGTERM and SIGINT stop, a second one hurries, SIGHUP reloads."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from supervisor.log import log

_STOP: Final = (signal.SIGTERM, signal.SIGINT)


async def handle_signals(
    *,
    stop: Callable[[], None],
    hurry: Callable[[], None],
    reload: Callable[[], Awaitable[object]],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Call back for each signal until cancelled; started once signals no longer end the process.

    `reload` runs in a task of its own, one at a time, so that a slow one keeps nobody from stopping; what arrives
    meanwhile leads to one more. Its exceptions are logged: a reload that fails changes nothing.
    """
    stops = 0
    wanted = _Wanted()
    with trio.open_signal_receiver(*_STOP, signal.SIGHUP) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_reload_when_wanted, wanted, reload)
            task_status.started()
            async for number in signals:
                log.info("signal.received", signal=signal.Signals(number).name)
                if number == signal.SIGHUP:
                    wanted.set()
                    continue
                stops += 1
                (stop if stops == 1 else hurry)()


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
