"""Whether a plugin's JSON Schema (draft 2020-12) is one that values can be checked with. Blocking, for seconds at most.

A schema is outside data too: it refers to nothing but itself, so nothing is ever fetched.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from supervisor.core.problem import Fault, did_you_mean, joined, shown
from supervisor.lifecycle.schema_budget import Budget, Overrun
from supervisor.lifecycle.schema_messages import MAX_PROBLEMS, message_of

MAX_PARTS: Final = 2000
"""Tables and lists that the schemas of one manifest may have together: each takes a third of a millisecond to check."""
CHECK_S: Final = 20.0
"""For all of those: what takes a second when the machine has nothing else to do."""
_DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
_MAX_DEPTH: Final = 32
_MAX_STEPS: Final = 1000
"""Schemas that may hold for one and the same value."""
_DEFINED: Final = re.compile(r"#(/(\$defs|definitions)/[^/]*)?")
"""References to where the meta-schema finds schemas."""
_INT64: Final = range(-(2**63), 2**63)
# Below these, names are the author's own and values are schemas; below those, everything is plain data.
_NAMED_SCHEMAS: Final = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_DATA: Final = frozenset({"const", "enum", "default", "examples"})
_SAME_VALUE: Final = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else")
# One of each kind: a schema that refers to itself without consuming anything never ends on some of them.
_PROBES: Final[tuple[Any, ...]] = (None, True, 0, "", [], {})


def parts_of(schema: object) -> int:
    """How many tables and lists are in it."""
    count, left = 0, [schema]
    while left:
        value = left.pop()
        if isinstance(value, Mapping | list):
            count += 1
            left += value.values() if isinstance(value, Mapping) else value
    return count


def schema_faults(schema: object, budget: Budget) -> list[tuple[str, Fault]]:
    """Why this is no schema that we can check values with: places in it, `` for the whole, and what is wrong there."""
    if not isinstance(schema, Mapping | bool):
        return [("", Fault("must be a table"))]
    if faults := list(_not_json(schema, "", 0)):
        return faults[:MAX_PROBLEMS]
    try:
        faults = _by_the_meta_schema(schema, "", budget) + list(_other_draft(schema))
        if not faults:
            faults = _References(schema, budget).faults()
        if not faults and (problem := _probe_problem(schema, budget)):
            faults = [("", Fault(problem))]
    except RecursionError:
        return [("", Fault("is nested too deeply"))]
    except Overrun as overrun:
        return [("", Fault(f"cannot be checked within {budget.seconds:g} s", overrun.way_out))]
    return faults[:MAX_PROBLEMS]


def _by_the_meta_schema(schema: object, place: str, budget: Budget) -> list[tuple[str, Fault]]:
    from supervisor.lifecycle.schema_engine import errors_in_schema

    return [(_path(error, place), _told(error)) for error in errors_in_schema(schema, budget)]


def _told(error: Any) -> Fault:
    """Of a schema itself, where nothing is secret: the values that would do are named."""
    named = next((each for each in (error, *error.context) if each.validator == "enum"), None)
    if named is not None:
        known = [str(value) for value in named.validator_value]
        return Fault(f"must be one of {', '.join(known)}", did_you_mean(error.instance, known))
    if error.validator in ("anyOf", "oneOf"):
        return Fault("is not what JSON Schema has here")
    if error.validator == "format" and error.cause is not None:
        return Fault(f"{message_of(error)}: {str(error.cause)[:200]}")
    return Fault(message_of(error))


def _path(error: Any, path: str) -> str:
    """As the problems of a manifest name places."""
    for step in error.absolute_path:
        path = f"{path}[{step}]" if isinstance(step, int) else joined(path, str(step))
    return path


def _not_json(value: object, path: str, depth: int) -> Iterator[tuple[str, Fault]]:
    """TOML knows dates and infinity, JSON does not; the schema is stored and shown as JSON."""
    if depth > _MAX_DEPTH:
        yield path, Fault(f"is nested more than {_MAX_DEPTH} deep")
    elif isinstance(value, Mapping):
        for name, entry in value.items():
            yield from _not_json(entry, joined(path, str(name)), depth + 1)
    elif isinstance(value, list | tuple):
        for i, entry in enumerate(value):
            yield from _not_json(entry, f"{path}[{i}]", depth + 1)
    elif isinstance(value, float) and not math.isfinite(value):
        yield path, Fault(f"{value} is no JSON number")
    elif isinstance(value, int) and value not in _INT64:
        yield path, Fault("is a number of more than 64 bits")
    elif not isinstance(value, str | int | float | None):
        yield path, Fault(f"a {type(value).__name__} is no JSON value", "write it as a string")


def _other_draft(schema: Any) -> Iterator[tuple[str, Fault]]:
    draft = schema.get("$schema") if isinstance(schema, Mapping) else None
    if draft is not None and str(draft).rstrip("#") != _DRAFT:
        message = f"names another draft: {shown(draft)}"
        yield joined("", "$schema"), Fault(message, f"write it for {_DRAFT!r}, or leave $schema out")


def _subschemas(schema: object, path: str, *, named: bool = False) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every table that may stand for a schema, and its place."""
    if isinstance(schema, list):
        for i, entry in enumerate(schema):
            yield from _subschemas(entry, f"{path}[{i}]")
    if not isinstance(schema, Mapping):
        return
    if not named:
        yield path, schema
    for name, entry in schema.items():
        if named or name not in _DATA:
            below = joined(path, str(name))
            yield from _subschemas(entry, below, named=not named and name in _NAMED_SCHEMAS)


