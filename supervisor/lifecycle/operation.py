"""Operation: what the caller of a long command sees of it, and how he ends it before its commit point."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import trio

from supervisor.core.errors import CallCancelled, DeadlineExceeded

PHASE_TIMEOUT_S: Final = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """`done` of `total` bytes, None where they are not known; `line` is what a tool such as pip has just said."""

    phase: str
    done: int | None = None
    total: int | None = None
    line: str | None = None


def _nobody(_: Progress) -> None:
    """Nobody looks."""


class Operation:
    """One install or upgrade. `abort` may be called at any time, from the event loop's thread.

    Phases are named fetch, unpack, check, environment, record, store, start, switch, drain.
    """

    def __init__(self, tell: Callable[[Progress], None] = _nobody, *, phase_timeout_s: float = PHASE_TIMEOUT_S) -> None:
        self._tell = tell
        self._phase_timeout_s = phase_timeout_s
        self._scope: trio.CancelScope | None = None
        self._aborted = False
        self._phase = "begin"

    @property
    def aborted(self) -> bool:
        return self._aborted

    def abort(self) -> bool:
        """Whether it is not too late: what is past its commit point goes on to its end."""
        self._aborted = True
        if self._scope is not None:
            self._scope.cancel(reason="its caller has cancelled it")
        return self._scope is not None

    @contextmanager
    def phase(self, name: str, timeout_s: float | None = None) -> Iterator[None]:
        """A part that may be aborted, and lasts `timeout_s` (the operation's own default) at most.

        Raises:
            CallCancelled: the caller has cancelled it, now or before.
            DeadlineExceeded: it took too long; details: phase.
        """
        if self._aborted:
            raise self._cancelled(name)
        self._phase = name
        self.report()
        limit_s = self._phase_timeout_s if timeout_s is None else timeout_s
        with trio.CancelScope(deadline=trio.current_time() + limit_s) as scope:
            self._scope = scope
            try:
                yield
            finally:
                self._scope = None
        if scope.cancelled_caught:
            if self._aborted:
                raise self._cancelled(name)
            raise DeadlineExceeded(f"{name} took longer than {limit_s:g} s; nothing was changed", phase=name)

    def enter(self, name: str) -> None:
        """A part that is not aborted any more, also where it begins inside a phase."""
        self._scope = None
        self._phase = name
        self.report()

    def report(self, *, done: int | None = None, total: int | None = None, line: str | None = None) -> None:
        """Tell how far the present phase is. From the event loop's thread; does not wait."""
        self._tell(Progress(phase=self._phase, done=done, total=total, line=line))

    def _cancelled(self, phase: str) -> CallCancelled:
        return CallCancelled(f"cancelled by its caller in phase {phase}; nothing was changed", phase=phase)
