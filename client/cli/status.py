"""pluginctl status: the daemon and all plugins, or one plugin as a person wants to see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from client.cli.command import PSS, Argument, Command, Options, whole
from client.cli.output import Context
from client.cli.render import cell, clock, duration, escaped, fields, now_ms, when
from client.cli.usage import limit_line, usage_line
from supervisor.core.cause import short_cause

if TYPE_CHECKING:
    from supervisor.wire.results import DaemonInfo, DaemonStatus, EventInfo, LogLine, PluginDetails, PluginInfo

_LOG_LINES = 10
_LINE_CHARACTERS = 300
_WENT_BACK = "plugin.rolled_back"
_SINCE = (_WENT_BACK, "plugin.upgraded", "plugin.installed")
"""What changes the version."""


def log_line(line: LogLine) -> str:
    """Time, level, message and fields of one line."""
    level = line["level"] if line["stream"] == "log" else line["stream"]
    extra = "".join(f" {escaped(name)}={escaped(value)}" for name, value in line["fields"].items())
    cut = " [cut]" if line["truncated"] else ""
    return f"{clock(line['time_ms'])} {escaped(level):<7} {escaped(line['message'])}{extra}{cut}"


def _status(context: Context, options: Options) -> None:
    if options.plugin is None:
        _status_of_all(context)
        return
    client = context.client
    details = client.plugins.get(options.plugin, pss=options.pss)
    given_up = _given_up(client.events.list(None, _SINCE, [options.plugin], 1)["events"], details)
    lines = client.logs.read(options.plugin, tail=options.lines) if options.lines > 0 else []
    text = f"{_details(context, details)}{_went_back(given_up)}"
    if lines:
        # A line may have 64 KiB; `pluginctl logs` shows it whole.
        text += "\n\n" + "\n".join(_shortened(log_line(line)) for line in lines)
    context.show({**details, "given_up": given_up, "log": lines}, text)


def _given_up(newest: Sequence[EventInfo], details: PluginDetails) -> dict[str, object] | None:
    """The version that plugind itself went back from, if nobody has changed the version since."""
    for event in newest:
        data = event["data"]
        if event["type"] == _WENT_BACK and data.get("reason") and data.get("to") == details["version"]:
            return {"version": data.get("from"), "back": data["to"], "reason": data["reason"], "at_ms": event["at_ms"]}
    return None


def _went_back(given_up: Mapping[str, Any] | None) -> str:
    if given_up is None:
        return ""
    when_ = when(given_up["at_ms"], now_ms())
    reason = escaped(short_cause(given_up["reason"]))
    return f"\n\n{escaped(given_up['version'])} was given up {when_}, and {escaped(given_up['back'])} is back: {reason}"


def _shortened(text: str) -> str:
    return text if len(text) <= _LINE_CHARACTERS else f"{text[: _LINE_CHARACTERS - 1]}…"


def _status_of_all(context: Context) -> None:
    from client.cli.plugins import plugin_table

    client = context.client
    info, status, plugins = client.daemon.info(), client.daemon.status(), client.plugins.list()
    text = f"{_daemon(info, status, plugins)}\n\n{plugin_table(context, plugins)}"
    context.show({"daemon": {**info, **status}, "plugins": plugins}, text)


def _daemon(info: DaemonInfo, status: DaemonStatus, plugins: Sequence[PluginInfo]) -> str:
    """The plugins are those that can have a worker: not the uninstalled ones."""
    state = "stopping" if status["stopping"] else f"up {duration(status['uptime_s'])}"
    head = f"plugind {escaped(info['version'])}, pid {info['pid']}, {state}"
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
    return f"{head}\n{fields(pairs)}{warnings}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "none"


def _in(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return f"in {duration(seconds)}" if seconds else "now"


def _details(context: Context, p: PluginDetails) -> str:
    now = now_ms()
    pairs: dict[str, object] = {
        "plugin": f"{p['key']} {p['version']}",
        "waiting": p["staged_version"],
        "probation": _in(p["probation_left_s"]) and f"for another {duration(p['probation_left_s'])}",
        "id": p["id"],
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
    told = {name: value for name, value in pairs.items() if value not in {None, "", "-"}}
    text = f"{cell(p['display_name'])}: {escaped(p['summary'])}\n{fields(told, colour=context.colour)}"
    if p["last_error"]:
        error = escaped(p["last_error"], lines=True).strip().replace("\n", "\n  ")
        text += f"\n\nlast error:\n  {error}"
    return text


STATUS = Command(
    _status,
    "The daemon and all plugins; with KEY, one plugin in a sentence, its details and its last log lines.",
    "status acme.weather",
    Argument("plugin", metavar="KEY", nargs="?", help="the plugin's key or id"),
    PSS,
    Argument(
        "-n",
        "--lines",
        type=whole(0, 10_000),
        metavar="N",
        default=_LOG_LINES,
        help=f"log lines to show ({_LOG_LINES})",
    ),
)
