"""What `pluginctl status` says of the daemon and of one plugin."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from client.cli.output import Context
from client.cli.render import bullet, cell, counted, duration, escaped, fields, now_ms, shortened, when
from client.cli.usage import limit_line, usage_line
from supervisor.core.cause import short_cause

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from typing import Any

    from supervisor.wire.results import DaemonInfo, DaemonStatus, PluginDetails, PluginInfo

_CALLING = ("error", "upgrade_pending")
"""Statuses that somebody has to do something about."""


def daemon_text(context: Context, info: DaemonInfo, status: DaemonStatus, plugins: Sequence[PluginInfo]) -> str:
    """A sentence, then details; the plugins are those that can have a worker: not the uninstalled ones."""
    workers: dict[str, int] = {}
    for plugin in plugins:
        workers[plugin["phase"]] = workers.get(plugin["phase"], 0) + 1
    hidden = " (`pluginctl list -a` shows them)" if status["plugins"].get("uninstalled") else ""
    pairs: dict[str, object] = {
        "socket": info["socket"],
        "state": info["state_dir"],
        "plugins": _counts(status["plugins"]) + hidden,
        "workers": _counts(workers),
        "runs": f"{status['runs_in_flight']} in flight",
    }
    if (held_ms := status["jobs_held_since_ms"]) is not None:
        pairs["jobs"] = f"all paused {when(held_ms, now_ms())}, until `pluginctl jobs resume --all`"
    warnings = "".join(f"\nwarning: {escaped(warning)}" for warning in status["warnings"])
    return f"{_head(context, info, status, plugins)}\n{fields(pairs, width=context.width)}{warnings}"


def _head(context: Context, info: DaemonInfo, status: DaemonStatus, plugins: Sequence[PluginInfo]) -> str:
    state = "stopping" if status["stopping"] else f"up {duration(status['uptime_s'])}"
    calling = sum(map(needs_attention, plugins))
    warnings = len(status["warnings"])
    told = [f"{calling} {'needs' if calling == 1 else 'need'} attention"] if calling else []
    told += [counted(warnings, "warning")] if warnings else []
    wants = ", ".join(told) or "all is well"
    ready = [plugin for plugin in plugins if plugin["status"] == "ready"]
    running = sum(plugin["phase"] == "running" for plugin in ready)
    said = f"{running} of {counted(len(ready), 'ready plugin')} running, {wants}" if plugins else "no plugins yet"
    mark = _bullet(context, "stopping" if status["stopping"] else "backoff" if told else "running")
    return f"{mark} plugind {escaped(info['version'])}, pid {info['pid']}, {state}: {said}"


def attention_text(context: Context, plugins: Sequence[PluginInfo]) -> str:
    """A line for each plugin that somebody should look at; empty: there is none."""
    calling = [plugin for plugin in plugins if needs_attention(plugin)]
    if not calling:
        return ""
    lines = [f"{_bullet(context, _state(p))} {_cut(context, _trouble(p))}" for p in calling]
    return "\n".join(["needs attention (`pluginctl status KEY` tells more):", *lines])


def needs_attention(plugin: PluginInfo) -> bool:
    """It does not do what it is to do, and may go on so until somebody acts."""
    waits = plugin["status"] == "ready" and bool(plugin["waiting_for"])
    return plugin["status"] in _CALLING or plugin["phase"] == "backoff" or waits


def _trouble(plugin: PluginInfo) -> str:
    cause = plugin["last_error"] if not plugin["waiting_for"] and plugin["status"] != "upgrade_pending" else None
    text = f"{escaped(plugin['key'])}: {' '.join(escaped(plugin['summary']).split())}"
    return f"{text} {escaped(short_cause(cause))}" if cause else text


def _cut(context: Context, text: str) -> str:
    return text if context.width is None else shortened(text, context.width - 2)


def _state(plugin: PluginInfo) -> str:
    """The one word that colours it."""
    return plugin["phase"] if plugin["status"] == "ready" else plugin["status"]


def _bullet(context: Context, state: str) -> str:
    plain = "utf" not in (getattr(sys.stdout, "encoding", None) or "utf-8").lower()
    return bullet(state, colour=context.colour, plain=plain)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "none"


def _in(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return f"in {duration(seconds)}" if seconds else "now"


def plugin_text(context: Context, p: PluginDetails, given_up: Mapping[str, Any] | None) -> str:
    """A sentence, then details, as systemctl shows a unit; `given_up` is the version that plugind went back from."""
    text = f"{_bullet(context, _state(p))} {escaped(p['key'])} - {cell(p['display_name'])}: {escaped(p['summary'])}"
    told = {name: value for name, value in _pairs(p, now_ms()).items() if value not in {None, "", "-"}}
    text += f"\n{fields(told, colour=context.colour, width=context.width)}"
    # In one line it stands in the sentence or behind `last crash` already.
    if p["last_error"] and ("\n" in p["last_error"].strip() or short_cause(p["last_error"]) not in p["summary"]):
        error = escaped(p["last_error"], lines=True).strip().replace("\n", "\n  ")
        text += f"\n\nlast error:\n  {error}"
    return text + _went_back(given_up)


def _pairs(p: PluginDetails, now: int) -> dict[str, object]:
    return {
        "version": p["version"],
        "status": p["status"],
        "phase": p["phase"],
        "pid": p["pid"],
        "uptime": duration(p["uptime_s"]),
        "restarts": p["restarts"],
        "last crash": (p["last_reason"] or "").replace("_", " "),
        "next start": _in(p["next_restart_in_s"]),
        "tried again": _in(p["next_recovery_in_s"]),
        "waits for": ", ".join(p["waiting_for"]),
        "requires": ", ".join(p["requires"]),
        "required by": ", ".join(p["required_by"]),
        "uses": usage_line(p["usage"], p["calls_in_flight"]),
        "limits": limit_line(p["limits"]),
        "reason": p["disable_reason"],
        "may": ", ".join(p["capabilities"]),
        "asks for": ", ".join(p["pending_capabilities"]),
        "jobs": ", ".join(p["jobs"]),
        "methods": ", ".join(str(method.get("name")) for method in p["methods"]),
        "installed": when(p["installed_at_ms"], now),
        "changed": when(p["updated_at_ms"], now),
        "source": f"{p['source']} (run in place)" if p["editable"] else p["source"],
        "before it": p["previous_version"],
        "package": p["package_dir"],
        "data": p["data_dir"],
        "log": p["log_file"],
    }


def _went_back(given_up: Mapping[str, Any] | None) -> str:
    if given_up is None:
        return ""
    when_ = when(given_up["at_ms"], now_ms())
    reason = escaped(short_cause(given_up["reason"]))
    return f"\n\n{escaped(given_up['version'])} was given up {when_}, and {escaped(given_up['back'])} is back: {reason}"
