"""Both clients behind one face, for what must hold for either."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from client import AsyncClient, Client
from tests.client.fake_daemon import FakeDaemon

KINDS = ["blocking", "trio"]
Ask = Callable[[Callable[[Any], Any]], Awaitable[Any]]
"""`await ask(lambda client: client.plugins.list())` is the answer, of whichever client."""
PATIENCE_S = 20.0


@asynccontextmanager
async def connected(kind: str, daemon: FakeDaemon, **options: Any) -> AsyncIterator[Ask]:
    """One that has been answered already."""
    with trio.fail_after(PATIENCE_S):
        if kind == "trio":
            async with AsyncClient.connect(daemon.path, **options) as client:

                async def ask(what: Callable[[Any], Any]) -> Any:
                    return await what(client)

                yield ask
            return
        with Client(daemon.path, **options) as blocking:
            await trio.to_thread.run_sync(blocking.hello)

            async def ask_in_thread(what: Callable[[Any], Any]) -> Any:
                return await trio.to_thread.run_sync(what, blocking)

            yield ask_in_thread


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.001)
