"""pluginctl logs: a plugin's output and log records."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from client.cli.command import LEVELS, PLUGIN, Argument, Command, Commands, Options, since, whole
from client.cli.output import Context
from client.cli.render import escaped, now_ms
from client.cli.status import log_line
from supervisor.core.errors import Unavailable

if TYPE_CHECKING:
    from client.sync_client import Client
    from supervisor.wire.results import LogLine

POLL_S = 0.5
_POLL_LINES = 1000


class Tail:
    """Which lines are new, asked for again and again by time: those of the last millisecond come twice. Pure."""

    def __init__(self, since_ms: int) -> None:
        self.since_ms = since_ms
        self._shown_then: list[LogLine] = []

    def unseen(self, lines: list[LogLine]) -> list[LogLine]:
        """The lines of a page read from `since_ms` on that were not there before."""
        known = list(self._shown_then)
        fresh = []
        for line in lines:
            if line in known:
                known.remove(line)
            elif line["time_ms"] >= self.since_ms:
                fresh.append(line)
        if fresh:
            newest = max(line["time_ms"] for line in fresh)
            if newest > self.since_ms:
                self.since_ms, self._shown_then = newest, []
            self._shown_then += [line for line in fresh if line["time_ms"] == newest]
        return fresh


def _read(context: Context, options: Options) -> None:
    lines = _first(context.client, options)
    context.show(lines, "\n".join(map(log_line, lines)))


def _first(client: Client, options: Options) -> list[LogLine]:
    since_ms = None if options.since is None else since(options.since)
    return client.logs.read(options.plugin, options.tail, since_ms, options.level, options.run)


def _follow(context: Context, options: Options) -> None:
    if not options.follow:
        _read(context, options)
        return
    start_ms = now_ms()
    lines = _first(context.client, options)
    tail = Tail(lines[-1]["time_ms"] if lines else start_ms)
    tail.unseen(lines)
    lost = False
    while True:
        for line in lines:
            context.stream(line, log_line(line))
        time.sleep(POLL_S)
        try:
            page = context.client.logs.read(options.plugin, _POLL_LINES, tail.since_ms, options.level, options.run)
        except Unavailable as error:
            if not lost:
                context.note(f"pluginctl: {escaped(error.message)}; waiting for it")
            lines, lost = [], True
            continue
        lost = False
        lines = tail.unseen(page)
        if len(lines) == _POLL_LINES:
            context.note(f"pluginctl: more than {_POLL_LINES} lines came at once; some are not shown")


_FILTERS = (
    PLUGIN,
    Argument("-n", "--tail", type=whole(1, 10_000), metavar="N", default=100, help="the last so many lines (100)"),
    Argument("--since", metavar="WHEN", help="10m, 2h, 1d, or a date and time"),
    Argument("--level", choices=LEVELS, metavar="LEVEL", help="this level and above: debug, info, warning, error"),
    Argument("--run", metavar="ID", help="of this run only"),
)
COMMANDS: Commands = {
    "read": Command(_read, "The last lines of a plugin's log.", "logs read acme.weather -n 20", *_FILTERS),
    "follow": Command(
        _follow,
        "The last lines of a plugin's log; with -f, new ones as they come. `logs read` is the plain method.",
        "logs -f acme.weather --since 10m",
        Argument("-f", "--follow", action="store_true", help="go on until Ctrl-C; with --json, a line a record"),
        *_FILTERS,
    ),
}
