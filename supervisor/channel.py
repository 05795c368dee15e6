"""wire.Peer on a trio stream: call the other end, serve its requests.

One task reads and one writes. A request of the peer is served in a task of its own, unless its answer is at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

import trio

from supervisor.calls import Calls, TurnedAway
from supervisor.core.errors import (
    DeadlineExceeded,
    PermissionDenied,
    RemoteProtocolError,
    ResourceExhausted,
    SupervisorError,
    Unavailable,
)
from supervisor.inbox import Inbox, OnNotification
from supervisor.outbox import ROOM_BYTES, Outbox
from supervisor.serving import Abortable, Followed, Immediate, OnRequest, OnUnexpected, Serving, do_nothing
from supervisor.wire.budget import Share
from supervisor.wire.limits import Limits
from supervisor.wire.message import Failure, Notification, Params, Request
from supervisor.wire.peer import Peer

__all__ = [
    "Abortable",
    "Channel",
    "ChannelStatistics",
    "Followed",
    "Immediate",
    "TurnedAway",
    "do_nothing",
    "ignore_notifications",
]
"""With what its users need beside it, wherever it is made."""

_WRITE_BYTES: Final = 64 * 1024
"""Sent at a time: whether the peer takes anything is seen no finer than this."""
_LAST_WORDS_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelStatistics:
    requests_in: int
    """Of the peer, unanswered."""
    request_bytes_in: int
    requests_out: int
    """Our own, unanswered; those that wait for room to be sent are among them."""
    unanswered_cancels: int
    """Given up, and the peer has not answered yet."""
    unsent_bytes: int
    """What waits for the peer to read."""
    stalled_s: float
    """Seconds since the peer last took anything while bytes waited for it; 0 when none wait."""
    held_back: bool
    """Nothing more is read of the peer before some of its requests are answered: it cannot be heard meanwhile."""


def refuse_requests(request: Request) -> Immediate:
    """For an end that only asks."""
    raise SupervisorError(f"{request.method!r} is not served at this end")


def ignore_notifications(_: Notification) -> None:
    """For an end that listens to nothing."""


def _ignore_id(_: int) -> None:
    """For callers that are told nothing on the way."""


class Channel:
    """One connection. `run` it in a nursery; `close` it, with the reason, when it has ended."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        limits: Limits,
        *,
        on_request: OnRequest = refuse_requests,
        on_notification: OnNotification = ignore_notifications,
        on_unexpected: OnUnexpected,
        plain_errors: bool = False,
        write_timeout_s: float | None = None,
        share: Share | None = None,
    ) -> None:
        """`share`: of what this peer and others may make us hold; without one it is bounded by `limits` alone."""
        self._stream = stream
        self._share = share or Share()
        self._peer = Peer(limits, plain_errors=plain_errors, share=self._share)
        self._write_timeout_s = write_timeout_s
        self._outbox = Outbox(stream, self._share)
        self._calls = Calls(self._peer, self._outbox)
        self._serving = Serving(self._peer, self._outbox, self._share, on_request, on_unexpected)
        self._inbox = Inbox(stream, self._peer, self._calls, self._serving, self._outbox, on_notification)
        self._reading = trio.CancelScope()
        self._broken: SupervisorError | None = None
        self._nursery: trio.Nursery | None = None

    def statistics(self) -> ChannelStatistics:
        peer = self._peer.statistics()
        return ChannelStatistics(
            requests_in=peer.requests_in,
            request_bytes_in=peer.request_bytes_in,
            requests_out=peer.requests_out + self._calls.unsent,
            unanswered_cancels=peer.unanswered_cancels,
            unsent_bytes=self._outbox.unsent_bytes,
            stalled_s=self._outbox.stalled_s,
            held_back=self._peer.overfull,
        )

    @property
    def broken(self) -> bool:
        """The peer takes nothing any more, as far as is known: it is not asked again."""
        return self._outbox.broken

    @property
    def understood(self) -> bool:
        """Whether one whole message has come."""
        return self._inbox.understood

    def idle_s(self) -> float | None:
        """Seconds since the peer last sent anything, or since the beginning; None while it is owed an answer, or has
        not taken all that was sent."""
        owed = self._peer.unanswered or self._outbox.unsent_bytes
        return None if owed else trio.current_time() - self._inbox.heard_at

    def speak_maps(self) -> None:
        """From the next response on, errors are maps: the peer has said hello."""
        self._peer.plain_errors = False

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Read and write until the peer closes its end; its unanswered requests are cancelled then.

        Raises:
            RemoteProtocolError: the peer broke the protocol; it has been told, in one `rpc.error`.
            ResourceExhausted: it held too much, or was shed; it has been told so.
            Unavailable: the connection broke, or the peer took nothing for `write_timeout_s`.
        """
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._until_broken, self._write_and_let_read)
            task_status.started()
            await self._until_broken(lambda: self._read_and_finish(nursery))
        self._nursery = None
        if self._broken is not None:
            raise self._broken

    def drain(self) -> None:
        """Read no more; `run` returns when what is being served is answered and sent."""
        self._reading.cancel(reason="draining")

    def shed(self, error: ResourceExhausted | PermissionDenied) -> None:
        """End it, with that last word to the peer: others need its place, or it has lost it."""
        self._broken = self._broken or error
        self._reading.cancel(reason="shed")

    def close(self, error: SupervisorError) -> None:
        """Fail the calls in flight, and all later ones, with `error`."""
        self._outbox.close()
        self._calls.close(error)
        self._share.close()

    async def aclose(self) -> None:
        """Close the stream itself."""
        await trio.aclose_forcefully(self._stream)

    def turn_away(self) -> None:
        """Another peer is asked from now on: movable calls that wait to be sent raise TurnedAway."""
        self._calls.turn_away()

    async def call(
        self,
        method: str,
        params: Params,
        *,
        timeout_s: float | None,
        on_settled: Callable[[], None] = do_nothing,
        on_sent: Callable[[int], None] = _ignore_id,
        movable: bool = False,
    ) -> Any:
        """Ask the peer and wait for its answer; a caller that stops waiting tells the peer, if it was asked already.

        `on_settled` is called once, when the peer has nothing more to do with it: it has answered, or will not any
        more. For a caller that gave up that is later than the return. `on_sent` is called with the request's id before
        anything is heard of it. `movable`: it may be asked of another peer as well, see `turn_away`; so it may where
        this one is gone before anything was sent.

        Raises:
            DeadlineExceeded: no answer within `timeout_s` seconds (None: as long as it takes).
            ResourceExhausted: too many calls are in flight; also those that wait until the peer has read enough.
            SupervisorError: what the peer answered, or the reason why the connection was closed.
            TurnedAway: only a movable one; `on_settled` was not called.
        """
        with trio.move_on_after(float("inf") if timeout_s is None else timeout_s):
            return await self._calls.call(method, params, on_settled, on_sent, movable)
        raise DeadlineExceeded(f"{method} was not answered within {timeout_s:g} s", method=method, timeout_s=timeout_s)

    async def notify(self, method: str, params: Params) -> None:
        """Tell the peer; waits while it is slow to read.

        Raises:
            SupervisorError: the reason why the connection was closed.
        """
        frame = self._peer.notify(method, params)
        await self._outbox.wait_room()
        if self._calls.closed is not None:
            raise self._calls.closed
        self._outbox.put(frame)

    def notify_nowait(self, method: str, params: Params) -> bool:
        """Tell the peer, unless it is slow to read or gone; whether it was told."""
        if self._outbox.unsent_bytes >= ROOM_BYTES or self._calls.closed is not None:
            return False
        self._outbox.put(self._peer.notify(method, params))
        return True

    async def wait_room(self) -> None:
        """Return once the peer has taken enough of what was sent: for who makes large answers."""
        await self._outbox.wait_room()

    async def _until_broken(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Reading and writing end together; what ended them first is kept for `run` to raise."""
        try:
            await work()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._broken = self._broken or Unavailable(f"the connection broke: {error!r}")
        except Unavailable as error:
            self._broken = self._broken or error
        except (RemoteProtocolError, ResourceExhausted, PermissionDenied) as error:
            self._broken = self._broken or error
            await self._say_last_words(error)
        if self._nursery:
            self._nursery.cancel_scope.cancel(reason="the connection ended")

    async def _read_and_finish(self, nursery: trio.Nursery) -> None:
        with self._reading:
            await self._inbox.read(nursery)
            return
        if self._broken is not None:
            raise self._broken  # It was shed.
        await self._serving.wait_idle()
        await self._outbox.wait_flushed()

    async def _write_and_let_read(self) -> None:
        try:
            await self._write()
        except trio.BrokenResourceError:
            self._outbox.broken = True
            # The peer takes nothing any more; what it sent before, answers too, is still to be read, up to its end.
            await trio.sleep(_LAST_WORDS_S)
            raise

    async def _write(self) -> None:
        while True:
            data = memoryview(await self._outbox.take())
            for start in range(0, len(data), _WRITE_BYTES):
                piece = data[start : start + _WRITE_BYTES]
                with trio.move_on_after(self._write_timeout_s or float("inf")) as patience:
                    await self._stream.send_all(piece)
                if patience.cancelled_caught:
                    raise Unavailable(f"the peer took nothing for {self._write_timeout_s:g} s")
                self._outbox.note_sent(len(piece))

    async def _say_last_words(self, error: SupervisorError) -> None:
        """Behind what is being sent, so that no frame is cut, and nothing comes after; who does not read misses it."""
        self._outbox.put(self._peer.notify("rpc.error", [Failure.from_error(error).to_map()]))
        self._outbox.close()
        with trio.move_on_after(_LAST_WORDS_S):
            await self._outbox.wait_flushed()
