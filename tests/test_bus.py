"""EventBus: order, bounded buffers, gaps."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import trio
import trio.testing

from supervisor.bus import EventBus, Gap
from supervisor.core.event import Recorded

AT = datetime(2026, 1, 1, tzinfo=UTC)


def event(seq: int) -> Recorded:
    return Recorded(seq=seq, at=AT, type="t", plugin_id="i", plugin_key="k", data={})


def drain(subscription) -> list[int | Gap]:
    out: list[int | Gap] = []
    while True:
        try:
            item = subscription.take_nowait()
        except trio.WouldBlock:
            return out
        out.append(item if isinstance(item, Gap) else item.seq)


def test_everybody_sees_the_same_order() -> None:
    bus = EventBus()
    with bus.subscribe() as first, bus.subscribe() as second:
        for seq in (1, 2, 5):
            bus.publish(event(seq))
        assert drain(first) == drain(second) == [1, 2, 5]
    assert bus.last_seq == 5


def test_only_what_is_published_while_subscribed() -> None:
    bus = EventBus()
    bus.publish(event(1))
    with bus.subscribe() as subscription:
        bus.publish(event(2))
    bus.publish(event(3))
    assert drain(subscription) == [2]


def test_overflow_is_a_gap_where_it_was() -> None:
    bus = EventBus()
    with bus.subscribe(max_buffered=2) as slow, bus.subscribe() as quick:
        for seq in range(1, 6):
            bus.publish(event(seq))
        assert slow.take_nowait() == event(1)
        bus.publish(event(6))  # there is room, but 3 to 5 are missing
        assert drain(slow) == [2, Gap(missed=4, last_seq=6)]
        bus.publish(event(7))
        assert drain(slow) == [7]
        assert drain(quick) == [1, 2, 3, 4, 5, 6, 7]


async def test_waiting(autojump_clock: trio.testing.MockClock) -> None:
    bus = EventBus()
    seen: list[int | Gap] = []

    async def listen(*, task_status: trio.TaskStatus[None]) -> None:
        with bus.subscribe() as subscription:
            task_status.started()
            async for item in subscription:
                seen.append(item if isinstance(item, Gap) else item.seq)

    async with trio.open_nursery() as nursery:
        await nursery.start(listen)
        for seq in (1, 2, 3):
            bus.publish(event(seq))
            bus.publish(event(10 * seq))
            await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert seen == [1, 10, 2, 20, 3, 30]
    assert not bus._subscriptions


async def test_a_cancelled_listener_loses_nothing(autojump_clock: trio.testing.MockClock) -> None:
    bus = EventBus()
    with bus.subscribe() as subscription:
        bus.publish(event(1))
        with trio.CancelScope() as scope:
            scope.cancel()
            await anext(subscription)
        assert scope.cancelled_caught
        assert drain(subscription) == [1]


def test_nothing_there() -> None:
    with EventBus().subscribe() as subscription, pytest.raises(trio.WouldBlock):
        subscription.take_nowait()


def test_the_buffer_is_bounded_by_bytes_too() -> None:
    def large(seq: int) -> Recorded:
        return Recorded(seq=seq, at=AT, type="t", plugin_id="i", plugin_key="k", data={"payload": "x" * 1000})

    bus = EventBus()
    with bus.subscribe(max_bytes=3500) as slow, bus.subscribe() as quick, bus.subscribe(max_bytes=10) as tiny:
        for seq in range(1, 6):
            bus.publish(large(seq))
        assert drain(slow) == [1, 2, 3, Gap(missed=2, last_seq=5)]
        assert drain(quick) == [1, 2, 3, 4, 5]
        assert drain(tiny) == [1, Gap(missed=4, last_seq=5)]
        bus.publish(large(6))
        assert drain(slow) == drain(tiny) == [6]
