"""One end of a connection without its transport: request ids, calls in flight, cancel. Pure.

`receive(data)` stores, `events()` yields what the peer said, and every other method returns bytes to send. It belongs
to one connection and is not reentrant.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from supervisor.core.errors import LocalProtocolError, RemoteProtocolError, ResourceExhausted
from supervisor.wire import codec
from supervisor.wire.framing import FrameReader
from supervisor.wire.limits import Limits
from supervisor.wire.message import Failure, Malformed, Message, Notification, Params, Request, Response

CANCEL: Final = "rpc.cancel"
"""Notification [id]: the sender no longer waits for that request; it still gets exactly one response."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A request that is answered without asking anyone: send `reply`. Of a malformed one only the id is reliable."""

    request: Request
    reply: bytes


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The peer gave up on its request `id`."""

    id: int


@dataclass(frozen=True, slots=True)
class Late:
    """The peer has answered our request `id`, which we had given up; what it said is dropped."""

    id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerStatistics:
    requests_in: int
    requests_out: int
    unknown_responses: int
    """Responses to what was never asked; late ones after a cancel do not count."""
    unanswered_cancels: int


PeerEvent = Request | Response | Notification | Refused | Cancelled | Late


class Peer:
    """Plain errors (strings) until `plain_errors` is set to False: the shape that every client can read."""

    def __init__(self, limits: Limits, *, plain_errors: bool = False) -> None:
        self.limits = limits
        self.plain_errors = plain_errors
        self._frames = FrameReader(limits.max_frame_in_bytes)
        self._received: deque[bytes | bytearray] = deque()
        self._next_id = 0
        self._asked: set[int] = set()
        self._given_up: set[int] = set()
        self._asked_of_us: set[int] = set()
        self._unknown_responses = 0

    @property
    def partial(self) -> bool:
        """Whether half a frame has arrived: a peer may not leave it so for long."""
        return self._frames.partial

    def statistics(self) -> PeerStatistics:
        return PeerStatistics(
            requests_in=len(self._asked_of_us),
            requests_out=len(self._asked),
            unknown_responses=self._unknown_responses,
            unanswered_cancels=len(self._given_up),
        )

    def receive(self, data: bytes | bytearray) -> None:
        """Take bytes from the transport; `events()` decodes them."""
        self._received.append(data)

    def events(self) -> Iterator[PeerEvent]:
        """What the peer said, in order.

        Raises:
            RemoteProtocolError: the connection cannot go on.
        """
        while self._received:
            for frame in self._frames.feed(self._received.popleft()):
                event = self._classify(codec.decode(frame, max_depth=self.limits.max_depth))
                if event is not None:
                    yield event

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
        self._must_be_open(id_)
        frame = self._encode(Response(id_, None, result))
        self._asked_of_us.discard(id_)
        return frame

    def fail(self, id_: int, failure: Failure) -> bytes:
        """Answer the peer's request with an error; details that cannot be sent are left out."""
        self._must_be_open(id_)
        self._asked_of_us.discard(id_)
        try:
            return self._encode(Response(id_, failure, None))
        except LocalProtocolError:
            bare = Failure(failure.name, failure.message[:10_000].encode(errors="replace").decode(), {})
            return self._encode(Response(id_, bare, None))

    def _classify(self, message: Message | Malformed) -> PeerEvent | None:
        match message:
            case Malformed(id_, method, problem):
                request = Request(id_, method, [])
                self._open(id_)
                return Refused(request, self.fail(id_, Failure("INVALID_REQUEST", problem)))
            case Request(id_):
                return self._classify_request(message, id_)
            case Response(id_):
                return self._classify_response(message, id_)
            case Notification("rpc.cancel", [int(id_)]):
                return Cancelled(id_) if id_ in self._asked_of_us else None
        return message

    def _classify_request(self, request: Request, id_: int) -> PeerEvent:
        self._open(id_)
        if len(self._asked_of_us) <= self.limits.max_requests_in:
            return request
        message = f"more than {self.limits.max_requests_in} requests are unanswered"
        failure = Failure("RESOURCE_EXHAUSTED", message, {"limit": self.limits.max_requests_in}, retryable=True)
        return Refused(request, self.fail(id_, failure))

    def _classify_response(self, response: Response, id_: int) -> Response | Late | None:
        if id_ in self._asked:
            self._asked.discard(id_)
            return response
        if id_ in self._given_up:
            self._given_up.discard(id_)
            return Late(id_)
        self._unknown_responses += 1
        return None

    def _open(self, id_: int) -> None:
        if id_ in self._asked_of_us:
            # Two answers with one id could not be told apart.
            raise RemoteProtocolError(f"request id {id_} is in use already", id=id_)
        self._asked_of_us.add(id_)

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
