"""Read outside data (TOML tables) field by field and collect every problem with its place. Pure.

One reader a table: each method takes a field out, checks it, and returns the default after noting a problem, so that
reading goes on and all problems are reported at once.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from supervisor.core.problem import Fault, Problem, did_you_mean, joined, nearest, shown

_T = TypeVar("_T")
_MAX_UNKNOWN: Final = 20
"""Unknown keys of one table that are named one by one."""
_MAX_ENTRIES: Final = 256
_REQUIRED: Final = "is required"
Check = Callable[[Any], str | Fault | None]
"""Why a value is wrong, or None."""


@dataclass(slots=True)
class Reader:
    """`trusted`: what is read was checked when it was stored, by the rules of then; only its types are looked at."""

    table: Mapping[str, Any]
    path: str = ""
    problems: list[Problem] = field(default_factory=list)
    trusted: bool = False
    _known: list[str] = field(default_factory=list)

    def problem(self, name: str, why: str | Fault, value: object = None, hint: str | None = None) -> None:
        """`name` is empty where the table as a whole is at fault."""
        where = ".".join(filter(None, (self.path, name)))
        fault = Fault(why, hint) if isinstance(why, str) else why
        found = None if value is None else shown(value)
        self.problems.append(Problem(path=where, message=fault.message, value=found, hint=fault.hint))

    def text(
        self,
        name: str,
        default: str | None = None,
        *,
        longest: int = 500,
        check: Check | None = None,
        example: str | None = None,
    ) -> str:
        """A string of 1 to `longest` characters; required when there is no default. `example` is a good one."""
        value = self._take(name, default, example and json.dumps(example))
        if value is None:
            return ""
        if not isinstance(value, str) or not 1 <= len(value) <= longest:
            self.problem(name, f"must be a string of 1 to {longest} characters", value, _text_hint(value, longest))
            return default or ""
        if check and not self.trusted and (why := check(value)):
            self.problem(name, why, value)
        return value

    def optional_text(self, name: str, *, longest: int = 500, check: Check | None = None) -> str | None:
        self._known.append(name)
        return (self.text(name, longest=longest, check=check) or None) if name in self.table else None

    def number(self, name: str, default: float, *, least: float, most: float) -> float:
        value = self._take(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            self.problem(name, f"must be a number from {least:.12g} to {most:.12g}", value, _number_hint(value))
            return default
        return float(value)

    def whole(self, name: str, default: int | None = None, *, least: int, most: int, example: str | None = None) -> int:
        """A whole number; required when there is no default."""
        value = self._take(name, default, example)
        if value is None:
            return least
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            self.problem(name, f"must be a whole number from {least} to {most}", value, _number_hint(value))
            return least if default is None else default
        return value

    def optional_whole(self, name: str, *, least: int, most: int) -> int | None:
        self._known.append(name)
        return self.whole(name, least=least, most=most) if name in self.table else None

    def optional_number(self, name: str, *, least: float, most: float) -> float | None:
        self._known.append(name)
        return self.number(name, least, least=least, most=most) if name in self.table else None

    def flag(self, name: str, *, default: bool) -> bool:
        value = self._take(name, default)
        if not isinstance(value, bool):
            hint = "write it without quotes" if value in ("true", "false") else None
            self.problem(name, "must be true or false", value, hint)
            return default
        return value

    def choice(self, name: str, default: str, choices: Sequence[str]) -> str:
        value = self._take(name, default)
        if value not in choices:
            message = f"must be {' or '.join(repr(c) for c in choices)}"
            self.problem(name, message, value, did_you_mean(value, choices))
            return default
        return str(value)

    def texts(
        self,
        name: str,
        *,
        required: bool = False,
        check: Check | None = None,
        unique: bool = True,
        longest: int = 500,
        most: int = _MAX_ENTRIES,
        example: str | None = None,
    ) -> tuple[str, ...]:
        """A list of at most `most` non-empty strings; with `required`, at least one."""
        value = self._take(name, None if required else [], example)
        if value is None:
            return ()
        if not isinstance(value, list) or (required and not value):
            message = "must be a list of strings" + (" with at least one entry" if required else "")
            self.problem(name, message, value, _list_hint(value) or (example and f"such as {name} = {example}"))
            return ()
        good: dict[str, int] = {}
        for i, entry in enumerate(self._at_most(name, value, most)):
            if not isinstance(entry, str) or not 1 <= len(entry) <= longest or "\0" in entry:
                message = f"must be a string of 1 to {longest} characters without NUL"
                self.problem(f"{name}[{i}]", message, entry, _text_hint(entry, longest))
            elif check and not self.trusted and (why := check(entry)):
                self.problem(f"{name}[{i}]", why, entry)
            elif unique and entry in good:
                self.problem(f"{name}[{i}]", f"is there twice: it is {name}[{good[entry]}] too", entry, "take one out")
            else:
                good[entry if unique else f"{i}"] = i
        return tuple(value[i] for i in good.values())

    def wholes(self, name: str, default: tuple[int, ...], *, least: int, most: int) -> tuple[int, ...]:
        """A list of whole numbers."""
        value = self._take(name, list(default))
        if isinstance(value, list):
            value = self._at_most(name, value, _MAX_ENTRIES)
        good = isinstance(value, list) and all(
            isinstance(entry, int) and not isinstance(entry, bool) and least <= entry <= most for entry in value
        )
        if not good:
            hint = f"write a list: [{value}]" if type(value) is int and least <= value <= most else None
            self.problem(name, f"must be a list of whole numbers from {least} to {most}", value, hint)
            return default
        return tuple(value)

    def texts_by_name(self, name: str, *, check_name: Check, longest: int, most: int = _MAX_ENTRIES) -> dict[str, str]:
        """A table of at most `most` strings, which may be empty."""
        value = self._take(name, {})
        if not isinstance(value, Mapping):
            self.problem(name, "must be a table of strings", value)
            return {}
        good = {}
        for key in self._at_most(name, list(value), most):
            entry, place = value[key], joined(name, key)
            if not self.trusted and (why := check_name(key)):
                self.problem(place, why)
            elif not isinstance(entry, str) or "\0" in entry or (len(entry) > longest and not self.trusted):
                message = f"must be a string of at most {longest} characters without NUL"
                self.problem(place, message, entry, _text_hint(entry, longest))
            else:
                good[key] = entry
        return good

    def anything(self, name: str) -> Any:
        """A value as it stands, or None; for what has a check of its own."""
        self._known.append(name)
        return self.table.get(name)

    def sub(self, name: str, read: Callable[[Reader], _T]) -> _T:
        """A table inside; an absent one reads as empty."""
        value = self._take(name, {})
        if not isinstance(value, Mapping):
            self.problem(name, "must be a table", value)
            value = {}
        return self._inside(value, name, read)

    def optional_sub(self, name: str, read: Callable[[Reader], _T]) -> _T | None:
        """A table inside, None where there is none."""
        self._known.append(name)
        value = self.table.get(name)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            self.problem(name, "must be a table", value)
            return None
        return self._inside(value, name, read)

    def subs(self, name: str, read: Callable[[Reader], _T], *, most: int) -> tuple[_T, ...]:
        """A list of at most `most` tables inside."""
        value = self._take(name, [])
        if not isinstance(value, list) or not all(isinstance(entry, Mapping) for entry in value):
            hint = f"[[{name}]] begins each of them, with two brackets" if isinstance(value, Mapping) else None
            self.problem(name, f"must be a list of tables: [[{name}]]", value, hint)
            return ()
        kept = self._at_most(name, value, most)
        return tuple(self._inside(entry, f"{name}[{i}]", read) for i, entry in enumerate(kept))

    def finish(self) -> None:
        """Note every key that nobody asked for."""
        known = dict.fromkeys(self._known)
        unknown = [str(name) for name in self.table if name not in known]
        for name in unknown[:_MAX_UNKNOWN]:
            near = nearest(name, known)
            if near is not None:
                self._forgive_missing(near)
            hint = f"did you mean {near!r}?" if near else f"known here: {', '.join(sorted(known))}"
            self.problem(joined("", name), "unknown key", hint=hint)
        if len(unknown) > _MAX_UNKNOWN:
            self.problem("", f"{len(unknown) - _MAX_UNKNOWN} more unknown keys")

    def _forgive_missing(self, name: str) -> None:
        """It is there, under another name: one mistake is one problem."""
        path = joined(self.path, name)
        self.problems[:] = [each for each in self.problems if (each.path, each.message) != (path, _REQUIRED)]

    def _take(self, name: str, default: Any, example: str | None = None) -> Any:
        """`example` is a good value, as TOML has it."""
        self._known.append(name)
        if name in self.table:
            return self.table[name]
        if default is None:
            self.problem(name, _REQUIRED, hint=example and f"such as {name} = {example}")
        return default

    def _at_most(self, name: str, value: list[_T], most: int) -> list[_T]:
        if len(value) > most and not self.trusted:
            self.problem(name, f"has {len(value)} entries; {most} is the most there may be")
            return value[:most]
        return value

    def _inside(self, value: Mapping[str, Any], name: str, read: Callable[[Reader], _T]) -> _T:
        path = f"{self.path}.{name}" if self.path else name
        reader = Reader(value, path, self.problems, trusted=self.trusted)
        result = read(reader)
        reader.finish()
        return result


def _text_hint(value: object, longest: int) -> str | None:
    """For what is there in place of a string."""
    if isinstance(value, str):
        return f"it has {len(value)}" if len(value) > longest else None
    if isinstance(value, bool | float | datetime.date | datetime.time) or type(value) is int:
        return "write it in quotes"
    return None


def _number_hint(value: object) -> str | None:
    """For a number that is written as a string."""
    if not isinstance(value, str) or len(value) > 20:
        return None
    try:
        float(value)
    except ValueError:
        return None
    return "write it without quotes"


def _list_hint(value: object) -> str | None:
    """For a string in place of a list."""
    if not isinstance(value, str) or not value or len(value) > 100:
        return None
    return f"write a list: {json.dumps(value.split(), ensure_ascii=False)}"
