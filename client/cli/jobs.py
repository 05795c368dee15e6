"""pluginctl jobs: jobs, their times, and what keeps them off the schedule. Runs are in `runs`."""

from __future__ import annotations

import argparse

from client.cli.command import JOB, Argument, Command, Commands, Options, UsageError, output, whole
from client.cli.output import Context
from client.cli.plain import to_json
from client.cli.render import counted, escaped, fields, now_ms, table, when
from client.cli.run_text import progress_text

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from supervisor.wire.results import HoldInfo, JobInfo, NextTimes

_REBOOT = "@reboot"
_ONE, _MANY, _MOST = 5, 100, 1000
_MOST_HOURS = 366 * 24
_HEADS = ("JOB", "SCHEDULE", "NEXT", "LAST", "LAST STATE", "RUNNING")
_WIDE = ("TIME ZONE", "OVERLAP", "ID", "NAME")
_HELD = {"scheduler": "maintenance", "plugin": "plugin paused", "job": "paused"}
_WHICH = "JOB, --plugin KEY for all jobs of a plugin, or --all for the whole schedule"


def hours(text: str) -> float:
    """A number of hours of the command line, above zero."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= _MOST_HOURS:
        raise argparse.ArgumentTypeError(f"must be a number of hours above 0, up to {_MOST_HOURS}, not {text!r}")
    return value


def _list(context: Context, options: Options) -> None:
    if options.of and options.plugin:
        raise UsageError("the plugin is named twice: KEY and --plugin are the same")
    jobs = _all_jobs(context, options.of or options.plugin, options.all)
    now, wide = now_ms(), context.output == "wide"
    rows = [
        (
            j["job"],
            j["schedule"] or "by hand",
            _next_time(j, now),
            when(j["last_run_ms"], now),
            j["last_state"],
            _running(j) or None,
            *((j["timezone"], j["overlap"], j["id"], j["display_name"]) if wide else ()),
        )
        for j in jobs
    ]
    heads = (*_HEADS, *_WIDE) if wide else _HEADS
    text = table(heads, rows, width=context.width, colour=context.colour) if rows else "no jobs"
    if any(j["held_by"] == "scheduler" for j in jobs):
        text = f"{MAINTENANCE}\n\n{text}"
    context.show_list(jobs, "job", text)


MAINTENANCE = "the whole schedule is paused: no job is started by the clock until `pluginctl jobs resume --all`"


def _all_jobs(context: Context, plugin: str | None, gone_too: bool) -> list[JobInfo]:
    """Page by page."""
    jobs: list[JobInfo] = []
    while page := context.client.jobs.list(plugin, gone_too, jobs[-1]["job"] if jobs else None):
        if jobs and page[-1]["job"] == jobs[-1]["job"]:
            break  # A daemon before this one knows no pages: that was all.
        jobs += page
    return jobs


def _running(job: JobInfo) -> str:
    """As in `1 + 2 waiting`; empty: none."""
    running, waiting = job["running"] - job["waiting"], job["waiting"]
    told = [str(running) if running else "", f"{waiting} waiting" if waiting else ""]
    return " + ".join(filter(None, told))


def _next_time(job: JobInfo, now: int) -> str:
    if not job["active"]:
        return "gone"
    if job["schedule"] is None:
        return "paused" if job["paused"] else "-"
    if job["held_by"] is not None:
        return _HELD.get(job["held_by"], "paused")
    at_start = job["next_fire_ms"] is None and job["schedule"] == _REBOOT
    return "at start" if at_start else when(job["next_fire_ms"], now)


def _job_text(job: JobInfo) -> str:
    now = now_ms()
    pairs: dict[str, object] = {
        "job": job["job"],
        "name": job["display_name"],
        "id": job["id"],
        "schedule": f"{job['schedule'] or 'by hand'} ({job['timezone']})",
        "overlap": job["overlap"],
        "command": None if job["command"] is None else to_json(job["command"]),
        "state": _state(job),
        "next": _next_time(job, now),
        "last": f"{when(job['last_run_ms'], now)} {job['last_state'] or ''}".strip(),
        "running": _running(job) or "no",
        **{f"run {p['run'][:8]}": progress_text(p) for p in job["progress"]},
    }
    return fields({name: value for name, value in pairs.items() if value is not None})


def _state(job: JobInfo) -> str:
    if not job["active"]:
        return "gone: its plugin does not have it any more, so it is not run"
    if job["held_by"] is None:
        return "scheduled" if job["scheduled"] else "not scheduled"
    text = _held(job["held_by"], job["job"], job["plugin"])
    return f"{text}; and by itself" if job["paused"] and job["held_by"] != "job" else text


def _held(by: str, job: str, plugin: str) -> str:
    ways = {
        "scheduler": "paused with the whole schedule, until `pluginctl jobs resume --all`",
        "plugin": f"paused with its plugin, until `pluginctl jobs resume --plugin {escaped(plugin)}`",
        "job": f"paused, until `pluginctl jobs resume {escaped(job)}`",
    }
    return ways.get(by, "paused")


def _get(context: Context, options: Options) -> None:
    job = context.client.jobs.get(options.job)
    context.show(job, _job_text(job))


def _next(context: Context, options: Options) -> None:
    if options.job and options.plugin:
        raise UsageError("JOB says which one, so it cannot stand with --plugin: keep one of them")
    count = options.count or (_ONE if options.job and options.hours is None else _MANY)
    times = context.client.jobs.next(options.job, count, options.plugin, options.hours)
    context.show(times, _times_text(context, times, options))
    if times["more"] and times["next"] and (options.job is None or options.hours is not None):
        context.note(f"there are more: `-n N` shows N of them, up to {_MOST}")


def _times_text(context: Context, times: NextTimes, options: Options) -> str:
    if context.json:
        return ""
    now = now_ms()
    if not times["next"]:
        return _no_time(context, options)
    rows = [(each["at"], when(each["fire_ms"], now), each["job"]) for each in times["next"]]
    text = table(("AT", "IN", "JOB"), rows, width=context.width, colour=context.colour)
    return (
        text if times["job"] is None or times["scheduled"] else f"{text}\n{_why_none(times['job'], times['held_by'])}"
    )


def _why_none(job: str, held_by: str | None) -> str:
    """Why none of the times of a job is going to be kept, as things are."""
    plugin = job.partition("/")[0]
    why = f"not scheduled now; `pluginctl status {escaped(plugin)}` tells of its plugin"
    return f"the clock starts none of these: {why if held_by is None else _held(held_by, job, plugin)}"


def _no_time(context: Context, options: Options) -> str:
    within = "" if options.hours is None else f" within {options.hours:g} h"
    if options.job is None:
        held = context.client.daemon.status()["jobs_held_since_ms"] is not None
        return MAINTENANCE if held else f"no job is due{within}; `pluginctl jobs list` says of each when it is"
    job = context.client.jobs.get(options.job)
    schedule = job["schedule"]
    if not job["active"]:
        return "never: its plugin does not have this job any more"
    if schedule == _REBOOT:
        return "at the next start of plugind"
    return "never: this job is run by hand only" if schedule is None else f"not due{within or ' any more'}"


def _pause(context: Context, options: Options) -> None:
    job, plugin = _which(options, "pause")
    info = context.client.jobs.pause(job, plugin)
    until = f"until `pluginctl jobs resume {_option(info)}`"
    context.show(info, f"{_what(info)} paused {until}; {_by_hand(context, info, job)}")


def _by_hand(context: Context, info: HoldInfo, job: str | None) -> str:
    """Whether what is paused runs by hand."""
    if context.json:
        return ""
    plugin = info["name"] if info["scope"] == "plugin" else None
    if job is not None:
        found = context.client.jobs.get(job)
        plugin = found["plugin"]
        if not found["active"]:
            return "its plugin does not have it any more"
    if plugin is None:
        return "by hand they run all the same"
    status = context.client.plugins.get(plugin)["status"]
    if status != "ready":
        return f"its plugin is {escaped(status)}, so nothing of it runs now"
    return f"by hand {'they run' if job is None else 'it runs'} all the same"


def _resume(context: Context, options: Options) -> None:
    job, plugin = _which(options, "resume")
    info = context.client.jobs.resume(job, plugin)
    context.show(info, f"{_what(info)} resumed; {_still(context, job) if info['held'] else _following(info)}")


def _following(info: HoldInfo) -> str:
    next_ms = info["next_fire_ms"]
    return "not due by the clock" if next_ms is None else f"next: {when(next_ms, now_ms())}"


def _still(context: Context, job: str | None) -> str:
    """What else keeps it off the schedule."""
    if context.json:
        return ""
    by_all = context.client.daemon.status()["jobs_held_since_ms"] is not None
    if by_all or job is None:
        return f"but {MAINTENANCE}"
    key = context.client.jobs.get(job)["plugin"]
    return f"but all jobs of its plugin are paused until `pluginctl jobs resume --plugin {escaped(key)}`"


def _which(options: Options, verb: str) -> tuple[str | None, str | None]:
    """The one thing that it is about."""
    given = [each for each in (options.job, options.plugin, options.all) if each]
    if len(given) != 1:
        said = "say what" if not given else "say one thing"
        raise UsageError(f"{said} to {verb}: {_WHICH}")
    return options.job, options.plugin


def _what(info: HoldInfo) -> str:
    if info["scope"] == "job":
        return f"{escaped(info['name'])}:"
    if info["scope"] == "plugin":
        return f"{escaped(info['name'])}: {counted(info['jobs'], 'job')}"
    return f"the whole schedule, {counted(info['jobs'], 'job')}:"


def _option(info: HoldInfo) -> str:
    names = {"job": escaped(info["name"]), "plugin": f"--plugin {escaped(info['name'])}"}
    return names.get(info["scope"], "--all")


_JOB = Argument("job", metavar="JOB", nargs="?", help="one job, as <plugin>/<key> or by id")
_OF_PLUGIN = Argument("--plugin", metavar="KEY", help="all jobs of this plugin")
_ALL = Argument("--all", action="store_true", help="the whole schedule: maintenance")
COMMANDS: Commands = {
    "list": Command(
        _list,
        "Jobs with their schedule, next and last.",
        "jobs list acme.weather",
        Argument("of", metavar="KEY", nargs="?", help="of this plugin only"),
        Argument("--plugin", metavar="KEY", help="the same"),
        Argument("-a", "--all", action="store_true", help="those too that their plugin no longer has"),
        output("wide", "json", "name"),
    ),
    "get": Command(_get, "One job.", "jobs get acme.weather/refresh", JOB),
    "next": Command(
        _next,
        "The next times of a job, paused or not; without one, of all jobs that are scheduled, in order of time.",
        "jobs next --hours 24",
        _JOB,
        Argument(
            "-n",
            "--count",
            type=whole(1, _MOST),
            metavar="N",
            help=f"at most so many ({_ONE} of one job, else {_MANY})",
        ),
        Argument("--hours", type=hours, metavar="H", help="none later than so many hours from now"),
        _OF_PLUGIN,
    ),
    "pause": Command(
        _pause,
        "Take a job, all jobs of a plugin or the whole schedule off the clock, until resumed; runs under way go on.",
        "jobs pause --plugin acme.weather",
        _JOB,
        _OF_PLUGIN,
        _ALL,
    ),
    "resume": Command(
        _resume,
        "Put back what `jobs pause` with the same words took off; what was due meanwhile is not made up for.",
        "jobs resume --plugin acme.weather",
        _JOB,
        _OF_PLUGIN,
        _ALL,
    ),
}
