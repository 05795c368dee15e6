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
"""Daemon -> worker: {job, run_id, trigger, scheduled_at_ms, attempt, params} -> the run's result. `params` is a map, or
nil: what an operator gave a run by hand."""
CALL: Final = "call"
"""Daemon -> worker: {method, params, caller?} -> the method's result. `caller` is the key of the plugin that calls; a
client's call has none."""
SHUTDOWN: Final = "shutdown"
"""Daemon -> worker: {drain_s}: finish what is in flight, then exit with code 0."""
VALIDATE_CONFIG: Final = "validate_config"
"""Daemon -> worker: {config} -> {problems: [{path, message}, …]}, empty where it will do. METHOD_NOT_FOUND: the schema
alone decides. An error is a refusal too."""
CONFIG_CHANGED: Final = "config_changed"
"""Daemon -> worker: {config} -> {}, once it works with it. METHOD_NOT_FOUND, or any error: it is restarted instead."""
EVENT: Final = "event"
"""Daemon -> worker, a notification: {subscription, event}, or at its end {subscription, end: true, reason,
last_seq}. None comes before the answer that tells the subscription's number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRequest:
    """What a worker asks of the daemon. `CAPABILITY` is the one it needs, None where all may ask."""

    METHOD: ClassVar[str]
    CAPABILITY: ClassVar[str | None] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigGet(HostRequest):
    """-> {config}; what its schema marks `writeOnly` is in it for those who may use `secrets.get`."""

    METHOD = "config.get"
    CAPABILITY = "config.read"


@dataclass(frozen=True, slots=True, kw_only=True)
class StateGet(HostRequest):
    """-> {found, value, revision}; the revision is 0 where there is no such key."""

    METHOD = "state.get"
    CAPABILITY = "state.read"
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StateSet(HostRequest):
    """-> {revision}, once it is stored. A value is at most 1 MiB as msgpack.

    `if_revision`: only if the key still has this revision (0: is not there), else CONFLICT tells the `revision`.
    """

    METHOD = "state.set"
    CAPABILITY = "state.write"
    key: str
    value: Any
    if_revision: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StateDelete(HostRequest):
    """-> {found}. `if_revision` as in `state.set`."""

    METHOD = "state.delete"
    CAPABILITY = "state.write"
    key: str
    if_revision: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StateList(HostRequest):
    """-> {entries: [{key, value, revision}, …], next}."""

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
class EventsSubscribe(HostRequest):
    """-> {subscription, last_seq}; events come as notifications `event`, until `events.unsubscribe`.

    `types` are names or globs, `plugins` keys or ids; empty lists mean all. `after_seq` None: what comes from now on.
    """

    METHOD = "events.subscribe"
    CAPABILITY = "events.subscribe"
    types: list[str] = field(default_factory=list)
    plugins: list[str] = field(default_factory=list)
    after_seq: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsUnsubscribe(HostRequest):
    """-> {}."""

    METHOD = "events.unsubscribe"
    CAPABILITY = "events.subscribe"
    subscription: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One sample. `kind` is gauge (the value is set) or counter (the value is added to what was there)."""

    name: str
    value: float
    kind: str = "gauge"
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsWrite(HostRequest):
    """-> {}; also accepted as a notification. All samples are taken, or none."""

    METHOD = "metrics.write"
    CAPABILITY = "metrics.write"
    metrics: list[Metric]


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretsGet(HostRequest):
    """-> {value}: what the configuration's schema marks `writeOnly`. `name` is dotted inside tables: `db.password`."""

    METHOD = "secrets.get"
    CAPABILITY = "secrets.read"
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginsList(HostRequest):
    """-> {plugins: [{key, version, status, phase, methods: [name, …]}, …]}."""

    METHOD = "plugins.list"
    CAPABILITY = "plugins.read"


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginsCall(HostRequest):
    """-> {result} of a method that another plugin's manifest declares. `timeout_s` None: the method's own deadline, or
    the daemon's default."""

    METHOD = "plugins.call"
    CAPABILITY = "plugins.call"
    plugin: str
    method: str
    params: Any = None
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunProgress(HostRequest):
    """-> {}; also accepted as a notification. How far a run of this plugin is: `fraction` from 0 to 1, or None."""

    METHOD = "run.progress"
    CAPABILITY = "jobs.schedule"
    run_id: str
    fraction: float | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Log(HostRequest):
    """A notification: a line for the plugin's log."""

    METHOD = "log"
    level: str
    message: str
    fields: dict[str, Any] = field(default_factory=dict)
    run_id: str | None = None


HOST_REQUESTS: Final = {
    request.METHOD: request
    for request in (
        ConfigGet,
        StateGet,
        StateSet,
        StateDelete,
        StateList,
        EventsEmit,
        EventsSubscribe,
        EventsUnsubscribe,
        MetricsWrite,
        SecretsGet,
        PluginsList,
        PluginsCall,
        RunProgress,
    )
}
"""Method name -> request type, of what is answered."""
HOST_NOTIFICATIONS: Final = {request.METHOD: request for request in (MetricsWrite, RunProgress)}
"""What may come without asking for an answer too; then what is wrong with it is only logged. `log` always does."""
