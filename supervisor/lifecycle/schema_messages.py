"""What is said of a value, or a schema, that does not fit its schema. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from supervisor.core.problem import shown

MAX_PROBLEMS: Final = 20


def message_of(error: Any) -> str:
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
