"""jsonschema's draft 2020-12 with a budget at every step, and patterns by `regex`. Import it where it is used: heavy.

jsonschema searches patterns with `re`, which cannot be stopped and lets no other thread run, compares each pair of
items for uniqueItems, and puts the whole value into each message. Here no step is long, and all of them end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from itertools import islice
from typing import Any, Final

import regex
from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend
from referencing import Registry

from supervisor.core.problem import shown
from supervisor.lifecycle.schema_budget import Budget, Overrun
from supervisor.lifecycle.schema_evaluated import evaluated_items, evaluated_names

_MAX_PATTERN: Final = 2000
_MAX_TEXT: Final = 1024 * 1024
"""Characters to search: what a search may remember grows with them, to a hundred bytes for each."""
_MAX_MESSAGE: Final = 300
_MAX_NAMED: Final = 20
# A pattern that calls itself takes any memory, whatever the text.
_CALLS: Final = re.compile(r"\(\?(?:R|&|P>|[-+]?\d)")

_Errors = Iterator[ValidationError]
_Keyword = Callable[[Any, Any, Any, Any], Any]
_budget: ContextVar[Budget] = ContextVar("budget")
"""Of the one validation that runs in this context: jsonschema hands nothing of ours down to a keyword."""


class InvalidPattern(ValueError):
    """What cannot be searched for, and why."""


def errors_of(schema: Any, value: Any, budget: Budget) -> list[ValidationError]:
    """In the order of their places; a message has at most 300 characters.

    Raises:
        Overrun, InvalidPattern, RecursionError, referencing.exceptions.Unresolvable
    """
    # An empty registry retrieves nothing; jsonschema's own default one would.
    return _errors(_Validator(schema, registry=Registry()), value, budget)


def errors_in_schema(schema: Any, budget: Budget) -> list[ValidationError]:
    """What is wrong by the meta-schema, with patterns compiled. Raises as `errors_of`."""
    meta = _Validator(Draft202012Validator.META_SCHEMA, registry=Registry(), format_checker=_formats())
    return _errors(meta, schema, budget)


def _errors(validator: Any, value: Any, budget: Budget) -> list[ValidationError]:
    token = _budget.set(budget)
    try:
        return sorted(validator.iter_errors(value), key=lambda error: [str(step) for step in error.absolute_path])
    finally:
        _budget.reset(token)


def _formats() -> FormatChecker:
    checker = FormatChecker()
    known = Draft202012Validator.FORMAT_CHECKER.checkers
    checker.checkers = {**known, "regex": (_is_pattern, InvalidPattern)}
    return checker


def _is_pattern(value: object) -> bool:
    if isinstance(value, str):
        _compiled(value)
    return True


def _compiled(pattern: str) -> regex.Pattern[str]:
    if len(pattern) > _MAX_PATTERN:
        raise InvalidPattern(f"{shown(pattern)} has more than {_MAX_PATTERN} characters")
    if _CALLS.search(pattern):
        raise InvalidPattern(f"{shown(pattern)} calls itself or a group of its own")
    try:
        return regex.compile(pattern, regex.V0)
    except (regex.error, ValueError, OverflowError) as error:
        raise InvalidPattern(f"{shown(pattern)}: {error}") from error
    except RecursionError as error:
        raise InvalidPattern(f"{shown(pattern)} is nested too deeply") from error


def _matches(pattern: str, text: str) -> bool:
    budget, what = _budget.get(), f"pattern {shown(pattern)}"
    budget.spend(what)
    if len(text) > _MAX_TEXT:
        raise Overrun(what)
    compiled = _compiled(pattern)
    try:
        return compiled.search(text, concurrent=budget.aside, timeout=budget.left()) is not None
    except (TimeoutError, MemoryError) as error:
        raise Overrun(what) from error


def _pattern(validator: Any, pattern: str, value: Any, _: Any) -> _Errors:
    if isinstance(value, str) and not _matches(pattern, value):
        yield ValidationError("does not match")


def _pattern_properties(validator: Any, patterns: Mapping[str, Any], value: Any, _: Any) -> _Errors:
    if not isinstance(value, dict):
        return
    for pattern, below in patterns.items():
        for name, inner in value.items():
            if _matches(pattern, name):
                yield from validator.descend(inner, below, path=name, schema_path=pattern)


def _additional_properties(validator: Any, below: Any, value: Any, schema: Mapping[str, Any]) -> _Errors:
    if not isinstance(value, dict) or below is True:
        return
    named, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    others = (name for name in value if name not in named and not any(_matches(each, name) for each in patterns))
    if below is not False:
        for name in others:
            yield from validator.descend(value[name], below, path=name)
    elif told := _told(others):
        yield ValidationError(f"Additional properties are not allowed ({told} unexpected)")


def _unevaluated_properties(validator: Any, below: Any, value: Any, schema: Mapping[str, Any]) -> _Errors:
    if not isinstance(value, dict):
        return
    # What fits `below` is among the evaluated.
    known = evaluated_names(validator, value, schema, _matches, _step)
    if told := _told(name for name in value if name not in known):
        yield ValidationError(f"Unevaluated properties are not allowed ({told} unexpected)")


def _unevaluated_items(validator: Any, below: Any, value: Any, schema: Mapping[str, Any]) -> _Errors:
    if isinstance(value, list) and len(evaluated_items(validator, value, schema, _step)) < len(value):
        yield ValidationError("Unevaluated items are not allowed")


def _unique_items(_: Any, wanted: Any, value: Any, __: Any) -> _Errors:
    if not wanted or not isinstance(value, list):
        return
    seen = set()
    for entry in value:
        _step("uniqueItems")
        seen.add(_canonical(entry))
    if len(seen) < len(value):
        yield ValidationError("has non-unique elements")


def _canonical(value: Any) -> Any:
    """Equal, and hashed alike, just where JSON Schema takes values for equal: 1 and 1.0, but not 1 and true."""
    if isinstance(value, bool):
        return bool, value
    if isinstance(value, list):
        _step("uniqueItems")
        return list, tuple(map(_canonical, value))
    if isinstance(value, dict):
        _step("uniqueItems")
        return dict, frozenset((name, _canonical(inner)) for name, inner in value.items())
    return value


def _items(validator: Any, below: Any, value: Any, schema: Mapping[str, Any]) -> _Errors:
    """jsonschema's steps over each item for a schema without a rule too."""
    if below is not True and isinstance(value, list):
        yield from Draft202012Validator.VALIDATORS["items"](validator, below, value, schema)


