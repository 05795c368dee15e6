"""What a failed worker's error says in one line. Pure.

Such an error is a sentence, and below it the worker's last words, often a traceback: its last line says the most.
"""

from __future__ import annotations

import re

_WHOSE = re.compile(r"^the worker of (?:'[^']*'|\"[^\"]*\") (?:\(pid \d+\) )?")
_PID = re.compile(r"(?:, | ?\()?\bpid \d+\)?")
_TRACEBACK = re.compile(r"^(?:Traceback \(most recent call last\):|  File \".*\", line \d+)", re.MULTILINE)
_RAISED = re.compile(r"^(?:[A-Za-z_][\w.]*)(?:: .*)?$")


def short_cause(text: str) -> str:
    """The cause at the beginning, without whose worker it was; behind it what a traceback ends with."""
    first, _, rest = text.strip().partition("\n")
    first = _PID.sub("", _WHOSE.sub("", first)).strip()
    raised = _raised(rest)
    if not raised or raised in first:
        return first
    return f"{raised} ({first})"


def _raised(words: str) -> str:
    """The exception at the end of the last traceback in `words`, or nothing."""
    start = None
    for found in _TRACEBACK.finditer(words):
        start = found.start()
    if start is None:
        return ""
    for line in words[start:].splitlines()[1:]:
        if line[:1] not in {"", " ", "\t"} and _RAISED.match(line):
            return line.strip()
    return ""
