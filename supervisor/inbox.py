"""Frames on their way into one connection: read, told apart and handed on, in order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from supervisor.calls import Calls
from supervisor.core.errors import RemoteProtocolError
from supervisor.outbox import Outbox
from supervisor.serving import Serving
from supervisor.wire.message import Failure, Notification, Request, Response
from supervisor.wire.peer import Cancelled, Late, Peer, PeerEvent, Refused

_READ_BYTES: Final = 64 * 1024
_AT_A_TIME: Final = 32
"""Messages of one peer that are handled before everybody else has a turn."""
_LONGEST_S: Final = 0.005
"""As long as that takes, if they are costly."""

OnNotification = Callable[[Notification], None]
"""Hear it at once; must not raise."""


class Inbox:
    """One task reads. Who makes us hold too much, or does not read its answers, is not read meanwhile."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        peer: Peer,
        calls: Calls,
        serving: Serving,
        outbox: Outbox,
        on_notification: OnNotification,
    ) -> None:
        self._stream = stream
        self._peer = peer
        self._calls = calls
        self._serving = serving
        self._outbox = outbox
        self._on_notification = on_notification
        self.heard_at = trio.current_time()
        """When anything last came."""
        self.understood = False
        """Whether one whole message has come."""

    async def read(self, nursery: trio.Nursery) -> None:
        """Until the peer closes its end; its requests are served in `nursery`.

        Raises:
            RemoteProtocolError: it broke the protocol.
            ResourceExhausted: an unfinished frame of it holds too much.
        """
        unfinished_since: float | None = None
        while await self._receive(unfinished_since):
            if await self._handle_all(nursery):
                unfinished_since = None
            if self._peer.overfull:
                await self._serving.wait_not_overfull()
                unfinished_since = None  # It was us who did not read.
            if not self._peer.partial:
                unfinished_since = None
            elif unfinished_since is None:
                unfinished_since = trio.current_time()

    async def _receive(self, unfinished_since: float | None) -> bool:
        """Hand what came to the peer; False at the end. Nothing of it stays here: the next wait may last for days."""
        seconds = self._peer.limits.partial_frame_s
        with trio.move_on_at(float("inf") if unfinished_since is None else unfinished_since + seconds):
            data = await self._stream.receive_some(_READ_BYTES)
            self.heard_at = trio.current_time()
            if data:
                self._peer.receive(data)
            return bool(data)
        raise RemoteProtocolError(f"a frame was left unfinished for {seconds:g} s")

    async def _handle_all(self, nursery: trio.Nursery) -> bool:
        """What is whole by now; whether anything was."""
        count, turn_s = 0, self.heard_at
        for count, event in enumerate(self._peer.events(), 1):
            self.understood = True
            await self._handle(event, nursery)
            if count % _AT_A_TIME == 0 or trio.current_time() - turn_s > _LONGEST_S:
                await trio.lowlevel.checkpoint()
                turn_s = trio.current_time()
        return count > 0

    async def _handle(self, event: PeerEvent, nursery: trio.Nursery) -> None:
        match event:
            case Request():
                await self._serving.accept(event, nursery)
            case Response(id_, None, result):
                self._calls.resolve(id_, result)
            case Response(id_, Failure() as failure, _):
                self._calls.resolve(id_, failure.to_error())
            case Notification():
                self._on_notification(event)
            case Late(id_):
                self._calls.settle(id_)
            case Cancelled(id_):
                self._serving.cancel(id_)
            case Refused(_, reply):
                await self._outbox.wait_room()
                self._outbox.put(reply)
