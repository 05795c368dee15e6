"""Who requires whom, as a graph of keys: cycles, order, the longest chain. Pure.

`requires` maps a key to those it requires. Nothing here recurses: a chain may be as long as there are plugins.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from typing import TypeVar

K = TypeVar("K", bound=str)


def find_cycle(start: K, requires: Mapping[K, Collection[K]]) -> list[K]:
    """The shortest way from `start` back to itself, both ends named; empty when there is none."""
    came_from: dict[K, K] = {}
    look = deque([start])
    while look:
        key = look.popleft()
        for required in requires.get(key, ()):
            if required == start:
                return [*_way(start, key, came_from), start]
            if required not in came_from:
                came_from[required] = key
                look.append(required)
    return []


def _way(start: K, end: K, came_from: Mapping[K, K]) -> list[K]:
    way = [end]
    while way[-1] != start:
        way.append(came_from[way[-1]])
    return way[::-1]


def required_first(keys: Iterable[K], requires: Mapping[K, Collection[K]]) -> list[K]:
    """The same keys, each behind those that it requires and otherwise in the given order; a cycle is cut somewhere."""
    given = dict.fromkeys(keys)
    placed: dict[K, None] = {}
    for first in given:
        entered, path = {first}, [first]
        while path:
            key = path[-1]
            ahead = [r for r in requires.get(key, ()) if r in given and r not in placed and r not in entered]
            if ahead:
                entered.add(ahead[0])
                path.append(ahead[0])
            else:
                placed.setdefault(path.pop())
    return list(placed)


def heaviest_chain(weights: Mapping[K, float], requires: Mapping[K, Collection[K]]) -> float:
    """The largest sum of weights along any chain of requirements; 0 when there are no keys."""
    sums: dict[K, float] = {}
    for key in required_first(weights, requires):
        sums[key] = weights[key] + max((sums.get(required, 0.0) for required in requires.get(key, ())), default=0.0)
    return max(sums.values(), default=0.0)
