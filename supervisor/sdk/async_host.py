"""plugind, as async handlers reach it: a request waits in the event loop, and takes no thread."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import trio

from supervisor.core.errors import DeadlineExceeded
from supervisor.sdk.connection import Connection, answer

_ASKED_AT_ONCE: Final = 48
"""Requests of the loop that plugind has not answered; the next ones wait. Threads may ask beside them."""


class LoopHost:
    """plugind, as async handlers reach it; lives in the loop."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._turns = trio.Semaphore(_ASKED_AT_ONCE)

    async def call(self, method: str, params: list[Any], timeout_s: float | None) -> Any:
        """Ask plugind; whoever is cancelled while it waits gives the request up.

        Raises:
            DeadlineExceeded: no answer came within `timeout_s` seconds.
            SupervisorError: what plugind answered.
        """
        with trio.move_on_after(float("inf") if timeout_s is None else timeout_s):
            async with self._turns:
                await self._wait_room()
                return await self._ask(method, params)
        raise DeadlineExceeded(f"{method} was not answered within {timeout_s:g} s", method=method)

    async def notify(self, method: str, params: list[Any]) -> None:
        """Tell plugind; waits while it is slow to read.

        Raises:
            Unavailable: the connection is gone.
        """
        await trio.lowlevel.checkpoint()
        while not self._connection.notify(method, params):
            await self._wait_room()

    async def _ask(self, method: str, params: list[Any]) -> Any:
        done = _Once()
        id_ = self._connection.ask(method, params, done.settle)
        try:
            await done.wait()
        finally:
            if not done.settled:
                self._connection.give_up(id_)
        return answer(method, done.outcome)

    async def _wait_room(self) -> None:
        room = _Once()
        self._connection.when_room(partial(room.settle, None))
        await room.wait()


class _Once:
    """Something that another thread brings."""

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._event = trio.Event()
        self.settled = False
        self.outcome: Any = None

    def settle(self, outcome: Any) -> None:
        self.outcome = outcome
        self.settled = True
        try:
            self._token.run_sync_soon(self._event.set)
        except trio.RunFinishedError:
            return  # Nobody waits there any more.

    async def wait(self) -> None:
        await self._event.wait()
