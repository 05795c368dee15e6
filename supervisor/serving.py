"""The peer's requests on one channel: each is served in a task of its own, unless its answer is at hand."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import trio

from supervisor.core.errors import CallCancelled, LocalProtocolError, ResourceExhausted, SupervisorError
from supervisor.outbox import Outbox
from supervisor.wire.budget import Share
from supervisor.wire.message import Failure, Request
from supervisor.wire.peer import Peer


@dataclass(frozen=True, slots=True)
class Immediate:
    """An answer at hand: it is sent without a task of its own."""

    result: Any


@dataclass(frozen=True, slots=True)
class Followed:
    """What a served request may return: `then` is called as soon as the answer stands before all that is said later."""

    result: Any
    then: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Abortable:
    """Work that knows itself how to end: a peer that gives up has `abort` called, and gets the answer it leads to."""

    work: Coroutine[Any, Any, Any]
    abort: Callable[[], object]


OnRequest = Callable[[Request], Coroutine[Any, Any, Any] | Abortable | Immediate]
"""Serve a request: return the answer or the coroutine that will; `SupervisorError` becomes an error response."""
OnUnexpected = Callable[[Request, Exception], str]
"""Log an exception that no handler should have raised; return the id under which it is found in the log."""


def do_nothing() -> None:
    """For callers that do not care."""


class Serving:
    """Exactly one answer to each request; those of a slow reader wait for room, and so does who reads its requests."""

    def __init__(
        self, peer: Peer, outbox: Outbox, share: Share, on_request: OnRequest, on_unexpected: OnUnexpected
    ) -> None:
        """Answers that wait for room count in the `share`; where that is full they are dropped, and the peer told."""
        self._share = share
        self._peer = peer
        self._outbox = outbox
        self._on_request = on_request
        self._on_unexpected = on_unexpected
        self._tasks: dict[int, Callable[[], object]] = {}
        """What is under way, and how it is cancelled."""
        self._answered = trio.Event()

    async def accept(self, request: Request, nursery: trio.Nursery) -> None:
        """Answer it, or start the task that will."""
        try:
            answer = self._on_request(request)
        except Exception as error:  # noqa: BLE001  the top of a request: failure becomes a response
            await self._answer(request, self._failure(request, error))
            return
        if isinstance(answer, Immediate):
            await self._answer(request, answer.result)
        else:
            # Known before its task runs: the cancel may stand right behind the request.
            scope = trio.CancelScope()
            work, cancel = (answer.work, answer.abort) if isinstance(answer, Abortable) else (answer, scope.cancel)
            self._tasks[request.id] = cancel
            nursery.start_soon(self._serve, request, work, scope)

    def cancel(self, id_: int) -> None:
        """The peer no longer waits for this one; it is answered all the same."""
        if cancel := self._tasks.get(id_):
            cancel()

    async def wait_not_overfull(self) -> None:
        """Until enough is answered: a peer that is not read meanwhile fills its own buffers, and then waits."""
        while self._peer.overfull:
            await self._answered.wait()

    async def wait_idle(self) -> None:
        """Until all is answered."""
        while self._tasks:
            await self._answered.wait()

    async def _serve(self, request: Request, work: Coroutine[Any, Any, Any], scope: trio.CancelScope) -> None:
        answer: Any = Failure.from_error(CallCancelled(f"{request.method} was cancelled"))
        with scope:
            try:
                answer = await work
            except Exception as error:  # noqa: BLE001  the top of a request: failure becomes a response
                answer = self._failure(request, error)
        try:
            await self._answer(request, answer)
        finally:
            del self._tasks[request.id]
            answered, self._answered = self._answered, trio.Event()
            answered.set()

    async def _answer(self, request: Request, answer: Any) -> None:
        result, then = (answer.result, answer.then) if isinstance(answer, Followed) else (answer, do_nothing)
        told = result if isinstance(result, Failure) else self._encoded(request, result)
        if not self._outbox.roomy:
            told = await self._when_roomy(request, told)
        if isinstance(told, Failure):
            self._outbox.put(self._peer.fail(request.id, told))
        else:
            self._peer.note_answered(request.id)
            self._outbox.put(told)
        then()

    def _encoded(self, request: Request, result: Any) -> bytes | Failure:
        try:
            return self._peer.encode_result(request.id, result)
        except LocalProtocolError as error:
            too_much = ResourceExhausted(f"the result of {request.method} cannot be sent: {error}")
            return Failure.from_error(too_much)

    async def _when_roomy(self, request: Request, told: bytes | Failure) -> bytes | Failure:
        """The same once there is room for it, or that it was too much to be kept until then."""
        # How an error looks may change meanwhile (hello), so of that only the size counts.
        size = len(told if isinstance(told, bytes) else self._peer.encode_failure(request.id, told))
        if not self._share.fits(size):
            full = ResourceExhausted(
                f"the answer to {request.method} was dropped, as too many wait to be read by you or others"
            )
            told, size = Failure.from_error(full), 0
        self._share.add(size)
        try:
            await self._outbox.wait_room()
        finally:
            self._share.add(-size)
        return told

    def _failure(self, request: Request, error: Exception) -> Failure:
        if isinstance(error, SupervisorError):
            return Failure.from_error(error)
        log_id = self._on_unexpected(request, error)
        return Failure("INTERNAL", f"{request.method} failed inside; log id {log_id}", {"log_id": log_id})
