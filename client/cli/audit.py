"""pluginctl audit: who has changed what."""

from __future__ import annotations

from client.cli.command import Argument, Command, Commands, Options, UsageError, output, since, whole
from client.cli.output import Context
from client.cli.render import clock, table

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from supervisor.wire.results import AuditEntry

_PAGE = 1000
_NEWEST = 50
_NARROW = 110
_HEADS = ("TIME", "USER", "METHOD", "TARGET", "RESULT")
_WIDE = ("SEQ", "ROLE", "UID", "PID", "PROGRAM", "CLIENT", "TOOK", "REQUEST")


def _list(context: Context, options: Options) -> None:
    entries = _entries(context, options)
    context.show(entries, _table(context, entries) if entries else "nothing was changed")


def _entries(context: Context, options: Options) -> list[AuditEntry]:
    """Newest first, page by page."""
    filters = {
        "methods": options.method,
        "uid": None if options.user is None else _uid(options.user),
        "target": options.target or options.of,
        "result": options.result,
        "since_ms": None if options.since is None else since(options.since),
        "until_ms": None if options.until is None else since(options.until, "--until"),
    }
    entries: list[AuditEntry] = []
    before = options.before
    while (left := options.limit - len(entries)) > 0:
        page = context.client.audit.list(before=before, limit=min(left, _PAGE), **filters)
        if not page:
            break
        entries += page
        before = page[-1]["seq"]
    return entries


def _uid(user: str) -> int:
    if user.isdecimal():
        return int(user)
    import pwd

    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise UsageError(f"--user {user!r} is neither a user of this machine nor a number") from None


def _table(context: Context, entries: list[AuditEntry]) -> str:
    """On a narrow terminal what is long comes last, and is cut; the message is left to wide ones."""
    wide, narrow = context.output == "wide", (context.width or _NARROW) < _NARROW
    heads = [*_HEADS, *(_WIDE if wide else ()), "MESSAGE"]
    if narrow:
        heads = ["TIME", "USER", "METHOD", "RESULT", "TARGET"]
    rows = [_row(entry) for entry in entries]
    cells = [[row[head] for head in heads] for row in rows]
    return table(heads, cells, width=context.width, colour=context.colour)


def _row(entry: AuditEntry) -> dict[str, object]:
    took_ms = entry["duration_ms"]
    return {
        "TIME": clock(entry["at_ms"]),
        "USER": entry["user"] or entry["uid"],
        "METHOD": entry["method"],
        "TARGET": entry["target"],
        "RESULT": entry["result"],
        "SEQ": entry["seq"],
        "ROLE": entry["role"],
        "UID": entry["uid"],
        "PID": entry["pid"],
        "PROGRAM": entry["exe"],
        "CLIENT": entry["client"],
        "TOOK": None if took_ms is None else f"{took_ms} ms",
        "REQUEST": entry["request_id"],
        "MESSAGE": _message(entry),
    }


def _message(entry: AuditEntry) -> str:
    return " ".join((entry["message"] or "").split())


COMMANDS: Commands = {
    "list": Command(
        _list,
        "Who has changed what, newest first; -o wide also says with which program and how long it took.",
        "audit acme.weather --since 1d",
        Argument(
            "of", metavar="TARGET", nargs="?", help="only what was about this: a plugin, job, run, source or path"
        ),
        Argument("--target", metavar="TARGET", help="the same"),
        Argument("--method", action="append", default=[], metavar="GLOB", help="as 'plugins.*'; may be repeated"),
        Argument("--user", metavar="USER", help="only by this user, by name or uid"),
        Argument("--result", metavar="RESULT", help="ok, the name of an error, cut_short or under_way"),
        Argument("--since", metavar="WHEN", help="10m, 2h, 1d, or a date and time"),
        Argument("--until", metavar="WHEN", help="likewise"),
        Argument("--before", type=whole(1, 1 << 62), metavar="SEQ", help="go on behind this entry (-o wide shows SEQ)"),
        Argument(
            "-n", "--limit", type=whole(1, 1_000_000), metavar="N", default=_NEWEST, help=f"at most so many ({_NEWEST})"
        ),
        output("wide", "json"),
    ),
}
