"""Which values of a configuration its JSON Schema marks `"writeOnly": true`, and a configuration without them, or with
a mask in their place. Pure.

What is not understood for sure is taken for a secret: a reference that leads nowhere hides what it stands for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final

MASK: Final = "********"
"""What a secret reads as. Sent back, it stands for the value that is stored."""
REFERENCES: Final = ("$file:", "$credential:")
"""How a value begins that says where the real one is to be found."""

_MARK: Final = "writeOnly"
_SAME_VALUE: Final = ("allOf", "anyOf", "oneOf", "if", "then", "else", "dependentSchemas")
"""Below these are schemas of the very value that the schema around them is for."""
_ENTRIES: Final = ("items", "prefixItems", "contains", "unevaluatedItems")
_OTHERS: Final = ("additionalProperties", "unevaluatedProperties")
_NAMED: Final = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
"""Below these the names are the author's own."""
_DATA: Final = frozenset({"const", "enum", "default", "examples"})
_MAX_DEPTH: Final = 32
_MAX_NAME: Final = 200
_ATOM: Final = r"(?:[\w \-.,:;/@#%&=!<>~]|\\[wdsWDS.\-_/\\]|\[\^?[\w \-.:/]+\])"
_PLAIN: Final = re.compile(rf"\^?{_ATOM}*(?:{_ATOM}(?:[*+?]|\{{\d{{1,3}}(?:,\d{{0,3}})?\}}){_ATOM}*)?\$?", re.ASCII)
"""Patterns that repeat one character at most, and so take no longer than the name's length squared."""
_UNKNOWN: Final = {_MARK: True}
_LEFT_OUT: Final = object()

_Path = tuple[str, ...]
_TakeSecret = Callable[[_Path, Any], Any]
"""What stands in a secret's place."""


def marked(schema: Any) -> list[str]:
    """Where the schema marks something, as in `properties.token`; for whoever reads it."""
    return list(_marked(schema, "", 0))


