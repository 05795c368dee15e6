"""Signals that end `pluginctl top`: the terminal is given back before the program ends."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
from collections.abc import Callable, Iterator
from types import FrameType

_ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT)
_PATIENCE_S = 3.0
"""After that a terminal that takes nothing more (a link that hangs) holds the end up no longer."""


_LEAVE = b"\x1b[<u\x1b[?7h\x1b[?2004l\x1b[?1049l\x1b[?25h\x1b[?1004l"
"""What textual has switched on is off again."""


class Signals:
    """Calls `end` with the exit code, 128 and the signal's number, at the first signal that is to end the program."""

    def __init__(self, end: Callable[[int], object]) -> None:
        self._end = end
        self._exit_code = 0
        self._terminal = sys.__stdin__.fileno() if sys.__stdin__ else -1
        self._before: list[object] | None = None

    @contextlib.contextmanager
    def handled(self) -> Iterator[None]:
        """What is ignored, as SIGHUP under nohup, stays so."""
        with contextlib.suppress(termios.error):
            self._before = termios.tcgetattr(self._terminal)
        wanted = [number for number in _ENDING if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, self._on_signal) for number in wanted}
        before[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._give_up)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        # The first only: whoever ends a session sends several at once.
        if not self._exit_code:
            self._exit_code = 128 + number
            signal.setitimer(signal.ITIMER_REAL, _PATIENCE_S)
            self._end(self._exit_code)

    def _give_up(self, number: int, frame: FrameType | None) -> None:
        if self._before is not None:
            with contextlib.suppress(termios.error, OSError):  # there may be no terminal any more
                termios.tcsetattr(self._terminal, termios.TCSANOW, self._before)  # type: ignore[arg-type]
                if select.select([], [self._terminal], [], 0)[1]:
                    os.write(self._terminal, _LEAVE)
        os._exit(self._exit_code)
