"""How much of our time those of one user may take by coming in."""

from __future__ import annotations

from typing import Final

import trio

_SHARE: Final = 0.1
_AT_ONCE_S: Final = 0.1
_MANY: Final = 1024


class Pace:
    """Of each uid: `share` of all time, and `at_once_s` seconds in one go after a rest."""

    def __init__(self, *, share: float = _SHARE, at_once_s: float = _AT_ONCE_S) -> None:
        self._share = share
        self._at_once_s = at_once_s
        self._taken: dict[int, tuple[float, float]] = {}
        """Seconds, and when that was so: it wears off."""
        self._look_through_at = _MANY

    def __len__(self) -> int:
        return len(self._taken)

    def is_over(self, uid: int) -> bool:
        return self._left(uid, trio.current_time()) >= self._at_once_s

    def take(self, uid: int, seconds: float) -> None:
        now = trio.current_time()
        self._taken[uid] = self._left(uid, now) + seconds, now
        if len(self._taken) > self._look_through_at:
            self._taken = {uid: taken for uid, taken in self._taken.items() if self._left(uid, now)}
            self._look_through_at = max(_MANY, 2 * len(self._taken))

    def _left(self, uid: int, now: float) -> float:
        taken, at = self._taken.get(uid, (0.0, now))
        return max(0.0, taken - self._share * (now - at))
