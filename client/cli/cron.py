"""pluginctl cron: when a schedule is due, in words and times, without a daemon."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import NoReturn
from zoneinfo import ZoneInfo

from client.cli.command import Argument, Command, Commands, Options, UsageError, whole
from client.cli.output import Context
from client.cli.render import now_ms, wrapped
from supervisor.jobs.cron import Schedule, ScheduleError
from supervisor.jobs.cron_fields import DROP_SECONDS, SET_SECONDS
from supervisor.jobs.cron_preview import (
    Declaration,
    Effect,
    effects,
    next_times,
    wall_ms,
    without_effect,
)
from supervisor.jobs.cron_words import date_text, offset_text

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_YEARS = range(1970, 2200)
_FIELDS = ("second", "minute", "hour", "day of month", "month", "day of week")
_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_DRAWS = re.compile(r"(?:^|[\s,])H", re.IGNORECASE)
_EXAMPLE = "H draws from the name of the job: without --job PLUGIN/KEY its place is only an example"
_HELP = "`pluginctl cron --help` says how to write it"
_AT_START = "at the next start of plugind"


def _cron(context: Context, options: Options) -> None:
    declared = _declared(options)
    schedule = _parsed(declared, options)
    after_ms = now_ms() if options.after is None else _after_ms(options.after, schedule.zone)
    times = next_times(schedule, after_ms, options.count)
    if not times and not schedule.on_start:
        _refuse_past(declared, _local(after_ms, schedule.zone))
    concerned = effects(declared, after_ms, times[-1] if times else None)
    is_example = not options.job and _DRAWS.search(declared.text or "") is not None
    facts = {
        "words": declared.words(),
        "zone": schedule.zone,
        "after": _local(after_ms, schedule.zone).isoformat(),
        "next": [_local(due_ms, schedule.zone).isoformat() for due_ms in times],
        "dst": [_effect_facts(effect, schedule.zone) for effect in concerned],
        "example": is_example,
    }
    lines = {
        "schedule": [declared.words()],
        "time zone": [schedule.zone],
        "after": [_moment(_local(after_ms, schedule.zone)) + (" (now)" if options.after is None else "")],
        "next": _rows(times, after_ms, schedule) or [_AT_START],
        "clock changes": [_sentence(effect) for effect in concerned] or [without_effect(declared, after_ms)],
        "note": [_EXAMPLE] if is_example else [],
    }
    context.show(facts, _labelled(lines, context.width))


def _declared(options: Options) -> Declaration:
    text = " ".join(options.expr) if options.expr else None
    if sum(given is not None for given in (text, options.every, options.at)) != 1:
        raise UsageError("write one of EXPR, --every and --at", "example: pluginctl cron '*/15 9-17 * * mon-fri'")
    if options.job is not None:
        _check_job(options.job)
    return Declaration(
        text=text,
        zone=options.zone,
        seconds=options.seconds,
        identity=options.job or "",
        every=options.every,
        at=options.at,
    )


def _check_job(name: str) -> None:
    from supervisor.core.plugin import key_problem

    plugin, _, key = name.partition("/")
    if key_problem(plugin) or key_problem(key):
        raise UsageError(f"--job {name!r} is no job; write PLUGIN/KEY, such as acme.weather/refresh", _HELP)


def _parsed(declared: Declaration, options: Options) -> Schedule:
    try:
        return declared.parsed()
    except ScheduleError as error:
        hint = "quote the expression, or the shell puts file names in the place of *" if len(options.expr) > 1 else ""
        reason = error.reason.replace(SET_SECONDS, "say --seconds").replace(DROP_SECONDS, "leave out --seconds")
        _refuse(error.field, reason, _pointed_out(declared.text or "", error.field) or hint or _HELP)


def _refuse(field: str, reason: str, hint: str) -> NoReturn:
    raise UsageError(f"{field}: {reason}", hint, {"field": field, "reason": reason})


def _refuse_past(declared: Declaration, after: datetime) -> NoReturn:
    what = f"{declared.at!r} is" if declared.at else "every time is"
    field = "at" if declared.at else "expression"
    _refuse(field, f"{what} not after {_moment(after)}, so it never fires; write a later time", _HELP)


def _pointed_out(text: str, field: str) -> str:
    """The expression with its wrong field underlined; empty if it is not about one of the fields."""
    words = list(re.finditer(r"\S+", text))
    names = _FIELDS[-len(words) :]
    if field not in names or len(words) != len(names) or not text.isascii():
        return ""
    wrong = words[names.index(field)]
    return f"  {text}\n  {' ' * wrong.start()}{'^' * len(wrong.group())}"


def _after_ms(text: str, zone: str) -> int:
    """The instant after which times are wanted; without an offset it is a time of the zone's own clock."""
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        reason = f"--after {text!r} is no date and time; write it as 2026-03-28T12:00, with or without an offset"
        raise UsageError(reason, _HELP) from None
    if found.year not in _YEARS:
        raise UsageError(f"--after {text!r} is not within the years {_YEARS[0]} to {_YEARS[-1]}", _HELP)
    return wall_ms(zone, found) if found.utcoffset() is None else (found - _EPOCH) // timedelta(milliseconds=1)


