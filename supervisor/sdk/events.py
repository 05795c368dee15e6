"""@on_event: a subscription each, and a thread each that hands its events to the handler, one at a time.

The reader only queues. A queue that is full takes no more: when its handler has caught up, the subscription is made
anew after the last event that was queued, and plugind's journal tells the rest.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from supervisor.core.errors import NotFound, SupervisorError, Unavailable
from supervisor.sdk.connection import Connection
from supervisor.sdk.outlet import Log
from supervisor.sdk.plugin import EventHandler

QUEUE: Final = 256
"""Events that wait for a handler; each may have a payload of 64 KiB."""
_RETRY_S: Final = 1.0

Handle = Callable[[EventHandler, dict[str, Any]], None]
"""Run the handler to its end. Does not raise."""


class Subscriptions:
    def __init__(self, declared: Sequence[EventHandler], connection: Connection, log: Log, handle: Handle) -> None:
        self._connection = connection
        self._by_id: dict[int, _Subscription] = {}
        self._all = [_Subscription(one, log, partial(handle, one), self._ask, self._cancel) for one in declared]

    def open(self) -> None:
        """Subscribe, and begin to handle; what happens from now on is not missed.

        Raises:
            SupervisorError: plugind refused one.
        """
        for subscription in self._all:
            self._ask(subscription, None)
            threading.Thread(target=subscription.run, name="events", daemon=True).start()

    def deliver(self, message: Mapping[str, Any]) -> None:
        """A notification `event` of plugind's; in the reader."""
        if subscription := self._by_id.get(message.get("subscription", -1)):
            subscription.put(message)

    def stop(self) -> None:
        """No handler is begun any more; one that runs goes on."""
        for subscription in self._all:
            subscription.stop()

    def _ask(self, subscription: _Subscription, after_seq: int | None) -> None:
        def seen(answer: dict[str, Any]) -> None:
            # In the reader, before it sees the first event.
            subscription.subscribed(answer)
            self._by_id[answer["subscription"]] = subscription

        declared = subscription.declared
        wanted = {"types": list(declared.types), "plugins": list(declared.plugins), "after_seq": after_seq}
        self._connection.call("events.subscribe", [wanted], seen=seen)

    def _cancel(self, id_: int) -> None:
        if self._by_id.pop(id_, None) is None:
            return
        try:
            self._connection.call("events.unsubscribe", [{"subscription": id_}])
        except NotFound:
            return  # plugind has ended it by itself meanwhile.


class _Subscription:
    def __init__(
        self,
        declared: EventHandler,
        log: Log,
        handle: Callable[[dict[str, Any]], None],
        ask: Callable[[_Subscription, int | None], None],
        cancel: Callable[[int], None],
    ) -> None:
        self.declared = declared
        self._log = log
        self._handle = handle
        self._ask = ask
        self._cancel = cancel
        self._changed = threading.Condition()
        self._queue: deque[dict[str, Any]] = deque()
        self._id = -1
        self._last_seq: int | None = None
        """Of the last event that was queued, or known not to be ours."""
        self._broken: str | None = None
        """Why nothing is queued any more."""
        self._stopped = False

    def subscribed(self, answer: Mapping[str, Any]) -> None:
        with self._changed:
            self._id, self._last_seq, self._broken = answer["subscription"], answer["last_seq"], None

    def put(self, message: Mapping[str, Any]) -> None:
        with self._changed:
            if self._broken is not None:
                return  # It will be told again.
            if message.get("end"):
                self._broken, self._last_seq = str(message.get("reason")), message["last_seq"]
            elif len(self._queue) >= QUEUE:
                self._broken = "overflow"
            else:
                self._queue.append(message["event"])
                self._last_seq = message["event"]["seq"]
            self._changed.notify_all()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def run(self) -> None:
        """Hand out events until `stop`, or until plugind is gone."""
        while not self._stopped:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._broken or self._stopped)
                event = self._queue.popleft() if self._queue and not self._stopped else None
            if event is not None:
                self._handle(event)
            elif not self._stopped:
                self._resume()

    def _resume(self) -> None:
        after = self._last_seq
        types = ", ".join(self.declared.types) or "all events"
        self._log.warning(f"the subscription to {types} ended ({self._broken}); it goes on after event {after}")
        try:
            self._cancel(self._id)
            self._ask(self, after)
        except Unavailable:
            self.stop()
        except SupervisorError as error:
            self._log.error(f"cannot subscribe to {types} again: {error.message}; trying again")
            with self._changed:
                self._changed.wait_for(lambda: self._stopped, _RETRY_S)
