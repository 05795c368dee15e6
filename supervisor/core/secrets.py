"""Which values of a configuration its JSON Schema marks `"writeOnly": true`, and a configuration without them. Pure.

What is not understood for sure is taken for a secret: a reference that leads nowhere hides what it stands for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

_MARK: Final = "writeOnly"
_SAME_VALUE: Final = ("allOf", "anyOf", "oneOf", "if", "then", "else", "dependentSchemas")
"""Below these are schemas of the very value that the schema around them is for."""
_ENTRIES: Final = ("items", "prefixItems", "contains", "unevaluatedItems")
_OTHERS: Final = ("additionalProperties", "unevaluatedProperties")
_NAMED: Final = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
"""Below these the names are the author's own."""
_DATA: Final = frozenset({"const", "enum", "default", "examples"})
_MAX_DEPTH: Final = 32
_UNKNOWN: Final = {_MARK: True}


def marked(schema: Any) -> list[str]:
    """Where the schema marks something, as in `properties.token`; for whoever reads it."""
    return list(_marked(schema, "", 0))


def divide(schema: Any, config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The configuration without its secrets, and these by their names: `token`, or `db.password` inside tables.

    A list that holds secrets anywhere is one as a whole.
    """
    secrets: dict[str, Any] = {}
    return _divide(_Schema(schema), [schema], config, (), secrets), secrets


def _divide(
    root: _Schema, schemas: list[Any], table: Mapping[str, Any], path: tuple[str, ...], secrets: dict[str, Any]
) -> dict[str, Any]:
    known = root.expanded(schemas)
    shown: dict[str, Any] = {}
    for name, value in table.items():
        below = [inner for schema in known for inner in _of_property(schema, name)]
        here = (*path, name)
        if root.hides(known) or root.hides(root.expanded(below)) or root.holds_secret_entries(below, value):
            secrets[".".join(here)] = value
        elif isinstance(value, Mapping):
            shown[name] = _divide(root, below, value, here, secrets)
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
            secrets: dict[str, Any] = {}
            _divide(self, list(known), entry, (), secrets)
            return bool(secrets)
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
    found = []
    named = schema.get("properties")
    if isinstance(named, Mapping) and name in named:
        found.append(named[name])
    patterns = schema.get("patternProperties")
    if isinstance(patterns, Mapping):
        found += [inner for pattern, inner in patterns.items() if _matches(pattern, name)]
    return found or [schema[keyword] for keyword in _OTHERS if keyword in schema]


def _of_entries(schema: Mapping[str, Any]) -> Iterator[Any]:
    for keyword in _ENTRIES:
        inner = schema.get(keyword)
        yield from inner if isinstance(inner, list | tuple) else [inner]


def _matches(pattern: str, name: str) -> bool:
    try:
        return re.search(pattern, name) is not None
    except re.error:
        return True


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
