"""Where a stream stands: what to subscribe to, what came, from where to resume. Pure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from supervisor.wire.results import EventInfo, LogLine

CREDIT = 256
"""What the daemon may send ahead of its consumer: what a slow consumer holds in memory."""

REMOVED = "the log was removed, with its plugin"
_FINAL = {"removed": REMOVED}
"""Reasons after which there is nothing to subscribe to any more, and how to say them."""

_T = TypeVar("_T")
OnNotice = Callable[[str], None]


class Cursor(ABC, Generic[_T]):
    """One subscription after another, and one sequence without gap or repetition."""

    NOTIFICATION: str
    SUBSCRIBE: str
    ALLOW: str
    THING: str
    """What it is made of, for people."""

    def __init__(self) -> None:
        self._waiting: deque[_T | str] = deque()
        """What has come, and between it what is to be told about it."""
        self._subscription: int | None = None
        self._taken = 0
        self.ended: str | None = None
        """Why the subscription is over and another one must be asked for, if it is."""

    @property
    def final(self) -> str | None:
        """Why nothing will ever follow, if that is so."""
        return _FINAL.get(self.ended) if self.ended is not None else None

    @property
    def ready(self) -> bool:
        """Whether something has come and was not handed out yet."""
        return bool(self._waiting)

    def subscribe_params(self) -> dict[str, Any]:
        """The params of the next subscription."""
        self._taken = 0
        self.ended = None
        return {**self._from_here(), "credit": CREDIT}

    def subscribed(self, info: Any) -> None:
        """Take the answer to it."""
        self._subscription = info["subscription"]
        self._begin(info)

    def take(self, method: str, params: list[Any]) -> None:
        """Note what the daemon said: a notification."""
        if method != self.NOTIFICATION or not params or not isinstance(params[0], dict):
            return
        if params[0].get("end"):
            self.ended = str(params[0].get("reason"))
        else:
            self._keep(params[0])

    def pop(self) -> _T | None:
        """The next one, if it has come."""
        while self._waiting:
            item = self._waiting.popleft()
            if not isinstance(item, str):
                self._taken += 1
                self._hand_out(item)
                return item
            self._tell(item)
        return None

    def credit_due(self) -> dict[str, Any] | None:
        """The params that allow more when it is time to, counted as allowed from now on."""
        if self._taken < CREDIT // 2 or self._subscription is None:
            return None
        due, self._taken = self._taken, 0
        return {"subscription": self._subscription, "n": due}

    @abstractmethod
    def _from_here(self) -> dict[str, Any]:
        """What to ask for, and from where."""

    @abstractmethod
    def _begin(self, info: Any) -> None:
        """Note where a subscription begins."""

    @abstractmethod
    def _keep(self, said: dict[str, Any]) -> None:
        """Put what a notification holds with what waits."""

    @abstractmethod
    def _hand_out(self, item: _T) -> None:
        """Note what the consumer has."""

    @abstractmethod
    def _tell(self, notice: str) -> None:
        """Tell the consumer what stood between."""


class EventCursor(Cursor["EventInfo"]):
    """In the journal of events."""

    NOTIFICATION, SUBSCRIBE, ALLOW, THING = "rpc.event", "events.subscribe", "events.credit", "event"

    def __init__(
        self, after_seq: int | None, types: Sequence[str], plugins: Sequence[str], jobs: Sequence[str]
    ) -> None:
        super().__init__()
        self._types = list(types)
        self._plugins = list(plugins)
        self._jobs = list(jobs)
        self._received = after_seq
        self.last_seq = after_seq
        """Of the event handed out last; at first where the stream begins, None until that is known."""

    def _from_here(self) -> dict[str, Any]:
        return {"types": self._types, "plugins": self._plugins, "jobs": self._jobs, "after_seq": self._received}

    def _begin(self, info: Any) -> None:
        if self._received is None:
            # Without this, a connection lost before the first event would lose what comes meanwhile.
            self._received = self.last_seq = info["last_seq"]

    def _keep(self, said: dict[str, Any]) -> None:
        if self._received is None or said["event"]["seq"] > self._received:
            self._received = said["event"]["seq"]
            self._waiting.append(said["event"])

    def _hand_out(self, item: EventInfo) -> None:
        self.last_seq = item["seq"]

    def _tell(self, notice: str) -> None:
        """There is none: what cannot be told ends the subscription."""


class LogCursor(Cursor["LogLine"]):
    """In a plugin's log."""

    NOTIFICATION, SUBSCRIBE, ALLOW, THING = "rpc.log", "logs.follow", "logs.credit", "line of the log"

    def __init__(self, begin: dict[str, Any], filters: dict[str, Any], on_notice: OnNotice) -> None:
        super().__init__()
        self._filters = filters
        self._place = begin
        """The params that say from where: at first the caller's, then the place behind what has come."""
        self._on_notice = on_notice

    def _from_here(self) -> dict[str, Any]:
        return {**self._filters, **self._place}

    def _begin(self, info: Any) -> None:
        self._place = {"after": info["place"]}

    def _keep(self, said: dict[str, Any]) -> None:
        self._place = {"after": said["place"]}
        if "skipped_bytes" in said:
            self._waiting.append(_gap(said["skipped_bytes"]))
        self._waiting.extend(said["lines"])

    def _hand_out(self, item: LogLine) -> None:
        """What has come is resumed from, whoever has it: it is kept over a lost connection."""

    def _tell(self, notice: str) -> None:
        self._on_notice(notice)


def _gap(skipped: int | None) -> str:
    what = "lines" if skipped is None else f"{skipped:,} bytes of lines"
    return f"{what} are missing here: they were rotated away before they could be sent"
