"""A frozen dataclass per event, and event <-> journal record. Pure.

Events are facts in the past tense. Their names are promises: we add, we do not rename. An event means "look again":
handling one twice does no harm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Final

from supervisor.core.plugin import PluginId, PluginKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to a plugin."""

    TYPE: ClassVar[str]
    plugin_id: PluginId
    plugin_key: PluginKey

    @property
    def type(self) -> str:
        return self.TYPE

    @property
    def about_job(self) -> str | None:
        """The job that it is about, as <plugin>/<key>."""
        return None

    def data(self) -> dict[str, Any]:
        """What the event says beside its plugin: plain values."""
        # What `fields` reads too; that takes five times as long, and a busy scheduler records thousands of events.
        return {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in _OF_ALL}


_OF_ALL: Final = frozenset({"TYPE", "plugin_id", "plugin_key"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginInstalled(Event):
    TYPE = "plugin.installed"
    version: str
    capabilities: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusChanged(Event):
    """`previous` is None for a plugin that was not there before."""

    TYPE = "plugin.status_changed"
    previous: str | None
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginLoaded(Event):
    TYPE = "plugin.loaded"
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginEnabled(Event):
    TYPE = "plugin.enabled"
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginDisabled(Event):
    TYPE = "plugin.disabled"
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginUnloaded(Event):
    TYPE = "plugin.unloaded"
    remove_data: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginFailed(Event):
    TYPE = "plugin.error"
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradePending(Event):
    TYPE = "plugin.upgrade_pending"
    added: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginUpgraded(Event):
    """Another version is the plugin's now. `from_version` and `to_version` are `from` and `to` on the wire."""

    TYPE = "plugin.upgraded"
    from_version: str
    to_version: str

    def data(self) -> dict[str, Any]:
        return {"from": self.from_version, "to": self.to_version}


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginRolledBack(Event):
    """An earlier version is the plugin's again; `reason` is why, where no operator asked for it."""

    TYPE = "plugin.rolled_back"
    from_version: str
    to_version: str
    reason: str | None = None

    def data(self) -> dict[str, Any]:
        return {"from": self.from_version, "to": self.to_version, "reason": self.reason}


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradeFailed(Event):
    """The version before goes on."""

    TYPE = "plugin.upgrade_failed"
    to_version: str
    error: str

    def data(self) -> dict[str, Any]:
        return {"to": self.to_version, "error": self.error}


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradeApproved(Event):
    TYPE = "plugin.upgrade_approved"
    version: str
    added: list[str]
    uid: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradeRejected(Event):
    TYPE = "plugin.upgrade_rejected"
    version: str | None
    uid: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigChanged(Event):
    """`changed` names the top-level values that are other than before; never what they are."""

    TYPE = "plugin.config_changed"
    revision: int
    changed: list[str]
    uid: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStarted(Event):
    """The worker has shaken hands. `restarts` counts the starts after crashes since the daemon began."""

    TYPE = "plugin.worker_started"
    pid: int
    restarts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStopped(Event):
    """A worker that had started ended because it was asked to, or by itself as its restart policy allows (stage exit).
    `stage` is what ended it: command, drain, term, kill or exit.

    While another version is tried there are two workers, told apart by `pid`. One that is thrown away is told of here
    if it had started, however it ended, and else nowhere but in the failure of what was asked for: it is no crash of
    the plugin's."""

    TYPE = "plugin.worker_stopped"
    pid: int
    stage: str
    exit_code: int | None
    signal: int | None
    strays: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerCrashed(Event):
    """`reason` is a word for programs, `cause` a sentence for people. `restart_in_s` is None when there will be no
    further attempt. `strays`: pids of processes that had left its process group, outlived it, and were killed."""

    TYPE = "plugin.worker_crashed"
    reason: str = "exited"
    cause: str
    pid: int | None
    exit_code: int | None
    signal: int | None
    stderr_tail: str
    crashes: int
    restart_in_s: float | None
    strays: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginEmitted(Event):
    """An event of the plugin's own making; its type on the wire is `emitted.<name>`."""

    TYPE = "emitted"
    name: str
    payload: Any

    @property
    def type(self) -> str:
        return f"{self.TYPE}.{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent(Event):
    """What all events of a run carry. Instants are UTC milliseconds."""

    job: str
    run_id: str
    trigger: str
    attempt: int
    due_ms: int

    @property
    def about_job(self) -> str | None:
        return f"{self.plugin_key}/{self.job}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted(RunEvent):
    TYPE = "job.run_started"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFinished(RunEvent):
    """A run reached a terminal state; its type on the wire is `job.run_<state>`, such as `job.run_succeeded`."""

    TYPE = "job.run"
    state: str
    error: str | None
    duration_ms: int | None

    @property
    def type(self) -> str:
        return f"{self.TYPE}_{self.state}"


EVENT_TYPES: Final = frozenset(
    {
        cls.TYPE
        for cls in (
            PluginInstalled,
            StatusChanged,
            PluginLoaded,
            PluginEnabled,
            PluginDisabled,
            PluginUnloaded,
            PluginFailed,
            UpgradePending,
            PluginUpgraded,
            PluginRolledBack,
            UpgradeFailed,
            UpgradeApproved,
            UpgradeRejected,
            ConfigChanged,
            WorkerStarted,
            WorkerStopped,
            WorkerCrashed,
            RunStarted,
        )
    }
    | {
        f"job.run_{state}"
        for state in ("succeeded", "failed", "cancelled", "timed_out", "interrupted", "skipped", "missed")
    },
)
"""Every fixed event name; plugins add `emitted.<name>`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """An event as the journal has it. `seq` only grows; subscribers resume after it."""

    seq: int
    at: datetime
    type: str
    plugin_id: str
    plugin_key: str
    data: Mapping[str, Any]

    def to_wire(self) -> dict[str, Any]:
        return {
            "seq": self.seq,
            "at_ms": int(self.at.timestamp() * 1000),
            "type": self.type,
            "plugin_id": self.plugin_id,
            "plugin": self.plugin_key,
            "data": dict(self.data),
        }
