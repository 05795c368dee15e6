"""Where an event stream stands: what to subscribe to, what came, from where to resume. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from supervisor.wire.results import EventInfo, SubscriptionInfo

EVENT = "rpc.event"
CREDIT = 256
"""Events the daemon may send ahead of their consumer: what a slow consumer holds in memory."""


class Cursor:
    """One subscription after another, and one sequence of events without gap or repetition."""

    def __init__(self, after_seq: int | None, types: Sequence[str], plugins: Sequence[str]) -> None:
        self._types = list(types)
        self._plugins = list(plugins)
        self._received = after_seq
        self._waiting: deque[EventInfo] = deque()
        self._subscription: int | None = None
        self._taken = 0
        self.last_seq = after_seq
        """Of the event handed out last; at first where the stream begins, None until that is known."""
        self.ended = False
        """Whether the subscription is over and another one must be asked for."""

    @property
    def ready(self) -> bool:
        """Whether an event has come and was not handed out yet."""
        return bool(self._waiting)

    def subscribe_params(self) -> dict[str, Any]:
        """The params of the next `events.subscribe`."""
        self._taken = 0
        self.ended = False
        return {"types": self._types, "plugins": self._plugins, "after_seq": self._received, "credit": CREDIT}

    def subscribed(self, info: SubscriptionInfo) -> None:
        """Take the answer to `events.subscribe`."""
        self._subscription = info["subscription"]
        if self._received is None:
            # Without this, a connection lost before the first event would lose what comes meanwhile.
            self._received = self.last_seq = info["last_seq"]

    def take(self, method: str, params: list[Any]) -> None:
        """Note what the daemon said: a notification."""
        if method != EVENT or not params or not isinstance(params[0], dict):
            return
        said = params[0]
        if said.get("end"):
            self.ended = True
        elif self._received is None or said["event"]["seq"] > self._received:
            self._received = said["event"]["seq"]
            self._waiting.append(said["event"])

    def pop(self) -> EventInfo | None:
        """The next event, if it has come."""
        if not self._waiting:
            return None
        event = self._waiting.popleft()
        self._taken += 1
        self.last_seq = event["seq"]
        return event

    def credit_due(self) -> dict[str, Any] | None:
        """The params of `events.credit` when it is time to allow more, counted as allowed from now on."""
        if self._taken < CREDIT // 2 or self._subscription is None:
            return None
        due, self._taken = self._taken, 0
        return {"subscription": self._subscription, "n": due}