def _references(schema: object) -> Iterator[tuple[str, str]]:
    """The place and the text of every reference."""
    for path, inner in _subschemas(schema, ""):
        for keyword in ("$ref", "$dynamicRef"):
            if isinstance(inner.get(keyword), str):
                yield joined(path, keyword), inner[keyword]


class _References:
    """Where the references of a schema lead, and whether checking one value with it ends, and soon."""

    def __init__(self, schema: Any, budget: Budget) -> None:
        from referencing import Registry
        from referencing.jsonschema import DRAFT202012

        self._schema = schema
        self._budget = budget
        self._resolver = Registry().resolver_with_root(DRAFT202012.create_resource(schema))
        self._targets: dict[str, Any] = {}
        self._steps: dict[int, int] = {}

    def faults(self) -> list[tuple[str, Fault]]:
        if nested := [path for path, inner in _subschemas(self._schema, "") if path and "$id" in inner]:
            way_out = "name the part in $defs and refer to it as '#/$defs/…'"
            return [(joined(path, "$id"), Fault("is for the whole schema only", way_out)) for path in nested]
        faults = []
        for place, reference in _references(self._schema):
            if reference not in self._targets and (fault := self._resolve(reference)):
                faults.append((place, fault))
        return faults or self._unchecked() or self._endless()

    def _unchecked(self) -> list[tuple[str, Fault]]:
        """What is wrong where a reference leads: the meta-schema leaves alone what no keyword says is a schema."""
        places = {id(inner) for _, inner in _subschemas(self._schema, "")}
        faults = []
        for place, reference in _references(self._schema):
            target = self._targets[reference]
            if not isinstance(target, bool) and id(target) not in places:
                faults.append((place, Fault(f"{shown(reference)} leads to no schema")))
            elif _DEFINED.fullmatch(reference) is None:
                faults += _by_the_meta_schema(target, place, self._budget)
        return faults

    def _resolve(self, reference: str) -> Fault | None:
        from referencing.exceptions import Unresolvable

        if not reference.startswith("#"):
            return Fault(
                f"{shown(reference)}: only references inside the schema are followed", "write it as '#/$defs/…'"
            )
        self._budget.spend("references")
        try:
            self._targets[reference] = self._resolver.lookup(reference).contents
        except Unresolvable:
            return Fault(f"{shown(reference)} leads nowhere")
        return None

    def _endless(self) -> list[tuple[str, Fault]]:
        for path, inner in _subschemas(self._schema, ""):
            self._budget.spend("references")
            steps = self._count(inner, [])
            if steps is None:
                return [(path, Fault(f"refers to itself without end, or over more than {_MAX_DEPTH} schemas"))]
            if steps > _MAX_STEPS:
                message = f"takes {shown(steps)} schemas to check one value; {_MAX_STEPS} is the most there may be"
                return [(path, Fault(message))]
        return []

    def _count(self, schema: Any, above: list[int]) -> int | None:
        """How many schemas hold for a value for which this one does; None: without end."""
        if not isinstance(schema, Mapping):
            return 1
        known = self._steps.get(id(schema))
        if known is not None:
            return known
        if id(schema) in above or len(above) > _MAX_DEPTH:
            return None
        total = 1
        for inner in self._for_the_same_value(schema):
            steps = self._count(inner, [*above, id(schema)])
            if steps is None:
                return None
            total += steps
        self._steps[id(schema)] = total
        return total

    def _for_the_same_value(self, schema: Mapping[str, Any]) -> Iterator[Any]:
        for keyword in ("$ref", "$dynamicRef"):
            if isinstance(schema.get(keyword), str):
                yield self._targets[schema[keyword]]
        for keyword in _SAME_VALUE:
            inner = schema.get(keyword)
            yield from inner if isinstance(inner, list) else [inner]
        dependent = schema.get("dependentSchemas")
        yield from dependent.values() if isinstance(dependent, Mapping) else ()


def _probe_problem(schema: object, budget: Budget) -> str | None:
    from referencing.exceptions import Unresolvable

    from supervisor.lifecycle.schema_engine import errors_of

    try:
        for probe in _PROBES:
            errors_of(schema, probe, budget)
    except RecursionError:
        return "refers to itself without end"
    except Unresolvable as error:
        return f"a reference leads nowhere: {str(error)[:200]}"
    return None
