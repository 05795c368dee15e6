"""The socket's methods as typed requests: a frozen dataclass each, in the order of their positional params. Pure.

This table is what the daemon serves, what `rpc.describe` tells, and what the clients are checked against.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, ClassVar, Final, TypeVar, dataclass_transform

from supervisor.wire import results

PROTOCOL_VERSION: Final = 1
EVENT_NOTIFICATION: Final = "rpc.event"
"""[{subscription, event}] or, at its end, [{subscription, end: true, reason, last_seq}]."""
PROGRESS_NOTIFICATION: Final = "rpc.progress"
"""[{request, phase, done?, total?, line?}], to whoever asked with `$progress: true`, until the answer; `request` is its
id."""
PROGRESS_KEY: Final = "$progress"
"""Reserved name in named params: true asks for those notifications, where the method has any."""
LOG_NOTIFICATION: Final = "rpc.log"
"""[{subscription, lines, place, skipped_bytes?}] or, at its end, [{subscription, end: true, reason, place}]."""
PROTOCOL_ERROR_NOTIFICATION: Final = "rpc.error"
"""[error]: the last word before the connection is closed."""
NOTIFICATIONS: Final[Mapping[str, type]] = {
    EVENT_NOTIFICATION: results.EventNotice,
    LOG_NOTIFICATION: results.LogNotice,
    PROGRESS_NOTIFICATION: results.OperationProgress,
    PROTOCOL_ERROR_NOTIFICATION: results.ErrorInfo,
}
"""What the daemon sends of itself, each with one param; the docstring of its type tells when."""


class Role(IntEnum):
    """Each includes the ones below."""

    OBSERVER = 1
    OPERATOR = 2
    ADMIN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlRequest:
    METHOD: ClassVar[str]
    RESULT: ClassVar[Any] = results.Done
    ROLE: ClassVar[Role] = Role.OBSERVER
    DEADLINE_S: ClassVar[float | None] = 30.0
    """Default when the caller names none; None: as long as it takes."""
    CHANGES: ClassVar[bool] = False
    """Changes a plugin, a job or the daemon: goes on to its end though the caller has gone."""
    REPEATABLE: ClassVar[bool] = True
    """It changes nothing, and is bound to no connection: who lost the answer may ask again."""
    OPERATION: ClassVar[bool] = False
    """Tells progress to who wants it, and `rpc.cancel` ends it until its commit point; then nothing has changed."""


REQUESTS: dict[str, type[ControlRequest]] = {}
"""Method name -> request type: every method there is."""


_R = TypeVar("_R", bound=ControlRequest)


@dataclass_transform(kw_only_default=True, frozen_default=True)
def _method(
    name: str,
    result: Any = results.Done,
    *,
    role: Role = Role.OBSERVER,
    deadline_s: float | None = 30.0,
    changes: bool | None = None,
    repeatable: bool = True,
    operation: bool = False,
) -> Callable[[type[_R]], type[_R]]:
    """Turn a class body into the typed request of method `name`; who needs a role beyond looking mostly changes."""

    def declare(cls: type[_R]) -> type[_R]:
        request = dataclass(frozen=True, slots=True, kw_only=True)(cls)
        request.METHOD, request.RESULT, request.ROLE, request.DEADLINE_S = name, result, role, deadline_s
        request.CHANGES = role > Role.OBSERVER if changes is None else changes
        request.REPEATABLE = repeatable and not request.CHANGES
        request.OPERATION = operation
        REQUESTS[name] = request
        return request

    return declare


def description(kind: Any) -> str:
    """What the docstring of a class says, its paragraphs unwrapped."""
    paragraphs = inspect.cleandoc(kind.__doc__ or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def summary(kind: Any) -> str:
    """Its first paragraph."""
    return description(kind).partition("\n")[0]


@_method("rpc.hello", results.HelloInfo)
class Hello(ControlRequest):
    """Say who you are; from then on errors are maps. Optional, and best the first call."""

    client: str = ""
    version: str = ""
    protocol: list[int] = field(default_factory=lambda: [PROTOCOL_VERSION])
    capabilities: list[str] = field(default_factory=list)


@_method("rpc.describe", results.Description)
class Describe(ControlRequest):
    """Every method, event, notification and error there is, with JSON Schemas; the roles, and the limits.

    A method's `params` are the schema of its named params; positional ones stand in the same order. `deadline_ms` holds
    for who names none, and null is for as long as it takes. What `survives_disconnect` goes on to its end when its
    caller has gone; what is `repeatable` changes nothing, and may be asked for again when the answer was lost.
    """


@_method("daemon.ping", results.Pong)
class DaemonPing(ControlRequest):
    """Answer at once."""


@_method("daemon.info", results.DaemonInfo)
class DaemonInfo(ControlRequest):
    """What does not change while the daemon runs: version, pid, paths."""


@_method("daemon.status", results.DaemonStatus)
class DaemonStatus(ControlRequest):
    """Counts of plugins, workers, connections and runs."""


@_method("daemon.settings", dict[str, Any])
class DaemonSettings(ControlRequest):
    """The settings in force."""


@_method("daemon.metrics", results.MetricsText)
class DaemonMetrics(ControlRequest):
    """The daemon's numbers as Prometheus text; with `plugins`, what plugins tell of themselves too."""

    plugins: bool = True


