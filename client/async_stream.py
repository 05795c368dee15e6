"""AsyncEventStream and AsyncLogStream: what happens, on a trio connection of its own, resumed after it was lost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import trio

from client.async_link import AsyncLink, OnNotification
from client.backoff import Backoff
from client.cursor import Cursor, EventCursor, LogCursor, OnNotice
from client.errors import DeadlineExceeded, NotFound, SupervisorError, Unavailable
from client.protocol import seconds
from client.sync_stream import BACK, LOST, no_notice
from supervisor.wire.message import Notification

if TYPE_CHECKING:
    from typing import Self

    from supervisor.wire.results import EventInfo, LogLine  # noqa: F401  in quotes below

_T = TypeVar("_T")
OpenLink = Callable[[OnNotification, Callable[[], None]], Awaitable[AsyncLink]]


class AsyncStream(Generic[_T]):
    """Iterate over it, in one task."""

    def __init__(
        self,
        open_link: OpenLink,
        cursor: Cursor[_T],
        *,
        reconnect_for_s: float | None,
        on_notice: OnNotice = no_notice,
    ) -> None:
        self._open_link = open_link
        self._cursor = cursor
        self._reconnect_for_s = seconds("reconnect_for_s", reconnect_for_s)
        self._on_notice = on_notice
        self._link: AsyncLink | None = None
        self._early: list[Notification] | None = None
        """What came before the answer to subscribe; None once that is here."""
        self._news = trio.Event()
        self._backoff = Backoff()
        self._lost_at: float | None = None
        self._told = False
        """That the connection was lost."""
        self._over = False
        """Nothing will follow."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> _T:
        try:
            return await self.receive()
        except Unavailable:
            if self._over:
                raise StopAsyncIteration from None
            raise

    async def receive(self) -> _T:
        """The next one; may be cancelled without loss.

        Raises:
            Unavailable: the connection could not be made again within `reconnect_for_s` seconds.
        """
        while (item := self._cursor.pop()) is None:
            if self._over:
                raise Unavailable(f"the stream is over: no {self._cursor.THING} will come")
            await self._advance()
        self._backoff.reset()
        self._lost_at = None
        return item

    async def subscribe(self) -> AsyncLink:
        """Connect and subscribe from where the stream stands."""
        self._early = []
        link = await self._open_link(self._take, self._wake)
        try:
            params = [self._cursor.subscribe_params()]
            info = await link.call(self._cursor.SUBSCRIBE, params, timeout_s=link.timeout_s)
        except BaseException:
            link.drop()
            raise
        self._cursor.subscribed(info)
        early, self._early = self._early, None
        for notification in early:
            self._cursor.take(notification.method, notification.params)
        self._link = link
        if self._told:
            self._told = False
            self._on_notice(BACK)
        return link

    async def _advance(self) -> None:
        try:
            link = self._link or await self.subscribe()
            if credit := self._cursor.credit_due():
                await self._allow(link, credit)
            elif not self._cursor.ready and self._cursor.ended is None:
                await self._wait_news(link)
        except (Unavailable, DeadlineExceeded) as error:
            await self._drop_and_pause(error, LOST)
            return
        if self._cursor.final is not None:
            self._over = True
            self._drop()
            self._on_notice(self._cursor.final)
        elif self._cursor.ended is not None:
            ended = Unavailable(f"plugind ended the stream: {self._cursor.ended}")
            await self._drop_and_pause(ended, ended.message)

    async def _allow(self, link: AsyncLink, credit: dict[str, object]) -> None:
        try:
            await link.call(self._cursor.ALLOW, [credit], timeout_s=link.timeout_s)
        except NotFound:
            pass  # The subscription has ended meanwhile, and the word that says so is here already.
        except (trio.Cancelled, SupervisorError):
            self._drop()  # whether it was counted is unknown; a new subscription counts anew
            raise

    async def _wait_news(self, link: AsyncLink) -> None:
        self._news = trio.Event()
        if not link.ended:
            await self._news.wait()
        if link.ended and not self._cursor.ready:
            raise Unavailable("the connection to plugind was lost")

    def _take(self, notification: Notification) -> None:
        if self._early is not None:
            self._early.append(notification)
        else:
            self._cursor.take(notification.method, notification.params)
        self._wake()

    def _wake(self) -> None:
        self._news.set()

    def _drop(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.drop()

    async def _drop_and_pause(self, error: SupervisorError, notice: str) -> None:
        self._drop()
        now = trio.current_time()
        self._lost_at = self._lost_at or now
        if self._reconnect_for_s is not None and now - self._lost_at >= self._reconnect_for_s:
            raise error
        if not self._told:
            self._told = True
            self._on_notice(notice)
        await trio.sleep(self._backoff.next_s())


class AsyncEventStream(AsyncStream["EventInfo"]):
    """Events; made by `AsyncClient.events()`."""

    def __init__(
        self,
        open_link: OpenLink,
        *,
        after_seq: int | None,
        types: Sequence[str],
        plugins: Sequence[str],
        jobs: Sequence[str],
        reconnect_for_s: float | None,
    ) -> None:
        self._events = EventCursor(after_seq, types, plugins, jobs)
        super().__init__(open_link, self._events, reconnect_for_s=reconnect_for_s)

    @property
    def last_seq(self) -> int | None:
        """Of the event that was handed out last: the `after` of a later stream that goes on from here."""
        return self._events.last_seq


class AsyncLogStream(AsyncStream["LogLine"]):
    """Lines of a plugin's log; made by `AsyncClient.logs()`."""

    def __init__(
        self,
        open_link: OpenLink,
        *,
        begin: dict[str, Any],
        filters: dict[str, Any],
        reconnect_for_s: float | None,
        on_notice: OnNotice | None,
    ) -> None:
        on_notice = on_notice or no_notice
        cursor = LogCursor(begin, filters, on_notice)
        super().__init__(open_link, cursor, reconnect_for_s=reconnect_for_s, on_notice=on_notice)
