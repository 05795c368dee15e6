"""pluginctl events: what happened, and what happens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from client.cli.command import Argument, Command, Commands, Options
from client.cli.output import Context
from client.cli.plain import to_json
from client.cli.render import clock, escaped

if TYPE_CHECKING:
    from supervisor.wire.results import EventInfo


def _line(event: EventInfo) -> str:
    data = "".join(f" {escaped(name)}={_value(value)}" for name, value in event["data"].items() if value is not None)
    return f"{event['seq']:>6} {clock(event['at_ms'])} {escaped(event['type']):<22} {escaped(event['plugin'])}{data}"


def _value(value: object) -> str:
    text = value if isinstance(value, str) and value.isprintable() and " " not in value else to_json(value)
    return text if len(text) <= 200 else f"{text[:199]}…"


def _list(context: Context, options: Options) -> None:
    page = context.client.events.list(options.after, options.type, options.plugin, options.limit)
    context.show(page, "\n".join(map(_line, page["events"])) or "nothing happened")


def _follow(context: Context, options: Options) -> None:
    if not options.follow:
        _list(context, options)
        return
    after = options.after
    if after is None:
        # The newest first, for orientation; the stream goes on exactly where they end.
        page = context.client.events.list(None, options.type, options.plugin, options.limit)
        after = page["last_seq"]
        for event in page["events"]:
            context.stream(event, _line(event))
    with context.client.events_stream(after, options.type, options.plugin) as stream:
        for event in stream:
            context.stream(event, _line(event))


_FILTERS = (
    Argument("--after", type=int, metavar="SEQ", help="what came after this one"),
    Argument("--type", action="append", default=[], metavar="GLOB", help="such as 'job.*'; may be repeated"),
    Argument("--plugin", action="append", default=[], metavar="KEY", help="of this plugin; may be repeated"),
)
COMMANDS: Commands = {
    "list": Command(
        _list,
        "A page of events, oldest first; without --after the newest.",
        "events list --after 1200 --limit 500",
        *_FILTERS,
        Argument("-n", "--limit", type=int, default=100, help="at most so many (100)"),
    ),
    "follow": Command(
        _follow,
        "The newest events; with -f, what happens from now on. `events list` is the plain method.",
        "events -f --type 'plugin.*'",
        Argument("-f", "--follow", action="store_true", help="go on until Ctrl-C; with --json, a line an event"),
        *_FILTERS,
        Argument("-n", "--limit", type=int, default=20, help="how many of the newest (20)"),
    ),
}
