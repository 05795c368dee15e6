"""How far an install or upgrade is: one line on a terminal, kept up to date; plain lines for --verbose."""

from __future__ import annotations

import os
import sys

from client.cli.render import escaped, shortened

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from client.cli.output import Context
    from client.link import OnProgress
    from supervisor.wire.results import OperationProgress

_WORDS = {
    "fetch": "fetching",
    "unpack": "unpacking",
    "check": "checking",
    "environment": "building its environment",
    "record": "recording its files",
    "store": "storing",
    "start": "starting the new worker",
    "switch": "switching over",
    "drain": "draining the old worker",
}
_BAR = 20
ERASE = "\r\x1b[K"


class Display:
    """Hear progress inside a `with`; at its end a line that was kept up to date is gone."""

    def __init__(self, context: Context, *, verbose: bool) -> None:
        self._note = context.note
        self._said = ""
        self._shown = False
        self.on_progress: OnProgress | None = self._choose(context, verbose=verbose)
        """None where nobody looks: without a terminal there is nothing but the result."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._shown:
            sys.stderr.write(ERASE)
            sys.stderr.flush()

    def _choose(self, context: Context, *, verbose: bool) -> Callable[[OperationProgress], None] | None:
        if context.json:
            return None
        if verbose:
            return self._say
        return self._update if sys.stderr.isatty() else None

    def _say(self, progress: OperationProgress) -> None:
        """A line for each phase, and for each line of a tool."""
        line = progress.get("line")
        text = f"  {escaped(line)}" if line else _phase(progress)
        if text != self._said:
            self._note(text)
        self._said = text

    def _update(self, progress: OperationProgress) -> None:
        sys.stderr.write(ERASE + shortened(progress_line(progress), columns() - 1))
        sys.stderr.flush()
        self._shown = True


def progress_line(progress: OperationProgress) -> str:
    """As in `fetching [########            ] 3.1 of 7.9 MB`, or with the last line of a tool."""
    phase, done, total, line = _phase(progress), progress.get("done"), progress.get("total"), progress.get("line")
    if line:
        return f"{phase}: {escaped(line.strip())}"
    if done is None:
        return f"{phase} …"
    if not total:
        return f"{phase} {_size(done)}"
    filled = min(_BAR * done // total, _BAR)
    return f"{phase} [{'#' * filled:<{_BAR}}] {_size(done)} of {_size(total)}"


def _phase(progress: OperationProgress) -> str:
    return _WORDS.get(progress["phase"]) or escaped(progress["phase"])


def _size(size: int) -> str:
    if size < 1024:
        return f"{size} B"
    return f"{size / 1024:.0f} KiB" if size < 1024 * 1024 else f"{size / 1024 / 1024:.1f} MiB"


def columns() -> int:
    """Of the terminal that stderr is."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError):
        return 80
