"""Blocking work on files, in threads that can be given up: one may hang in the kernel, as on a dead network share."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

import trio

from supervisor.lifecycle.operation import Operation

T = TypeVar("T")

_LEAVE_S: Final = 5.0
"""How long a cancelled thread may take to notice. One that takes longer hangs, and is left behind: it writes nothing
more when it comes back, since it looks before each write."""
_TELL_EVERY_S: Final = 0.05


class Threads:
    """At most `most` at a time. A thread left behind keeps its place, so that there are never more of them."""

    def __init__(self, most: int) -> None:
        self._limiter = trio.CapacityLimiter(most)

    async def run(self, work: Callable[[], T]) -> T:
        """Return what `work` returns; cancelled, when it has ended, or in 5 s. `work` notices by `check_cancelled`."""
        over, begun = trio.Event(), []
        token = trio.lowlevel.current_trio_token()

        def do() -> T:
            check_cancelled()
            begun.append(True)
            try:
                return work()
            finally:
                _tell(token, over)

        try:
            return await trio.to_thread.run_sync(do, abandon_on_cancel=True, limiter=self._limiter)
        except trio.Cancelled:
            if begun:
                with trio.move_on_after(_LEAVE_S, shield=True):
                    await over.wait()
            raise


class Meter:
    """Tells an operation from a thread how many bytes are done, at most twenty times a second."""

    def __init__(self, operation: Operation) -> None:
        self._operation = operation
        self._told_at = time.monotonic()

    def report(self, done: int, total: int | None) -> None:
        """Raises trio.Cancelled where the work is to end."""
        check_cancelled()
        now = time.monotonic()
        if now - self._told_at >= _TELL_EVERY_S:
            self._told_at = now
            trio.from_thread.run_sync(partial(self._operation.report, done=done, total=total))


def check_cancelled() -> None:
    trio.from_thread.check_cancelled()


def _tell(token: trio.lowlevel.TrioToken, over: trio.Event) -> None:
    try:
        token.run_sync_soon(over.set)
    except trio.RunFinishedError:
        return  # It had been left behind, and the event loop has ended since.
