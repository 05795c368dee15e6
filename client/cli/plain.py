"""Results as JSON that every reader understands. Pure."""

from __future__ import annotations

import json
import math

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from typing import Any


def to_json(value: Any, *, indent: int | None = None) -> str:
    """ASCII only, so that nothing in it can drive a terminal; bytes become `{"$base64": "…"}`, NaN becomes null."""
    try:
        return json.dumps(value, indent=indent, allow_nan=False, default=_encode)
    except ValueError:
        return json.dumps(_finite(value), indent=indent, default=_encode)


def _encode(value: object) -> object:
    if isinstance(value, bytes):
        import base64

        return {"$base64": base64.b64encode(value).decode("ascii")}
    return repr(value)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