def divide(schema: Any, config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The configuration without its secrets, and these by their names: `token`, or `db.password` inside tables.

    A list that holds secrets anywhere is one as a whole.
    """
    secrets: dict[str, Any] = {}

    def take(path: _Path, value: Any) -> Any:
        secrets[".".join(path)] = value
        return _LEFT_OUT

    return _replace(_Schema(schema), [schema], config, (), take), secrets


def mask(schema: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with the mask for its secrets. A reference says where a secret is, not what, and stays."""
    return _replace(_Schema(schema), [schema], config, (), lambda _, value: value if is_reference(value) else MASK)


def unmask(
    schema: Any, config: Mapping[str, Any], stored: Mapping[str, Any]
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """The configuration with what is stored for each mask in a secret's place, and (path, what is wrong) of masks that
    stand for nothing."""
    problems: list[tuple[str, str]] = []

    def take(path: _Path, value: Any) -> Any:
        former: Any = stored
        for name in path:
            former = former.get(name, _LEFT_OUT) if isinstance(former, Mapping) else _LEFT_OUT
        return _unmasked(path, value, former, problems)

    # A list that holds secrets is none where a mask stands for it: what is masked tells.
    kept = _kept(config, mask(schema, stored), stored)
    return _replace(_Schema(schema), [schema], kept, (), take), problems


def is_reference(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(REFERENCES)


def spoken(value: Any) -> Iterator[str]:
    """The texts in which a message may say a value, or one that it holds; true, false and null give nothing away."""
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from spoken(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from spoken(inner)
    elif isinstance(value, str):
        yield from {value, repr(value)[1:-1], json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}
    elif isinstance(value, bytes):
        yield from {repr(value)[2:-1], value.decode(errors="replace")}
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield str(value)


def hide(words: Any, secrets: Collection[str]) -> Any:
    """A text, or plain values that hold some, with the mask for each of `secrets` that stands in it."""
    texts = sorted(filter(None, secrets), key=len, reverse=True)
    if not texts:
        return words
    # All in one pass: a mask that was put in is not looked at again.
    return _hide(words, re.compile("|".join(map(re.escape, texts))))


def _hide(words: Any, pattern: re.Pattern[str]) -> Any:
    match words:
        case str():
            return pattern.sub(MASK, words)
        case dict():
            return {name: _hide(inner, pattern) for name, inner in words.items()}
        case list():
            return [_hide(inner, pattern) for inner in words]
    return words


def _kept(sent: Mapping[str, Any], shown: Mapping[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    """`sent` with what is stored for each mask that stands where one was shown."""
    kept: dict[str, Any] = {}
    for name, value in sent.items():
        before, real = shown.get(name), stored.get(name)
        if value == MASK and before == MASK:
            kept[name] = real
        elif isinstance(value, Mapping) and isinstance(before, Mapping) and isinstance(real, Mapping):
            kept[name] = _kept(value, before, real)
        else:
            kept[name] = value
    return kept


def _unmasked(path: _Path, value: Any, former: Any, problems: list[tuple[str, str]]) -> Any:
    """`value` with what `former` holds for the masks in it."""
    if value == MASK:
        if former is not _LEFT_OUT:
            return former
        problems.append(
            (".".join(path), f"{MASK} stands for a secret that is set already, and none is: send its value")
        )
    elif isinstance(value, Mapping):
        below = former if isinstance(former, Mapping) else {}
        return {
            name: _unmasked((*path, name), inner, below.get(name, _LEFT_OUT), problems) for name, inner in value.items()
        }
    elif isinstance(value, list | tuple) and MASK in spoken(value):
        problems.append(
            (".".join(path), f"a list that holds secrets is kept as a whole, by {MASK} alone, or sent whole")
        )
    return value


def _replace(
    root: _Schema, schemas: list[Any], table: Mapping[str, Any], path: _Path, take: _TakeSecret
) -> dict[str, Any]:
    known = root.expanded(schemas)
    shown: dict[str, Any] = {}
    for name, value in table.items():
        below = [inner for schema in known for inner in _of_property(schema, name)]
        here = (*path, name)
        if root.hides(known) or root.hides(root.expanded(below)) or root.holds_secret_entries(below, value):
            if (instead := take(here, value)) is not _LEFT_OUT:
                shown[name] = instead
        elif isinstance(value, Mapping):
            shown[name] = _replace(root, below, value, here, take)
        else:
            shown[name] = value
    return shown


class _Schema:
    """A whole schema, to which references inside it lead back."""

    def __init__(self, whole: Any) -> None:
        self._whole = whole

    def expanded(self, schemas: Sequence[Any]) -> list[Mapping[str, Any]]:
        """All schemas that hold for a value for which `schemas` do."""
        found: dict[int, Mapping[str, Any]] = {}
        left = list(schemas)
        while left:
            schema = left.pop()
            if isinstance(schema, Mapping) and id(schema) not in found:
                found[id(schema)] = schema
                left += self._for_the_same_value(schema)
        return list(found.values())

    @staticmethod
    def hides(expanded: Sequence[Mapping[str, Any]]) -> bool:
        return any(schema.get(_MARK) is True for schema in expanded)

    def holds_secret_entries(self, schemas: Sequence[Any], value: Any) -> bool:
        """Whether `value` is a list with a secret somewhere in it."""
        if not isinstance(value, list | tuple):
            return False
        entries = [inner for schema in self.expanded(schemas) for inner in _of_entries(schema)]
        known = self.expanded(entries)
        return self.hides(known) or any(self._holds_secret(known, entry) for entry in value)

    def _holds_secret(self, known: list[Mapping[str, Any]], entry: Any) -> bool:
        if isinstance(entry, Mapping):
            found: list[_Path] = []
            _replace(self, list(known), entry, (), lambda path, _: found.append(path))
            return bool(found)
        return self.holds_secret_entries(known, entry)

    def _for_the_same_value(self, schema: Mapping[str, Any]) -> Iterator[Any]:
        for reference in ("$ref", "$dynamicRef"):
            if reference in schema:
                yield self._target(schema[reference])
        for keyword in _SAME_VALUE:
            inner = schema.get(keyword)
            if isinstance(inner, list | tuple):
                yield from inner
            elif isinstance(inner, Mapping):
                yield from inner.values() if keyword == "dependentSchemas" else [inner]

    def _target(self, reference: Any) -> Any:
        if not isinstance(reference, str) or not reference.startswith("#"):
            return _UNKNOWN
        if reference[1:2] not in ("", "/"):
            return next(_anchored(self._whole, reference[1:], 0), _UNKNOWN)
        target = self._whole
        for step in reference[1:].split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            if isinstance(target, Mapping) and name in target:
                target = target[name]
            elif isinstance(target, list | tuple) and name.isdecimal() and int(name) < len(target):
                target = target[int(name)]
            else:
                return _UNKNOWN
        return target


def _of_property(schema: Mapping[str, Any], name: str) -> list[Any]:
    """The schemas that one says hold for the property `name`."""
    found, maybe = [], []
    named = schema.get("properties")
    if isinstance(named, Mapping) and name in named:
        found.append(named[name])
    patterns = schema.get("patternProperties")
    if isinstance(patterns, Mapping):
        for pattern, inner in patterns.items():
            match _matches(pattern, name):
                case True:
                    found.append(inner)
                case None:
                    maybe.append(inner)
    return maybe + (found or [schema[keyword] for keyword in _OTHERS if keyword in schema])


def _of_entries(schema: Mapping[str, Any]) -> Iterator[Any]:
    for keyword in _ENTRIES:
        inner = schema.get(keyword)
        yield from inner if isinstance(inner, list | tuple) else [inner]


def _matches(pattern: str, name: str) -> bool | None:
    """None: it cannot be told here, since a search might take for ever."""
    if len(name) > _MAX_NAME or len(pattern) > _MAX_NAME or _PLAIN.fullmatch(pattern) is None:
        return None
    try:
        return re.search(pattern, name) is not None
    except re.error:
        return None


def _anchored(schema: Any, anchor: str, depth: int) -> Iterator[Any]:
    if depth > _MAX_DEPTH:
        return
    if isinstance(schema, Mapping):
        if anchor in (schema.get("$anchor"), schema.get("$dynamicAnchor")):
            yield schema
        schema = list(schema.values())
    if isinstance(schema, list | tuple):
        for inner in schema:
            yield from _anchored(inner, anchor, depth + 1)


def _marked(schema: Any, path: str, depth: int, *, names: bool = False) -> Iterator[str]:
    if depth > _MAX_DEPTH:
        return
    if isinstance(schema, list | tuple):
        for i, inner in enumerate(schema):
            yield from _marked(inner, f"{path}[{i}]", depth + 1)
    if not isinstance(schema, Mapping):
        return
    if not names and schema.get(_MARK) is True:
        yield path
    for name, inner in schema.items():
        if names or name not in _DATA:
            below = f"{path}.{name}" if path else str(name)
            yield from _marked(inner, below, depth + 1, names=not names and name in _NAMED)
