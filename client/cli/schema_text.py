"""A JSON Schema in words: what a value is, and what it may hold. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from typing import Any

    Schema = Mapping[str, Any]

_WORDS = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "null": "none",
    "object": "map",
    "array": "list",
}
_DEEP = 4
"""Levels that are told; a schema may contain itself."""


def resolved(schema: Schema, whole: Schema) -> Schema:
    """What a reference leads to; itself, where it is none."""
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    found = whole.get("$defs", {}).get(name)
    return found if isinstance(found, Mapping) else schema


def type_text(schema: Schema, whole: Schema, depth: int = 0) -> str:
    """As in `text`, `list of whole number`, `text or none`, `map: PluginInfo`."""
    found = resolved(schema, whole)
    if "enum" in found:
        return " | ".join(json.dumps(value) for value in found["enum"])
    if either := found.get("anyOf") or found.get("oneOf"):
        return " or ".join(type_text(each, whole, depth) for each in either)
    kind = found.get("type")
    if isinstance(kind, list):
        return " or ".join(_WORDS.get(each, str(each)) for each in kind)
    if kind == "array" and depth < _DEEP:
        return f"list of {type_text(found.get('items', {}), whole, depth + 1)}"
    if kind == "object" and "title" in found:
        return str(found["title"])
    if kind == "object" and isinstance(inner := found.get("additionalProperties"), Mapping) and depth < _DEEP:
        return f"map of {type_text(inner, whole, depth + 1)}"
    return _WORDS.get(kind, str(kind)) if kind else "anything"


def properties(schema: Schema, whole: Schema) -> dict[str, str]:
    """What a map, or each map of a list, holds: the type, and what stands for it where it may be left out."""
    found = resolved(schema, whole)
    if found.get("type") == "array":
        found = resolved(found.get("items", {}), whole)
    required = found.get("required", ())
    return {name: _property(each, whole, name in required) for name, each in found.get("properties", {}).items()}


def _property(schema: Schema, whole: Schema, required: bool) -> str:
    text = type_text(schema, whole)
    if required:
        return text
    default = schema.get("default", [] if resolved(schema, whole).get("type") == "array" else None)
    return f"{text}; may be left out ({json.dumps(default)})"
