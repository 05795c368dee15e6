"""Said: what pip or uv told, and the error that is made of it. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final
from urllib.parse import unquote

from supervisor.core.errors import FailedPrecondition, InvalidParams, ResourceExhausted, SupervisorError, Unavailable
from supervisor.lifecycle.sources import mask_credentials

_KEPT_CHARS: Final = 8000
_LEAST_SECRET: Final = 4
"""Characters: to mask every "a" would hide nothing, and tell which it was."""
_LAST_LINES: Final = 12
_NOISE = re.compile(
    r"\[notice\]|note: This error originates from|note: This is an issue with the package|hint: See above"
)
_NOT_FOUND: Final = (
    r"No matching distribution|Could not find a version|No solution found|was not found in the|ResolutionImpossible"
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
        _NOT_FOUND,
        InvalidParams,
        "check names and versions, and where they are looked for: --index-url, --find-links, or pip's configuration",
    ),
)


class Said:
    """Lines of a program's output, in the order in which they came; credentials are masked at once."""

    def __init__(self, index_url: str | None = None) -> None:
        """`index_url`: the one that the program was given, of which no line is to tell the password."""
        self._text = ""
        self._secrets = _secrets_of(index_url) if index_url else ()

    @property
    def tail(self) -> str:
        """The last 8,000 characters."""
        return self._text

    @property
    def not_found(self) -> bool:
        """The index was asked, and has nothing that fits."""
        return next((known for known, _, _ in _REASONS if re.search(known, self._text)), None) == _NOT_FOUND

    def add(self, line: str) -> str:
        """The line as it may be shown."""
        shown = line.rstrip()
        for secret in self._secrets:
            shown = shown.replace(secret, "***")
        shown = mask_credentials(shown)
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


def _secrets_of(url: str) -> tuple[str, ...]:
    """What of this URL nobody is to see, as it is written there and as what it stands for; the longest first."""
    before, at, _ = url.partition("://")[2].rpartition("@")
    if not at:
        return ()
    user, colon, password = before.partition(":")
    # A token stands where the user does when there is no password.
    secret = password if colon and password else user
    found = {before, secret, unquote(before), unquote(secret)}
    return tuple(sorted((text for text in found if len(text) >= _LEAST_SECRET), key=len, reverse=True))
