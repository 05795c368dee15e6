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
        names = [name for name in self.__dataclass_fields__ if name not in OF_ALL]
        return {ON_WIRE.get(name, name): getattr(self, name) for name in names}


OF_ALL: Final = frozenset({"TYPE", "plugin_id", "plugin_key"})
"""What is no part of `data`."""
ON_WIRE: Final[Mapping[str, str]] = {"from_version": "from", "to_version": "to"}
"""Fields that have another name in `data`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginInstalled(Event):
    """A plugin was installed, and is not loaded yet. `capabilities` are what was approved."""

    TYPE = "plugin.installed"
    version: str
    capabilities: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusChanged(Event):
    """A plugin's status is another. `previous` is None for a plugin that was not there before."""

    TYPE = "plugin.status_changed"
    previous: str | None
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginLoaded(Event):
    """A plugin was made ready by plugins.load, or by the approval of an upgrade; its worker has come up."""

    TYPE = "plugin.loaded"
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginEnabled(Event):
    """A plugin is ready, and its worker has come up."""

    TYPE = "plugin.enabled"
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginDisabled(Event):
    """A plugin was disabled, and its worker has stopped."""

    TYPE = "plugin.disabled"
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginUnloaded(Event):
    """A plugin was uninstalled; with `remove_data` nothing of it is left."""

    TYPE = "plugin.unloaded"
    remove_data: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginFailed(Event):
    """A plugin's status is error now, and `error` says why."""

    TYPE = "plugin.error"
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradePending(Event):
    """A version waits for approval, as it asks for the capabilities `added`; the worker is stopped."""

    TYPE = "plugin.upgrade_pending"
    added: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginUpgraded(Event):
    """Another version is the plugin's now."""

    TYPE = "plugin.upgraded"
    from_version: str
    to_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginRolledBack(Event):
    """An earlier version is the plugin's again; `reason` is why, where no operator asked for it."""

    TYPE = "plugin.rolled_back"
    from_version: str
    to_version: str
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradeFailed(Event):
    """An upgrade came to nothing, and the version before goes on."""

    TYPE = "plugin.upgrade_failed"
    to_version: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradeApproved(Event):
    """An operator, `uid`, has approved the version that waited and the capabilities `added`."""

    TYPE = "plugin.upgrade_approved"
    version: str
    added: list[str]
    uid: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradeRejected(Event):
    """An operator, `uid`, has dropped the version that waited."""

    TYPE = "plugin.upgrade_rejected"
    version: str | None
    uid: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigChanged(Event):
    """A plugin has another configuration. `changed` names the top-level values that are other than before; never what
    they are."""

    TYPE = "plugin.config_changed"
    revision: int
    changed: list[str]
    uid: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStarted(Event):
    """A worker has come up. `restarts` counts the starts after crashes since the daemon began."""

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
    """A worker ended that was not asked to, did not come up, or was ended as it did not answer.

    `reason` is a word for programs, `cause` a sentence for people. `crashes` counts those in a row. `restart_in_s` is
    None when there will be no further attempt. `strays`: pids of processes that had left its process group, outlived
    it, and were killed."""

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
    """An event of a plugin's own making; its type is `emitted.<name>`."""

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
    """A run of a job was started."""

    TYPE = "job.run_started"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFinished(RunEvent):
    """A run has come to its end, which is final: its type is `job.run_<state>`."""

    TYPE = "job.run"
    state: str
    error: str | None
    duration_ms: int | None

    @property
    def type(self) -> str:
        return f"{self.TYPE}_{self.state}"


RUN_ENDS: Final[Mapping[str, str]] = {
    "succeeded": "A run succeeded.",
    "failed": "A run failed, and `error` says how.",
    "cancelled": "A run was cancelled, by an operator or with its plugin, before it started or after.",
    "timed_out": "A run took longer than its job allows.",
    "interrupted": "A run was cut short by the end of the daemon or of its worker.",
    "skipped": "A run was not started when it was due, as its job's overlap has it.",
    "missed": "A run was due while nobody could start it, and is not made up for.",
}
"""What each end of a run means."""
EVENTS: Final[Mapping[str, type[Event]]] = {
    **{
        cls.TYPE: cls
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
    },
    **{f"{RunFinished.TYPE}_{state}": RunFinished for state in RUN_ENDS},
}
"""Every fixed event name and what it tells; plugins add `emitted.<name>`."""
EVENT_TYPES: Final = frozenset(EVENTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """An event as the journal has it. `seq` only grows; subscribers resume after it."""

    seq: int
    at: datetime
    type: str
    plugin_id: str
    plugin_key: str
    job: str | None = None
    """The one that it is about, as <plugin>/<key>."""
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
