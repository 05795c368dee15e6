"""Who may start now: so many workers at once, in order. A hundred that start together are slower than eight."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from itertools import count


class Turn:
    """A place in the queue, and then one of those that start; to be given back in either case, once."""

    def __init__(self, turns: Turns, place: tuple[int, int], on_granted: Callable[[], None]) -> None:
        self.granted = False
        self.place = place
        self.on_granted = on_granted
        self._turns = turns

    def give_back(self) -> None:
        self._turns.take_back(self)


class Turns:
    """`most` at once. Nothing here waits: who has been granted a turn is told."""

    def __init__(self, most: int) -> None:
        self._free = most
        self._queue: list[Turn] = []
        self._numbers = count()

    def ask(self, order: int, on_granted: Callable[[], None]) -> Turn:
        """Queue up, the lowest `order` first. Granted at once while there is room; then `on_granted` is not called."""
        turn = Turn(self, (order, next(self._numbers)), on_granted)
        if self._free:
            self._grant(turn)
        else:
            insort(self._queue, turn, key=lambda waiting: waiting.place)
        return turn

    def take_back(self, turn: Turn) -> None:
        if not turn.granted:
            self._queue.remove(turn)
            return
        self._free += 1
        if self._queue:
            following = self._queue.pop(0)
            self._grant(following)
            following.on_granted()

    def _grant(self, turn: Turn) -> None:
        self._free -= 1
        turn.granted = True