@_method("daemon.reload", results.ReloadInfo, role=Role.ADMIN)
class DaemonReload(ControlRequest):
    """Read the settings anew, as SIGHUP does; with a problem in them (INVALID_PARAMS) nothing changes."""


@_method("daemon.stop", role=Role.ADMIN)
class DaemonStop(ControlRequest):
    """Drain and stop the daemon; answers before it does."""


@_method("daemon.backup", role=Role.ADMIN, deadline_s=None)
class DaemonBackup(ControlRequest):
    """Write a consistent copy of the database to a new file; `path` is absolute."""

    path: str


@_method("plugins.list", list[results.PluginInfo])
class PluginsList(ControlRequest):
    """All plugins in install order.

    With `status` those of one status; without, all but the uninstalled ones, unless `include_uninstalled` asks for
    these too. With `usage`, what each worker uses.
    """

    status: str | None = None
    include_uninstalled: bool = False
    usage: bool = False


@_method("plugins.get", results.PluginDetails)
class PluginsGet(ControlRequest):
    """All about one plugin, named by key or id; `pss` adds the dear number."""

    plugin: str
    pss: bool = False


@_method("plugins.install", results.PluginInfo, role=Role.ADMIN, deadline_s=None, operation=True)
class PluginsInstall(ControlRequest):
    """Fetch a plugin, check it and store it; it is not loaded yet.

    `source` is a directory, an archive (.tar.gz, .zip), a wheel or an sdist by its absolute path, or a requirement such
    as `acme-weather>=1.2`. `editable` runs a directory in place. `hashes` are `sha256:<hex>` of what a requirement may
    lead to. `capabilities` are what the operator agrees to; None: to all that its manifest asks for. `rpc.cancel` ends
    it until its files are stored.
    """

    source: str
    editable: bool = False
    index_url: str | None = None
    find_links: list[str] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)
    capabilities: list[str] | None = None


@_method("plugins.upgrade", results.PluginInfo, role=Role.ADMIN, deadline_s=None, operation=True)
class PluginsUpgrade(ControlRequest):
    """Exchange the plugin's version for the one in `source` (as in plugins.install), or for a kept `version`. With
    neither, for what its own source has now, looked for where it was when it came; what is named goes before that.

    It happens wholly, or the version before goes on (UPGRADE_FAILED). What asks for more capabilities than were
    approved waits for plugins.approve, unless `approve` is true, or they are all among `capabilities`, which the
    operator has agreed to. With `editable`, which runs a directory in place, it does not wait: it is refused
    (APPROVAL_REQUIRED). Who gives up within `probation_s` is rolled back.
    """

    plugin: str
    source: str | None = None
    version: str | None = None
    index_url: str | None = None
    find_links: list[str] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)
    approve: bool = False
    probation_s: float | None = None
    capabilities: list[str] | None = None
    editable: bool = False


@_method("plugins.approve", results.PluginInfo, role=Role.ADMIN, deadline_s=None)
class PluginsApprove(ControlRequest):
    """Allow what the waiting version asks for, and run it; `version`, if named, must be the one that waits."""

    plugin: str
    version: str | None = None


