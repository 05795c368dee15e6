"""Plugin and worker -> what the socket tells of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from supervisor.clock import to_ms
from supervisor.core.cause import short_cause
from supervisor.core.lifecycle import Status
from supervisor.core.package import Version
from supervisor.core.plugin import Plugin
from supervisor.core.worker_spec import WorkerSpec
from supervisor.wire.results import ApprovalInfo, LimitInfo, PluginDetails, PluginInfo, UsageInfo
from supervisor.worker.crash import Reason
from supervisor.worker.phase import Phase
from supervisor.worker.view import WorkerView

_MAX_ERROR_IN_LIST: Final = 500
"""Characters; `plugins.get` tells all."""
_MAX_CAPABILITIES: Final = 5
"""In a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What the rest of the daemon knows of a plugin's next start."""

    recovery_in_s: float | None = None
    """In status error: when it is tried again; 0: now, or as soon as what it requires has been tried."""
    standings: Mapping[str, str] = field(default_factory=dict)
    """The plugins that it waits for, and what follows their names: "is disabled"."""
    active: Version | None = None
    staged: Version | None = None
    previous: Version | None = None
    probation_left_s: float | None = None


_UNKNOWN: Final = Outlook()


def plugin_info(
    plugin: Plugin, worker: WorkerView, outlook: Outlook = _UNKNOWN, usage: UsageInfo | None = None
) -> PluginInfo:
    error = plugin.last_error or worker.last_failure
    return PluginInfo(
        id=plugin.id,
        key=plugin.key,
        version=plugin.version,
        display_name=plugin.manifest.display_name,
        status=str(plugin.status),
        phase=str(worker.phase),
        pid=worker.pid,
        restarts=worker.restarts,
        crashes=worker.crashes,
        uptime_s=worker.uptime_s,
        next_restart_in_s=worker.next_restart_in_s,
        calls=worker.calls,
        calls_in_flight=worker.calls_in_flight,
        last_error=_cause(error) if error else None,
        last_reason=worker.last_reason,
        waiting_for=list(worker.waiting_for),
        next_recovery_in_s=outlook.recovery_in_s,
        disable_reason=plugin.disable_reason,
        held=_held(plugin, worker),
        summary=summary(plugin, worker, outlook),
        staged_version=outlook.staged.version if outlook.staged else None,
        previous_version=outlook.previous.version if outlook.previous else None,
        editable=plugin.editable is not None,
        probation_left_s=outlook.probation_left_s,
        usage=usage,
        install_order=plugin.install_order,
        installed_at_ms=to_ms(plugin.installed_at),
        updated_at_ms=to_ms(plugin.updated_at),
    )


def plugin_details(
    plugin: Plugin,
    worker: WorkerView,
    places: Mapping[str, str],
    outlook: Outlook = _UNKNOWN,
    required_by: Sequence[str] = (),
    *,
    usage: UsageInfo | None = None,
    limits: Sequence[LimitInfo] = (),
    approvals: Sequence[ApprovalInfo] = (),
) -> PluginDetails:
    """`places`: package_dir, data_dir and log_file as absolute paths."""
    manifest = plugin.manifest
    info = plugin_info(plugin, worker, outlook, usage)
    info["last_error"] = plugin.last_error or worker.last_failure
    return PluginDetails(
        **info,
        source=outlook.active.source if outlook.active else "",
        index_url=outlook.active.index_url if outlook.active else None,
        find_links=list(outlook.active.find_links) if outlook.active else [],
        approvals=list(approvals),
        pending_capabilities=pending_capabilities(plugin, outlook.staged),
        requires=list(manifest.requires),
        required_by=list(required_by),
        limits=list(limits),
        description=manifest.description,
        author=manifest.author,
        categories=list(manifest.categories),
        capabilities=sorted(plugin.approved),
        jobs=[f"{plugin.key}/{job.key}" for job in manifest.jobs],
        methods=[_method(m.name, m.description, m.params_schema) for m in manifest.methods],
        command=list(manifest.worker.command),
        stop_timeout_s=manifest.worker.stop_timeout_s,
        package_dir=places["package_dir"],
        data_dir=places["data_dir"],
        log_file=places["log_file"],
    )


def pending_capabilities(plugin: Plugin, staged: Version | None) -> list[str]:
    """What the version that waits asks for beyond what was approved."""
    return sorted(frozenset(staged.manifest.capabilities) - plugin.approved) if staged else []


def summary(plugin: Plugin, worker: WorkerView, outlook: Outlook = _UNKNOWN) -> str:
    """One sentence: what is going on, and what comes next."""
    match plugin.status:
        case Status.READY:
            return f"{_ready(plugin, worker, outlook)}{_besides(plugin, outlook)}"
        case Status.INSTALLED:
            return "Installed and not loaded yet: load it to start its worker."
        case Status.DISABLED:
            why = f" ({plugin.disable_reason})" if plugin.disable_reason else ""
            return f"Disabled{why}: enable it to start its worker."
        case Status.ERROR:
            return f"In error: {_cause(plugin.last_error)}; {_recovery(plugin, worker, outlook)}."
        case Status.UPGRADE_PENDING:
            return _to_be_decided(plugin, outlook)
        case Status.UNINSTALLED:
            return f"Uninstalled; its data is kept until `pluginctl purge {plugin.key}`."


