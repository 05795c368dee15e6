"""The calls of one channel that are under way: a place for each, room to be sent, an answer or giving up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

from supervisor.core.errors import ResourceExhausted, SupervisorError
from supervisor.outbox import ROOM_BYTES, Outbox
from supervisor.serving import do_nothing
from supervisor.wire.message import Params
from supervisor.wire.peer import Peer


class TurnedAway(Exception):
    """The peer was not asked, and is not to be asked any more: another one is."""


class Calls:
    """A caller holds a place from the moment it asks, so that those who wait for room are bounded too.

    What the peer was told of and nobody waits for any more keeps its place until the peer has answered: it may still
    be at it.
    """

    def __init__(self, peer: Peer, outbox: Outbox) -> None:
        self._peer = peer
        self._outbox = outbox
        self._unsent = 0
        self._in_line: set[trio.CancelScope] = set()
        """Calls that wait for room, and may be asked of another peer as well."""
        self._waiting: dict[int, _Waiter] = {}
        self._given_up: dict[int, Callable[[], None]] = {}
        self.closed: SupervisorError | None = None

    @property
    def unsent(self) -> int:
        """Calls that wait for room."""
        return self._unsent

    async def call(
        self,
        method: str,
        params: Params,
        on_settled: Callable[[], None],
        on_sent: Callable[[int], None],
        movable: bool = False,
    ) -> Any:
        """See `Channel.call`."""
        try:
            waiter = _Waiter()
            id_ = await self._send(method, params, movable)
            on_sent(id_)
            self._waiting[id_] = waiter
            try:
                await waiter.done.wait()
            except trio.Cancelled:
                if self._waiting.pop(id_, None) is not None:
                    self._given_up[id_], on_settled = on_settled, do_nothing
                    self._outbox.put(self._peer.cancel(id_))
                raise
        except TurnedAway:
            on_settled = do_nothing
            raise
        finally:
            on_settled()
        if isinstance(waiter.outcome, SupervisorError):
            raise waiter.outcome
        return waiter.outcome

    def turn_away(self) -> None:
        """Calls that wait for room, and are movable, raise TurnedAway; whoever was asked answers."""
        for scope in self._in_line:
            scope.cancel(reason="another peer is to be asked")

    async def _send(self, method: str, params: Params, movable: bool) -> int:
        """The id under which the peer was asked. Cancelled in here, it was not."""
        self._must_have_place()
        self._unsent += 1
        try:
            if self._outbox.unsent_bytes >= ROOM_BYTES:
                await self._wait_in_line(movable)
        finally:
            self._unsent -= 1
        if movable and (self.closed is not None or self._outbox.broken):
            raise TurnedAway
        if self.closed is not None:
            raise self.closed
        id_, frame = self._peer.request(method, params)
        self._outbox.put(frame)
        if movable and self._outbox.broken:
            # The kernel has taken nothing of it, and will not.
            raise TurnedAway
        return id_

    async def _wait_in_line(self, movable: bool) -> None:
        with trio.CancelScope() as scope:
            if movable:
                self._in_line.add(scope)
            try:
                await self._outbox.wait_room()
            finally:
                self._in_line.discard(scope)
        if scope.cancelled_caught:
            raise TurnedAway

    def _must_have_place(self) -> None:
        asked, limit = len(self._waiting), self._peer.limits.max_requests_out
        if asked + self._unsent + len(self._given_up) >= limit:
            raise ResourceExhausted(
                f"{asked} calls are in flight, {self._unsent} wait to be sent and {len(self._given_up)} are given up "
                f"but unanswered; at most {limit} may be",
                limit=limit,
            )

    def resolve(self, id_: int, outcome: Any) -> None:
        """The peer has answered; `outcome` is a `SupervisorError` if with one."""
        if waiter := self._waiting.pop(id_, None):
            waiter.resolve(outcome)

    def settle(self, id_: int) -> None:
        """The peer has answered what nobody waits for."""
        self._given_up.pop(id_, do_nothing)()

    def close(self, error: SupervisorError) -> None:
        """Fail the calls under way, and all later ones, with `error`."""
        self.closed = error
        waiting, self._waiting = self._waiting, {}
        for waiter in waiting.values():
            waiter.resolve(error)
        given_up, self._given_up = self._given_up, {}
        for on_settled in given_up.values():
            on_settled()


class _Waiter:
    __slots__ = ("done", "outcome")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.outcome: Any = None

    def resolve(self, outcome: Any) -> None:
        self.outcome = outcome
        self.done.set()
