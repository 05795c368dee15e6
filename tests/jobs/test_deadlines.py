"""Deadlines: each told at its time, once, and nothing kept that is no longer awaited."""

from __future__ import annotations

from typing import Any

import trio

from supervisor.jobs.deadlines import Deadlines


async def test_each_at_its_time(autojump_clock: Any) -> None:
    told: list[tuple[str, float]] = []
    deadlines: Deadlines[str] = Deadlines(lambda name: told.append((name, trio.current_time())))
    deadlines.set("early", 0.5)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(deadlines.run)
        deadlines.set("late", 10)
        await trio.sleep(1)
        deadlines.set("sooner", 3)
        deadlines.set("moved", 2)
        deadlines.set("moved", 4)
        deadlines.set("cleared", 5)
        deadlines.clear("cleared")
        deadlines.clear("nobody")
        deadlines.set("past", -1)
        await trio.sleep(20)
        assert told == [("early", 0.5), ("past", 1), ("sooner", 3), ("moved", 4), ("late", 10)]
        assert len(deadlines) == 0
        nursery.cancel_scope.cancel()


async def test_one_may_be_set_while_another_is_told(autojump_clock: Any) -> None:
    told: list[float] = []

    def again(name: str) -> None:
        told.append(trio.current_time())
        if len(told) < 3:
            deadlines.set(name, trio.current_time() + 1)

    deadlines: Deadlines[str] = Deadlines(again)
    deadlines.set("a", 1)
    with trio.move_on_after(10):
        await deadlines.run()
    assert told == [1, 2, 3]


async def test_what_is_cleared_is_not_kept(autojump_clock: Any) -> None:
    deadlines: Deadlines[int] = Deadlines(lambda _: None)
    for number in range(10_000):
        deadlines.set(number, 1000)
        deadlines.clear(number)
    assert len(deadlines._heap) < 100
    await trio.lowlevel.checkpoint()