def _to_be_decided(plugin: Plugin, outlook: Outlook) -> str:
    """What waits, what it wants, and both ways on."""
    approve, reject = f"`pluginctl approve {plugin.key}`", f"`pluginctl reject {plugin.key}`"
    if outlook.staged is None:
        return f"An upgrade is to be decided; its worker is stopped until {approve} or {reject} makes it ready again."
    pending = pending_capabilities(plugin, outlook.staged)
    wish = f"it asks for {_listed(pending)}" if pending else "it asks for nothing new"
    return (
        f"Version {outlook.staged.version} waits for approval: {wish}; its worker is stopped until {approve} allows "
        f"this and runs it, or {reject} runs {plugin.version} again."
    )


def _listed(capabilities: Sequence[str]) -> str:
    """Not too many: a list tells of many plugins in one frame."""
    shown = ", ".join(map(_head, capabilities[:_MAX_CAPABILITIES]))
    more = len(capabilities) - _MAX_CAPABILITIES
    return shown if more <= 0 else f"{shown} and {more} more"


def _besides(plugin: Plugin, outlook: Outlook) -> str:
    """What else is to be known of a plugin that is ready."""
    text = ""
    if outlook.probation_left_s is not None:
        before = f"{outlook.previous.version} comes back" if outlook.previous else "the version before comes back"
        left = _duration(outlook.probation_left_s)
        text += f" {plugin.version} is on probation for another {left}: if it is given up, {before}."
    if plugin.editable is not None:
        text += f" It runs in place, in {_head(plugin.editable)}, and is restarted when a file changes."
    return text


def _recovery(plugin: Plugin, worker: WorkerView, outlook: Outlook) -> str:
    in_s = outlook.recovery_in_s
    if not plugin.recoverable:
        next_ = "it stays so"
    elif in_s is None:
        next_ = "it is tried again at the next boot"
    elif in_s > 0:
        next_ = f"it is tried again in {_duration(in_s)}"
    else:
        after = " once what it requires has been tried" if plugin.manifest.requires else " now"
        return f"it is tried again{after}"
    if worker.last_reason == Reason.PACKAGE_CHANGED:
        # Starting it again finds the same files.
        return f"{next_}; upgrade it, or uninstall it and install it again, which keeps its data"
    return f"{next_}; enable it to try now"


def _ready(plugin: Plugin, worker: WorkerView, outlook: Outlook) -> str:
    match worker.phase:
        case Phase.RUNNING:
            again = f", after {_restarts(worker.restarts)}" if worker.restarts else ""
            return f"Running as pid {worker.pid} for {_duration(worker.uptime_s or 0)}{again}."
        case Phase.STARTING:
            return _starting(plugin.manifest.worker)
        case Phase.STOPPING:
            return "Stopping: it is finishing what is in flight."
        case Phase.BACKOFF:
            return _crashed(plugin, worker)
        case Phase.STOPPED:
            return _standing_still(worker, outlook)


def _crashed(plugin: Plugin, worker: WorkerView) -> str:
    most = plugin.manifest.worker.restart.max_restarts
    count = f"crash {worker.crashes} in a row" if worker.crashes else "it had run stably"
    return (
        f"Crashed ({_cause(worker.last_failure)}); {count}, it is given up after {most + 1}; "
        f"the next attempt is in {_duration(worker.next_restart_in_s or 0)}."
    )


def _standing_still(worker: WorkerView, outlook: Outlook) -> str:
    if worker.waiting_for:
        return _waiting(worker.waiting_for, outlook)
    if worker.finished is not None:
        return f"Finished ({worker.finished}); start it to run it again, or it starts with the next boot."
    if worker.gave_up:
        return f"Given up: {_cause(worker.last_failure)}."
    match worker.wanted:
        case None:
            return "Ready; its worker has not been started yet."
        case True:
            return "Ready; its worker waits for its turn to start."
        case False:
            return "Ready, with its worker stopped by an operator: start it, or it starts with the next boot."


def _waiting(keys: Sequence[str], outlook: Outlook) -> str:
    named = [f"{key}, which {outlook.standings[key]}" if key in outlook.standings else key for key in keys]
    up = "that is" if len(keys) == 1 else "those are"
    return f"Waiting for {' and for '.join(named)}: it is started when {up} up."


def _held(plugin: Plugin, worker: WorkerView) -> bool:
    return plugin.status is Status.READY and worker.wanted is False and not worker.gave_up and worker.finished is None


def _method(name: str, description: str | None, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": name, "description": description, "params_schema": dict(schema)}


def _starting(spec: WorkerSpec) -> str:
    if spec.transport == "none" and spec.ready is None:
        return f"Starting: it is up once it has lived for {spec.start_grace_s:g} s."
    awaited = "shake hands" if spec.transport == "rpc" else "be ready, as its [worker.ready] says"
    return f"Starting: it has up to {spec.start_timeout_s:g} s to {awaited}."


def _restarts(count: int) -> str:
    return "1 restart" if count == 1 else f"{count} restarts"


def _head(text: str) -> str:
    """The first line and not too much of it: a list tells of many plugins in one frame."""
    line = next((line for line in text.splitlines() if line.strip()), "")
    return line if len(line) <= _MAX_ERROR_IN_LIST else line[: _MAX_ERROR_IN_LIST - 1] + "…"


def _cause(text: str | None) -> str:
    return _head(short_cause(text)) if text else "no reason is known"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, _ = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
