"""One subscription: the journal from where the subscriber left off, then live, without gap or repetition."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, Final

import trio

from supervisor.bus import EventBus, Gap, Subscription
from supervisor.control.credit import Credit
from supervisor.core.errors import FailedPrecondition
from supervisor.core.event import Recorded
from supervisor.store.event_filters import Filters
from supervisor.store.journal import Journal
from supervisor.wire.budget import Share

_PAGE: Final = 200
_PAGE_BYTES: Final = 128 * 1024
_BUFFERED: Final = 1024

Send = Callable[[dict[str, Any]], Awaitable[None]]
"""Send one notification's param; waits while the subscriber is slow."""
Turn = Callable[[], AbstractAsyncContextManager[None]]
"""Inside it the subscriber's other feeds read no page: he holds one, however many he has."""


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
        owner: str,
        turn: Turn = nullcontext,
        share: Share | None = None,
    ) -> None:
        """`owner` is for whom the journal is read, `share` counts what was read and not sent yet."""
        self._number = number
        self._bus = bus
        self._journal = journal
        self._send = send
        self.filters = filters
        self._last_seq = bus.last_seq if after_seq is None else after_seq
        self._replays = after_seq is not None
        self._owner = owner
        self._turn = turn
        self._share = share or Share()
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
        self.filters.check()
        first, last = await self._journal.prepare(self.filters, owner=self._owner), self._bus.last_seq
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
            await self._tell_all(task_status)
            # Outside of the subscription: nothing more is kept for who takes his time with this.
            await self._send(self._overflow())

    async def _tell_all(self, task_status: trio.TaskStatus[int]) -> None:
        """Return when something cannot be told any more, as the subscriber was too slow."""
        if self._replays:
            task_status.started(self._last_seq)
            if not await self._replay():
                return
        with self._bus.subscribe(_BUFFERED, wants=self.filters.match, on_gap=self.credit.give_up) as live:
            if not self._replays:
                self._last_seq = self._bus.last_seq
                task_status.started(self._last_seq)
            # What came between the last page and the subscription.
            elif not await self._replay():
                return
            await self._follow(live)

    async def _replay(self) -> bool:
        """Tell what the journal holds; False if it was trimmed faster than the subscriber took it."""
        while True:
            # A page is read only for somebody who will take it: else each idle subscription would hold one.
            if not await self.credit.wait():
                return False
            async with self._turn():
                page = await self._journal.after(
                    self._last_seq,
                    self.filters,
                    limit=self.credit.at_most(_PAGE),
                    max_bytes=_PAGE_BYTES,
                    owner=self._owner,
                )
                if page.first_seq > self._last_seq + 1:
                    return False
                self._share.add(page.size)
                try:
                    for event in page.events:
                        await self._deliver(event)
                finally:
                    self._share.add(-page.size)
                # Told at the end as a place to go on from, which is not to be one that was trimmed away long ago.
                self._last_seq = page.through_seq
            if page.is_last:
                return True

    async def _follow(self, live: Subscription) -> None:
        """Tell what happens; return when something was dropped."""
        async for event in live:
            if isinstance(event, Gap):
                # What lies before it was told, or was not asked for.
                self._last_seq = max(self._last_seq, event.first_seq - 1)
                return
            if event.seq <= self._last_seq:
                continue
            if not await self.credit.wait():
                self._last_seq = event.seq - 1
                return
            await self._deliver(event)

    async def _deliver(self, event: Recorded) -> None:
        """To somebody who takes it: there is credit."""
        self.credit.spend(1)
        self._last_seq = event.seq
        await self._send({"subscription": self._number, "event": event.to_wire()})

    def _overflow(self) -> dict[str, Any]:
        self.overflowed = True
        return {"subscription": self._number, "end": True, "reason": "overflow", "last_seq": self._last_seq}
