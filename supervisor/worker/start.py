"""When a worker that is wanted may start: once all that it requires is up, and in its turn where many start."""

from __future__ import annotations

from collections.abc import Callable

from supervisor.core.plugin import Plugin
from supervisor.worker.neighbours import Neighbours
from supervisor.worker.turns import Turn, Turns


class Start:
    """Of one plugin's worker; nothing here waits, `on_granted` tells that its turn has come."""

    def __init__(self, neighbours: Neighbours, turns: Turns, on_granted: Callable[[], None]) -> None:
        self._neighbours = neighbours
        self._turns = turns
        self._on_granted = on_granted
        self._queued = False
        self._turn: Turn | None = None

    @property
    def is_free(self) -> bool:
        """It may start now."""
        return not self._queued or (self._turn is not None and self._turn.granted)

    def renew(self, *, queued: bool) -> None:
        """It is wanted anew: at once, or in its turn."""
        self._queued = queued
        self.give_back()

    def queue_up(self, plugin: Plugin) -> None:
        """Have a turn if it needs one and could use it: what waits for another plugin holds up nobody."""
        if self._neighbours.missing(plugin):
            # All that wait for the same one could start at the same moment.
            self._queued = True
            self.give_back()
        elif self._queued and self._turn is None:
            self._turn = self._turns.ask(plugin.install_order, self._on_granted)

    def begin(self) -> None:
        """It starts. A turn is kept until it is up, or over."""
        self._queued = False

    def give_back(self) -> None:
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.give_back()
