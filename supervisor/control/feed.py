"""One subscription: the journal from where the subscriber left off, then live, without gap or repetition."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio

from supervisor.bus import EventBus, Gap, Subscription
from supervisor.control.credit import Credit
from supervisor.core.errors import FailedPrecondition
from supervisor.core.event import Recorded
from supervisor.store.journal import Filters, Journal, Span

_PAGE: Final = 200
_BUFFERED: Final = 1024

Send = Callable[[dict[str, Any]], Awaitable[None]]
"""Send one notification's param; waits while the subscriber is slow."""


class Feed:
    """`run` it until it returns; then the subscription has ended."""

    def __init__(
        self,
        number: int,
        *,
        bus: EventBus,
        journal: Journal,
        send: Send,
        filters: Filters,
        after_seq: int | None,
        credit: int | None,
    ) -> None:
        self._number = number
        self._bus = bus
        self._journal = journal
        self._send = send
        self._filters = filters
        self._last_seq = bus.last_seq if after_seq is None else after_seq
        self._replays = after_seq is not None
        self.credit = Credit(credit)
        self.scope = trio.CancelScope()
        self.overflowed = False
        """It has ended, since its subscriber was too slow."""

    async def check(self) -> None:
        """Refuse a place in the journal from which nothing can be promised.

        Raises:
            FailedPrecondition: it was trimmed away, or lies ahead of the end.
            InvalidParams: the filters are too many or too long.
        """
        self._filters.check()
        first, last = await self._journal.first_seq(), self._bus.last_seq
        if self._replays and not max(first - 1, 0) <= self._last_seq <= last:
            raise FailedPrecondition(
                f"cannot resume after event {self._last_seq}: the journal holds {first} to {last}; "
                f"subscribe without after_seq, and look at the state anew",
                first_seq=first,
                last_seq=last,
            )

    async def run(self, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        """Started, with the `seq` after which it begins, means: whatever is published from now on will be sent."""
        with self.scope:
            if self._replays:
                task_status.started(self._last_seq)
                if not await self._replay():
                    return
            with self._bus.subscribe(_BUFFERED) as live:
                if self._replays:
                    # What came between the last page and the subscription.
                    if not await self._replay():
                        return
                else:
                    self._last_seq = self._bus.last_seq
                    task_status.started(self._last_seq)
                await self._follow(live)

    async def _replay(self) -> bool:
        """Tell what the journal holds; False if it was trimmed faster than the subscriber took it."""
        while True:
            # A page is read only for somebody who will take it: else each idle subscription would hold one.
            await self.credit.wait()
            wanted = self.credit.at_most(_PAGE)
            page, _ = await self._journal.page(self._filters, Span(self._last_seq), wanted)
            if await self._journal.first_seq() > self._last_seq + 1:
                await self._send(self._overflow())
                return False
            for event in page:
                await self._deliver(event)
            if not page:
                return True

    async def _follow(self, live: Subscription) -> None:
        async for event in live:
            if isinstance(event, Gap):
                await self._send(self._overflow())
                return
            if event.seq <= self._last_seq:
                continue
            if self._filters.match(event):
                await self._deliver(event)
            else:
                # Told at the end as a place to go on from, which is not to be one that was trimmed away long ago.
                self._last_seq = event.seq

    async def _deliver(self, event: Recorded) -> None:
        await self.credit.wait()
        self.credit.spend(1)
        self._last_seq = event.seq
        await self._send({"subscription": self._number, "event": event.to_wire()})

    def _overflow(self) -> dict[str, Any]:
        self.overflowed = True
        return {"subscription": self._number, "end": True, "reason": "overflow", "last_seq": self._last_seq}
