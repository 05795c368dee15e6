"""Where in a TOML text each value stands, which tomllib does not tell; and whether it is too deep to be parsed. Pure.

It takes whatever is TOML, and more: what is malformed ends it without a word, for tomllib to tell.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from typing import Final

from supervisor.core.problem import joined

MAX_DEPTH: Final = 64
_MAX_ENTRIES: Final = 256
"""Of a list of strings, those whose places are kept; the others are where the list is."""
_QUOTED: Final = r'"(?:[^"\\\n]|\\.)*+"|' + r"'[^'\n]*+'"
_BLOCK: Final = r'"""(?:[^"\\]|\\.|"(?!""))*+"{3,5}|' + r"'''(?:[^']|'(?!''))*+'{3,5}"
_STRING: Final = re.compile(rf"{_BLOCK}|{_QUOTED}", re.DOTALL)
_KEY: Final = re.compile(rf"[ \t]*+([A-Za-z0-9_-]++|{_QUOTED})[ \t]*+(\.|)", re.DOTALL)
_BLANK: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*+)*+")
_SPACE: Final = re.compile(r"[ \t]*+")
_SCALAR: Final = re.compile(r"[^,\[\]{}\"'#\n]++")
_FLAT: Final = re.compile(rf"(?:[ \t\r\n]*+(?:{_QUOTED}|[^,\[\]{{}}\"'#]++)[ \t\r\n]*+,)*+", re.DOTALL)


class TooDeep(ValueError):
    def __init__(self, line: int) -> None:
        self.rule = f"is nested more than {MAX_DEPTH} deep"
        super().__init__(f"line {line}: {self.rule}")
        self.line = line


class TomlLines:
    """
    Raises:
        TooDeep: tomllib would take quadratic time for it, or no end of stack.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._starts: dict[str, int] = {}
        self._counts: dict[str, int] = {}
        """Tables so far of each [[list of tables]]."""
        self._breaks = [found.start() for found in re.finditer("\n", text)]
        try:
            self._walk()
        except _Malformed:
            pass  # What was found so far is as true as before.

    def line(self, path: str) -> int | None:
        """The line on which what is at `path` begins, or else the table around it."""
        while path and path not in self._starts:
            path = _around(path)
        return self._line_at(self._starts[path]) if path else None

    def _line_at(self, at: int) -> int:
        return bisect_left(self._breaks, at) + 1

    def _walk(self) -> None:
        table, depth = "", 0
        while True:
            self._skip(_BLANK)
            if self._at >= len(self._text):
                return
            if self._text.startswith("[", self._at):
                table, depth = self._header()
            else:
                self._pair(table, depth)

    def _header(self) -> tuple[str, int]:
        start, many = self._at, self._text.startswith("[[", self._at)
        self._at += 2 if many else 1
        path, names = "", self._key(0)
        for i, name in enumerate(names, 1):
            path = joined(path, name)
            if many and i == len(names):
                self._starts.setdefault(path, start)
                self._counts[path] = self._counts.get(path, 0) + 1
            if path in self._counts:
                path = f"{path}[{self._counts[path] - 1}]"
            self._starts.setdefault(path, start)
        self._expect("]]" if many else "]")
        return path, len(names)

    def _pair(self, table: str, depth: int) -> None:
        start, path = self._at, table
        names = self._key(depth)
        for name in names:
            path = joined(path, name)
            self._starts.setdefault(path, start)
        self._expect("=")
        self._skip(_SPACE)
        self._value(path, depth + len(names))

    def _key(self, depth: int) -> list[str]:
        names = []
        while True:
            found = self._take(_KEY)
            names.append(_unquoted(found[1]))
            if depth + len(names) > MAX_DEPTH:
                raise TooDeep(self._line_at(self._at))
            if not found[2]:
                return names

    def _value(self, path: str, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise TooDeep(self._line_at(self._at))
        first = self._text[self._at : self._at + 1]
        if first == "[":
            self._list(path, depth)
        elif first == "{":
            self._inline(path, depth)
        else:
            self._take(_STRING if first in ('"', "'") else _SCALAR)

    def _list(self, path: str, depth: int) -> None:
        self._at += 1
        count = 0
        while True:
            if count >= _MAX_ENTRIES:
                self._skip(_FLAT)
            self._skip(_BLANK)
            if self._passes("]"):
                return
            entry = f"{path}[{count}]"
            self._starts.setdefault(entry, self._at)
            self._value(entry, depth + 1)
            count += 1
            self._skip(_BLANK)
            if not self._passes(","):
                self._expect("]")
                return

    def _inline(self, path: str, depth: int) -> None:
        self._at += 1
        self._skip(_BLANK)
        while not self._passes("}"):
            self._pair(path, depth)
            self._skip(_BLANK)
            if not self._passes(","):
                self._expect("}")
                return
            self._skip(_BLANK)

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str]:
        found = pattern.match(self._text, self._at)
        if found is None:
            raise _Malformed
        self._at = found.end()
        return found

    def _skip(self, pattern: re.Pattern[str]) -> None:
        self._take(pattern)

    def _passes(self, text: str) -> bool:
        there = self._text.startswith(text, self._at)
        self._at += len(text) if there else 0
        return there

    def _expect(self, text: str) -> None:
        if not self._passes(text):
            raise _Malformed


class _Malformed(ValueError):
    """No TOML from here on."""


def _unquoted(word: str) -> str:
    if word[0] == "'":
        return word[1:-1]
    if word[0] != '"':
        return word
    if "\\" not in word:
        return word[1:-1]
    # TOML's escapes are JSON's, and \UXXXXXXXX.
    wide = re.sub(r"\\(?:U([0-9A-Fa-f]{8})|.)", _narrowed, word)
    try:
        return str(json.loads(wide, strict=False))
    except ValueError:
        raise _Malformed from None


def _narrowed(found: re.Match[str]) -> str:
    if found[1] is None:
        return found[0]
    code = int(found[1], 16)
    return json.dumps(chr(code))[1:-1] if code <= 0x10FFFF else found[0]


def _around(path: str) -> str:
    """The path of what holds it: without its last step."""
    if path.endswith("]"):
        return path[: path.rindex("[")]
    if path.endswith('"'):
        found = re.search(r'\.?"(?:[^"\\]|\\.)*+"$', path)
        return path[: found.start()] if found else ""
    return path.rpartition(".")[0]
