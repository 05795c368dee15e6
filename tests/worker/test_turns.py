"""Turns: so many at once, in order, each told once."""

from __future__ import annotations

import pytest

from supervisor.worker.turns import Turn, Turns


class Queue:
    def __init__(self, most: int) -> None:
        self.turns = Turns(most)
        self.told: list[int] = []

    def ask(self, order: int) -> Turn:
        return self.turns.ask(order, lambda: self.told.append(order))


@pytest.mark.parametrize("most", [1, 2, 5])
def test_so_many_at_once_in_order(most: int) -> None:
    queue = Queue(most)
    turns = {order: queue.ask(order) for order in [9, 3, 7, 1, 5]}
    granted = [order for order, turn in turns.items() if turn.granted]
    assert granted == [9, 3, 7, 1, 5][:most], "who comes while there is room has come first"
    waiting = sorted(set(turns) - set(granted))
    for order in granted:
        turns[order].give_back()
    assert queue.told == waiting[:most]
    for order in waiting:
        assert turns[order].granted
        turns[order].give_back()
    assert queue.told == waiting
    assert queue.ask(0).granted


def test_equals_in_the_order_of_asking() -> None:
    queue = Queue(1)
    first = queue.ask(1)
    told: list[str] = []
    for name in "abc":
        queue.turns.ask(1, lambda name=name: told.append(name))
    first.give_back()
    assert told == ["a"]


def test_who_leaves_the_queue_is_not_granted_anything() -> None:
    queue = Queue(1)
    first, second, third = queue.ask(1), queue.ask(2), queue.ask(3)
    second.give_back()
    first.give_back()
    assert (second.granted, third.granted, queue.told) == (False, True, [3])
    third.give_back()
    assert queue.ask(4).granted
    assert not queue.ask(5).granted, "what left the queue has freed nothing"
