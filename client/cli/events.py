"""pluginctl events: what happened, and what happens."""

from __future__ import annotations

from collections import deque

from client.cli.command import Argument, Command, Commands, Options, UsageError, output, since, whole
from client.cli.output import Context
from client.cli.plain import to_json
from client.cli.render import clock, escaped, shortened

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from typing import Any

    from client.sync_client import Client
    from supervisor.wire.results import EventInfo, EventPage

_PAGE = 1000
_NEWEST = 20


def _line(event: EventInfo) -> str:
    data = "".join(f" {escaped(name)}={_value(value)}" for name, value in event["data"].items() if value is not None)
    return f"{event['seq']:>6} {clock(event['at_ms'])} {escaped(event['type']):<22} {escaped(event['plugin'])}{data}"


def _shown(context: Context, event: EventInfo) -> str:
    """On a terminal an event is a line."""
    line = _line(event)
    return line if context.width is None else shortened(line, context.width)


def _value(value: object) -> str:
    text = value if isinstance(value, str) and value.isprintable() and " " not in value else to_json(value)
    return text if len(text) <= 200 else f"{text[:199]}…"


def _page(client: Client, options: Options, usual: int) -> EventPage:
    """What was asked for: the newest, `usual` of them, what came after a number, or all since an instant."""
    until_ms = None if options.until is None else since(options.until, "--until")
    filters = {"types": options.type, "plugins": options.plugin, "jobs": options.job, "until_ms": until_ms}
    if options.since is not None:
        if options.after is not None:
            raise UsageError("--since and --after cannot stand together: keep one of them")
        return _since(client, since(options.since), options.limit, filters)
    if options.after is not None:
        return client.events.list(after_seq=options.after, limit=options.limit or usual, **filters)
    return client.events.list(limit=options.limit or usual, **filters)


def _since(client: Client, since_ms: int, most: int | None, filters: dict[str, Any]) -> EventPage:
    """All since then, page by page, or the newest `most` of them."""
    page = client.events.list(since_ms=since_ms, limit=_PAGE, **filters)
    found = deque(page["events"], most)
    while page["events"]:
        page = client.events.list(after_seq=page["events"][-1]["seq"], limit=_PAGE, **filters)
        found += page["events"]
    return {"events": list(found), "last_seq": page["last_seq"]}


def _list(context: Context, options: Options, usual: int = 100) -> None:
    page = _page(context.client, options, usual)
    context.show(page, "\n".join(_shown(context, event) for event in page["events"]) or "nothing happened")


def _follow(context: Context, options: Options) -> None:
    if not options.follow:
        _list(context, options, _NEWEST)
        return
    if options.until is not None:
        raise UsageError("-f goes on for ever, so it cannot stand with --until: keep one of them")
    after = options.after
    if after is None:
        # What was first, for orientation; the stream goes on exactly where that ends.
        page = _page(context.client, options, _NEWEST)
        after = page["last_seq"]
        for event in page["events"]:
            context.stream(event, _shown(context, event))
    with context.client.events(after=after, types=options.type, plugins=options.plugin, jobs=options.job) as stream:
        for event in stream:
            context.stream(event, _shown(context, event))


_FILTERS = (
    Argument("--after", type=whole(0, 1 << 62), metavar="SEQ", help="what came after this one"),
    Argument("--since", metavar="WHEN", help="all since then: 10m, 2h, 1d, or a date and time"),
    Argument("--until", metavar="WHEN", help="nothing later, likewise"),
    Argument("--type", action="append", default=[], metavar="GLOB", help="such as 'job.*'; may be repeated"),
    Argument("--plugin", action="append", default=[], metavar="KEY", help="of this plugin; may be repeated"),
    Argument("--job", action="append", default=[], metavar="JOB", help="of this job, as PLUGIN/KEY; may be repeated"),
    output("wide", "json"),
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
