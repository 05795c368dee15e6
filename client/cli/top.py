"""pluginctl top: a live view of the daemon and its plugins; one snapshot of it where there is no terminal."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from client.cli.command import Argument, Command, Commands, Options, seconds
from client.cli.output import Context
from client.cli.render import now_ms

if TYPE_CHECKING:
    from client.cli.top_model import Seen
    from client.cli.top_text import Line
    from client.sync_client import Client
    from supervisor.wire.results import EventInfo

_INTERVAL_S = 0.5
_ANSWER_S = 5.0
"""After that a daemon counts as gone: nobody looks at a screen that stands still for half a minute."""
_EVENTS = 10


def _top(context: Context, options: Options) -> int:
    from client.cli.top_feed import look

    first = look(context.client, now_ms)
    if options.svg:
        _draw(context, options, first)
    elif options.once or context.json:
        _once(context, first)
    elif not _can_show():
        context.note("pluginctl: there is no terminal to show it on, so this is one snapshot, as with --once")
        _once(context, first)
    else:
        from client.cli.top_app import show

        context.close()  # its threads have clients of their own
        return show(lambda: _client(context), first, interval_s=options.interval, clock=now_ms)
    return 0


def _can_show() -> bool:
    # textual draws on stderr, which is the terminal even where stdout is a pipe.
    streams = (sys.stdin, sys.stdout, sys.stderr)
    return all(stream.isatty() for stream in streams) and os.environ.get("TERM") not in {None, "", "dumb"}


def _client(context: Context) -> Client:
    from client.sync_client import Client

    # A lost connection is to be told at once: the screen goes on by itself.
    return Client(context.socket, timeout_s=_ANSWER_S, reconnect_s=0, name="pluginctl top")


def _draw(context: Context, options: Options, first: Seen) -> None:
    from client.cli.top_app import image

    drawn = image(lambda: _client(context), first, interval_s=options.interval, clock=now_ms)
    with open(options.svg, "w", encoding="utf-8") as file:
        file.write(drawn)
    context.note(f"an image of the screen is in {options.svg}")


def _once(context: Context, seen: Seen) -> None:
    events = context.client.events.list(limit=_EVENTS)["events"]
    value = {
        "daemon": {**seen.info, **seen.status},
        "plugins": seen.plugins,
        "runs": seen.runs,
        "next": seen.next,
        "events": events,
    }
    context.show(value, "" if context.json else snapshot(seen, events, context.width))


def snapshot(seen: Seen, events: list[EventInfo], width: int | None) -> str:
    """All of it as plain text; cut at `width` columns."""
    from client.cli.top_model import View, alerts, arranged, event_line, head_line, job_table, plugin_table
    from client.cli.top_text import UNLIMITED, fitted, plain

    def text(lines: list[Line]) -> list[str]:
        return [fitted(plain(line), width).rstrip() if width else plain(line) for line in lines]

    view = View()
    plugin_heads, plugins = plugin_table(arranged(seen.plugins, view), width or UNLIMITED)
    job_heads, jobs = job_table(seen, view, seen.at_ms, width or UNLIMITED)
    parts = [
        [head_line(seen, seen.at_ms), *alerts(seen, seen.at_ms)],
        [plugin_heads, *plugins] if plugins else [],
        [job_heads, *jobs] if jobs else [],
        [event_line(event) for event in events],
    ]
    return "\n\n".join("\n".join(text(part)) for part in parts if part)


def _interval(text: str) -> float:
    return max(0.1, seconds(text))


COMMANDS: Commands = {
    "top": Command(
        _top,
        "A live view: plugins and what they use, jobs, events, a log; keys act on a plugin (? lists them).",
        "top --interval 2",
        Argument(
            "--interval",
            type=_interval,
            metavar="S",
            default=_INTERVAL_S,
            help=f"look and draw every S seconds at most ({_INTERVAL_S:g}); more for a slow link",
        ),
        Argument("--once", action="store_true", help="print one snapshot as text, as without a terminal"),
        Argument("--svg", metavar="FILE", help="write an image of the screen to FILE"),
    ),
}
