"""Several things that may end a life, and the first of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from supervisor.worker.crash import Crash

Wait = Callable[[], Awaitable[Crash]]


async def wait_first(*waits: Wait) -> Crash:
    """Return what the first of them returns; the others are cancelled."""
    causes: list[Crash] = []

    async def take(wait: Wait) -> None:
        causes.append(await wait())
        waiting.cancel_scope.cancel(reason="the life has ended")

    async with trio.open_nursery() as waiting:
        for wait in waits:
            waiting.start_soon(take, wait)
    return causes[0]
