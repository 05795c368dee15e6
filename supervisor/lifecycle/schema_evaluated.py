"""Which properties and items of a value the other rules of a schema have looked at: what unevaluated… is not for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

Matches = Callable[[str, str], bool]
"""Pattern and text."""
Step = Callable[[str], None]
"""Called at each step; raises when there were enough."""


def evaluated_names(validator: Any, value: Mapping[str, Any], schema: Any, matches: Matches, step: Step) -> set[str]:
    """Names in `value`."""
    if isinstance(schema, bool):
        return set()
    step("unevaluatedProperties")
    found: set[str] = value.keys() & schema.get("properties", {}).keys()
    patterns = schema.get("patternProperties", {})
    found |= {name for name in value if any(matches(pattern, name) for pattern in patterns)}
    if "additionalProperties" in schema:
        # Whether they fit is told there; the pattern's and the named ones are in already.
        found |= value.keys()
    if "unevaluatedProperties" in schema:
        below = schema["unevaluatedProperties"]
        found |= {name for name in value if _fits(validator, value[name], below, step)}
    for inner, at in _for_the_same_value(validator, value, schema, step):
        found |= evaluated_names(at, value, inner, matches, step)
    return found


def evaluated_items(validator: Any, value: list[Any], schema: Any, step: Step) -> set[int]:
    """Places in `value`."""
    if isinstance(schema, bool):
        return set()
    step("unevaluatedItems")
    if "items" in schema:
        return set(range(len(value)))
    found = set(range(min(len(value), len(schema.get("prefixItems", [])))))
    for keyword in ("contains", "unevaluatedItems"):
        if keyword in schema:
            found |= {i for i, entry in enumerate(value) if _fits(validator, entry, schema[keyword], step)}
    for inner, at in _for_the_same_value(validator, value, schema, step):
        found |= evaluated_items(at, value, inner, step)
    return found


def _for_the_same_value(validator: Any, value: Any, schema: Mapping[str, Any], step: Step) -> Iterator[tuple[Any, Any]]:
    """The schemas inside that hold for `value`, with the validator to check them by."""
    for keyword in ("$ref", "$dynamicRef"):
        if keyword in schema:
            resolved = validator._resolver.lookup(schema[keyword])
            yield resolved.contents, validator.evolve(schema=resolved.contents, _resolver=resolved.resolver)
    for keyword in ("allOf", "oneOf", "anyOf"):
        for inner in schema.get(keyword, ()):
            if _fits(validator, value, inner, step):
                yield inner, validator
    if "if" in schema:
        fits = _fits(validator, value, schema["if"], step)
        if fits:
            yield schema["if"], validator
        if (branch := "then" if fits else "else") in schema:
            yield schema[branch], validator
    if isinstance(value, Mapping):
        dependent = schema.get("dependentSchemas", {})
        yield from ((inner, validator) for name, inner in dependent.items() if name in value)


def _fits(validator: Any, value: Any, schema: Any, step: Step) -> bool:
    step("")
    return schema is not False and next(validator.descend(value, schema), None) is None