def _local(instant_ms: int, zone: str) -> datetime:
    return (_EPOCH + timedelta(seconds=instant_ms // 1000)).astimezone(ZoneInfo(zone))


def _moment(time: datetime) -> str:
    return f"{date_text(time)} {time:%H:%M:%S} {offset_text(time)}"


def _rows(times: list[int], after_ms: int, schedule: Schedule) -> list[str]:
    local = [_local(due_ms, schedule.zone) for due_ms in times]
    days = [date_text(time) for time in local]
    longest = max(map(len, days), default=0)
    clock = "%H:%M:%S" if any(time.second for time in local) else "%H:%M"
    return [
        f"{day:<{longest}}  {time.strftime(clock)}  {offset_text(time)}  {_distance(due_ms - after_ms)}"
        for day, time, due_ms in zip(days, local, times, strict=True)
    ]


def _distance(span_ms: int) -> str:
    """As in "in 3 h 12 min": the two largest units."""
    left = span_ms // 1000
    parts: list[str] = []
    for size, unit in _UNITS:
        if left >= size or parts:
            parts.append(f"{left // size} {unit}" if left >= size else "")
            left %= size
    return f"in {' '.join(filter(None, parts[:2])) or 'less than 1 s'}"


def _effect_facts(effect: Effect, zone: str) -> dict[str, str]:
    at = _local(effect.change.at_s * 1000, zone).isoformat()
    return {"at": at, "effect": effect.kind, "text": _sentence(effect)}


def _sentence(effect: Effect) -> str:
    return f"{effect.change.sentence()}: {effect.text}"


def _labelled(lines: dict[str, list[str]], width: int | None) -> str:
    """Each label before its lines; on a terminal they are broken between words, and stay beside their label."""
    longest = max(map(len, lines))
    told = []
    for label, texts in lines.items():
        broken = [part for text in texts for part in wrapped(text, width and max(width - longest - 2, 20))]
        heads = [f"{label:>{longest}}: ", *[" " * (longest + 2)] * len(broken)]
        told += [head + text for head, text in zip(heads, broken, strict=False)]
    return "\n".join(told)


COMMANDS: Commands = {
    "cron": Command(
        _cron,
        "Show a schedule in words, its next times, and what changes of the clock do to it; no daemon is needed.",
        "cron '30 2 * * mon-fri' --zone Europe/Berlin",
        Argument("expr", metavar="EXPR", nargs="*", help="a cron expression in quotes, or a name such as @daily"),
        Argument("--every", metavar="SPAN", help="instead: a plain interval, such as 90s or 1h30m"),
        Argument("--at", metavar="ISO", help="instead: once, as 2027-01-01T00:00+01:00; without an offset in ZONE"),
        Argument("--zone", metavar="ZONE", default="UTC", help="IANA time zone, such as Europe/Berlin (UTC)"),
        Argument("--after", metavar="ISO", help="times after this one (now); without an offset in ZONE"),
        Argument("-n", "--count", type=whole(1, 1000), metavar="N", default=5, help="how many times (5)"),
        Argument("--seconds", action="store_true", help="EXPR has six fields, the second in front"),
        Argument("--job", metavar="PLUGIN/KEY", help="the job whose name H draws from"),
    ),
}
