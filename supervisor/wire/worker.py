"""The worker's methods in both directions, as typed requests. Pure.

What a worker sends is hostile input: the daemon converts it to these types before it looks at it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

HANDSHAKE: Final = "initialize"
"""Daemon -> worker, first: {plugin, manifest, capabilities, config, data_dir, api_version}
-> {api_version, methods: [name, …]}."""
HEALTH: Final = "health"
"""Daemon -> worker: {} -> {status: "ok" | "degraded" | "error", message?}."""
RUN_JOB: Final = "run_job"
"""Daemon -> worker: {job, run_id, trigger, scheduled_at_ms, attempt} -> the run's result."""
CALL: Final = "call"
"""Daemon -> worker: {method, params} -> the method's result."""
SHUTDOWN: Final = "shutdown"
"""Daemon -> worker: {drain_s}: finish what is in flight, then exit with code 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRequest:
    """What a worker asks of the daemon. `CAPABILITY` is the one it needs, None where all may ask."""

    METHOD: ClassVar[str]
    CAPABILITY: ClassVar[str | None] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigGet(HostRequest):
    """-> {config}."""

    METHOD = "config.get"
    CAPABILITY = "config.read"


@dataclass(frozen=True, slots=True, kw_only=True)
class StateGet(HostRequest):
    """-> {found, value}."""

    METHOD = "state.get"
    CAPABILITY = "state.read"
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StateSet(HostRequest):
    """-> {}. A value is at most 1 MiB as msgpack."""

    METHOD = "state.set"
    CAPABILITY = "state.write"
    key: str
    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class StateDelete(HostRequest):
    """-> {found}."""

    METHOD = "state.delete"
    CAPABILITY = "state.write"
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StateList(HostRequest):
    """-> {entries: [{key, value}, …], next}."""

    METHOD = "state.list"
    CAPABILITY = "state.read"
    prefix: str = ""
    after: str | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsEmit(HostRequest):
    """-> {seq}. Subscribers see the type `emitted.<name>`."""

    METHOD = "events.emit"
    CAPABILITY = "events.emit"
    name: str
    payload: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Log(HostRequest):
    """A notification: a line for the plugin's log."""

    METHOD = "log"
    level: str
    message: str
    fields: dict[str, Any] = field(default_factory=dict)
    run_id: str | None = None


HOST_REQUESTS: Final = {
    request.METHOD: request for request in (ConfigGet, StateGet, StateSet, StateDelete, StateList, EventsEmit)
}
"""Method name -> request type, of what is answered; `log` is a notification."""
