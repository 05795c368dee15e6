"""EventStream and LogStream: what happens, on a blocking connection of its own, resumed after it was lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from client.backoff import Backoff
from client.cursor import Cursor, EventCursor, LogCursor, OnNotice
from client.errors import DeadlineExceeded, SupervisorError, Unavailable
from client.link import Link
from client.protocol import seconds

if TYPE_CHECKING:
    from typing import Self

    from supervisor.wire.results import EventInfo, LogLine  # noqa: F401  in quotes below

LOST = "the connection to plugind was lost; waiting for it"
BACK = "the connection to plugind is back"

_T = TypeVar("_T")
Follow = Callable[[str, dict[str, "Any"], float | None], "tuple[Link, Any]"]
"""Opens a link and asks this there, all by a deadline: the link, and the answer."""


def no_notice(_: str) -> None:
    """For streams whose trouble is nobody's business."""


class Stream(Generic[_T]):
    """Iterate over it inside a `with`; entering subscribes, and raises when the daemon cannot be reached.

    For one thread; another one may `close` it, which ends the iteration. After a fork it is the one process's alone.
    """

    def __init__(
        self,
        follow: Follow,
        cursor: Cursor[_T],
        *,
        reconnect_for_s: float | None,
        on_notice: OnNotice = no_notice,
    ) -> None:
        self._follow = follow
        self._cursor = cursor
        self._reconnect_for_s = seconds("reconnect_for_s", reconnect_for_s)
        self._on_notice = on_notice
        self._link: Link | None = None
        self._backoff = Backoff()
        self._lost_at: float | None = None
        self._told = False
        """That the connection was lost."""
        self._closed = False

    def __enter__(self) -> Self:
        self._subscribe(None)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> _T:
        try:
            return self.receive()
        except Unavailable:
            if self._closed:
                raise StopIteration from None
            raise

    def close(self) -> None:
        self._closed = True
        self._drop()

    def receive(self, timeout_s: float | None = None) -> _T:
        """The next one.

        Raises:
            DeadlineExceeded: none came within `timeout_s` seconds; the stream goes on.
            LocalProtocolError: this process is a fork of the one that follows.
            Unavailable: the stream was closed, or the connection could not be made again.
        """
        limit_s = seconds("timeout_s", timeout_s)
        deadline = None if limit_s is None else time.monotonic() + limit_s
        if self._link is not None:
            self._link.check_process()
        while (item := self._cursor.pop()) is None:
            if self._closed:
                raise Unavailable(f"the stream is closed: no {self._cursor.THING} will come")
            self._advance(deadline)
        self._backoff.reset()
        self._lost_at = None
        return item

    def _advance(self, deadline: float | None) -> None:
        try:
            link = self._link or self._subscribe(deadline)
            if credit := self._cursor.credit_due():
                link.post(self._cursor.ALLOW, [credit])
            elif not self._cursor.ready and self._cursor.ended is None:
                link.read(f"the next {self._cursor.THING}", deadline)
            self._take(link)
        except DeadlineExceeded as error:
            if deadline is not None and time.monotonic() >= deadline:
                raise
            self._pause(error, LOST, deadline)  # there is a daemon, and it does not answer
        except Unavailable as error:
            self._drop()
            if not self._closed:
                self._pause(error, LOST, deadline)
        except BaseException:
            self._drop()
            raise
        if self._cursor.final is not None:
            self.close()
            self._on_notice(self._cursor.final)
        elif self._cursor.ended is not None:
            self._drop()
            ended = Unavailable(f"plugind ended the stream: {self._cursor.ended}")
            self._pause(ended, ended.message, deadline)

    def _subscribe(self, deadline: float | None) -> Link:
        link, info = self._follow(self._cursor.SUBSCRIBE, self._cursor.subscribe_params(), deadline)
        self._cursor.subscribed(info)
        self._take(link)
        self._link = link
        if self._told:
            self._told = False
            self._on_notice(BACK)
        return link

    def _take(self, link: Link) -> None:
        while link.notifications:
            said = link.notifications.popleft()
            self._cursor.take(said.method, said.params)

    def _drop(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()

    def _pause(self, error: SupervisorError, notice: str, deadline: float | None) -> None:
        now = time.monotonic()
        self._lost_at = self._lost_at or now
        if self._reconnect_for_s is not None and now - self._lost_at >= self._reconnect_for_s:
            raise error
        if not self._told:
            self._told = True
            self._on_notice(notice)
        pause_s = self._backoff.next_s()
        if deadline is not None and now + pause_s >= deadline:
            # Who asks again and again is not to keep a daemon busy that is just stopping.
            time.sleep(max(0.0, deadline - now))
            raise DeadlineExceeded(f"no {self._cursor.THING} came in time, and plugind could not be reached") from error
        time.sleep(pause_s)


class EventStream(Stream["EventInfo"]):
    """Events; made by `Client.events()`."""

    def __init__(
        self,
        follow: Follow,
        *,
        after_seq: int | None,
        types: Sequence[str],
        plugins: Sequence[str],
        jobs: Sequence[str],
        reconnect_for_s: float | None,
    ) -> None:
        self._events = EventCursor(after_seq, types, plugins, jobs)
        super().__init__(follow, self._events, reconnect_for_s=reconnect_for_s)

    @property
    def last_seq(self) -> int | None:
        """Of the event that was handed out last: the `after` of a later stream that goes on from here."""
        return self._events.last_seq


class LogStream(Stream["LogLine"]):
    """Lines of a plugin's log; made by `Client.logs()`."""

    def __init__(
        self,
        follow: Follow,
        *,
        begin: dict[str, Any],
        filters: dict[str, Any],
        reconnect_for_s: float | None,
        on_notice: OnNotice | None,
    ) -> None:
        on_notice = on_notice or no_notice
        cursor = LogCursor(begin, filters, on_notice)
        super().__init__(follow, cursor, reconnect_for_s=reconnect_for_s, on_notice=on_notice)
