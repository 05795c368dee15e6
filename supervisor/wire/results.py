"""What the socket's methods return, as types; `rpc.describe` makes JSON Schemas of them. Pure.

Instants are integers: UTC milliseconds since the Unix epoch. Durations are seconds.
"""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict


class UsageInfo(TypedDict):
    """What a worker uses, with all processes of its own. Looked at once a second at most, however many ask."""

    cpu_percent: float | None
    """Of one core, since it was last looked at (at least a second ago), at the first look since its start. None if that
    is now."""
    rss_bytes: int
    pss_bytes: int | None
    """Only when asked for: it is dear."""
    threads: int
    processes: int
    open_files: int | None


class PluginInfo(TypedDict):
    """A plugin with what is observed of its worker."""

    id: str
    key: str
    version: str
    display_name: str
    status: str
    phase: str
    pid: int | None
    restarts: int
    """Starts after crashes since the daemon began."""
    crashes: int
    """In a row; stable running ends the row."""
    uptime_s: float | None
    next_restart_in_s: float | None
    calls: int
    """Calls and runs that its workers were given since the daemon began."""
    calls_in_flight: int
    last_error: str | None
    last_reason: str | None
    """Of the latest crash, for programs: exited, killed, out_of_memory, handshake_timeout, unhealthy, hung_up, …"""
    waiting_for: list[str]
    """Keys of the plugins it requires that are not up; its worker is started when they are."""
    next_recovery_in_s: float | None
    """In status error: when plugind tries it again."""
    disable_reason: str | None
    held: bool
    """Stopped by an operator while ready: stays so until start, restart or the next boot."""
    summary: str
    """One sentence for people: what is going on and what comes next."""
    staged_version: str | None
    """The version that waits for approval, in status upgrade_pending."""
    previous_version: str | None
    """The version that plugins.rollback leads to."""
    editable: bool
    """Runs in its source directory."""
    probation_left_s: float | None
    """For so long a worker that is given up leads back to the version before."""
    usage: UsageInfo | None
    """None while there is no process; in a list also unless it was asked for."""
    install_order: int
    installed_at_ms: int
    updated_at_ms: int


class LimitInfo(TypedDict):
    """A limit of the manifest, and what really enforces it."""

    limit: str
    """memory_mb, pids, nofile or cpu_percent."""
    value: int
    enforced_by: str
    """cgroup, rlimit, watch (plugind looks every second) or nothing."""
    note: str | None


class ApprovalInfo(TypedDict):
    capability: str
    uid: int | None
    """Who approved it."""
    approved_at_ms: int


class VersionInfo(TypedDict):
    """A version of a plugin that is kept."""

    version: str
    digest: str
    state: str
    """active, staged (waits for approval), or kept."""
    source: str
    index_url: str | None
    find_links: list[str]
    stored_at_ms: int
    activated_at_ms: int | None
    """None: it never ran."""
    package_dir: str
    capabilities: list[str]


class ConfigInfo(TypedDict):
    """A plugin's configuration. Secrets that are set read `********`; references to files stay references."""

    config: dict[str, Any]
    secrets: list[str]
    """Names of the secrets that are set, dotted: `db.password`."""
    revision: int
    """0: none was ever set."""
    good: bool
    """A worker has taken it."""
    set_at_ms: int | None
    uid: int | None
    config_schema: dict[str, Any]
    restarted: bool
    """The worker was restarted for it: after plugins.config_set and config_restore."""
    changed: bool
    """It was stored, by plugins.config_set and config_restore; False: the very same was there already."""
    notes: list[str]
    """After plugins.config_set: what was made of values that begin with `$`, as escapes or references."""


class ConfigProblem(TypedDict):
    path: str
    message: str


class ConfigVerdict(TypedDict):
    ok: bool
    problems: list[ConfigProblem]
    asked_worker: bool
    """False: it does not run, or does not check configurations: only the schema has."""


class ConfigRevisionInfo(TypedDict):
    revision: int
    current: bool
    good: bool
    set_at_ms: int
    uid: int | None
    names: list[str]


class OperationProgress(TypedDict):
    """How far an install or upgrade is, to who asked with `$progress: true`, until the answer.

    `request` is its id. What is not known is left out.
    """

    request: int
    phase: str
    """fetch, unpack, check, environment, record, store, start, switch, drain, …"""
    done: NotRequired[int]
    """Bytes, of `total`."""
    total: NotRequired[int]
    line: NotRequired[str]
    """What a tool such as pip has just said."""


class PluginDetails(PluginInfo):
    """All about one plugin."""

    source: str
    """What it was installed or upgraded from."""
    index_url: str | None
    """The package index that was named with it, `***@` in place of a password; None: the daemon's own."""
    find_links: list[str]
    approvals: list[ApprovalInfo]
    pending_capabilities: list[str]
    """What the waiting version asks for beyond what was approved."""

    requires: list[str]
    required_by: list[str]
    limits: list[LimitInfo]

    description: str
    author: str
    categories: list[str]
    capabilities: list[str]
    jobs: list[str]
    methods: list[dict[str, Any]]
    command: list[str]
    stop_timeout_s: float
    """How long its worker may take to finish what is in flight."""
    package_dir: str
    data_dir: str
    log_file: str


