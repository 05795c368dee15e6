"""wire.Peer on a trio stream: call the other end, serve its requests.

One task reads and one writes. A request of the peer is served in a task of its own, unless its answer is at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

import trio

from supervisor.core.errors import (
    CallCancelled,
    DeadlineExceeded,
    LocalProtocolError,
    RemoteProtocolError,
    ResourceExhausted,
    SupervisorError,
    Unavailable,
)
from supervisor.outbox import Outbox
from supervisor.wire.limits import Limits
from supervisor.wire.message import Failure, Notification, Params, Request, Response
from supervisor.wire.peer import Cancelled, Late, Peer, PeerEvent, PeerStatistics, Refused

_READ_BYTES: Final = 64 * 1024
_WRITE_BYTES: Final = 256 * 1024
_AT_A_TIME: Final = 32
"""Messages of one peer that are handled before everybody else has a turn."""
_LAST_WORDS_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Immediate:
    """An answer at hand: it is sent without a task of its own."""

    result: Any


OnRequest = Callable[[Request], Coroutine[Any, Any, Any] | Immediate]
"""Serve a request: return the answer or the coroutine that will; `SupervisorError` becomes an error response."""
OnNotification = Callable[[Notification], None]
OnUnexpected = Callable[[Request, Exception], str]
"""Log an exception that no handler should have raised; return the id under which it is found in the log."""


def do_nothing() -> None:
    """For callers that do not care."""


def refuse_requests(request: Request) -> Immediate:
    """For an end that only asks."""
    raise SupervisorError(f"{request.method!r} is not served at this end")


def ignore_notifications(_: Notification) -> None:
    """For an end that listens to nothing."""


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
    ) -> None:
        self._stream = stream
        self._peer = Peer(limits, plain_errors=plain_errors)
        self._on_request = on_request
        self._on_notification = on_notification
        self._on_unexpected = on_unexpected
        self._write_timeout_s = write_timeout_s
        self._outbox = Outbox(stream)
        self._waiting: dict[int, _Waiter] = {}
        self._given_up: dict[int, Callable[[], None]] = {}
        self._serving: dict[int, trio.CancelScope] = {}
        self._reading = trio.CancelScope()
        self._answered = trio.Event()
        self._closed: SupervisorError | None = None
        self._broken: SupervisorError | None = None
        self._nursery: trio.Nursery | None = None

    def statistics(self) -> PeerStatistics:
        return self._peer.statistics()

    def speak_maps(self) -> None:
        """From the next response on, errors are maps: the peer has said hello."""
        self._peer.plain_errors = False

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Read and write until the peer closes its end; its unanswered requests are cancelled then.

        Raises:
            RemoteProtocolError: the peer broke the protocol; it has been told, in one `rpc.error`.
            Unavailable: the connection broke, or the peer took nothing for `write_timeout_s`.
        """
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._until_broken, self._write)
            task_status.started()
            await self._until_broken(lambda: self._read_and_finish(nursery))
        self._nursery = None
        if isinstance(self._broken, RemoteProtocolError):
            await self._say_last_words(self._broken)
        if self._broken is not None:
            raise self._broken

    def drain(self) -> None:
        """Read no more; `run` returns when what is being served is answered and sent."""
        self._reading.cancel(reason="draining")

    def close(self, error: SupervisorError) -> None:
        """Fail the calls in flight, and all later ones, with `error`."""
        self._closed = error
        self._outbox.close()
        waiting, self._waiting = self._waiting, {}
        for waiter in waiting.values():
            waiter.resolve(error)
        given_up, self._given_up = self._given_up, {}
        for on_settled in given_up.values():
            on_settled()

    async def aclose(self) -> None:
        """Close the stream itself."""
        await trio.aclose_forcefully(self._stream)

    async def call(
        self,
        method: str,
        params: Params,
        *,
        timeout_s: float | None,
        on_settled: Callable[[], None] = do_nothing,
    ) -> Any:
        """Ask the peer and wait for its answer; a caller that stops waiting tells the peer.

        `on_settled` is called once, when the peer has nothing more to do with it: it has answered, or will not any
        more. For a caller that gave up that is later than the return.

        Raises:
            DeadlineExceeded: no answer within `timeout_s` seconds (None: as long as it takes).
            ResourceExhausted: too many calls are in flight.
            SupervisorError: what the peer answered, or the reason why the connection was closed.
        """
        with trio.move_on_after(float("inf") if timeout_s is None else timeout_s):
            return await self._call(method, params, on_settled)
        raise DeadlineExceeded(f"{method} was not answered within {timeout_s:g} s", method=method, timeout_s=timeout_s)

    async def notify(self, method: str, params: Params) -> None:
        """Tell the peer; waits while it is slow to read.

        Raises:
            SupervisorError: the reason why the connection was closed.
        """
        frame = self._peer.notify(method, params)
        await self._outbox.wait_room()
        if self._closed is not None:
            raise self._closed
        self._outbox.put(frame)

    async def _call(self, method: str, params: Params, on_settled: Callable[[], None]) -> Any:
        try:
            await self._outbox.wait_room()
            if self._closed is not None:
                raise self._closed
            id_, frame = self._peer.request(method, params)
            waiter = self._waiting[id_] = _Waiter()
            self._outbox.put(frame)
            try:
                await waiter.done.wait()
            except trio.Cancelled:
                if self._waiting.pop(id_, None) is not None:
                    self._given_up[id_], on_settled = on_settled, do_nothing
                    self._outbox.put(self._peer.cancel(id_))
                raise
        finally:
            on_settled()
        if isinstance(waiter.outcome, SupervisorError):
            raise waiter.outcome
        return waiter.outcome

    async def _until_broken(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Reading and writing end together; what ended them first is kept for `run` to raise."""
        try:
            await work()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._broken = self._broken or Unavailable(f"the connection broke: {error!r}")
        except (RemoteProtocolError, Unavailable) as error:
            self._broken = self._broken or error
        if self._nursery:
            self._nursery.cancel_scope.cancel(reason="the connection ended")

    async def _read_and_finish(self, nursery: trio.Nursery) -> None:
        with self._reading:
            await self._read(nursery)
            return
        while self._serving:
            await self._answered.wait()
        await self._outbox.wait_flushed()

    async def _read(self, nursery: trio.Nursery) -> None:
        unfinished_since: float | None = None
        while data := await self._receive(unfinished_since):
            self._peer.receive(data)
            for count, event in enumerate(self._peer.events(), 1):
                unfinished_since = None
                await self._handle(event, nursery)
                if count % _AT_A_TIME == 0:
                    await trio.lowlevel.checkpoint()
            if not self._peer.partial:
                unfinished_since = None
            elif unfinished_since is None:
                unfinished_since = trio.current_time()

    async def _receive(self, unfinished_since: float | None) -> bytes | bytearray:
        if unfinished_since is None:
            return await self._stream.receive_some(_READ_BYTES)
        seconds = self._peer.limits.partial_frame_s
        with trio.move_on_at(unfinished_since + seconds):
            return await self._stream.receive_some(_READ_BYTES)
        raise RemoteProtocolError(f"a frame was left unfinished for {seconds:g} s")

    async def _handle(self, event: PeerEvent, nursery: trio.Nursery) -> None:
        match event:
            case Request():
                await self._accept(event, nursery)
            case Response(id_, None, result):
                self._resolve(id_, result)
            case Response(id_, Failure() as failure, _):
                self._resolve(id_, failure.to_error())
            case Notification():
                self._on_notification(event)
            case Late(id_):
                self._given_up.pop(id_, do_nothing)()
            case Cancelled(id_):
                if scope := self._serving.get(id_):
                    scope.cancel(reason="the peer cancelled its request")
            case Refused(_, reply):
                await self._outbox.wait_room()
                self._outbox.put(reply)

    def _resolve(self, id_: int, outcome: Any) -> None:
        if waiter := self._waiting.pop(id_, None):
            waiter.resolve(outcome)

    async def _accept(self, request: Request, nursery: trio.Nursery) -> None:
        try:
            answer = self._on_request(request)
        except Exception as error:  # noqa: BLE001  the top of a request: failure becomes a response
            await self._answer(request, self._failure(request, error))
            return
        if isinstance(answer, Immediate):
            await self._answer(request, answer.result)
        else:
            # Known before its task runs: the cancel may stand right behind the request.
            scope = self._serving[request.id] = trio.CancelScope()
            nursery.start_soon(self._serve, request, answer, scope)

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
            del self._serving[request.id]
            answered, self._answered = self._answered, trio.Event()
            answered.set()

    async def _answer(self, request: Request, answer: Any) -> None:
        await self._outbox.wait_room()
        if isinstance(answer, Failure):
            self._outbox.put(self._peer.fail(request.id, answer))
            return
        try:
            self._outbox.put(self._peer.respond(request.id, answer))
        except LocalProtocolError as error:
            too_much = ResourceExhausted(f"the result of {request.method} cannot be sent: {error}")
            self._outbox.put(self._peer.fail(request.id, Failure.from_error(too_much)))

    def _failure(self, request: Request, error: Exception) -> Failure:
        if isinstance(error, SupervisorError):
            return Failure.from_error(error)
        log_id = self._on_unexpected(request, error)
        return Failure("INTERNAL", f"{request.method} failed inside; log id {log_id}", {"log_id": log_id})

    async def _write(self) -> None:
        while True:
            data = memoryview(await self._outbox.take())
            for start in range(0, len(data), _WRITE_BYTES):
                with trio.move_on_after(self._write_timeout_s or float("inf")) as patience:
                    await self._stream.send_all(data[start : start + _WRITE_BYTES])
                if patience.cancelled_caught:
                    raise Unavailable(f"the peer took nothing for {self._write_timeout_s:g} s")
            self._outbox.note_written()

    async def _say_last_words(self, error: RemoteProtocolError) -> None:
        # Best effort: the writer may have been cut in the middle of a frame.
        with trio.move_on_after(_LAST_WORDS_S, shield=True):
            try:
                rest = self._outbox.take_nowait()
                last = self._peer.notify("rpc.error", [Failure.from_error(error).to_map()])
                await self._stream.send_all(rest + last)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return


class _Waiter:
    __slots__ = ("done", "outcome")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.outcome: Any = None

    def resolve(self, outcome: Any) -> None:
        self.outcome = outcome
        self.done.set()
