"""The graph of requirements: cycles by name, order, the heaviest chain."""

from __future__ import annotations

import random

import pytest

from supervisor.core.requires import find_cycle, heaviest_chain, required_first

LONG = 5000
CHAIN = {str(n): (str(n + 1),) for n in range(LONG)}


def graph(text: str) -> dict[str, list[str]]:
    """`a:bc` means that a requires b and c."""
    return {part[0]: list(part[2:]) for part in text.split()}


@pytest.mark.parametrize(
    ("text", "cycle"),
    [
        ("", ""),
        ("a:", ""),
        ("a:b", ""),
        ("a:b b:c c:", ""),
        ("a:bc b:d c:d d:", ""),
        ("a:a", "aa"),
        ("a:b b:a", "aba"),
        ("a:b b:c c:a", "abca"),
        ("a:b b:c c:b", ""),
        ("a:bc b:d c:a d:a", "aca"),
        ("a:x x:yz y: z:a", "axza"),
    ],
)
def test_cycle(text: str, cycle: str) -> None:
    assert "".join(find_cycle("a", graph(text))) == cycle


def test_a_long_chain_is_no_cycle_until_it_is_closed() -> None:
    assert find_cycle("0", CHAIN) == []
    assert len(find_cycle("0", {**CHAIN, str(LONG): ("0",)})) == LONG + 2


@pytest.mark.parametrize(
    ("keys", "text", "order"),
    [
        ("", "", ""),
        ("cab", "", "cab"),
        ("ab", "a:b", "ba"),
        ("abc", "a:b b:c", "cba"),
        ("dabc", "d:bc b:a", "abcd"),
        ("acb", "a:b c:b", "bac"),
        ("ab", "a:x b:", "ab"),
        ("aab", "", "ab"),
    ],
)
def test_order(keys: str, text: str, order: str) -> None:
    assert "".join(required_first(keys, graph(text))) == order


@pytest.mark.parametrize("seed", range(20))
def test_order_of_any_graph(seed: int) -> None:
    dice = random.Random(seed)
    keys = [str(n) for n in range(40)]
    requires = {key: dice.sample(keys[:n], min(n, dice.randint(0, 3))) for n, key in enumerate(keys)}
    dice.shuffle(keys)
    order = required_first(keys, requires)
    assert sorted(order) == sorted(keys)
    assert all(order.index(needed) < order.index(key) for key in keys for needed in requires[key])


def test_a_cycle_is_cut_and_nothing_is_lost() -> None:
    assert sorted(required_first("abcd", graph("a:b b:c c:a d:a"))) == list("abcd")


def test_a_long_chain_is_no_recursion() -> None:
    order = required_first(CHAIN, CHAIN)
    assert order == [str(n) for n in reversed(range(LONG))]


@pytest.mark.parametrize(
    ("weights", "text", "sum_"),
    [
        ({}, "", 0),
        ({"a": 2.0, "b": 3.0}, "", 3),
        ({"a": 2.0, "b": 3.0}, "a:b", 5),
        ({"a": 2.0, "b": 3.0, "c": 10.0}, "a:b", 10),
        ({"a": 1.0, "b": 2.0, "c": 4.0, "d": 8.0}, "a:bc b:d c:d", 13),
        ({"a": 2.0}, "a:x", 2),
    ],
)
def test_heaviest_chain(weights: dict[str, float], text: str, sum_: float) -> None:
    assert heaviest_chain(weights, graph(text)) == sum_