def _contains(validator: Any, below: Any, value: Any, schema: Mapping[str, Any]) -> _Errors:
    if not isinstance(value, list):
        return
    least, most = schema.get("minContains", 1), schema.get("maxContains", len(value))
    found = 0
    for entry in value:
        found += _fits(validator, entry, below)
        if found > most:
            yield ValidationError("Too many items match", validator="maxContains", validator_value=most)
            return
    if found < least:
        named = {"validator": "minContains", "validator_value": least} if found else {}
        yield ValidationError("Too few items match", **named)


def _fits(validator: Any, value: Any, below: Any) -> bool:
    _step("")
    return below is not False and next(validator.descend(value, below), None) is None


def _told(names: Iterator[str]) -> str:
    """The first of them, if there are any."""
    some = list(islice(names, _MAX_NAMED))
    return f"{', '.join(map(shown, some))} {'was' if len(some) == 1 else 'were'}" if some else ""


def _step(what: str) -> None:
    _budget.get().spend(what)


def _bounded(keyword: str, check: _Keyword) -> _Keyword:
    def bounded(validator: Any, rule: Any, value: Any, schema: Any) -> _Errors:
        budget = _budget.get()
        budget.spend(keyword)
        if keyword in ("$ref", "$dynamicRef"):
            budget.follow_reference()
        with budget.deeper():
            for error in check(validator, rule, value, schema) or ():
                budget.found_error(keyword)
                # jsonschema puts the whole value in, once for each rule.
                error.message = error.message[:_MAX_MESSAGE]
                yield error

    return bounded


def _evolve(self: Any, **changes: Any) -> Any:
    """jsonschema's own takes an unbounded validator for a part that has $schema."""
    _step("")
    return _Validator(
        changes.get("schema", self.schema),
        registry=Registry(),
        format_checker=self.format_checker,
        _resolver=changes.get("_resolver", self._resolver),
    )


_KEYWORDS: Final[Mapping[str, _Keyword]] = {
    **Draft202012Validator.VALIDATORS,
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "unevaluatedProperties": _unevaluated_properties,
    "unevaluatedItems": _unevaluated_items,
    "uniqueItems": _unique_items,
    "items": _items,
    "contains": _contains,
}
_Validator: Final[Any] = extend(
    Draft202012Validator, {keyword: _bounded(keyword, check) for keyword, check in _KEYWORDS.items()}
)
_Validator.evolve = _evolve
