"""SharedLink: the one connection of a trio client, made again when it was lost; all calls are in flight on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import trio

from client import protocol
from client.async_link import AsyncLink, OnNotification, open_link
from client.calling import Call, Contact
from client.errors import ConnectionLost, DeadlineExceeded, SupervisorError, connection_lost

if TYPE_CHECKING:
    from client.link import OnProgress


class SharedLink:
    """`nursery` runs its connections, one at a time; cancelling that ends it."""

    def __init__(self, nursery: trio.Nursery, path: str, name: str, timeout_s: float | None) -> None:
        """`timeout_s` limits what answers at once, connecting too; None: no limit."""
        self.path = path
        self.timeout_s = timeout_s
        self.contact = Contact()
        self._nursery = nursery
        self._name = name
        self._connecting = trio.Lock()
        self._link: AsyncLink | None = None

    async def ask(self, call: Call, on_progress: OnProgress | None) -> Any:
        """Ask once and wait for the answer.

        Raises:
            SupervisorError: what the daemon answered, or why no answer came.
        """
        now = trio.current_time()
        call.sent = call.answered = False
        by = call.connect_by(now)
        link = await self.open(None if by is None else max(0.0, by - now))
        call.sent = True
        try:
            answer = await self._ask(link, call, on_progress)
            self.contact.made()
            return answer
        except ConnectionLost as lost:
            self._note_lost()
            repeatable = call.method in protocol.READS
            raise connection_lost(
                self.path, call.method, repeatable=repeatable, said=lost.details.get("said")
            ) from None
        except SupervisorError as error:
            call.answered = link.answered(error)
            if call.answered:
                self.contact.made()
            raise

    async def _ask(self, link: AsyncLink, call: Call, on_progress: OnProgress | None) -> Any:
        if call.method in protocol.OPERATIONS:
            return await link.operate(call.method, call.message(), on_progress)
        return await link.call(call.method, call.message(), timeout_s=call.left_s(trio.current_time()))

    async def open(self, within_s: float | None) -> AsyncLink:
        """The connection that there is, or a new one, made within so many seconds (None: as long as it takes).

        Raises:
            SupervisorError: cannot connect, or the daemon refused.
        """
        if self._link is not None:
            self._link.check_process()
            if self._link.alive():
                return self._link
        with trio.move_on_after(float("inf") if within_s is None else within_s):
            async with self._connecting:
                if self._link is None or not self._link.alive():
                    self._note_lost()
                    self._link = await open_link(self._nursery, self.path, self._name, None)
                    self.contact.made()
                return self._link
        raise DeadlineExceeded(f"no connection to plugind at {self.path} within {within_s:.3g} s", socket=self.path)

    async def open_another(
        self, nursery: trio.Nursery, on_notification: OnNotification, on_end: Callable[[], None]
    ) -> AsyncLink:
        """A connection to the same daemon for a stream."""
        return await open_link(nursery, self.path, self._name, self.timeout_s, on_notification, on_end)

    def _note_lost(self) -> None:
        if self._link is not None:
            self.contact.lost(trio.current_time())
