"""One end of a connection without its transport: request ids, calls in flight, cancel. Pure.

`receive(data)` stores, `events()` yields what the peer said, and every other method returns bytes to send. It belongs
to one connection and is not reentrant.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from supervisor.core.errors import LocalProtocolError, RemoteProtocolError, ResourceExhausted
from supervisor.wire import codec
from supervisor.wire.budget import Share
from supervisor.wire.framing import FrameReader
from supervisor.wire.limits import Limits
from supervisor.wire.message import Failure, Malformed, Message, Notification, Params, Request, Response

CANCEL: Final = "rpc.cancel"
"""Notification [id]: the sender no longer waits for that request; it still gets exactly one response."""


_FULL: Final = "unanswered requests and unread answers of you or others hold too much memory: ask again later"


class Refused(NamedTuple):
    """A request that is answered without asking anyone: send `reply`. Of a malformed one only the id is reliable."""

    request: Request
    reply: bytes


class Cancelled(NamedTuple):
    """The peer gave up on its request `id`; it may have been answered meanwhile, or never asked."""

    id: int


class Late(NamedTuple):
    """The peer has answered our request `id`, which we had given up; what it said is dropped."""

    id: int


class _Asked(NamedTuple):
    frame_bytes: int
    held_bytes: int
    """As its share of the budget has it."""


class PeerStatistics(NamedTuple):
    requests_in: int
    request_bytes_in: int
    """What those requests took on the wire."""
    requests_out: int
    unanswered_cancels: int


PeerEvent = Request | Response | Notification | Refused | Cancelled | Late


class Peer:
    """Plain errors (strings) until `plain_errors` is set to False: the shape that every client can read."""

    def __init__(self, limits: Limits, *, plain_errors: bool = False, share: Share | None = None) -> None:
        """`share`: of what this peer and others may make us hold together."""
        self.limits = limits
        self._share = share or Share()
        self.plain_errors = plain_errors
        self._frames = FrameReader(limits.max_frame_in_bytes)
        self._received: deque[bytes | bytearray] = deque()
        self._next_id = 0
        self._wrapped = False
        """Every id has been used once."""
        self._asked: set[int] = set()
        self._given_up: set[int] = set()
        self._asked_of_us: dict[int, _Asked] = {}
        """The peer's unanswered requests, by id."""
        self._bytes_asked_of_us = 0

    @property
    def partial(self) -> bool:
        """Whether half a frame has arrived: a peer may not leave it so for long."""
        return self._frames.partial

    @property
    def overfull(self) -> bool:
        """Whether the peer's unanswered requests hold more bytes than it may have waiting: read no more of it."""
        return self._bytes_asked_of_us > self.limits.max_request_bytes_in

    @property
    def unanswered(self) -> int:
        """How many requests of the peer are."""
        return len(self._asked_of_us)

    def statistics(self) -> PeerStatistics:
        return PeerStatistics(
            requests_in=len(self._asked_of_us),
            request_bytes_in=self._bytes_asked_of_us,
            requests_out=len(self._asked),
            unanswered_cancels=len(self._given_up),
        )

    def receive(self, data: bytes | bytearray) -> None:
        """Take bytes from the transport; `events()` decodes them."""
        self._received.append(data)

    def events(self) -> Iterator[PeerEvent]:
        """What the peer said, in order.

        Raises:
            RemoteProtocolError: the connection cannot go on.
            ResourceExhausted: the same, since an unfinished frame holds more than its share has left.
        """
        while self._received:
            for frame in self._frames.feed(self._received.popleft()):
                # Each frame yields an event, so that who handles them can count what they cost.
                yield self._classify(codec.decode(frame, max_depth=self.limits.max_depth), len(frame))
            if not self._share.set_unfinished(self._frames.partial_bytes):
                raise ResourceExhausted(_FULL)

    def request(self, method: str, params: Params) -> tuple[int, bytes]:
        """A new call: its id and its frame.

        Raises:
            ResourceExhausted: too many calls are in flight.
            LocalProtocolError: the params cannot be sent.
        """
        if len(self._asked) + len(self._given_up) >= self.limits.max_requests_out:
            raise ResourceExhausted(
                f"{len(self._asked)} calls are in flight and {len(self._given_up)} given up but unanswered; "
                f"at most {self.limits.max_requests_out} may be",
                limit=self.limits.max_requests_out,
            )
        while self._next_id in self._asked or self._next_id in self._given_up:
            self._next_id = (self._next_id + 1) & codec.MAX_ID
        id_ = self._next_id
        frame = self._encode(Request(id_, method, params))
        self._next_id = (id_ + 1) & codec.MAX_ID
        self._wrapped = self._wrapped or self._next_id == 0
        self._asked.add(id_)
        return id_, frame

    def notify(self, method: str, params: Params) -> bytes:
        return self._encode(Notification(method, params))

    def cancel(self, id_: int) -> bytes:
        """Give up on our own request `id_`; its response, which still comes, is dropped."""
        self._asked.discard(id_)
        self._given_up.add(id_)
        return self._encode(Notification(CANCEL, [id_]))

    def respond(self, id_: int, result: Any) -> bytes:
        """Answer the peer's request.

        Raises:
            LocalProtocolError: the result cannot be sent (the request is still unanswered), or `id_` is not open.
        """
        frame = self.encode_result(id_, result)
        self.note_answered(id_)
        return frame

    def encode_result(self, id_: int, result: Any) -> bytes:
        """The answer to the peer's request, which `note_answered` counts as unanswered no more once it is to be sent.

        Raises:
            LocalProtocolError: as in `respond`.
        """
        self._must_be_open(id_)
        return self._encode(Response(id_, None, result))

    def note_answered(self, id_: int) -> None:
        answered = self._asked_of_us.pop(id_)
        self._bytes_asked_of_us -= answered.frame_bytes
        self._share.add(-answered.held_bytes)

    def fail(self, id_: int, failure: Failure) -> bytes:
        """Answer the peer's request with an error; details that cannot be sent are left out."""
        self._must_be_open(id_)
        self.note_answered(id_)
        return self.encode_failure(id_, failure)

    def encode_failure(self, id_: int, failure: Failure) -> bytes:
        """As `fail` would, and the request stays unanswered."""
        try:
            return self._encode(Response(id_, failure, None))
        except LocalProtocolError:
            bare = Failure(failure.name, failure.message[:10_000].encode(errors="replace").decode(), {})
            return self._encode(Response(id_, bare, None))

    def _classify(self, message: Message | Malformed, size: int) -> PeerEvent:
        match message:
            case Malformed(id_, method, problem):
                request = Request(id_, method, [])
                self._open(id_, _Asked(size, 0))
                return Refused(request, self.fail(id_, Failure("INVALID_REQUEST", problem)))
            case Request(id_):
                return self._classify_request(message, id_, size)
            case Response(id_):
                return self._classify_response(message, id_)
            case Notification("rpc.cancel", [int(id_)]) if not isinstance(id_, bool):
                return Cancelled(id_)
        return message

    def _classify_request(self, request: Request, id_: int, size: int) -> PeerEvent:
        weight = self._share.weigh(request.params, size)
        fits = self._share.fits(weight)
        self._open(id_, _Asked(size, weight))
        if len(self._asked_of_us) > self.limits.max_requests_in:
            return self._refuse(
                request, f"more than {self.limits.max_requests_in} requests are unanswered", self.limits.max_requests_in
            )
        if not fits:
            return self._refuse(request, _FULL)
        return request

    def _refuse(self, request: Request, message: str, limit: int | None = None) -> Refused:
        details = {} if limit is None else {"limit": limit}
        failure = Failure("RESOURCE_EXHAUSTED", message, details, retryable=True)
        return Refused(request, self.fail(request.id, failure))

    def _classify_response(self, response: Response, id_: int) -> Response | Late:
        if id_ in self._asked:
            self._asked.discard(id_)
            return response
        if id_ in self._given_up:
            self._given_up.discard(id_)
            return Late(id_)
        # Whoever answers what was not asked may as well answer what was, with the wrong thing: no telling which.
        known = id_ < self._next_id or self._wrapped
        why = f"request id {id_} was answered twice" if known else f"request id {id_} was answered and never asked"
        raise RemoteProtocolError(why, id=id_)

    def _open(self, id_: int, asked: _Asked) -> None:
        if id_ in self._asked_of_us:
            # Two answers with one id could not be told apart.
            raise RemoteProtocolError(f"request id {id_} is in use already", id=id_)
        self._asked_of_us[id_] = asked
        self._bytes_asked_of_us += asked.frame_bytes
        self._share.add(asked.held_bytes)

    def _must_be_open(self, id_: int) -> None:
        if id_ not in self._asked_of_us:
            raise LocalProtocolError(f"request {id_} is not open: it was answered already, or never asked")

    def _encode(self, message: Message) -> bytes:
        return codec.encode(
            message,
            max_bytes=self.limits.max_frame_out_bytes,
            max_depth=self.limits.max_depth,
            plain_errors=self.plain_errors,
        )