class ProgressInfo(TypedDict):
    """How far a run is, as its worker says; nothing of it is stored."""

    run: str
    fraction: float | None
    """From 0 to 1."""
    message: str | None
    at_ms: int


class MetricInfo(TypedDict):
    """A number that a plugin tells of itself."""

    name: str
    kind: str
    """gauge or counter."""
    value: float
    labels: dict[str, str]
    at_ms: int
    """When it was written last."""


class JobInfo(TypedDict):
    """`job` is the name to use in commands: `<plugin>/<key>`."""

    id: str
    job: str
    plugin: str
    key: str
    display_name: str
    schedule: str | None
    """As written; `every …` and `at …` for those. None: by hand only."""
    timezone: str
    overlap: str
    command: list[str] | None
    paused: bool
    """By itself; see `held_by`."""
    held_by: str | None
    """Who keeps it off the schedule, the widest one: scheduler, plugin or job."""
    active: bool
    scheduled: bool
    next_due_ms: int | None
    next_fire_ms: int | None
    """When it is started: `next_due_ms`, and its jitter."""
    last_due_ms: int | None
    """Due time of the latest scheduled run."""
    last_run_ms: int | None
    """When the run that was made last, scheduled or by hand, started, or was made if it never did."""
    last_state: str | None
    """Of that same run."""
    running: int
    """Its runs that have not ended."""
    waiting: int
    """Those of them that have not started."""
    progress: list[ProgressInfo]
    """Of those of them that tell any."""


class NextTime(TypedDict):
    job: str
    due_ms: int
    fire_ms: int
    """When it is started: `due_ms`, and its jitter."""
    at: str
    """`fire_ms` as ISO 8601 with the offset of the job's time zone."""


class NextTimes(TypedDict):
    job: str | None
    """None: of several jobs."""
    timezone: str
    """Of the job, or the daemon's."""
    times: list[str]
    """ISO 8601 with the offset of the job's time zone."""
    next: list[NextTime]
    """The same with their jobs."""
    more: bool
    """There are later ones within what was asked for."""
    held_by: str | None
    """Who keeps the job, or without one all jobs, off the schedule: scheduler, plugin or job. Then no time is kept."""
    scheduled: bool
    """Whether the clock starts it. False though nobody holds it: it is gone, its plugin is not ready, or it is not due
    by the clock. Of several jobs: they are not all held."""


class HoldInfo(TypedDict):
    """What a pause or resume came to."""

    held: bool
    scope: str
    """job, plugin or scheduler."""
    name: str | None
    """Of the job or plugin."""
    jobs: int
    """That are declared in that scope."""
    next_fire_ms: int | None
    """When the first of them is due now; None: not by the clock."""


class RunInfo(TypedDict):
    id: str
    job: str
    plugin: str
    trigger: str
    state: str
    attempt: int
    due_ms: int
    created_ms: int
    started_ms: int | None
    finished_ms: int | None
    duration_ms: int | None
    error: str | None
    result: Any
    exit_code: int | None
    """Of a command that ended by itself."""
    params: Any
    times: int
    """Due times that this row stands for: many missed ones may share the last."""
    retry_at_ms: int | None
    """It did not succeed, and is tried again then."""
    waiting_for: str | None
    """What keeps a queued run from starting."""
    progress: ProgressInfo | None
    """While it runs, if it tells any."""


class EventInfo(TypedDict):
    seq: int
    at_ms: int
    type: str
    plugin_id: str
    plugin: str
    data: dict[str, Any]


class LogLine(TypedDict):
    time_ms: int
    stream: str
    """stdout, stderr, log for records of the SDK, or plugind for notes of the daemon's."""
    level: str
    message: str
    run_id: str | None
    truncated: bool
    fields: dict[str, Any]


class EventPage(TypedDict):
    events: list[EventInfo]
    last_seq: int
    """The newest in the journal: where to subscribe from to hear only what is new."""


class EventNotice(TypedDict):
    """The next event of a subscription, or its end.

    With `end` there is a `reason`, and `last_seq`, the place to go on from by subscribing anew.
    """

    subscription: int
    event: NotRequired[EventInfo]
    end: NotRequired[bool]
    reason: NotRequired[str]
    """overflow: it was read too slowly."""
    last_seq: NotRequired[int]


class SubscriptionInfo(TypedDict):
    subscription: int
    last_seq: int
    """The subscription tells what comes after this event."""


class LogNotice(TypedDict):
    """The next lines of a log that is followed, and the `place` behind them; or the end of that.

    With `end` there is a `reason`. With `skipped_bytes` lines are missing before these: so many bytes, or null when
    nobody knows how many.
    """

    subscription: int
    place: str
    lines: NotRequired[list[LogLine]]
    skipped_bytes: NotRequired[int | None]
    end: NotRequired[bool]
    reason: NotRequired[str]
    """removed: the plugin was uninstalled with its data; any other is for people."""


