"""What a failed worker's error says in one line. Pure.

Such an error is a sentence, and below it the worker's last words, often a traceback: its last line says the most. Those
of a job's command stand behind the sentence.
"""

from __future__ import annotations

import re

_WHOSE = re.compile(r"^the worker of (?:'[^']*'|\"[^\"]*\") (?:\(pid \d+\) )?")
_PID = re.compile(r"(?:, | ?\()?\bpid \d+\)?")
_TRACEBACK = re.compile(r"^(?:Traceback \(most recent call last\):|  File \".*\", line \d+)", re.MULTILINE)
_UNCAUGHT = "exited with code 1"
_COMMAND = re.compile(r"((?:[^:]* and )?exited with code \d+): ")
_RAISED = re.compile(r"^(?:[A-Za-z_][\w.]*)(?:: .*)?$")


def short_cause(text: str) -> str:
    """The cause at the beginning, without whose worker it was; behind it what a traceback ends with."""
    first, _, rest = text.strip().partition("\n")
    if rest and (command := _COMMAND.match(first)):
        # Those of a job's command stand behind its end.
        return f"{command[1]}: {rest.splitlines()[-1].strip()}"
    first = _PID.sub("", _WHOSE.sub("", first)).strip()
    # What an uncaught exception leads to; behind another end a traceback tells of something else, dealt with long ago.
    raised = _raised(rest) if first.endswith(_UNCAUGHT) else ""
    return f"{raised} ({first})" if raised else first


def _raised(words: str) -> str:
    """The exception of the last traceback in `words`, if nothing else was said after it; or nothing."""
    start = None
    for found in _TRACEBACK.finditer(words):
        start = found.start()
    if start is None:
        return ""
    said = [line for line in words[start:].splitlines()[1:] if line[:1] not in {"", " ", "\t"}]
    return said[0].strip() if len(said) == 1 and _RAISED.match(said[0]) else ""
