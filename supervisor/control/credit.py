"""How much more a subscriber will take: what he has asked for and not been sent."""

from __future__ import annotations

import trio


class Credit:
    """`left` is None where he takes whatever comes."""

    def __init__(self, left: int | None) -> None:
        self.left = left
        self._added = trio.Event()
        self._too_late = False

    def add(self, n: int) -> None:
        if self.left is not None:
            self.left += n
        self._added.set()

    def spend(self, n: int) -> None:
        if self.left is not None:
            self.left -= n

    def give_up(self) -> None:
        """More of it is of no use any more."""
        self._too_late = True
        self._added.set()

    def at_most(self, n: int) -> int:
        """So much of `n` as he takes now."""
        return n if self.left is None else min(n, self.left)

    async def wait(self) -> bool:
        """Return when he takes something, no checkpoint when he does; False: nobody waits for that any more."""
        while self.left is not None and self.left <= 0:
            if self._too_late:
                return False
            self._added = trio.Event()
            await self._added.wait()
        return True
