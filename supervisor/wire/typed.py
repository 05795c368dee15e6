"""Params -> typed request, and typed request -> JSON Schema. Pure; the only msgspec import."""

from __future__ import annotations

import difflib
from dataclasses import fields
from typing import Any, TypeVar

import msgspec

from supervisor.core.errors import InvalidParams
from supervisor.wire.message import DEADLINE_KEY, Params, named

_T = TypeVar("_T")


def to_request(request: type[_T], method: str, params: Params) -> _T:
    """Named or positional params as a dataclass; keys that begin with `$` are for the protocol and are left out.

    Raises:
        InvalidParams: unknown, missing or wrong ones; the message names the method and the field.
    """
    names = [f.name for f in fields(request)]  # type: ignore[arg-type]
    values = named(params)
    if values is None:
        if len(params) > len(names):
            raise InvalidParams(f"{method} takes at most {len(names)} params ({', '.join(names)}), got {len(params)}")
        values = dict(zip(names, params, strict=False))
    values = {name: value for name, value in values.items() if not name.startswith("$")}
    for name in values.keys() - set(names):
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(names) or 'none'}"
        raise InvalidParams(f"{method} has no param {name!r}; {hint}", param=name)
    try:
        return msgspec.convert(values, request)
    except msgspec.ValidationError as error:
        raise InvalidParams(f"{method}: {error}") from None


def deadline_s(params: Params) -> float | None:
    """The caller's own deadline in seconds, or None.

    Raises:
        InvalidParams: it is no positive number.
    """
    value = (named(params) or {}).get(DEADLINE_KEY)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise InvalidParams(f"{DEADLINE_KEY} must be a positive number of milliseconds")
    return float(value) / 1000


def json_schema(type_: Any) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a request or result type."""
    return msgspec.json.schema(type_)