@_method("plugins.reject", results.PluginInfo, role=Role.ADMIN, deadline_s=None)
class PluginsReject(ControlRequest):
    """Drop the waiting version and run the one before."""

    plugin: str


@_method("plugins.rollback", results.PluginInfo, role=Role.ADMIN, deadline_s=None)
class PluginsRollback(ControlRequest):
    """Run the version before this one again, or the kept `version`; nothing is fetched."""

    plugin: str
    version: str | None = None


@_method("plugins.versions", list[results.VersionInfo])
class PluginsVersions(ControlRequest):
    """The versions that are kept, newest first."""

    plugin: str


@_method("plugins.load", results.PluginInfo, role=Role.OPERATOR, deadline_s=None)
class PluginsLoad(ControlRequest):
    """Make an installed, disabled or failed plugin ready; answers when its worker has shaken hands."""

    plugin: str


@_method("plugins.enable", results.PluginInfo, role=Role.OPERATOR, deadline_s=None)
class PluginsEnable(ControlRequest):
    """Make a disabled, failed or upgrade-pending plugin ready again."""

    plugin: str


@_method("plugins.disable", results.PluginInfo, role=Role.OPERATOR, deadline_s=None)
class PluginsDisable(ControlRequest):
    """Drain and stop the worker and keep it stopped; answers when it is gone."""

    plugin: str
    reason: str | None = None


@_method("plugins.unload", role=Role.ADMIN, deadline_s=None)
class PluginsUnload(ControlRequest):
    """Uninstall: stop the worker and remove the files; `remove_data` deletes config, state and history too."""

    plugin: str
    remove_data: bool = False


@_method("plugins.mark_error", results.PluginInfo, role=Role.OPERATOR, deadline_s=None)
class PluginsMarkError(ControlRequest):
    """Put a plugin into status error, with the reason, and stop its worker."""

    plugin: str
    error: str


@_method("plugins.mark_upgrade_pending", results.PluginInfo, role=Role.OPERATOR, deadline_s=None)
class PluginsMarkUpgradePending(ControlRequest):
    """Stop the worker of a ready plugin until its upgrade is decided."""

    plugin: str


@_method("plugins.start", results.PluginInfo, role=Role.OPERATOR, deadline_s=None)
class PluginsStart(ControlRequest):
    """Start the worker of a ready plugin that was stopped; the status stays."""

    plugin: str


@_method("plugins.stop", results.PluginInfo, role=Role.OPERATOR, deadline_s=None)
class PluginsStop(ControlRequest):
    """Stop the worker of a ready plugin until start, restart or the next boot; the status stays."""

    plugin: str


@_method("plugins.restart", results.PluginInfo, role=Role.OPERATOR, deadline_s=None)
class PluginsRestart(ControlRequest):
    """Stop the worker of a ready plugin, if it runs, and start it; answers when the new one has shaken hands."""

    plugin: str


@_method("plugins.wait", results.PluginInfo, deadline_s=None)
class PluginsWait(ControlRequest):
    """Answer as soon as the plugin has the status and the phase asked for; DEADLINE_EXCEEDED after `timeout_s`."""

    plugin: str
    status: str | None = None
    phase: str | None = None
    timeout_s: float = 30.0


@_method("plugins.health", results.HealthInfo)
class PluginsHealth(ControlRequest):
    """Ask the worker now how it is."""

    plugin: str


@_method("plugins.can_transition", results.TransitionAnswer)
class PluginsCanTransition(ControlRequest):
    """Whether the plugin's status may change to `to`."""

    plugin: str
    to: str


@_method("plugins.call", results.CallResult, role=Role.OPERATOR, deadline_s=None, changes=False, repeatable=False)
class PluginsCall(ControlRequest):
    """Call a method of the plugin; `timeout_s` None takes the method's own deadline, else 30 s."""

    plugin: str
    method: str
    params: Any = None
    timeout_s: float | None = None


@_method("plugins.metrics", list[results.MetricInfo])
class PluginsMetrics(ControlRequest):
    """The numbers that the plugin tells of itself, by name; they begin anew with the daemon."""

    plugin: str


@_method("plugins.state_list", results.StatePage, role=Role.OPERATOR, changes=False)
class PluginsStateList(ControlRequest):
    """The plugin's stored keys and values, in key order, a page at a time."""

    plugin: str
    prefix: str = ""
    after: str | None = None
    limit: int = 100


