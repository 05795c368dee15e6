"""Read outside data (TOML tables) field by field and collect every problem with its place. Pure.

One reader a table: each method takes a field out, checks it, and returns the default after noting a problem, so that
reading goes on and all problems are reported at once.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

_T = TypeVar("_T")
Check = Callable[[Any], str | None]
"""Why a value is wrong, or None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """`path` as in `jobs[0].schedule`; `value` is what was found there, shortened."""

    path: str
    message: str
    value: str | None = None

    def __str__(self) -> str:
        found = f" (found: {self.value})" if self.value is not None else ""
        return f"{self.path}: {self.message}{found}"


def shown(value: object) -> str:
    """A value as a problem shows it: at most 80 characters, control characters escaped."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


@dataclass(slots=True)
class Reader:
    table: Mapping[str, Any]
    path: str = ""
    problems: list[Problem] = field(default_factory=list)
    _known: list[str] = field(default_factory=list)

    def problem(self, name: str, message: str, value: object = None) -> None:
        """`name` is empty where the table as a whole is at fault."""
        where = ".".join(filter(None, (self.path, name)))
        self.problems.append(Problem(path=where, message=message, value=None if value is None else shown(value)))

    def text(
        self,
        name: str,
        default: str | None = None,
        *,
        longest: int = 500,
        check: Check | None = None,
    ) -> str:
        """A string of 1 to `longest` characters; required when there is no default."""
        value = self._take(name, default)
        if value is None:
            return ""
        if not isinstance(value, str) or not 1 <= len(value) <= longest:
            self.problem(name, f"must be a string of 1 to {longest} characters", value)
            return default or ""
        if check and (why := check(value)):
            self.problem(name, why, value)
        return value

    def optional_text(self, name: str, *, longest: int = 500, check: Check | None = None) -> str | None:
        self._known.append(name)
        return self.text(name, longest=longest, check=check) if name in self.table else None

    def number(self, name: str, default: float, *, least: float, most: float) -> float:
        value = self._take(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            self.problem(name, f"must be a number from {least:g} to {most:g}", value)
            return default
        return float(value)

    def whole(self, name: str, default: int | None = None, *, least: int, most: int) -> int:
        """A whole number; required when there is no default."""
        value = self._take(name, default)
        if value is None:
            return least
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            self.problem(name, f"must be a whole number from {least} to {most}", value)
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
            self.problem(name, "must be true or false", value)
            return default
        return value

    def choice(self, name: str, default: str, choices: Sequence[str]) -> str:
        value = self._take(name, default)
        if value not in choices:
            self.problem(name, f"must be {' or '.join(repr(c) for c in choices)}", value)
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
    ) -> tuple[str, ...]:
        """A list of non-empty strings; with `required`, at least one."""
        value = self._take(name, None if required else [])
        if value is None:
            return ()
        if not isinstance(value, list) or (required and not value):
            self.problem(name, "must be a list of strings" + (" with at least one entry" if required else ""), value)
            return ()
        good = []
        for i, entry in enumerate(value):
            if not isinstance(entry, str) or not 1 <= len(entry) <= longest or "\0" in entry:
                self.problem(f"{name}[{i}]", f"must be a string of 1 to {longest} characters without NUL", entry)
            elif check and (why := check(entry)):
                self.problem(f"{name}[{i}]", why, entry)
            elif unique and entry in good:
                self.problem(f"{name}[{i}]", "is there twice", entry)
            else:
                good.append(entry)
        return tuple(good)

    def wholes(self, name: str, default: tuple[int, ...], *, least: int, most: int) -> tuple[int, ...]:
        """A list of whole numbers."""
        value = self._take(name, list(default))
        good = isinstance(value, list) and all(
            isinstance(entry, int) and not isinstance(entry, bool) and least <= entry <= most for entry in value
        )
        if not good:
            self.problem(name, f"must be a list of whole numbers from {least} to {most}", value)
            return default
        return tuple(value)

    def texts_by_name(self, name: str, *, check_name: Check) -> dict[str, str]:
        """A table of strings."""
        value = self._take(name, {})
        if not isinstance(value, Mapping):
            self.problem(name, "must be a table of strings", value)
            return {}
        good = {}
        for key, entry in value.items():
            if why := check_name(key):
                self.problem(f"{name}.{key}", why)
            elif not isinstance(entry, str) or "\0" in entry:
                self.problem(f"{name}.{key}", "must be a string without NUL", entry)
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

    def subs(self, name: str, read: Callable[[Reader], _T]) -> tuple[_T, ...]:
        """A list of tables inside."""
        value = self._take(name, [])
        if not isinstance(value, list) or not all(isinstance(entry, Mapping) for entry in value):
            self.problem(name, f"must be a list of tables: [[{name}]]", value)
            return ()
        return tuple(self._inside(entry, f"{name}[{i}]", read) for i, entry in enumerate(value))

    def finish(self) -> None:
        """Note every key that nobody asked for."""
        for name in self.table:
            if name not in self._known:
                near = difflib.get_close_matches(str(name), self._known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(sorted(set(self._known)))}"
                self.problem(str(name), f"unknown key; {hint}")

    def _take(self, name: str, default: Any) -> Any:
        self._known.append(name)
        if name in self.table:
            return self.table[name]
        if default is None:
            self.problem(name, "is required")
        return default

    def _inside(self, value: Mapping[str, Any], name: str, read: Callable[[Reader], _T]) -> _T:
        reader = Reader(value, f"{self.path}.{name}" if self.path else name, self.problems)
        result = read(reader)
        reader.finish()
        return result
