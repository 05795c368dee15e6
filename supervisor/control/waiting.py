"""Waiting for the first of several things."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import trio

from supervisor.core.errors import SupervisorError


async def first_of(*waits: Callable[[], Coroutine[Any, Any, object]]) -> None:
    """Return when the first of them does, or raise the SupervisorError with which it failed."""
    failures: list[SupervisorError] = []
    async with trio.open_nursery() as nursery:

        async def one(wait: Callable[[], Coroutine[Any, Any, object]]) -> None:
            try:
                await wait()
            except SupervisorError as error:
                # Out of a nursery it would come as a group.
                failures.append(error)
            nursery.cancel_scope.cancel(reason="another came first")

        for wait in waits:
            nursery.start_soon(one, wait)
    if failures:
        raise failures[0]
