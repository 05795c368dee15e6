"""Gathering: under load, wait a moment for more of the same, so that many share a transaction and its fsync."""

from __future__ import annotations

from typing import Final

import trio

_MOMENT_S: Final = 0.003
_LATELY_S: Final = 0.05
"""Two transactions within it are load; who comes alone waits for nobody."""


class Gathering:
    """Of one task that writes in batches."""

    def __init__(self) -> None:
        self._last = self._before = float("-inf")

    async def gather(self) -> None:
        """Before a batch is taken: at most a moment, and at once unless the two before were written just now."""
        if trio.current_time() - self._before < _LATELY_S:
            await trio.sleep(_MOMENT_S)
        self._before, self._last = self._last, trio.current_time()
