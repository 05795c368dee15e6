"""What `rpc.describe` tells: every method, event, notification and error, with schemas; roles and limits. Pure."""

from __future__ import annotations

import inspect
from dataclasses import fields
from functools import cache
from typing import Any, Final

from supervisor.core.errors import CLASSES, NUMBERS, SupervisorError
from supervisor.core.event import EVENTS, OF_ALL, ON_WIRE, RUN_ENDS, Event, PluginEmitted, RunFinished
from supervisor.wire.control import (
    NOTIFICATIONS,
    PROTOCOL_VERSION,
    REQUESTS,
    ControlRequest,
    Role,
    description,
    summary,
)
from supervisor.wire.limits import SERVER
from supervisor.wire.results import (
    Description,
    ErrorDescription,
    EventDescription,
    MethodDescription,
    NotificationDescription,
)
from supervisor.wire.typed import json_schema

MAX_SUBSCRIPTIONS: Final = 64
"""That one connection may hold."""
_Schema = dict[str, Any]


@cache
def describe() -> Description:
    events = {**EVENTS, f"{PluginEmitted.TYPE}.*": PluginEmitted}
    return {
        "protocol": PROTOCOL_VERSION,
        "roles": [role.name.lower() for role in sorted(Role)],
        "limits": limits(),
        "methods": {name: _method(request) for name, request in sorted(REQUESTS.items())},
        "events": {type_: _event(type_, event) for type_, event in sorted(events.items())},
        "notifications": {name: _notification(kind) for name, kind in sorted(NOTIFICATIONS.items())},
        "errors": {name: _error(name, CLASSES[name]) for name in NUMBERS},
    }


def limits() -> dict[str, int]:
    """What a connection has to keep to, as far as a client can know it beforehand."""
    return {
        "max_frame_in_bytes": SERVER.max_frame_in_bytes,
        "max_frame_out_bytes": SERVER.max_frame_out_bytes,
        "max_depth": SERVER.max_depth,
        "max_requests": SERVER.max_requests_in,
        "max_subscriptions": MAX_SUBSCRIPTIONS,
    }


def _method(request: type[ControlRequest]) -> MethodDescription:
    return {
        "summary": summary(request),
        "description": description(request),
        "params": _params(request),
        "result": _schema(request.RESULT),
        "role": request.ROLE.name.lower(),
        "deadline_ms": None if request.DEADLINE_S is None else int(request.DEADLINE_S * 1000),
        "survives_disconnect": request.CHANGES,
        "repeatable": request.REPEATABLE,
        "progress": request.OPERATION,
    }


def _params(request: type[ControlRequest]) -> _Schema:
    """In the order of positional params, which is that of their declaration."""
    schema = _schema(request)
    definition = schema["$defs"][request.__name__]
    definition["properties"] = {field.name: definition["properties"][field.name] for field in fields(request)}
    return schema


def _event(type_: str, event: type[Event]) -> EventDescription:
    end = RUN_ENDS[type_.removeprefix(f"{RunFinished.TYPE}_")] if event is RunFinished else None
    return {"summary": end or summary(event), "data": _data_of(event)}


def _data_of(event: type[Event]) -> _Schema:
    """Its own fields, by the names that they have in `data`. All are always there."""
    whole = _schema(event)
    fields = whole["$defs"][event.__name__]
    own = {ON_WIRE.get(name, name): kind for name, kind in fields["properties"].items() if name not in OF_ALL}
    for kind in own.values():
        kind.pop("default", None)
    return {**fields, "properties": own, "required": list(own)}


def _notification(kind: type) -> NotificationDescription:
    return {"summary": summary(kind), "params": _schema(kind)}


def _error(name: str, kind: type[SupervisorError]) -> ErrorDescription:
    return {"code": NUMBERS[name], "retryable": kind.retryable, "summary": summary(kind)}


def _schema(kind: Any) -> _Schema:
    schema = json_schema(kind)
    for definition in schema.get("$defs", {}).values():
        if "description" in definition:
            # As it is written, with the indentation that some Pythons leave in it.
            definition["description"] = " ".join(inspect.cleandoc(definition["description"]).split())
    return schema
