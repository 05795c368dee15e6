"""pluginctl list: a line a plugin."""

from __future__ import annotations

from client.cli.command import STATUSES, Argument, Command, Commands, Options, output
from client.cli.output import Context
from client.cli.render import duration, table
from client.cli.several import is_pattern
from client.cli.usage import megabytes
from client.errors import NotFound
from supervisor.core.cause import short_cause

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.wire.results import PluginInfo

_NARROW = 110
_LEFT_OUT = ("VERSION", "PID")
_LEFT_OUT_TOO = ("RESTARTS", "UPTIME")
"""On a terminal with fewer columns than that, to leave room for what is wrong; with usage those too."""


def plugin_table(context: Context, plugins: Sequence[PluginInfo], *, usage: bool = False) -> str:
    """The last column says what is wrong, or what comes next; `usage`: what each worker takes stands before it."""
    if not plugins:
        return "no plugins; `pluginctl install SOURCE` installs one, `pluginctl new NAME` writes one"
    wide = context.output == "wide"
    rows = [
        {**_row(p), **(_usage(p) if usage else {}), **(_wide(p) if wide else {}), "WHAT": _what(p)} for p in plugins
    ]
    narrow = (context.width or _NARROW) < _NARROW
    left_out = (*_LEFT_OUT, *(_LEFT_OUT_TOO if usage else ())) if narrow else ()
    heads = [head for head in rows[0] if head not in left_out]
    cells = [[row[head] for head in heads] for row in rows]
    return table(heads, cells, width=context.width, colour=context.colour)


def _row(p: PluginInfo) -> dict[str, object]:
    return {
        "KEY": p["key"],
        "VERSION": p["version"],
        "STATUS": p["status"],
        "PHASE": p["phase"],
        "PID": p["pid"],
        "RESTARTS": p["restarts"],
        "UPTIME": duration(p["uptime_s"]),
    }


def _usage(p: PluginInfo) -> dict[str, object]:
    use = p.get("usage")
    cpu = None if use is None or use["cpu_percent"] is None else f"{use['cpu_percent']:.1f}%"
    return {
        "CPU": cpu,
        "MEMORY": None if use is None else megabytes(use["rss_bytes"]),
        "CALLS": p["calls"],
    }


def _wide(p: PluginInfo) -> dict[str, object]:
    return {
        "CRASHES": p["crashes"],
        "IN FLIGHT": p["calls_in_flight"],
        "BEFORE": p["previous_version"],
        "WAITS": p["staged_version"],
        "ID": p["id"],
    }


def _what(p: PluginInfo) -> str:
    if p["last_error"] and not p["waiting_for"]:
        return short_cause(p["last_error"])
    return " ".join((p["disable_reason"] or (p["summary"] if p["phase"] != "running" else "")).split())


def _meant(plugins: Sequence[PluginInfo], words: Sequence[str]) -> list[PluginInfo]:
    """Those of these keys, ids or patterns, in the order that they had.

    Raises:
        NotFound: one that is no pattern names none of them.
    """
    from fnmatch import fnmatchcase

    found: set[str] = set()
    for word in words:
        ids = {p["id"] for p in plugins if word == p["id"] or fnmatchcase(p["key"], word)}
        if not ids and not is_pattern(word):
            raise NotFound(f"there is no plugin {word!r} among those to list", plugin=word)
        found |= ids
    return [plugin for plugin in plugins if plugin["id"] in found]


def _list(context: Context, options: Options) -> None:
    plugins = context.client.plugins.list(options.status, options.all, options.usage)
    if options.plugins:
        plugins = _meant(plugins, options.plugins)
    context.show_list(plugins, "key", plugin_table(context, plugins, usage=options.usage))


COMMANDS: Commands = {
    "list": Command(
        _list,
        "All plugins, or those of these keys, in install order.",
        "list 'acme.*' --usage",
        Argument("plugins", metavar="KEY", nargs="*", help="a key or id; several, or a pattern such as 'acme.*' (all)"),
        Argument("--status", choices=STATUSES, metavar="STATUS", help=f"only those that are {', '.join(STATUSES)}"),
        Argument("-a", "--all", action="store_true", help="uninstalled ones too"),
        Argument("-u", "--usage", action="store_true", help="with the CPU and memory that each worker uses"),
        output("wide", "json", "name"),
    ),
}
