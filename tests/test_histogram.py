"""Histograms: which range a number falls into, and that a look from another thread is whole."""

from __future__ import annotations

import math
import threading

import pytest

from supervisor import histogram
from supervisor.histogram import Histogram


@pytest.mark.parametrize(
    ("value", "counts"),
    [(-1, [1, 1, 1]), (0, [1, 1, 1]), (1, [1, 1, 1]), (1.0001, [0, 1, 1]), (5, [0, 1, 1]), (5.1, [0, 0, 1])],
)
def test_a_bound_belongs_to_the_range_below_it(value: float, counts: list[int]) -> None:
    one = Histogram((1, 5))
    one.observe(value)
    seen = one.look()
    assert [count for _, count in seen.buckets] == counts
    assert [bound for bound, _ in seen.buckets] == [1, 5, math.inf]
    assert seen.sum == value


def test_it_adds_up() -> None:
    one = Histogram((1, 5))
    for value in (0.5, 0.5, 3, 100):
        one.observe(value)
    assert one.look().buckets == ((1, 2), (5, 3), (math.inf, 4))
    assert one.look().sum == 104


def test_nothing_observed_is_all_zero() -> None:
    assert Histogram((1,)).look().buckets == ((1, 0), (math.inf, 0))


@pytest.mark.parametrize("name", ["REQUEST_S", "COMMIT_S", "DELAY_S", "RUN_S"])
def test_bounds_grow(name: str) -> None:
    bounds = getattr(histogram, name)
    assert list(bounds) == sorted(set(bounds))
    assert all(0 < bound < math.inf for bound in bounds)


def test_a_look_is_whole_while_another_thread_observes() -> None:
    one, count = Histogram(histogram.REQUEST_S), 20_000

    def observe() -> None:
        for number in range(count):
            one.observe(number % 7 / 100)

    thread = threading.Thread(target=observe)
    thread.start()
    before = 0
    while thread.is_alive():
        counts = [seen for _, seen in one.look().buckets]
        assert counts == sorted(counts)
        assert before <= counts[-1] <= count
        before = counts[-1]
    thread.join()
    assert one.look().buckets[-1] == (math.inf, count)
