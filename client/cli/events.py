"""pluginctl events: what happened, and what happens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from client.cli.command import Argument, Command, Commands, Options, UsageError, since, whole
from client.cli.output import Context
from client.cli.plain import to_json
from client.cli.render import clock, escaped

if TYPE_CHECKING:
    from client.sync_client import Client
    from supervisor.wire.results import EventInfo, EventPage

_PAGE = 1000
_NEWEST = 20


def _line(event: EventInfo) -> str:
    data = "".join(f" {escaped(name)}={_value(value)}" for name, value in event["data"].items() if value is not None)
    return f"{event['seq']:>6} {clock(event['at_ms'])} {escaped(event['type']):<22} {escaped(event['plugin'])}{data}"


def _value(value: object) -> str:
    text = value if isinstance(value, str) and value.isprintable() and " " not in value else to_json(value)
    return text if len(text) <= 200 else f"{text[:199]}…"


def _page(client: Client, options: Options, usual: int) -> EventPage:
    """What was asked for: the newest, `usual` of them, what came after a number, or all since an instant."""
    if options.since is None:
        return client.events.list(options.after, options.type, options.plugin, options.limit or usual)
    if options.after is not None:
        raise UsageError("--since and --after cannot stand together: keep one of them")
    after = _seq_before(client, since(options.since))
    found: list[EventInfo] = []
    while True:
        page = client.events.list(after, options.type, options.plugin, _PAGE)
        found += page["events"]
        if not page["events"]:
            return {"events": found[-options.limit :] if options.limit else found, "last_seq": page["last_seq"]}
        after = page["events"][-1]["seq"]


def _seq_before(client: Client, instant_ms: int) -> int:
    """The number of the last event before an instant, looked for by halves: numbers and instants grow together."""
    low, high = 0, client.events.list(None, (), (), 1)["last_seq"]
    while low < high:
        middle = (low + high) // 2
        following = client.events.list(middle, (), (), 1)["events"]
        if following and following[0]["at_ms"] < instant_ms:
            low = following[0]["seq"]
        else:
            high = middle
    return low


def _list(context: Context, options: Options, usual: int = 100) -> None:
    page = _page(context.client, options, usual)
    context.show(page, "\n".join(map(_line, page["events"])) or "nothing happened")


def _follow(context: Context, options: Options) -> None:
    if not options.follow:
        _list(context, options, _NEWEST)
        return
    after = options.after
    if after is None:
        # What was first, for orientation; the stream goes on exactly where that ends.
        page = _page(context.client, options, _NEWEST)
        after = page["last_seq"]
        for event in page["events"]:
            context.stream(event, _line(event))
    with context.client.events_stream(after, options.type, options.plugin) as stream:
        for event in stream:
            context.stream(event, _line(event))


_FILTERS = (
    Argument("--after", type=whole(0, 1 << 62), metavar="SEQ", help="what came after this one"),
    Argument("--since", metavar="WHEN", help="all since then: 10m, 2h, 1d, or a date and time"),
    Argument("--type", action="append", default=[], metavar="GLOB", help="such as 'job.*'; may be repeated"),
    Argument("--plugin", action="append", default=[], metavar="KEY", help="of this plugin; may be repeated"),
)
COMMANDS: Commands = {
    "list": Command(
        _list,
        "A page of events, oldest first; without --after the newest.",
        "events list --after 1200 --limit 500",
        *_FILTERS,
        Argument("-n", "--limit", type=whole(1, 1000), metavar="N", help="at most so many (100)"),
    ),
    "follow": Command(
        _follow,
        "The newest events; with -f, what happens from now on. `events list` is the plain method.",
        "events -f --type 'plugin.*'",
        Argument("-f", "--follow", action="store_true", help="go on until Ctrl-C; with --json, a line an event"),
        *_FILTERS,
        Argument("-n", "--limit", type=whole(1, 1000), metavar="N", help="how many of the newest (20)"),
    ),
}
