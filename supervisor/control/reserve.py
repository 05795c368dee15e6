"""A few descriptors in reserve, so that somebody can be let in when there are no others."""

from __future__ import annotations

import os


class Reserve:
    """Kept inside its `with` block: `spend` them to have so many free, `restore` them when there may be some again."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: list[int] = []
        self._wanted = 0

    def __enter__(self) -> Reserve:
        self._wanted = self._size
        self.restore()
        return self

    def __exit__(self, *_: object) -> None:
        self._wanted = 0
        self.spend()

    @property
    def missing(self) -> bool:
        """Some were spent, and there have been none to spare since."""
        return len(self._kept) < self._wanted

    def spend(self) -> bool:
        """Whether there were any."""
        kept, self._kept = self._kept, []
        for fd in kept:
            os.close(fd)
        return bool(kept)

    def restore(self) -> None:
        """As far as there are some to spare; `missing` tells."""
        while self.missing:
            try:
                self._kept.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
            except OSError:
                return
