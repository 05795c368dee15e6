"""JSON Schema (draft 2020-12) for plugins' configuration and parameters. jsonschema is imported when one is used.

A schema is outside data too: it refers to nothing but itself, so nothing is ever fetched.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

from supervisor.core.errors import InvalidParams
from supervisor.core.reading import shown

_MAX_PROBLEMS: Final = 20
_MAX_DEPTH: Final = 32
# Below these, names are the author's own and values are schemas; below those, everything is plain data.
_NAMED_SCHEMAS: Final = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_DATA: Final = frozenset({"const", "enum", "default", "examples"})
# One of each kind: a schema that refers to itself without consuming anything never ends on some of them.
_PROBES: Final[tuple[Any, ...]] = (None, True, 0, "", [], {})


def schema_problem(schema: object) -> str | None:
    """Why this is no schema that we can check values with, or None."""
    if not isinstance(schema, Mapping | bool):
        return "must be a table"
    if problem := next(_not_json(schema, "", 0), None):
        return problem
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        return _told(error)
    for reference in _references(schema):
        if problem := _reference_problem(schema, reference):
            return problem
    return _probe_problem(schema)


def validate(schema: Mapping[str, Any], value: object, what: str) -> None:
    """Check `value` against a schema that `schema_problem` has passed. `what` names it in the message.

    Raises:
        InvalidParams: with all problems (20 at most); details: problems, a list of {path, message}.
    """
    if not schema:
        return
    from referencing.exceptions import Unresolvable

    try:
        errors = sorted(_validator(schema).iter_errors(value), key=lambda e: [str(step) for step in e.absolute_path])
    except RecursionError as error:
        raise InvalidParams(f"{what}: is nested too deeply for its schema") from error
    except Unresolvable as error:
        raise InvalidParams(f"{what}: a reference in its schema leads nowhere: {shown(str(error))}") from error
    if not errors:
        return
    problems = [{"path": _place(error), "message": _message(error)} for error in errors[:_MAX_PROBLEMS]]
    count = "1 problem" if len(errors) == 1 else f"{len(errors)} problems"
    lines = "\n".join(f"  {problem['path']}: {problem['message']}" for problem in problems)
    raise InvalidParams(f"{what} has {count}:\n{lines}", problems=problems)


def _validator(schema: Any) -> Any:
    from jsonschema import Draft202012Validator
    from referencing import Registry

    # An empty registry retrieves nothing; jsonschema's own default one would.
    return Draft202012Validator(schema, registry=Registry())


def _told(error: Any) -> str:
    """Of a schema itself, where nothing is secret: the values that would do are named."""
    place = _place(error)
    named = next((each for each in (error, *error.context) if each.validator == "enum"), None)
    if named is not None:
        message = f"must be one of {', '.join(map(str, named.validator_value))}"
    elif error.validator in ("anyOf", "oneOf"):
        message = "is not what JSON Schema has here"
    else:
        message = _message(error)
    return f"{place}: {message}" if place != "(the whole)" else message


def _place(error: Any) -> str:
    path = str(error.json_path).removeprefix("$").removeprefix(".")
    return path or "(the whole)"


def _message(error: Any) -> str:
    """What is wrong, without the value: it may be a secret, and it may be long."""
    rule, wanted = error.validator, error.validator_value
    match rule:
        case "required" | "additionalProperties" | "dependentRequired" | "unevaluatedProperties":
            return str(error.message)[:300]  # names only
        case "type":
            return f"must be {' or '.join(wanted) if isinstance(wanted, list) else wanted}"
        case "format":
            return f"must be a valid {wanted}"
        case _ if isinstance(wanted, Mapping | list) and rule not in ("enum",):
            return f"does not fit {rule!r} of its schema"
        case _:
            return f"does not fit {rule!r}: {shown(wanted)}"


def _not_json(value: object, path: str, depth: int) -> Iterator[str]:
    """TOML knows dates and infinity, JSON does not; the schema is stored and shown as JSON."""
    where = f"{path}: " if path else ""
    if depth > _MAX_DEPTH:
        yield f"{where}is nested more than {_MAX_DEPTH} deep"
    elif isinstance(value, Mapping):
        for name, entry in value.items():
            yield from _not_json(entry, f"{path}.{name}" if path else str(name), depth + 1)
    elif isinstance(value, list | tuple):
        for i, entry in enumerate(value):
            yield from _not_json(entry, f"{path}[{i}]", depth + 1)
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{where}{value} is no JSON number"
    elif not isinstance(value, str | int | float | None):
        yield f"{where}a {type(value).__name__} is no JSON value; write it as a string"


def _references(schema: object, *, named: bool = False) -> Iterator[str]:
    """Every `$ref` and `$dynamicRef`, wherever a schema may stand."""
    if isinstance(schema, list):
        for entry in schema:
            yield from _references(entry)
    if not isinstance(schema, Mapping):
        return
    for name, entry in schema.items():
        if named:
            yield from _references(entry)
        elif name in ("$ref", "$dynamicRef") and isinstance(entry, str):
            yield entry
        elif name not in _DATA:
            yield from _references(entry, named=name in _NAMED_SCHEMAS)


def _reference_problem(schema: object, reference: str) -> str | None:
    from referencing import Registry
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    if not reference.startswith("#"):
        return f"$ref {shown(reference)}: only references inside the schema (#/$defs/…) are followed"
    try:
        Registry().resolver_with_root(DRAFT202012.create_resource(schema)).lookup(reference)
    except Unresolvable:
        return f"$ref {shown(reference)} leads nowhere"
    return None


def _probe_problem(schema: object) -> str | None:
    from referencing.exceptions import Unresolvable

    try:
        for probe in _PROBES:
            for _ in _validator(schema).iter_errors(probe):
                pass
    except RecursionError:
        return "refers to itself without end"
    except Unresolvable as error:
        return f"a reference leads nowhere: {str(error)[:200]}"
    return None