@_method("plugins.state_get", results.StateEntry, role=Role.OPERATOR, changes=False)
class PluginsStateGet(ControlRequest):
    """One of the plugin's stored values."""

    plugin: str
    key: str


@_method("plugins.config_get", results.ConfigInfo, role=Role.OPERATOR, changes=False)
class PluginsConfigGet(ControlRequest):
    """The plugin's configuration, its secrets masked, and its schema."""

    plugin: str


@_method("plugins.config_set", results.ConfigInfo, role=Role.ADMIN, deadline_s=None)
class PluginsConfigSet(ControlRequest):
    """Check a configuration as plugins.config_test does, store it, and give it to the worker, or restart that.

    With `merge` (RFC 7396) it is laid over what is there, and null takes a value away. A secret that is sent back
    masked stays as it is. `expected_revision` refuses to overwrite what somebody else has set meanwhile.
    """

    plugin: str
    config: dict[str, Any]
    merge: bool = False
    expected_revision: int | None = None


@_method("plugins.config_test", results.ConfigVerdict, role=Role.ADMIN, changes=False, deadline_s=None)
class PluginsConfigTest(ControlRequest):
    """Check a configuration against its schema and by the worker, if it runs; None checks the stored one."""

    plugin: str
    config: dict[str, Any] | None = None
    merge: bool = False


@_method("plugins.config_history", list[results.ConfigRevisionInfo], role=Role.OPERATOR, changes=False)
class PluginsConfigHistory(ControlRequest):
    """The configurations that were, newest first, without their values."""

    plugin: str


@_method("plugins.config_restore", results.ConfigInfo, role=Role.ADMIN, deadline_s=None)
class PluginsConfigRestore(ControlRequest):
    """Set an earlier configuration again: `revision`, or the newest other one that a worker has taken."""

    plugin: str
    revision: int | None = None


@_method("jobs.list", list[results.JobInfo])
class JobsList(ControlRequest):
    """Jobs of one plugin or of all by name, with next and last: at most `limit` (1 to 1,000) after the name `after`.

    Page on with the last one's name until an empty page; one may be shorter than asked for.
    """

    plugin: str | None = None
    include_inactive: bool = False
    after: str | None = None
    limit: int = 1000


@_method("jobs.get", results.JobInfo)
class JobsGet(ControlRequest):
    """One job, named `<plugin>/<key>` or by its id, as in every method that takes a job."""

    job: str


@_method("jobs.next", results.NextTimes)
class JobsNext(ControlRequest):
    """The next times of one job, or, without `job`, of all jobs (of `plugin`), in order of time.

    At most `count`, and none later than `hours` from now where that is given. One job is told paused or not; of
    several, those that are paused are left out.
    """

    job: str | None = None
    count: int = 5
    plugin: str | None = None
    hours: float | None = None


@_method("jobs.run", results.RunInfo, role=Role.OPERATOR, deadline_s=None)
class JobsRun(ControlRequest):
    """Run a job now, paused or not, with `params` for its handler; with `wait`, answer when it has ended."""

    job: str
    wait: bool = False
    params: dict[str, Any] | None = None


@_method("jobs.pause", results.HoldInfo, role=Role.OPERATOR)
class JobsPause(ControlRequest):
    """Take a job, all of a plugin's jobs, or with neither all jobs there are (maintenance) off the schedule.

    Until resumed, over every sync, upgrade and restart; what was due meanwhile is not made up for.
    """

    job: str | None = None
    plugin: str | None = None


@_method("jobs.resume", results.HoldInfo, role=Role.OPERATOR)
class JobsResume(ControlRequest):
    """Put back on the schedule what `jobs.pause` with the same params took off it."""

    job: str | None = None
    plugin: str | None = None


@_method("jobs.runs", list[results.RunInfo])
class JobsRuns(ControlRequest):
    """History, newest first, of one job, one plugin or all; `before`, a run's id, pages on from that run.

    `before_ms` and `since_ms` keep to runs created before, or not before, that instant; many runs may share one.
    `state` and `states` keep to runs in one of these, `trigger` and `triggers` likewise.
    """

    job: str | None = None
    plugin: str | None = None
    state: str | None = None
    before_ms: int | None = None
    limit: int = 50
    before: str | None = None
    since_ms: int | None = None
    trigger: str | None = None
    states: list[str] = field(default_factory=list)
    triggers: list[str] = field(default_factory=list)


