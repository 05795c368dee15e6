"""What one client has subscribed to: events, and logs of plugins."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import trio

from supervisor.channel import Channel, Followed, Immediate
from supervisor.control.access import Caller
from supervisor.control.describe import MAX_SUBSCRIPTIONS
from supervisor.control.feed import Feed, Turn
from supervisor.control.filters import event_filters
from supervisor.control.logfeed import LogFeed
from supervisor.control.parts import Answer
from supervisor.control.service import Service
from supervisor.core.errors import InvalidParams, NotFound, ResourceExhausted, Unavailable
from supervisor.store.event_filters import Filters
from supervisor.wire import control, results
from supervisor.wire.budget import Share

MAX_TYPES: Final = 1000
MAX_TYPES_CHARS: Final = 20_000
"""Of all events that a connection has subscribed to: each event of a new type is held against each of them."""

_OfOne = control.EventsUnsubscribe | control.EventsCredit | control.LogsUnfollow | control.LogsCredit


class Subscriptions:
    """They live in the connection's nursery: `open` comes first."""

    def __init__(self, service: Service, channel: Channel, *, turn: Turn, share: Share) -> None:
        """`turn`: inside it no other page is made for this client. `share`: what it may have us hold."""
        self._service = service
        self._channel = channel
        self._turn = turn
        self._share = share
        self._feeds: dict[int, Feed | LogFeed] = {}
        self._last_feed = 0
        self._nursery: trio.Nursery | None = None

    def open(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery

    @property
    def any(self) -> bool:
        return bool(self._feeds)

    def end(self, why: str) -> None:
        for feed in self._feeds.values():
            feed.scope.cancel(reason=why)

    def answer(self, request: control.ControlRequest, caller: Caller) -> Answer | None:
        """None: it is about no subscription."""
        match request:
            case control.EventsSubscribe():
                return self._subscribe(request, caller)
            case control.LogsFollow():
                return self._follow(request)
            case control.EventsUnsubscribe() | control.LogsUnfollow():
                return Immediate(self._unsubscribe(request))
            case control.EventsCredit() | control.LogsCredit():
                return Immediate(self._credit(request))
        return None

    async def _subscribe(self, request: control.EventsSubscribe, caller: Caller) -> Followed:
        filters = await event_filters(request, self._service.registry, self._service.job_name)
        number, answered = self._next_number(request.credit), trio.Event()
        self._check_types(filters)
        feed = Feed(
            number,
            bus=self._service.bus,
            journal=self._service.journal,
            send=partial(self._tell, answered, control.EVENT_NOTIFICATION),
            filters=filters,
            after_seq=request.after_seq,
            credit=request.credit,
            owner=f"uid:{caller.uid}",
            turn=self._turn,
            share=self._share,
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
            async with self._turn():
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

    def _check_types(self, filters: Filters) -> None:
        """
        Raises:
            ResourceExhausted: with those of the other subscriptions they are too many or too long.
        """
        types = [type_ for feed in self._feeds.values() if isinstance(feed, Feed) for type_ in feed.filters.types]
        types += filters.types
        for count, limit, what in (
            (len(types), MAX_TYPES, "types"),
            (sum(map(len, types)), MAX_TYPES_CHARS, "characters of types"),
        ):
            if count > limit:
                raise ResourceExhausted(
                    f"the subscriptions of a connection may have {limit} {what} in all, and with these there are "
                    f"{count}: end one first, or ask for fewer",
                    limit=limit,
                )

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

    def _feed(self, request: _OfOne) -> Feed | LogFeed:
        """The subscription that is meant; what is asked about logs reaches none to events, nor the other way round."""
        number, feed = request.subscription, self._feeds.get(request.subscription)
        of_logs = isinstance(request, control.LogsUnfollow | control.LogsCredit)
        if feed is None or isinstance(feed, LogFeed) is not of_logs:
            what = "a log" if of_logs else "events"
            raise NotFound(f"this connection has no subscription {number} to {what}", subscription=number)
        return feed
