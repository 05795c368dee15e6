"""Tell whoever asked how far his command is: in order, and only as fast as he reads."""

from __future__ import annotations

from collections import deque
from collections.abc import Coroutine
from itertools import pairwise
from typing import Any, Final, Protocol

import trio

from supervisor.control.waiting import first_of
from supervisor.core.errors import InvalidParams
from supervisor.lifecycle.operation import Progress
from supervisor.wire.control import PROGRESS_KEY, PROGRESS_NOTIFICATION
from supervisor.wire.message import Params, named

_MOST: Final = 64
"""Words that are kept for a slow reader."""
_PACE_S: Final = 0.05
"""Between two looks at what there is to tell: bytes are counted faster than anybody reads."""


class Listener(Protocol):
    """The part of a Channel that is used here."""

    def notify_nowait(self, method: str, params: Params) -> bool: ...

    async def wait_room(self) -> None: ...


def wants_progress(params: Params) -> bool:
    """
    Raises:
        InvalidParams: what stands there is neither true nor false.
    """
    wanted = (named(params) or {}).get(PROGRESS_KEY, False)
    if not isinstance(wanted, bool):
        raise InvalidParams(f"{PROGRESS_KEY} must be true or false")
    return wanted


class ProgressFeed:
    """Of one request. `tell` it at any time; what a slow reader misses is older than what he gets."""

    def __init__(self, request_id: int, listener: Listener) -> None:
        self._request_id = request_id
        self._listener = listener
        self._pending: deque[Progress] = deque()
        self._told = trio.Event()
        self._over = False

    def tell(self, progress: Progress) -> None:
        if self._over:
            return
        if self._pending and _outdates(progress, self._pending[-1]):
            self._pending.pop()
        self._pending.append(progress)
        if len(self._pending) > _MOST:
            del self._pending[self._least_wanted()]
        self._told.set()

    async def during(self, work: Coroutine[Any, Any, Any]) -> Any:
        """What `work` returns, or raises; nothing is told after that, since then the answer comes."""
        answer = []

        async def wait() -> None:
            answer.append(await work)

        try:
            await first_of(wait, self._run)
        finally:
            self._flush()
            self._over = True
        return answer[0]

    async def _run(self) -> None:
        while True:
            await self._told.wait()
            await self._listener.wait_room()
            self._told = trio.Event()
            self._flush()
            await trio.sleep(_PACE_S)

    def _flush(self) -> None:
        while self._pending:
            if not self._listener.notify_nowait(PROGRESS_NOTIFICATION, [self._to_wire(self._pending[0])]):
                self._told.set()
                return
            self._pending.popleft()

    def _to_wire(self, progress: Progress) -> dict[str, Any]:
        told = {"done": progress.done, "total": progress.total, "line": progress.line}
        known = {name: value for name, value in told.items() if value is not None}
        return {"request": self._request_id, "phase": progress.phase, **known}

    def _least_wanted(self) -> int:
        """The oldest one that is not the newest of its phase. There are fewer phases than places, so there is one."""
        phases = [progress.phase for progress in self._pending]
        return next(i for i, (phase, following) in enumerate(pairwise(phases)) if phase == following)


def _outdates(newer: Progress, older: Progress) -> bool:
    """Both count within one phase; a line is a word of its own."""
    return newer.phase == older.phase and newer.line is None and older.line is None
