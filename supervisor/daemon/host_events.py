"""Workers' subscriptions to events."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import trio

from supervisor.bus import EventBus
from supervisor.channel import Followed
from supervisor.control.feed import Feed
from supervisor.core.cause import short_cause
from supervisor.core.errors import NotFound, ResourceExhausted, SupervisorError
from supervisor.core.event import PluginFailed, WorkerCrashed
from supervisor.core.plugin import Plugin
from supervisor.log import get_logger
from supervisor.store.event_filters import Filters
from supervisor.store.journal import Journal
from supervisor.store.plugins import PluginRegistry
from supervisor.wire import worker
from supervisor.worker.link import WorkerLink

MAX_SUBSCRIPTIONS: Final = 16
"""Of one worker."""


class WorkerFeeds:
    def __init__(self, bus: EventBus, journal: Journal, registry: PluginRegistry) -> None:
        self._bus = bus
        self._journal = journal
        self._registry = registry

    async def subscribe(self, link: WorkerLink, request: worker.EventsSubscribe) -> Followed:
        """Its events are told once its answer is on the way, until the life ends."""
        if len(link.subscriptions) >= MAX_SUBSCRIPTIONS:
            raise ResourceExhausted(
                f"a worker may hold {MAX_SUBSCRIPTIONS} subscriptions: end one first", limit=MAX_SUBSCRIPTIONS
            )
        number, answered = next(link.numbers), trio.Event()
        feed = self._feed(link, request, number, answered)
        # Before the first await: it counts at once.
        link.subscriptions[number] = feed.scope
        try:
            await feed.check()
            begins_after = await link.start(
                partial(_run, feed, link, number), name=f"events {number} of {link.plugin.key}"
            )
        except BaseException:
            feed.scope.cancel(reason="nobody was told of the subscription")
            link.subscriptions.pop(number, None)
            raise
        return Followed({"subscription": number, "last_seq": begins_after}, answered.set)

    async def unsubscribe(self, link: WorkerLink, request: worker.EventsUnsubscribe) -> dict[str, Any]:
        scope = link.subscriptions.pop(request.subscription, None)
        if scope is None:
            raise NotFound(f"this worker has no subscription {request.subscription}", subscription=request.subscription)
        scope.cancel(reason="unsubscribed")
        return {}

    def _feed(self, link: WorkerLink, request: worker.EventsSubscribe, number: int, answered: trio.Event) -> Feed:
        async def send(item: dict[str, Any]) -> None:
            await answered.wait()
            if event := item.get("event"):
                item = {**item, "event": seen_by(link.plugin, event)}
            await link.notify(worker.EVENT, item)

        return Feed(
            number,
            bus=self._bus,
            journal=self._journal,
            send=send,
            filters=Filters(request.types, [self._registry.get(name).id for name in request.plugins]),
            after_seq=request.after_seq,
            credit=None,
            owner=link.plugin.id,
        )


async def _run(
    feed: Feed, link: WorkerLink, number: int, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED
) -> None:
    try:
        await feed.run(task_status=task_status)
    except SupervisorError as error:
        # The connection is closed, or the journal cannot be read; either way nobody can be promised anything more.
        get_logger().warning("worker.subscription_ended", plugin=link.plugin.key, why=error.message)
    finally:
        link.subscriptions.pop(number, None)


def seen_by(plugin: Plugin, event: dict[str, Any]) -> dict[str, Any]:
    """An event as a worker sees it. What another plugin printed is that one's own: it may hold its secrets. Pure."""
    if event["plugin_id"] == plugin.id:
        return event
    match event["type"], event["data"]:
        case WorkerCrashed.TYPE, data:
            return {**event, "data": {**data, "stderr_tail": ""}}
        case PluginFailed.TYPE, {"error": str(error)} as data:
            return {**event, "data": {**data, "error": without_last_words(error)}}
    return event


def without_last_words(error: str) -> str:
    """The sentence, without what the worker printed below it."""
    return short_cause(error.partition("\n")[0])
