"""pluginctl logs: a plugin's output and log records."""

from __future__ import annotations

from client.cli.command import (
    LEVELS,
    PLUGIN,
    Argument,
    Command,
    Commands,
    Options,
    UsageError,
    since,
    whole,
)
from client.cli.log_lines import follow_until
from client.cli.output import Context
from client.cli.render import escaped
from client.cli.status import log_line
from client.errors import NotFound

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from supervisor.wire.results import LogLine

_NEWEST = 100
_AT_ONCE = 10_000
"""Lines that one answer may hold."""
_FULL_BYTES = 1024 * 1024
"""An answer with more than that may have left lines out."""
_MOST = 1_000_000
_WHOLE_ID = 36
STREAMS = ("stdout", "stderr", "log", "plugind")


def _read(context: Context, options: Options) -> None:
    since_ms, until_ms = _instant(options.since, "--since"), _instant(options.until, "--until")
    if until_ms is not None and (options.tail or 0) > _AT_ONCE:
        raise UsageError(f"-n {options.tail} cannot stand with --until: at most {_AT_ONCE} then, or --since instead")
    lines = _lines(context, options, since_ms, until_ms)
    if context.json:
        context.show(list(lines), "")
        return
    for line in lines:
        context.say(log_line(line))


def _lines(context: Context, options: Options, since_ms: int | None, until_ms: int | None) -> Iterable[LogLine]:
    """From one answer where it holds them all; else one after the other."""
    plugin, run = options.plugin, _run_id(context, options.run)
    filters: dict[str, Any] = {"level": options.level, "run": run, "stream": options.stream}
    most = options.tail or (_NEWEST if since_ms is None else None)
    read = context.client.logs.read
    if most is not None and most <= _AT_ONCE:
        lines = read(plugin, most, since_ms, until_ms=until_ms, **filters)
        if len(lines) == most or _bytes(lines) < _FULL_BYTES:
            return lines
        if until_ms is not None and since_ms is None:
            context.note("there may be older lines that did not fit into one answer: --since shows all since then")
            return lines
    newest = read(plugin, 1, since_ms, until_ms=until_ms, **filters)
    return follow_until(context, newest[0], plugin, most, since_ms, **filters) if newest else ()


def _bytes(lines: Sequence[LogLine]) -> int:
    """Of all that is long in them, about."""
    return sum(len(line["message"]) + len(str(line["fields"])) for line in lines)


def _instant(text: str | None, option: str) -> int | None:
    return None if text is None else since(text, option)


def _run_id(context: Context, text: str | None) -> str | None:
    """The whole id, where `text` is the beginning of one, as `runs list` shows them on a terminal."""
    if text is None or len(text) >= _WHOLE_ID:
        return text
    try:
        return context.client.jobs.get_run(text)["id"]
    except NotFound:
        return text  # its lines may outlast its row


def _follow(context: Context, options: Options) -> None:
    if not options.follow:
        _read(context, options)
        return
    if options.until is not None:
        raise UsageError("-f goes on for ever, so it cannot stand with --until: keep one of them")
    since_ms = _instant(options.since, "--since")
    stream = context.client.logs(
        options.plugin,
        options.tail if since_ms is not None or options.tail is not None else _NEWEST,
        since_ms,
        options.level,
        _run_id(context, options.run),
        options.stream,
        on_notice=lambda text: context.tell(f"pluginctl: {escaped(text)}"),
    )
    with stream:
        for line in stream:
            context.stream(line, log_line(line))


_FILTERS = (
    PLUGIN,
    Argument(
        "-n",
        "--tail",
        type=whole(1, _MOST),
        metavar="N",
        help=f"the last so many lines ({_NEWEST}; with --since all since then)",
    ),
    Argument("--since", metavar="WHEN", help="10m, 2h, 1d, or a date and time"),
    Argument("--until", metavar="WHEN", help="likewise"),
    Argument("--level", choices=LEVELS, metavar="LEVEL", help="this level and above: debug, info, warning, error"),
    Argument("--run", metavar="ID", help="of this run only; the beginning of its id will do"),
    Argument("--stream", choices=STREAMS, metavar="NAME", help=f"only {', '.join(STREAMS)}: where a line comes from"),
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
