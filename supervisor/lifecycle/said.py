"""Said: what pip or uv told, and the error that is made of it. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from supervisor.core.errors import FailedPrecondition, InvalidParams, ResourceExhausted, SupervisorError, Unavailable
from supervisor.lifecycle.sources import mask_credentials

_KEPT_CHARS: Final = 8000
_LAST_LINES: Final = 12
_NOISE = re.compile(
    r"\[notice\]|note: This error originates from|note: This is an issue with the package|hint: See above"
)

_REASONS: Final[tuple[tuple[str, type[SupervisorError], str], ...]] = (
    (r"No space left on device|Disk quota exceeded", ResourceExhausted, "make room in the daemon's state directory"),
    (
        r"DO NOT MATCH THE HASHES|[Hh]ash mismatch",
        InvalidParams,
        "what the index offers is not what you asked for: check the hashes, and do not go on without knowing why",
    ),
    (
        r"equires a different Python|equires-Python|require a different python version"
        r"|Python version \([^)]*\) does not",
        FailedPrecondition,
        "plugins run with the daemon's Python, {python}: choose a version that was made for it",
    ),
    (
        r"is not a supported wheel|no wheels with a matching"
        r"|[Tt]he wheel is compatible with|not compatible with the current",
        FailedPrecondition,
        "it was built for another Python or another system; here it is Python {python}",
    ),
    (
        r"name resolution|Name or service not known|Connection refused|Network is unreachable|timed out"
        r"|Max retries exceeded|NewConnectionError|error sending request|dns error|certificate verify failed",
        Unavailable,
        "is the index to be reached from this machine? --index-url or the setting index_url name another; what needs "
        "none lies in a --find-links directory",
    ),
    (
        r"No matching distribution|Could not find a version|No solution found|was not found in the"
        r"|ResolutionImpossible",
        InvalidParams,
        "check names and versions, and where they are looked for: --index-url, --find-links, or pip's configuration",
    ),
)


class Said:
    """Lines of a program's output, in the order in which they came; credentials are masked at once."""

    def __init__(self) -> None:
        self._text = ""

    @property
    def tail(self) -> str:
        """The last 8,000 characters."""
        return self._text

    def add(self, line: str) -> str:
        """The line as it may be shown."""
        shown = mask_credentials(line.rstrip())
        self._text = f"{self._text}{shown}\n"[-_KEPT_CHARS:]
        return shown

    def last_words(self) -> str:
        """A few lines for a message, indented."""
        lines = [line for line in self._text.splitlines() if line.strip() and not _NOISE.search(line)]
        return "\n".join(f"  {line}" for line in lines[-_LAST_LINES:]) or "  (nothing)"

    def failure(self, what: str, python: str, ended: Callable[[], str]) -> SupervisorError:
        """`what` could not be done, as in "cannot install x"; `python` is a version. Details: output."""
        for pattern, kind, hint in _REASONS:
            if re.search(pattern, self._text):
                return kind(self._told(what, hint.format(python=python)), output=self._text)
        return FailedPrecondition(self._told(f"{what}: pip {ended()}", "nothing was changed"), output=self._text)

    def _told(self, what: str, hint: str) -> str:
        return f"{what}; {hint}. Its last words:\n{self.last_words()}"
