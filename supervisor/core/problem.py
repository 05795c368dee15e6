"""A problem of outside data: its place, the rule, what was found and the way out. Pure."""

from __future__ import annotations

import datetime
import difflib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

_BARE = re.compile(r"[A-Za-z0-9_-]{1,60}")
_MAX_SHOWN: Final = 80


class Fault(NamedTuple):
    """The rule that a value breaks, and the way out."""

    message: str
    hint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """`path` as in `jobs[0].schedule`, empty for the whole; `message` is the rule, `value` what was found there,
    shortened; `hint` is the way out. `line` is where it stands in its file, or the table that lacks it does."""

    path: str
    message: str
    value: str | None = None
    hint: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        place = "".join(f"{part}: " for part in (self.line and f"line {self.line}", self.path) if part)
        return f"{place}{self.told()}"

    def told(self) -> str:
        """Without its place."""
        found = f" (found: {self.value})" if self.value is not None else ""
        hint = f"; {self.hint}" if self.hint is not None else ""
        return f"{self.message}{found}{hint}"


def shown(value: object) -> str:
    """A value as a problem shows it: at most 80 characters, control characters escaped."""
    try:
        text = _text_of(value)
    except (ValueError, RecursionError):  # thousands of digits, thousands of levels
        text = "a value that is too large to show"
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 3]}..."


def _text_of(value: object) -> str:
    if isinstance(value, str | bytes):
        return repr(value[: _MAX_SHOWN + 1])
    if isinstance(value, bool):
        return str(value).lower()  # as TOML has it
    return str(value) if isinstance(value, datetime.date | datetime.time) else repr(value)


def joined(path: str, name: str) -> str:
    """The path of what is called `name` below `path`; a name that is no plain word is quoted, and cut."""
    if not _BARE.fullmatch(name):
        name = json.dumps(name if len(name) <= 60 else f"{name[:57]}...", ensure_ascii=not name[:57].isprintable())
    return f"{path}.{name}" if path else name


def nearest(word: object, known: Iterable[str]) -> str | None:
    """The known word that was probably meant, if there is one."""
    if not isinstance(word, str) or len(word) > 100:  # comparing takes time with the length
        return None
    spelled = {each.lower(): each for each in known}
    near = difflib.get_close_matches(word.lower(), spelled, n=1)
    return spelled[near[0]] if near else None


def did_you_mean(word: object, known: Iterable[str]) -> str | None:
    near = nearest(word, known)
    return None if near is None else f"did you mean {near!r}?"
