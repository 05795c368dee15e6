"""Where a stream stands: nothing twice, and more allowed before the daemon has to stop. Pure."""

from __future__ import annotations

import pytest

from client.cursor import CREDIT, EventCursor


def event(seq: int) -> list[object]:
    return [{"subscription": 7, "event": {"seq": seq, "type": "plugin.enabled"}}]


def subscribed(after: int | None = 0) -> EventCursor:
    cursor = EventCursor(after, [], [], [])
    assert cursor.subscribe_params()["credit"] == CREDIT
    cursor.subscribed({"subscription": 7, "last_seq": 0})
    return cursor


def test_what_has_come_already_is_not_taken_again() -> None:
    cursor = subscribed()
    for seq in (1, 2, 2, 1, 3):
        cursor.take("rpc.event", event(seq))
    handed = []
    while (item := cursor.pop()) is not None:
        handed.append(item["seq"])
    assert handed == [1, 2, 3]
    assert cursor.subscribe_params()["after_seq"] == 3


@pytest.mark.parametrize("after", [5, None])
def test_what_lies_before_the_beginning_is_not_taken(after: int | None) -> None:
    cursor = EventCursor(after, [], [], [])
    cursor.subscribed({"subscription": 7, "last_seq": 5})
    cursor.take("rpc.event", event(5))
    assert cursor.pop() is None
    cursor.take("rpc.event", event(6))
    assert cursor.pop() == {"seq": 6, "type": "plugin.enabled"}


def test_more_is_allowed_when_half_has_been_taken() -> None:
    """And not when all has: the daemon would stand still for the time that this takes."""
    cursor = subscribed()
    for seq in range(1, CREDIT + 1):
        cursor.take("rpc.event", event(seq))
    for _ in range(CREDIT // 2):
        assert cursor.credit_due() is None
        cursor.pop()
    assert cursor.credit_due() == {"subscription": 7, "n": CREDIT // 2}
    assert cursor.credit_due() is None
    cursor.pop()
    cursor.subscribe_params()
    assert cursor._taken == 0  # a new subscription has its credit whole