@_method("jobs.cancel", results.RunInfo, role=Role.OPERATOR)
class JobsCancel(ControlRequest):
    """Cancel a queued or running run, or the retry that one waits for: the row says so, and the worker is told."""

    run: str


@_method("jobs.retry", results.RunInfo, role=Role.OPERATOR, deadline_s=None)
class JobsRetry(ControlRequest):
    """Run again now what did not succeed, with the same due time and params, as its next attempt."""

    run: str
    wait: bool = False


@_method("jobs.get_run", results.RunInfo)
class JobsGetRun(ControlRequest):
    """One run, with how far it is."""

    run: str


@_method("events.list", results.EventPage)
class EventsList(ControlRequest):
    """Events after `after_seq`, or since `since_ms`, oldest first; with neither the newest ones.

    `before_seq` and `until_ms` end what is looked at: neither that event nor what came later is in it. `types` are
    globs, `plugins` keys or ids, `jobs` names or ids of jobs; empty means all.
    """

    after_seq: int | None = None
    types: list[str] = field(default_factory=list)
    plugins: list[str] = field(default_factory=list)
    limit: int = 100
    jobs: list[str] = field(default_factory=list)
    before_seq: int | None = None
    since_ms: int | None = None
    until_ms: int | None = None


@_method("events.subscribe", results.SubscriptionInfo, repeatable=False)
class EventsSubscribe(ControlRequest):
    """Get events as `rpc.event` notifications: types are globs, plugins keys or ids, jobs names or ids; empty means
    all.

    With `after_seq` the journal is replayed first, without gap or repetition. With `credit` at most so many are sent
    until `events.credit` allows more.
    """

    types: list[str] = field(default_factory=list)
    plugins: list[str] = field(default_factory=list)
    after_seq: int | None = None
    credit: int | None = None
    jobs: list[str] = field(default_factory=list)


@_method("events.unsubscribe", repeatable=False)
class EventsUnsubscribe(ControlRequest):
    """End a subscription of this connection."""

    subscription: int


@_method("events.credit", repeatable=False)
class EventsCredit(ControlRequest):
    """Allow `n` more events to be sent."""

    subscription: int
    n: int


@_method("audit.list", list[results.AuditEntry], role=Role.OPERATOR, changes=False)
class AuditList(ControlRequest):
    """Who has changed what, newest first; `before`, the number of an entry, pages on from that one.

    `methods` are globs; `target` is what a change was about, such as a plugin's key; `result` is `ok`, the name of an
    error, `cut_short` by the daemon's end, or `under_way`.
    """

    before: int | None = None
    limit: int = 100
    methods: list[str] = field(default_factory=list)
    uid: int | None = None
    target: str | None = None
    result: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None


@_method("logs.read", list[results.LogLine])
class LogsRead(ControlRequest):
    """The last `tail` lines of a plugin's log, oldest first, filtered by time, level (and above), run and stream.

    If they do not fit into one answer, the newest of them come.
    """

    plugin: str
    tail: int = 100
    since_ms: int | None = None
    level: str | None = None
    run: str | None = None
    until_ms: int | None = None
    stream: str | None = None


@_method("logs.follow", results.FollowInfo, repeatable=False)
class LogsFollow(ControlRequest):
    """Get a plugin's log as `rpc.log` notifications: some of what is there, then what is written, by the same filters.

    With `tail` the last so many lines come first, with `since_ms` all since then, with both the last so many since
    then; with `after`, a `place` that was told before, what follows it. With `credit` at most so many lines are sent
    until `logs.credit` allows more.
    """

    plugin: str
    tail: int | None = None
    since_ms: int | None = None
    level: str | None = None
    run: str | None = None
    stream: str | None = None
    after: str | None = None
    credit: int | None = None


@_method("logs.unfollow", repeatable=False)
class LogsUnfollow(ControlRequest):
    """End a subscription of this connection."""

    subscription: int


@_method("logs.credit", repeatable=False)
class LogsCredit(ControlRequest):
    """Allow `n` more lines to be sent."""

    subscription: int
    n: int
