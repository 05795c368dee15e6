"""pluginctl status: the daemon and all plugins, or some of them as a person wants to see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from client.cli.command import PSS, Argument, Command, Commands, Options, whole
from client.cli.output import Context
from client.cli.render import clock, escaped
from client.cli.several import chosen, for_each, is_one

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from typing import Any

    from supervisor.wire.results import EventInfo, LogLine, PluginDetails

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


def _status(context: Context, options: Options) -> int:
    words = options.plugins
    if not words:
        _status_of_all(context)
        return 0
    if is_one(words):
        context.about = words[0]
        found = _one(context, words[0], options)
        context.show(found, _text(context, found))
        return 0
    shown: list[str] = []

    def text(found: Mapping[str, Any]) -> str:
        """Apart from the one before."""
        shown.append(found["key"])
        return ("\n" if len(shown) > 1 else "") + _text(context, found)

    return for_each(context, chosen(context, words), lambda plugin: _one(context, plugin, options), text)


def _one(context: Context, plugin: str, options: Options) -> dict[str, Any]:
    client = context.client
    details = client.plugins.get(plugin, pss=options.pss)
    given_up = _given_up(client.events.list(None, _SINCE, [plugin], 1)["events"], details)
    lines = client.logs.read(plugin, tail=options.lines) if options.lines > 0 else []
    return {**details, "given_up": given_up, "log": lines}


def _text(context: Context, found: Mapping[str, Any]) -> str:
    if context.json:
        return ""
    from client.cli.status_text import plugin_text

    details: Any = found
    text = plugin_text(context, details, found["given_up"])
    if found["log"]:
        # A line may have 64 KiB; `pluginctl logs` shows it whole.
        text += "\n\n" + "\n".join(_shortened(log_line(line)) for line in found["log"])
    return text


def _given_up(newest: Sequence[EventInfo], details: PluginDetails) -> dict[str, object] | None:
    """The version that plugind itself went back from, if nobody has changed the version since."""
    for event in newest:
        data = event["data"]
        if event["type"] == _WENT_BACK and data.get("reason") and data.get("to") == details["version"]:
            return {"version": data.get("from"), "back": data["to"], "reason": data["reason"], "at_ms": event["at_ms"]}
    return None


def _shortened(text: str) -> str:
    return text if len(text) <= _LINE_CHARACTERS else f"{text[: _LINE_CHARACTERS - 1]}…"


def _status_of_all(context: Context) -> None:
    from client.cli.plugin_list import plugin_table
    from client.cli.status_text import attention_text, daemon_text

    client = context.client
    info, status, plugins = client.daemon.info(), client.daemon.status(), client.plugins.list()
    parts = [
        daemon_text(context, info, status, plugins),
        attention_text(context, plugins),
        plugin_table(context, plugins),
    ]
    text = "\n\n".join(filter(None, parts))
    context.show({"daemon": {**info, **status}, "plugins": plugins}, text)


COMMANDS: Commands = {
    "status": Command(
        _status,
        "The daemon and all plugins; with KEY, a plugin in a sentence, its details and its last log lines. The exit "
        "code is 0 whatever they are: `wait KEY --timeout 1s` and `health KEY` fail where one does not run.",
        "status acme.weather",
        Argument("plugins", metavar="KEY", nargs="*", help="a plugin's key or id; several, or a pattern as 'acme.*'"),
        PSS,
        Argument(
            "-n",
            "--lines",
            type=whole(0, 10_000),
            metavar="N",
            default=_LOG_LINES,
            help=f"log lines to show ({_LOG_LINES})",
        ),
    ),
}
