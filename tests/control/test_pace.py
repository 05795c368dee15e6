"""How much of our time those of one user may take."""

from __future__ import annotations

import pytest
import trio

from supervisor.control import pace
from supervisor.control.pace import Pace


async def test_a_share_of_all_time_and_some_at_once(autojump_clock: object) -> None:
    book = Pace(share=0.25, at_once_s=1)
    book.take(1, 0.75)
    assert not book.is_over(1)
    book.take(1, 0.5)
    assert book.is_over(1)
    assert not book.is_over(2)
    await trio.sleep(1)
    assert book.is_over(1)
    await trio.sleep(0.25)
    assert not book.is_over(1)
    book.take(1, 0.125)
    assert book.is_over(1)


async def test_a_rest_does_not_save_up(autojump_clock: object) -> None:
    book = Pace(share=0.25, at_once_s=1)
    book.take(1, 0.5)
    await trio.sleep(1000)
    book.take(1, 1)
    assert book.is_over(1)


async def test_it_forgets_whose_time_has_worn_off(autojump_clock: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "_MANY", 4)
    book = Pace(share=0.25, at_once_s=1)
    for uid in range(4):
        book.take(uid, 1)
    await trio.sleep(4)
    book.take(9, 1)
    assert len(book) == 1
    for uid in range(20, 40):
        book.take(uid, 1)
    assert len(book) == 21, "who owes is not forgotten"
