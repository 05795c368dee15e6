"""How much checking one value may take: a schema is somebody else's program, and may be written to run for ever."""

from __future__ import annotations

import time
from typing import Final

MAX_DEPTH: Final = 140
"""Rules inside rules, each of which takes about three frames of the thousand that Python has."""
MAX_ERRORS: Final = 10_000
"""Those of alternatives count too: each takes a kilobyte."""


class Overrun(Exception):
    """It takes too much; `what` is the part that was being checked, as in `pattern '^(a+)+$'`, `` for the whole."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.way_out = f"simplify {what or 'the schema'}, or the value"


class Budget:
    """`aside` tells that a thread is used in which waiting for the interpreter does no harm."""

    def __init__(self, seconds: float, *, aside: bool = False, references: float = float("inf")) -> None:
        self.seconds = seconds
        self.aside = aside
        self._ends = time.monotonic() + seconds
        self._errors = MAX_ERRORS
        self._references = references
        self._depth = 0

    def left(self) -> float:
        """Seconds, more than none."""
        return max(self._ends - time.monotonic(), 0.001)

    def spend(self, what: str) -> None:
        """Called at each step, so that none of them may be long.

        Raises:
            Overrun: the time is over.
        """
        if time.monotonic() > self._ends:
            raise Overrun(what)

    def found_error(self, what: str) -> None:
        """Raises Overrun when there are too many to keep."""
        self._errors -= 1
        if self._errors < 0:
            raise Overrun(what)

    def deeper(self) -> Budget:
        """Around what may lead further down. Raises RecursionError when it is too deep."""
        return self

    def __enter__(self) -> None:
        # Not left to the interpreter's own limit: reached inside referencing's Rust, that is a panic, which ends us.
        if self._depth >= MAX_DEPTH:
            raise RecursionError
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1

    def follow_reference(self) -> None:
        """Raises RecursionError after too many."""
        self._references -= 1
        if self._references < 0:
            raise RecursionError
