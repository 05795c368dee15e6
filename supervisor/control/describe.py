"""What `rpc.describe` tells: every method with its schema, role and deadline. Pure."""

from __future__ import annotations

from functools import cache

from supervisor.core.errors import NUMBERS
from supervisor.core.event import EVENT_TYPES
from supervisor.wire.control import PROTOCOL_VERSION, REQUESTS, ControlRequest, summary
from supervisor.wire.results import Description, MethodDescription
from supervisor.wire.typed import json_schema


@cache
def describe() -> Description:
    return {
        "protocol": PROTOCOL_VERSION,
        "methods": {name: _method(request) for name, request in sorted(REQUESTS.items())},
        "events": [*sorted(EVENT_TYPES), "emitted.*"],
        "errors": dict(NUMBERS),
    }


def _method(request: type[ControlRequest]) -> MethodDescription:
    return {
        "summary": summary(request),
        "params": json_schema(request),
        "result": json_schema(request.RESULT),
        "role": request.ROLE.name.lower(),
        "deadline_ms": None if request.DEADLINE_S is None else int(request.DEADLINE_S * 1000),
        "survives_disconnect": request.CHANGES,
        "progress": request.OPERATION,
    }
