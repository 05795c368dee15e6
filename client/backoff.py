"""Pauses between tries to reach the daemon. Pure, but for the dice."""

from __future__ import annotations

import os

FIRST_S = 0.05
LONGEST_S = 2.0
_SPREAD = 0.25


class Backoff:
    """Each pause twice the one before, up to `LONGEST_S`, and a quarter more or less: clients that lost a daemon at the
    same moment do not all come back at the same moment."""

    def __init__(self) -> None:
        self._next_s = FIRST_S

    def next_s(self) -> float:
        """Seconds to wait now."""
        pause_s, self._next_s = self._next_s, min(self._next_s * 2, LONGEST_S)
        return pause_s * (1 - _SPREAD + 2 * _SPREAD * os.urandom(1)[0] / 255)  # `random` takes long to import

    def reset(self) -> None:
        """It was reached."""
        self._next_s = FIRST_S
