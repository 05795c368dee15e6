"""How many bytes the peers of one server may make it hold, all together and each owner alone. Pure."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from supervisor.wire.codec import count_values

SMALL_BYTES: Final = 4096
"""What holds no more than this is taken whatever else is held: pings are answered in the worst of times."""
_VALUE_BYTES: Final = 64
"""What a decoded value takes beside the bytes it came as: a frame of empty maps grows by that factor."""
_HARMLESS_BYTES: Final = SMALL_BYTES // (1 + _VALUE_BYTES)
"""A frame no longer than this weighs no more than `SMALL_BYTES` anyway: it is not looked into."""


class Budget:
    """`most_bytes` over all, `most_bytes_of_one` for each owner, so that one alone cannot take it from the others."""

    def __init__(self, most_bytes: int, most_bytes_of_one: int) -> None:
        self._most_bytes = most_bytes
        self._most_bytes_of_one = most_bytes_of_one
        self._held: Counter[int] = Counter()
        self._held_bytes = 0

    @property
    def held_bytes(self) -> int:
        return self._held_bytes

    def fits(self, owner: int, size: int) -> bool:
        """Whether the owner may hold so many bytes more."""
        alone = self._held[owner] + size <= self._most_bytes_of_one
        return alone and self._held_bytes + size <= self._most_bytes

    def add(self, owner: int, size: int) -> None:
        """To what the owner holds; less where it is negative."""
        self._held_bytes += size
        self._held[owner] += size
        if not self._held[owner]:
            del self._held[owner]


class Share:
    """What one connection of `owner` (a uid) holds of a budget; without a budget nothing is counted."""

    def __init__(self, budget: Budget | None = None, owner: int = 0) -> None:
        self._budget = budget
        self._owner = owner
        self._held = 0
        self._unfinished = 0
        self._closed = False

    @property
    def full(self) -> bool:
        """Whether only what is small fits."""
        return not self._has_room(SMALL_BYTES)

    def fits(self, size: int) -> bool:
        """Whether so many bytes are taken, as what is small always is."""
        return size <= SMALL_BYTES or self._has_room(size)

    def add(self, size: int) -> None:
        self._held += size
        if self._budget is not None:
            self._budget.add(self._owner, size)

    def count_in(self, budget: Budget | None) -> None:
        """From now on with all that it holds; None: in none."""
        if self._closed or budget is self._budget:
            return
        if self._budget is not None:
            self._budget.add(self._owner, -self._held)
        if budget is not None:
            budget.add(self._owner, self._held)
        self._budget = budget

    def set_unfinished(self, frame_bytes: int) -> bool:
        """So many bytes of an unfinished frame have come, and are held twice; False if they are more than fits."""
        more = 2 * (frame_bytes - self._unfinished)
        self._unfinished = frame_bytes
        fits = more <= 0 or frame_bytes <= SMALL_BYTES or self._has_room(more)
        self.add(more)
        return fits

    def weigh(self, params: Any, frame_bytes: int) -> int:
        """About how many bytes a request takes once it is decoded."""
        if self._budget is None or frame_bytes <= _HARMLESS_BYTES:
            return frame_bytes
        return frame_bytes + _VALUE_BYTES * count_values(params)

    def _has_room(self, size: int) -> bool:
        return self._budget is None or self._budget.fits(self._owner, size)

    def close(self) -> None:
        """The connection has gone with all it held; what ends later counts no more."""
        self.count_in(None)
        self._closed = True
