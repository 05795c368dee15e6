"""EventStream: events on a blocking connection of their own, resumed after it was lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from client.cursor import Cursor
from client.errors import DeadlineExceeded, Unavailable
from client.link import Link

if TYPE_CHECKING:
    from typing import Self

    from supervisor.wire.results import EventInfo

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 2.0


class EventStream:
    """Iterate over it inside a `with`; entering subscribes, and raises when the daemon cannot be reached.

    For one thread; another one may `close` it, which ends the iteration.
    """

    def __init__(
        self,
        open_link: Callable[[float | None], Link],
        *,
        after_seq: int | None,
        types: Sequence[str],
        plugins: Sequence[str],
        reconnect_for_s: float | None,
    ) -> None:
        self._open_link = open_link
        self._cursor = Cursor(after_seq, types, plugins)
        self._reconnect_for_s = reconnect_for_s
        self._link: Link | None = None
        self._pause_s = FIRST_PAUSE_S
        self._lost_at: float | None = None
        self._closed = False

    @property
    def last_seq(self) -> int | None:
        """Of the event that was handed out last: the `after_seq` of a later stream that goes on from here."""
        return self._cursor.last_seq

    def __enter__(self) -> Self:
        self._subscribe(None)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> EventInfo:
        try:
            return self.receive()
        except Unavailable:
            if self._closed:
                raise StopIteration from None
            raise

    def close(self) -> None:
        self._closed = True
        self._drop()

    def receive(self, timeout_s: float | None = None) -> EventInfo:
        """The next event.

        Raises:
            DeadlineExceeded: none came within `timeout_s` seconds; the stream goes on.
            Unavailable: the stream was closed, or the connection could not be made again.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while (event := self._cursor.pop()) is None:
            if self._closed:
                raise Unavailable("the event stream is closed")
            self._advance(deadline)
        self._pause_s, self._lost_at = FIRST_PAUSE_S, None
        return event

    def _advance(self, deadline: float | None) -> None:
        try:
            link = self._link or self._subscribe(deadline)
            if credit := self._cursor.credit_due():
                link.call("events.credit", [credit], None)
            elif not self._cursor.ready and not self._cursor.ended:
                link.read("the next event", deadline)
            self._take(link)
        except DeadlineExceeded:
            raise
        except Unavailable as error:
            self._drop()
            if not self._closed:
                self._pause(error, deadline)
        except BaseException:
            self._drop()
            raise
        if self._cursor.ended:
            self._drop()
            self._pause(Unavailable("plugind ended the event stream"), deadline)

    def _subscribe(self, deadline: float | None) -> Link:
        link = self._open_link(deadline)
        try:
            info = link.call("events.subscribe", [self._cursor.subscribe_params()], deadline)
        except BaseException:
            link.close()
            raise
        self._cursor.subscribed(info)
        self._take(link)
        self._link = link
        return link

    def _take(self, link: Link) -> None:
        while link.notifications:
            said = link.notifications.popleft()
            self._cursor.take(said.method, said.params)

    def _drop(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()

    def _pause(self, error: Unavailable, deadline: float | None) -> None:
        now = time.monotonic()
        self._lost_at = self._lost_at or now
        if self._reconnect_for_s is not None and now - self._lost_at >= self._reconnect_for_s:
            raise error
        if deadline is not None and now + self._pause_s >= deadline:
            raise DeadlineExceeded("no event came in time, and plugind could not be reached") from error
        time.sleep(self._pause_s)
        self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)
