"""One follower of a plugin's log: what is there already, then what is written, without gap or repetition."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio

from supervisor.control.credit import Credit
from supervisor.core.errors import InvalidParams, Unavailable
from supervisor.wire import control
from supervisor.worker.logfile import LEVELS, LogFile
from supervisor.worker.logfollow import Batch, Follower
from supervisor.worker.logread import Wanted

STREAMS: Final = ("stdout", "stderr", "log", "plugind")
_BATCH_LINES: Final = 1000

Send = Callable[[dict[str, Any]], Awaitable[None]]
"""Send one notification's param; waits while the follower is slow."""


def wanted_lines(request: control.LogsRead | control.LogsFollow) -> Wanted:
    """The filters of a request.

    Raises:
        InvalidParams: there is no such level or stream.
    """
    for what, value, known in (("level", request.level, LEVELS), ("stream", request.stream, STREAMS)):
        if value is not None and value not in known:
            raise InvalidParams(f"{what} must be one of {', '.join(known)}, not {value!r}")
    until_ms = request.until_ms if isinstance(request, control.LogsRead) else None
    return Wanted(level=request.level, run_id=request.run, stream=request.stream, until_ms=until_ms)


class LogFeed:
    """`begin`, then `run` it until it returns; then the subscription has ended.

    Nothing is kept for a follower who is slow: the log is read when he takes more, and what is not there any more by
    then is told as a gap.
    """

    def __init__(
        self,
        number: int,
        *,
        log: LogFile,
        threads: trio.CapacityLimiter,
        send: Send,
        request: control.LogsFollow,
    ) -> None:
        self._number = number
        self._log = log
        self._send = send
        self._request = request
        self._follower = Follower(log, wanted_lines(request), threads)
        self.credit = Credit(request.credit)
        self.scope = trio.CancelScope()

    async def begin(self) -> str:
        """Find where to begin, and name the place.

        Raises:
            InvalidParams: `after` cannot stand with the others, or names no place.
            Unavailable: the log cannot be read.
        """
        request = self._request
        if request.after is not None and (request.tail is not None or request.since_ms is not None):
            raise InvalidParams("after goes on from a place: tail and since_ms cannot stand with it")
        if request.tail is not None and request.tail < 0:
            raise InvalidParams(f"tail must not be negative, but it is {request.tail}")
        await self._follower.begin(tail=request.tail, since_ms=request.since_ms, after=request.after)
        return self._follower.place

    async def run(self) -> None:
        """Tell lines until cancelled, or until there is nothing more to tell."""
        with self.scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._until_gone, nursery.cancel_scope)
                reason = await self._follow()
                nursery.cancel_scope.cancel(reason="the log cannot be read")
            await self._send(self._end("removed" if self._log.gone.is_set() else reason))

    async def _until_gone(self, following: trio.CancelScope) -> None:
        await self._log.gone.wait()
        following.cancel(reason="the log is removed")

    async def _follow(self) -> str:
        """Return why it could not go on."""
        try:
            while True:
                # Nothing is read for nobody.
                await self.credit.wait()
                changed = self._log.changed()
                batch = await self._follower.read(self.credit.at_most(_BATCH_LINES))
                if batch.lines or batch.skipped != 0:
                    await self._tell(batch)
                elif not batch.moved:
                    await changed.wait()
        except Unavailable as error:
            if "why" not in error.details:
                raise  # the connection is closed
            return error.message

    async def _tell(self, batch: Batch) -> None:
        self.credit.spend(len(batch.lines))
        told: dict[str, Any] = {"subscription": self._number, "lines": batch.lines, "place": self._follower.place}
        if batch.skipped != 0:
            told["skipped_bytes"] = batch.skipped
        await self._send(told)

    def _end(self, reason: str) -> dict[str, Any]:
        return {"subscription": self._number, "end": True, "reason": reason, "place": self._follower.place}