class FollowInfo(TypedDict):
    subscription: int
    place: str
    """Where in the log it begins."""


class StateEntry(TypedDict):
    key: str
    value: Any
    revision: int
    """Another after each change of it."""


class StatePage(TypedDict):
    entries: list[StateEntry]
    next: str | None
    """`after` of the next page; None at the end."""


class CallResult(TypedDict):
    result: Any


class HealthInfo(TypedDict):
    healthy: bool
    phase: str
    message: str
    answer_ms: float | None


class TransitionAnswer(TypedDict):
    allowed: bool
    status: str
    to: str


class ResourceInfo(TypedDict):
    """What the daemon has of the machine; null is what it could not see."""

    open_files: int | None
    """Of its own process."""
    max_files: int | None
    """How many it may open; null: there is no limit."""
    database_bytes: int | None
    wal_bytes: int | None
    """Of the database's write-ahead log."""
    state_free_bytes: int | None
    """On the disk of the state directory, for the daemon's user."""
    state_total_bytes: int | None
    log_free_bytes: int | None
    log_total_bytes: int | None
    cgroup: bool
    """Whether a control group was delegated to it."""
    controllers: dict[str, str]
    """Of that group, each with why it cannot be used: an empty text if it can."""


class DaemonInfo(TypedDict):
    name: str
    version: str
    pid: int
    uid: int
    protocol: int
    python: str
    state_dir: str
    socket: str
    config_file: str | None
    """The settings file that was read; null: there was none."""
    resources: ResourceInfo
    started_at_ms: int


class MetricsText(TypedDict):
    content_type: str
    text: str


class ReloadInfo(TypedDict):
    """What reading the settings anew came to."""

    changed: list[str]
    """Settings that have other values than before, and are in force."""
    need_restart: list[str]
    """Those that the daemon takes up at its next start only."""
    warnings: list[str]


class AuditEntry(TypedDict):
    """A change that somebody asked for."""

    seq: int
    at_ms: int
    """When it was begun."""
    uid: int
    user: str | None
    """The name of the uid, if it has one now."""
    pid: int
    """Of the process that connected; 0: it cannot be seen from here."""
    exe: str | None
    """Its program; None: that may not be looked at."""
    client: str | None
    """What it calls itself in rpc.hello."""
    role: str
    method: str
    target: str | None
    """What it is about: the plugin, job, run, source or path."""
    result: str
    """`ok`, the name of an error, `cut_short` by the daemon's end, or `under_way`."""
    message: str | None
    """Of the error; or `from …`, what was asked for, where `target` is what that turned out to be."""
    request_id: str | None
    duration_ms: int | None


class DaemonStatus(TypedDict):
    uptime_s: float
    plugins: dict[str, int]
    """How many of each status."""
    workers: dict[str, int]
    """How many in each phase."""
    connections: int
    runs_in_flight: int
    jobs_held_since_ms: int | None
    """The whole schedule is paused, since then."""
    last_seq: int
    stopping: bool
    warnings: list[str]


class HelloInfo(TypedDict):
    server: str
    version: str
    protocol: int
    session: str
    role: str
    uid: int
    capabilities: list[str]
    limits: dict[str, int]


class MethodDescription(TypedDict):
    summary: str
    description: str
    """All that is said of it; the summary is the first paragraph."""
    params: dict[str, Any]
    result: dict[str, Any]
    role: str
    deadline_ms: int | None
    survives_disconnect: bool
    repeatable: bool
    """It changes nothing: who lost the answer may ask again."""
    progress: bool
    """`$progress: true` is heard, and `rpc.cancel` ends it as long as nothing has changed."""


class EventDescription(TypedDict):
    summary: str
    data: dict[str, Any]
    """JSON Schema."""


class ErrorInfo(TypedDict):
    """An error; as a notification, the daemon's last word before it closes the connection."""

    code: int
    name: str
    message: str
    """For people."""
    data: dict[str, Any]
    """For programs."""
    retryable: bool
    """It may go well later."""


class ErrorDescription(TypedDict):
    code: int
    retryable: bool
    summary: str


class NotificationDescription(TypedDict):
    summary: str
    params: dict[str, Any]
    """JSON Schema of the one param."""


class Description(TypedDict):
    protocol: int
    roles: list[str]
    """Each includes those before it."""
    limits: dict[str, int]
    """As in rpc.hello."""
    methods: dict[str, MethodDescription]
    events: dict[str, EventDescription]
    """By type; `emitted.*` stands for what plugins emit."""
    notifications: dict[str, NotificationDescription]
    errors: dict[str, ErrorDescription]


class Pong(TypedDict):
    pong: bool
    now_ms: int


class Done(TypedDict):
    """The answer where there is nothing more to say."""

    ok: bool
