"""Request, Response, Notification, Failure: the messages of msgpack-RPC as values. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from supervisor.core.errors import NUMBERS, SupervisorError, error_from_code

DEADLINE_KEY: Final = "$deadline_ms"
"""Reserved name in named params: how long the caller will wait, in milliseconds."""

Params = list[Any]
"""Positional arguments, or a list of one map: named arguments."""


class Failure(NamedTuple):
    """An error as it travels: a map `{code, name, message, data, retryable}` or the string `"NAME: message"`."""

    name: str
    message: str
    data: Mapping[str, Any] = {}
    retryable: bool = False

    @classmethod
    def from_error(cls, error: SupervisorError) -> Failure:
        return cls(error.code, error.message, error.details, error.retryable)

    @classmethod
    def from_wire(cls, value: Any) -> Failure:
        """Whatever the peer put in the error slot; what has no name is a PLUGIN_ERROR to no one: INTERNAL."""
        if isinstance(value, dict):
            data = value.get("data")
            return cls(
                str(value.get("name", "INTERNAL")),
                str(value.get("message", "")),
                data if isinstance(data, dict) else {},
                value.get("retryable") is True,
            )
        text = value if isinstance(value, str) else repr(value)
        name, colon, message = text.partition(": ")
        return cls(name, message) if colon and name in NUMBERS else cls("INTERNAL", text)

    def to_map(self) -> dict[str, Any]:
        return {
            "code": NUMBERS.get(self.name, NUMBERS["INTERNAL"]),
            "name": self.name,
            "message": self.message,
            "data": dict(self.data),
            "retryable": self.retryable,
        }

    def to_text(self) -> str:
        return f"{self.name}: {self.message}"

    def to_error(self) -> SupervisorError:
        return error_from_code(self.name, self.message, self.data)


class Request(NamedTuple):
    id: int
    method: str
    params: Params


class Response(NamedTuple):
    """`error` is None on success."""

    id: int
    error: Failure | None
    result: Any


class Notification(NamedTuple):
    method: str
    params: Params


class Malformed(NamedTuple):
    """What asks with a usable id and is no request all the same: it can be answered, so that the connection goes on."""

    id: int
    method: str
    """Empty if it is no text."""
    problem: str


Message = Request | Response | Notification


def named(params: Params) -> dict[str, Any] | None:
    """The named arguments, or None when `params` are positional."""
    if len(params) == 1 and isinstance(params[0], dict):
        return params[0]
    return None
