"""One client: its requests, its subscriptions."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

import trio

from supervisor.bus import EventBus
from supervisor.channel import Abortable, Channel, Followed, Immediate
from supervisor.control.access import Caller, Gate, permits
from supervisor.control.describe import MAX_SUBSCRIPTIONS, limits
from supervisor.control.detached import Detached
from supervisor.control.feed import Feed
from supervisor.control.filters import JobName, event_filters
from supervisor.control.logfeed import LogFeed
from supervisor.control.meters import Meters
from supervisor.control.parts import Answer, Handlers, Operations
from supervisor.control.progress import ProgressFeed, wants_progress
from supervisor.control.waiting import first_of
from supervisor.core.errors import (
    DeadlineExceeded,
    InvalidParams,
    MethodNotFound,
    NotFound,
    PermissionDenied,
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
from supervisor.wire.budget import Share
from supervisor.wire.limits import SERVER
from supervisor.wire.message import Request
from supervisor.wire.typed import deadline_s, to_request
from supervisor.worker.logs import PluginLogs

_WRITE_TIMEOUT_S: Final = 10.0
_WAITS: Final = frozenset({control.PluginsWait, control.EventsSubscribe, control.LogsFollow})
"""What may last as long as the daemon."""
_PAGES: Final = frozenset(
    {
        control.AuditList,
        control.DaemonMetrics,
        control.EventsList,
        control.JobsList,
        control.JobsNext,
        control.JobsRuns,
        control.LogsRead,
        control.PluginsConfigHistory,
        control.PluginsList,
        control.PluginsStateGet,
        control.PluginsStateList,
    }
)
"""What may be megabytes long, whoever asks for it."""
_CLIENT_CHARS: Final = 100
"""Of what a client calls itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What all connections share."""

    handlers: Handlers
    operations: Operations
    detached: Detached
    gate: Gate
    bus: EventBus
    journal: Journal
    registry: PluginRegistry
    job_name: JobName
    logs: PluginLogs
    version: str
    phase_timeout_s: float = PHASE_TIMEOUT_S
    """For each phase of an operation."""
    meters: Meters = field(default_factory=Meters)


class Connection:
    def __init__(
        self,
        stream: trio.SocketStream,
        caller: Caller,
        service: Service,
        *,
        share: Share | None = None,
        only_looking: bool = False,
    ) -> None:
        """`share`: of what all connections may hold; without one it is bounded by its own limits alone.

        `only_looking`: the daemon is stopping already; nothing is changed, and nothing is waited for.
        """
        self._share = share or Share()
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
            on_request=service.meters.latency.timing(self._on_request),
            on_unexpected=self._on_unexpected,
            plain_errors=True,
            write_timeout_s=_WRITE_TIMEOUT_S,
            share=self._share,
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
        except* ResourceExhausted as errors:
            # As often as somebody likes, and counted elsewhere.
            get_logger().debug("connection.shed", uid=self._caller.uid, why=str(errors.exceptions[0]))
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
        # The rules may have changed since its last request.
        caller = self._caller = self._service.gate.renewed(self._caller)
        if not permits(caller, kind):
            return self._service.gate.deny(caller, kind)
        if self._only_looking and (kind.CHANGES or kind in _WAITS):
            raise Unavailable("the daemon is stopping: ask again when it is back", stopping=True)
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
        else:
            answer = handler(typed, self._caller)
        if isinstance(answer, Immediate):
            return answer
        if kind in _PAGES:
            answer = self._in_turn(answer)
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

    async def _in_turn(self, read: Coroutine[Any, Any, Any]) -> Any:
        """One page at a time, and none before the last has been taken: who asks for many waits for himself, and does
        not have us hold them all."""
        try:
            async with self._looking_back:
                await self._channel.wait_room()
                if self._share.full:
                    raise ResourceExhausted("too many answers wait to be read by you or others: ask again later")
                return await read
        finally:
            read.close()  # It may not have begun.

    @property
    def caller(self) -> Caller:
        return self._caller

    @property
    def understood(self) -> bool:
        """Whether it has ever said one whole thing."""
        return self._channel.understood

    def idle_s(self) -> float | None:
        """Seconds since it last said anything; None while it is owed something: an answer, events, what is unread."""
        return None if self._feeds else self._channel.idle_s()

    def shed(self, error: ResourceExhausted) -> None:
        """End it, with that last word: others need its place."""
        self._channel.shed(error)

    def look_again(self) -> None:
        """The rules have changed: who has lost every role is told nothing more of what it subscribed to."""
        self._caller = self._service.gate.renewed(self._caller)
        if self._feeds and self._caller.role is None:
            uid = self._caller.uid
            for feed in self._feeds.values():
                feed.scope.cancel(reason="it has no role any more")
            self._channel.shed(PermissionDenied(f"uid {uid} has no role here any more: its subscriptions end", uid=uid))

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
            raise Unavailable("the daemon is stopping", stopping=True)
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
        said = "".join(filter(str.isprintable, f"{request.client} {request.version}"))
        self._caller = replace(self._caller, client=said.strip()[:_CLIENT_CHARS] or None)
        return {
            "server": "plugind",
            "version": self._service.version,
            "protocol": control.PROTOCOL_VERSION,
            "session": self._session,
            "role": self._caller.role_name,
            "uid": self._caller.uid,
            "capabilities": [
                "errors.map",
                "events.after_seq",
                "events.credit",
                "logs.follow",
                "progress",
                "request_ids",
            ],
            "limits": limits(),
        }

    async def _subscribe(self, request: control.EventsSubscribe) -> Followed:
        filters = await event_filters(request, self._service.registry, self._service.job_name)
        number, answered = self._next_number(request.credit), trio.Event()
        feed = Feed(
            number,
            bus=self._service.bus,
            journal=self._service.journal,
            send=partial(self._tell, answered, control.EVENT_NOTIFICATION),
            filters=filters,
            after_seq=request.after_seq,
            credit=request.credit,
        )
        with self._admitted(number, feed) as nursery:
            await feed.check()
            # Where it begins, not where it is: it goes on already.
            begins_after: int = await nursery.start(self._run_feed, number, feed.run)
        return Followed(results.SubscriptionInfo(subscription=number, last_seq=begins_after), answered.set)

    async def _follow(self, request: control.LogsFollow) -> Followed:
        number, answered = self._next_number(request.credit), trio.Event()
        feed = LogFeed(
            number,
            log=self._service.logs.of(self._service.registry.get(request.plugin).key),
            threads=self._service.logs.threads,
            send=partial(self._tell, answered, control.LOG_NOTIFICATION),
            request=request,
        )
        with self._admitted(number, feed) as nursery:
            async with self._looking_back:
                place = await feed.begin()
            nursery.start_soon(self._run_feed, number, feed.run)
        return Followed(results.FollowInfo(subscription=number, place=place), answered.set)

    async def _tell(self, answered: trio.Event, notification: str, item: dict[str, Any]) -> None:
        """Behind the answer, so that the client knows the subscription that is told of."""
        await answered.wait()
        await self._channel.notify(notification, [item])

    def _next_number(self, credit: int | None) -> int:
        """For one more subscription.

        Raises:
            ResourceExhausted: there are as many as may be.
            InvalidParams: its credit is none.
        """
        if len(self._feeds) >= MAX_SUBSCRIPTIONS:
            raise ResourceExhausted(
                f"a connection may hold {MAX_SUBSCRIPTIONS} subscriptions: end one first", limit=MAX_SUBSCRIPTIONS
            )
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
        self._service.meters.subscriptions += 1
        try:
            yield self._nursery
        except BaseException:
            self._forget(number)
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
            self._forget(number)

    def _forget(self, number: int) -> None:
        """The subscription has ended, or never was one; again is harmless."""
        feed = self._feeds.pop(number, None)
        if feed is not None:
            self._service.meters.subscriptions -= 1
        if isinstance(feed, Feed) and feed.overflowed:
            self._service.meters.overflows += 1

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
