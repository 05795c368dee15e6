"""What `pluginctl top` shows: the daemon's answers as rows and lines, sorted and filtered. Pure."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from client.cli.plain import to_json
from client.cli.render import duration, when
from client.cli.top_text import Column, Line, Span, safe, table
from supervisor.core.cause import short_cause

if TYPE_CHECKING:
    from supervisor.wire.results import (
        DaemonInfo,
        DaemonStatus,
        EventInfo,
        LogLine,
        NextTime,
        PluginInfo,
        ProgressInfo,
        RunInfo,
    )

STYLES: Mapping[str, str] = {
    "running": "good",
    "starting": "busy",
    "stopping": "busy",
    "backoff": "busy",
    "pending": "busy",
    "queued": "busy",
    "error": "bad",
    "stopped": "faint",
    "disabled": "faint",
    "installed": "faint",
    "next": "faint",
    "warning": "busy",
    "critical": "bad",
    "stderr": "busy",
    "debug": "faint",
}
_BAD_EVENTS = ("plugin.worker_crashed", "plugin.error", "plugin.upgrade_failed", "job.run_failed", "job.run_timed_out")
_NOT_TOLD = frozenset(
    {
        *("run_id", "due_ms", "stderr_tail", "capabilities", "plugin", "trigger", "attempt"),
        *("reason", "exit_code", "signal", "state"),  # the cause, or the type of the event, says it
    }
)
"""Of events: what only programs want, or another pane shows."""
_VALUE_CHARACTERS = 100


@dataclass(frozen=True, slots=True)
class Seen:
    """What the daemon answered, all at about the same time."""

    info: DaemonInfo
    status: DaemonStatus
    plugins: Sequence[PluginInfo]
    runs: Sequence[RunInfo]
    """That have not ended."""
    next: Sequence[NextTime]
    at_ms: int


@dataclass(frozen=True, slots=True)
class View:
    """How the operator wants to see it."""

    order: str = "name"
    reverse: bool = False
    filter: str = ""

    def reordered(self) -> View:
        orders = list(ORDERS)
        return replace(self, order=orders[(orders.index(self.order) + 1) % len(orders)], reverse=False)

    def shows(self, text: str) -> bool:
        return self.filter.casefold() in text.casefold()


def _usage(plugin: PluginInfo, name: str) -> Any:
    usage = plugin.get("usage")
    return usage[name] if usage else None  # type: ignore[literal-required]


def state(plugin: PluginInfo) -> str:
    """One word for status and phase: the phase of what is ready, the status of the others."""
    if plugin["status"] == "ready":
        return safe(plugin["phase"])
    return {"upgrade_pending": "pending"}.get(plugin["status"], safe(plugin["status"]))


_URGENCY = ("error", "backoff", "pending", "starting", "stopping", "stopped", "running", "disabled", "installed")
ORDERS: Mapping[str, Callable[[PluginInfo], Any]] = {
    "name": lambda p: 0,
    "state": lambda p: _URGENCY.index(state(p)) if state(p) in _URGENCY else len(_URGENCY),
    "cpu": lambda p: -(_usage(p, "cpu_percent") or 0),
    "memory": lambda p: -(_usage(p, "rss_bytes") or 0),
    "restarts": lambda p: -p["restarts"],
    "calls": lambda p: -p.get("calls", 0),
    "uptime": lambda p: -(p["uptime_s"] or 0),
}
"""What plugins can be sorted by; the most first, and by name among equals."""


def arranged(plugins: Sequence[PluginInfo], view: View) -> list[PluginInfo]:
    """Those that the filter shows, in the order asked for."""
    shown = [p for p in plugins if view.shows(f"{p['key']} {state(p)}")]
    shown.sort(key=lambda p: (ORDERS[view.order](p), p["key"]), reverse=view.reverse)
    return shown


_PLUGIN_COLUMNS = (
    Column("PLUGIN", 12),
    Column("STATE", 9),
    Column("CPU%", 5, right=True, spare=1),
    Column("MEM", 5, right=True, spare=4),
    Column("RST", 4, right=True, spare=3),
    Column("CALLS", 5, right=True, spare=5),
    Column("BUSY", 4, right=True, spare=7),
    Column("UP", 6, right=True, spare=6),
    Column("LAST ERROR", 10, spare=2),
)


def plugin_table(plugins: Sequence[PluginInfo], width: int) -> tuple[Line, list[Line]]:
    """The line of heads, and a line a plugin."""
    return table(_PLUGIN_COLUMNS, [_plugin_row(p) for p in plugins], width)


def _plugin_row(plugin: PluginInfo) -> list[Span]:
    word, cpu = state(plugin), _usage(plugin, "cpu_percent")
    in_flight = plugin["calls_in_flight"]
    return [
        (safe(plugin["key"]), ""),
        (word, STYLES.get(word, "")),
        ("-" if cpu is None else f"{cpu:.0f}" if cpu >= 100 else f"{cpu:.1f}", ""),
        (size(_usage(plugin, "rss_bytes")), ""),
        (str(plugin["restarts"]), "busy" if plugin["restarts"] else ""),
        (count(plugin.get("calls", 0)), ""),
        (str(in_flight), "good" if in_flight else ""),
        (span(plugin["uptime_s"]), ""),
        what(plugin),
    ]


def what(plugin: PluginInfo) -> Span:
    """What is wrong, why it is not up, or what went wrong last."""
    cause = short_cause(plugin["last_error"]) if plugin["last_error"] else ""
    if plugin["waiting_for"]:
        return f"waits for {safe(', '.join(plugin['waiting_for']))}", "busy"
    if plugin["status"] == "disabled":
        return safe(plugin["disable_reason"] or ""), "faint"
    if plugin["phase"] == "backoff" and (seconds := plugin["next_restart_in_s"]) is not None:
        return f"again in {span(seconds)}: {safe(cause)}", "bad"
    if plugin["staged_version"]:
        return f"{safe(plugin['staged_version'])} waits for approval", "busy"
    return safe(cause), "bad" if plugin["status"] == "error" else "faint"


_JOB_COLUMNS = (Column("JOB", 12), Column("STATE", 7), Column("WHEN", 9, right=True), Column("", 8, spare=1))


def job_table(seen: Seen, view: View, now_ms: int, width: int) -> tuple[Line, list[Line]]:
    """Runs that have not ended, and below them when each job is due next."""
    first = {each["job"]: each for each in reversed(seen.next)}
    coming = sorted(first.values(), key=lambda each: (each["fire_ms"], each["job"]))
    rows = [*(_run_row(run, now_ms) for run in seen.runs), *(_next_row(each, now_ms) for each in coming)]
    return table(_JOB_COLUMNS, [row for row in rows if view.shows(row[0][0])], width, first_share=0.55)


def _run_row(run: RunInfo, now_ms: int) -> list[Span]:
    since_ms = run["started_ms"] or run["created_ms"]
    waits = f"waits for {safe(run['waiting_for'])}" if run["waiting_for"] else ""
    told = _progress(run["progress"]) or waits or safe(run["trigger"])
    word = safe(run["state"])
    return [
        (safe(run["job"]), ""),
        (word, STYLES.get(word, "")),
        (span(max(0, now_ms - since_ms) / 1000), ""),
        (told, "faint"),
    ]


def _progress(progress: ProgressInfo | None) -> str:
    if progress is None:
        return ""
    fraction = "" if progress["fraction"] is None else f"{100 * progress['fraction']:.0f} % "
    return f"{fraction}{safe(progress['message'] or '')}".strip()


def _next_row(each: NextTime, now_ms: int) -> list[Span]:
    at = (time_of_day(each["fire_ms"]), "faint")
    return [
        (safe(each["job"]), ""),
        ("next", STYLES["next"]),
        (f"in {span((each['fire_ms'] - now_ms) / 1000)}" if each["fire_ms"] > now_ms else "now", ""),
        at,
    ]


def event_line(event: EventInfo) -> Line:
    """Time, type, plugin and data of one event."""
    style = "bad" if event["type"] in _BAD_EVENTS else ""
    data, hidden = event["data"], _NOT_TOLD
    if event["type"] == "plugin.disabled":
        hidden = hidden - {"reason"}  # of an operator, not a word for programs
    told = [_told(name, value) for name, value in data.items() if name not in hidden and value not in (None, [])]
    return (
        (f"{time_of_day(event['at_ms'])} ", "faint"),
        (f"{safe(event['type'])} ", style),
        (f"{safe(event['plugin'])} ", "strong"),
        (" ".join(told), ""),
    )


def _told(name: str, value: object) -> str:
    text = value if isinstance(value, str) else f"{value:.3g}" if isinstance(value, float) else to_json(value)
    text = text if len(text) <= _VALUE_CHARACTERS else f"{text[:_VALUE_CHARACTERS]}…"
    return f"{safe(name)}={safe(text)}"


def log_line(line: LogLine) -> Line:
    """Time, level and message of one line of a log; of its fields what there is room for."""
    word = safe(line["level"] if line["stream"] == "log" else line["stream"])
    fields = "".join(f" {_told(name, value)}" for name, value in line["fields"].items())
    text = f"{safe(line['message'])}{fields}"
    return (f"{time_of_day(line['time_ms'])} ", "faint"), (f"{word:<7} ", STYLES.get(word, "faint")), (text, "")


def head_line(seen: Seen, now_ms: int) -> Line:
    """The daemon in a line: version, uptime, runs in flight, plugins by state."""
    uptime_s = seen.status["uptime_s"] + max(0, now_ms - seen.at_ms) // 1000
    counts: dict[str, int] = {}
    for plugin in seen.plugins:
        counts[state(plugin)] = counts.get(state(plugin), 0) + 1
    spans: list[Span] = [
        (f"plugind {safe(seen.info['version'])}", "strong"),
        (f"  up {span(uptime_s)}  {_counted(seen.status['runs_in_flight'], 'run')}", ""),
        (f"  {_counted(len(seen.plugins), 'plugin')}: ", ""),
    ]
    for word, number in sorted(counts.items(), key=lambda item: -item[1]):
        spans += [(f"{number} {word}", STYLES.get(word, "")), (", ", "")]
    return tuple(spans[:-1])


def alerts(seen: Seen, now_ms: int) -> list[Line]:
    """What the operator ought to know, the weightiest first."""
    status = seen.status
    lines: list[Line] = []
    if status["stopping"]:
        lines.append((("plugind is stopping", "bad"),))
    if (held_ms := status["jobs_held_since_ms"]) is not None:
        lines.append(
            ((f"all jobs were paused {when(held_ms, now_ms)}; `pluginctl jobs resume --all` goes on", "busy"),)
        )
    lines += [((f"warning: {safe(warning)}", "busy"),) for warning in status["warnings"]]
    return lines


def span(seconds: float | None) -> str:
    """As in `5s`, `3m`, `2h 5m`: to the second, for what is drawn again all the time."""
    return f"{int(seconds)}s" if seconds is not None and 0 <= seconds < 10 else duration(seconds)


def time_of_day(instant_ms: int) -> str:
    """Local, to the second."""
    return time.strftime("%H:%M:%S", time.localtime(instant_ms / 1000))


def count(number: int) -> str:
    """As in `999`, `12k`, `3.4M`."""
    return _scaled(number, 1000, ("", "k", "M", "G"))


def size(number: int | None) -> str:
    """As in `24M`, `1.2G`; units of 1024 bytes."""
    return "-" if number is None else _scaled(number, 1024, ("B", "K", "M", "G", "T"))


def _scaled(number: float, step: int, units: Sequence[str]) -> str:
    unit = 0
    while number >= step and unit < len(units) - 1:
        number, unit = number / step, unit + 1
    return f"{number:.1f}{units[unit]}" if unit and number < 10 else f"{number:.0f}{units[unit]}"


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
