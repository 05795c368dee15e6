"""EventBus: order, bounded buffers, gaps."""

from __future__ import annotations

from dataclasses import replace
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


def test_overflow_drops_what_was_kept() -> None:
    """What is kept for the slow is never older than the newest few."""
    bus, gaps = EventBus(), list[int]()
    with bus.subscribe(max_buffered=2, on_gap=lambda: gaps.append(bus.last_seq)) as slow, bus.subscribe() as quick:
        for seq in range(1, 6):
            bus.publish(event(seq))
        assert gaps == [3]
        assert drain(slow) == [Gap(missed=5, first_seq=1, last_seq=5)]
        for seq in (6, 7):
            bus.publish(event(seq))
        assert slow.take_nowait() == event(6)
        for seq in (8, 9):
            bus.publish(event(seq))
        assert drain(slow) == [Gap(missed=3, first_seq=7, last_seq=9)]
        bus.publish(event(10))
        assert drain(slow) == [10]
        assert gaps == [3, 9]
        assert drain(quick) == list(range(1, 11))


def test_who_wants_an_event_is_asked_once_for_each_kind() -> None:
    """There may be thousands that do not want it."""
    bus, asked = EventBus(), list[int]()

    def is_odd_type(event: Recorded) -> bool:
        asked.append(event.seq)
        return event.type == "odd"

    with bus.subscribe(wants=is_odd_type) as one, bus.subscribe() as all_of_them:
        for seq in range(1, 301):
            bus.publish(replace(event(seq), type="odd" if seq % 2 else "even"))
        assert asked == [1, 2]
        with bus.subscribe() as late:
            bus.publish(replace(event(301), type="odd"))
            assert drain(late) == [301]
        bus.publish(replace(event(302), type="odd", job="k/a"))
        assert asked == [1, 2, 301, 302]
        assert drain(one) == [*range(1, 302, 2), 302]
        assert drain(all_of_them) == list(range(1, 303))
        for seq in range(303, 1500):
            bus.publish(replace(event(seq), type=f"t{seq}"))
        assert len(bus._wanting) <= 256
    bus.publish(replace(event(1500), type="odd"))
    assert drain(one) == []


def test_a_change_of_a_plugin_wakes_those_who_wait_for_it_alone() -> None:
    bus = EventBus()
    one, other = bus.changed("i"), bus.changed("j")
    assert bus.changed("i") is one
    bus.publish(replace(event(1), type="emitted.x"))
    assert not one.is_set()
    bus.publish(replace(event(2), type="plugin.enabled"))
    assert (one.is_set(), other.is_set()) == (True, False)
    assert not bus.changed("i").is_set()


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
        assert drain(slow) == [Gap(missed=5, first_seq=1, last_seq=5)]
        assert drain(quick) == [1, 2, 3, 4, 5]
        assert drain(tiny) == [Gap(missed=5, first_seq=1, last_seq=5)]
        bus.publish(large(6))
        assert drain(slow) == drain(tiny) == [6]
