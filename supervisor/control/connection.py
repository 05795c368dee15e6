"""One client: its requests, its subscriptions."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import trio

from supervisor.bus import EventBus
from supervisor.channel import Abortable, Channel, Immediate
from supervisor.control.access import Caller, require
from supervisor.control.detached import Detached
from supervisor.control.feed import Feed
from supervisor.control.logfeed import LogFeed
from supervisor.control.parts import Answer, Handlers, Operations
from supervisor.control.progress import ProgressFeed, wants_progress
from supervisor.control.waiting import first_of
from supervisor.core.errors import (
    DeadlineExceeded,
    InvalidParams,
    MethodNotFound,
    NotFound,
    ResourceExhausted,
    SupervisorError,
    Unavailable,
)
from supervisor.lifecycle.operation import PHASE_TIMEOUT_S, Operation
from supervisor.log import get_logger
from supervisor.report import report_failure
from supervisor.store.journal import Journal
from supervisor.store.plugins import PluginRegistry
from supervisor.wire import control, results
from supervisor.wire.limits import SERVER
from supervisor.wire.message import Request
from supervisor.wire.typed import deadline_s, to_request
from supervisor.worker.logs import PluginLogs

_WRITE_TIMEOUT_S: Final = 10.0
_WAITS: Final = frozenset({control.PluginsWait, control.EventsSubscribe, control.LogsFollow})
"""What may last as long as the daemon."""
_FEEDS: Final = 64
"""Subscriptions that one connection may hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What all connections share."""

    handlers: Handlers
    operations: Operations
    detached: Detached
    bus: EventBus
    journal: Journal
    registry: PluginRegistry
    logs: PluginLogs
    version: str
    phase_timeout_s: float = PHASE_TIMEOUT_S
    """For each phase of an operation."""


class Connection:
    def __init__(
        self, stream: trio.SocketStream, caller: Caller, service: Service, *, only_looking: bool = False
    ) -> None:
        """`only_looking`: the daemon is stopping already; nothing is changed, and nothing is waited for."""
        self._only_looking = only_looking
        self._caller = caller
        self._service = service
        self._session = secrets.token_hex(8)
        self._feeds: dict[int, Feed | LogFeed] = {}
        self._last_feed = 0
        self._looking_back = trio.CapacityLimiter(1)
        self._nursery: trio.Nursery | None = None
        self._draining = trio.Event()
        self._channel = Channel(
            stream,
            SERVER,
            on_request=self._on_request,
            on_unexpected=self._on_unexpected,
            plain_errors=True,
            write_timeout_s=_WRITE_TIMEOUT_S,
        )
        self._own: Mapping[type[control.ControlRequest], Callable[[Any], Answer]] = {
            control.Hello: lambda request: Immediate(self._hello(request)),
            control.EventsSubscribe: self._subscribe,
            control.EventsUnsubscribe: lambda request: Immediate(self._unsubscribe(request)),
            control.EventsCredit: lambda request: Immediate(self._credit(request)),
            control.LogsFollow: self._follow,
            control.LogsUnfollow: lambda request: Immediate(self._unsubscribe(request)),
            control.LogsCredit: lambda request: Immediate(self._credit(request)),
        }

    async def run(self) -> None:
        """Serve until the client goes, or breaks the protocol."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                await self._channel.run()
                nursery.cancel_scope.cancel(reason="the client has gone")
        except* SupervisorError as errors:
            why = "; ".join(str(error) for error in errors.exceptions)
            get_logger().info("connection.broken", uid=self._caller.uid, pid=self._caller.pid, why=why)
        finally:
            self._channel.close(Unavailable("the connection is closed"))
            await self._channel.aclose()

    def _on_request(self, request: Request) -> Answer | Abortable:
        kind = control.REQUESTS.get(request.method)
        if kind is None:
            raise MethodNotFound(
                f"there is no method {request.method[:100]!r}; rpc.describe lists them", method=request.method[:100]
            )
        require(self._caller, kind)
        if self._only_looking and (kind.CHANGES or kind in _WAITS):
            raise Unavailable("the daemon is stopping: ask again when it is back")
        typed = to_request(kind, request.method, request.params)
        own_s = deadline_s(request.params)
        timeout_s = kind.DEADLINE_S if own_s is None else own_s
        if kind in self._own:
            return self._own[kind](typed)
        if kind.OPERATION:
            return self._operate(request, typed, timeout_s)
        handler = self._service.handlers[kind]
        if kind.CHANGES:
            # Begun only if it is to be run: what is repeated under one id is not.
            answer: Answer = self._service.detached.run(self._caller, request, lambda: handler(typed, self._caller))
        elif kind is control.LogsRead:
            answer = self._in_turn(lambda: handler(typed, self._caller))
        else:
            answer = handler(typed, self._caller)
        if isinstance(answer, Immediate):
            return answer
        if kind in _WAITS:
            answer = self._unless_draining(answer)
        return answer if timeout_s is None else _within(timeout_s, request.method, answer)

    def _operate(self, request: Request, typed: control.ControlRequest, timeout_s: float | None) -> Abortable:
        """Who cancels it gets the answer that this leads to: CANCELLED, or the result when it was too late."""
        feed = ProgressFeed(request.id, self._channel) if wants_progress(request.params) else None
        operation = Operation(
            feed.tell if feed else lambda _: None,
            phase_timeout_s=self._service.phase_timeout_s,
        )
        handler = self._service.operations[type(typed)]
        work = self._service.detached.run(
            self._caller, request, lambda: handler(typed, self._caller, operation), operation
        )
        if feed is not None:
            work = feed.during(work)
        return Abortable(work if timeout_s is None else _within(timeout_s, request.method, work), operation.abort)

    async def _in_turn(self, read: Callable[[], Answer]) -> Any:
        """One look back into a log at a time: who asks for many waits for himself, and others do not."""
        async with self._looking_back:
            answer = read()
            return answer.result if isinstance(answer, Immediate) else await answer

    def drain(self) -> None:
        """The daemon is stopping: end subscriptions and waits, answer what is in flight, take nothing new."""
        for feed in self._feeds.values():
            feed.scope.cancel(reason="the daemon is stopping")
        self._draining.set()
        self._channel.drain()

    async def _unless_draining(self, work: Coroutine[Any, Any, Any]) -> Any:
        """For what only waits, and may for long."""
        answer = []

        async def wait() -> None:
            answer.append(await work)

        await first_of(wait, self._draining.wait)
        if not answer:
            raise Unavailable("the daemon is stopping")
        return answer[0]

    def _on_unexpected(self, request: Request, error: Exception) -> str:
        return report_failure("request.failed", error, method=request.method, uid=self._caller.uid)

    def _hello(self, request: control.Hello) -> results.HelloInfo:
        if control.PROTOCOL_VERSION not in request.protocol:
            raise InvalidParams(
                f"this daemon speaks protocol {control.PROTOCOL_VERSION}, you offer {request.protocol}",
                supported=[control.PROTOCOL_VERSION],
            )
        self._channel.speak_maps()
        role = self._caller.role
        return {
            "server": "plugind",
            "version": self._service.version,
            "protocol": control.PROTOCOL_VERSION,
            "session": self._session,
            "role": role.name.lower() if role else "none",
            "uid": self._caller.uid,
            "capabilities": [
                "errors.map",
                "events.after_seq",
                "events.credit",
                "logs.follow",
                "progress",
                "request_ids",
            ],
            "limits": {
                "max_frame_in_bytes": SERVER.max_frame_in_bytes,
                "max_frame_out_bytes": SERVER.max_frame_out_bytes,
                "max_depth": SERVER.max_depth,
                "max_requests": SERVER.max_requests_in,
                "max_subscriptions": _FEEDS,
            },
        }

    async def _subscribe(self, request: control.EventsSubscribe) -> results.SubscriptionInfo:
        number = self._next_number(request.credit)
        feed = Feed(
            number,
            bus=self._service.bus,
            journal=self._service.journal,
            send=lambda item: self._channel.notify(control.EVENT_NOTIFICATION, [item]),
            types=request.types,
            plugins=[self._service.registry.get(name).id for name in request.plugins],
            after_seq=request.after_seq,
            credit=request.credit,
        )
        with self._admitted(number, feed) as nursery:
            await feed.check()
            # Where it begins, not where it is: events may have been sent already.
            begins_after: int = await nursery.start(self._run_feed, number, feed.run)
        return {"subscription": number, "last_seq": begins_after}

    async def _follow(self, request: control.LogsFollow) -> results.FollowInfo:
        number = self._next_number(request.credit)
        feed = LogFeed(
            number,
            log=self._service.logs.of(self._service.registry.get(request.plugin).key),
            threads=self._service.logs.threads,
            send=lambda item: self._channel.notify(control.LOG_NOTIFICATION, [item]),
            request=request,
        )
        with self._admitted(number, feed) as nursery:
            async with self._looking_back:
                place = await feed.begin()
            nursery.start_soon(self._run_feed, number, feed.run)
        return {"subscription": number, "place": place}

    def _next_number(self, credit: int | None) -> int:
        """For one more subscription.

        Raises:
            ResourceExhausted: there are as many as may be.
            InvalidParams: its credit is none.
        """
        if len(self._feeds) >= _FEEDS:
            raise ResourceExhausted(f"a connection may hold {_FEEDS} subscriptions: end one first", limit=_FEEDS)
        if credit is not None and credit < 0:
            raise InvalidParams(f"credit must not be negative, but it is {credit}")
        self._last_feed += 1
        return self._last_feed

    @contextmanager
    def _admitted(self, number: int, feed: Feed | LogFeed) -> Iterator[trio.Nursery]:
        """Counted from the first, since what comes now may take its time; what fails is no subscription."""
        if self._nursery is None:
            raise Unavailable("the connection is closed")
        self._feeds[number] = feed
        try:
            yield self._nursery
        except BaseException:
            self._feeds.pop(number, None)
            raise

    async def _run_feed(
        self,
        number: int,
        run: Callable[..., Coroutine[Any, Any, None]],
        **started: trio.TaskStatus[int],
    ) -> None:
        try:
            await run(**started)
        finally:
            self._feeds.pop(number, None)

    def _unsubscribe(self, request: control.EventsUnsubscribe | control.LogsUnfollow) -> results.Done:
        self._feed(request).scope.cancel(reason="unsubscribed")
        return {"ok": True}

    def _credit(self, request: control.EventsCredit | control.LogsCredit) -> results.Done:
        if request.n < 1:
            raise InvalidParams(f"n must be at least 1, not {request.n}")
        self._feed(request).credit.add(request.n)
        return {"ok": True}

    def _feed(
        self, request: control.EventsUnsubscribe | control.EventsCredit | control.LogsUnfollow | control.LogsCredit
    ) -> Feed | LogFeed:
        """The subscription that is meant; what is asked about logs reaches none to events, nor the other way round."""
        number, feed = request.subscription, self._feeds.get(request.subscription)
        of_logs = isinstance(request, control.LogsUnfollow | control.LogsCredit)
        if feed is None or isinstance(feed, LogFeed) is not of_logs:
            what = "a log" if of_logs else "events"
            raise NotFound(f"this connection has no subscription {number} to {what}", subscription=number)
        return feed


async def _within(timeout_s: float, method: str, work: Coroutine[Any, Any, Any]) -> Any:
    with trio.move_on_after(timeout_s):
        return await work
    raise DeadlineExceeded(f"{method} did not end within {timeout_s:g} s; a change goes on", method=method)
