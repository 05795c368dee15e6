"""pluginctl jobs: jobs, their times and their runs."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from client.cli.command import JOB, Argument, Command, Commands, Options, whole
from client.cli.output import Context
from client.cli.plain import to_json
from client.cli.render import cell, duration, escaped, fields, now_ms, table, when
from supervisor.core.cause import short_cause

if TYPE_CHECKING:
    from supervisor.wire.results import JobInfo, ProgressInfo, RunInfo

_REBOOT = "@reboot"
STATES = (
    "queued",
    "running",
    "succeeded",
    "failed",
    "cancelled",
    "timed_out",
    "interrupted",
    "skipped",
    "missed",
)


def _list(context: Context, options: Options) -> None:
    jobs = context.client.jobs.list(options.plugin, options.all)
    now = now_ms()
    rows = [
        (
            j["job"],
            j["schedule"] or "by hand",
            _next_time(j, now),
            when(j["last_run_ms"], now),
            j["last_state"],
            j["running"] or None,
        )
        for j in jobs
    ]
    heads = ("JOB", "SCHEDULE", "NEXT", "LAST", "LAST STATE", "RUNNING")
    text = table(heads, rows, width=context.width, colour=context.colour) if rows else "no jobs"
    context.show(jobs, text)


def _next_time(job: JobInfo, now: int) -> str:
    if job["paused"]:
        return "paused"
    at_start = job["next_due_ms"] is None and job["schedule"] == _REBOOT
    return "at start" if at_start else when(job["next_due_ms"], now)


def _job_text(job: JobInfo) -> str:
    now = now_ms()
    state = "paused" if job["paused"] else "scheduled" if job["scheduled"] else "not scheduled"
    return fields(
        {
            "job": job["job"],
            "name": job["display_name"],
            "id": job["id"],
            "schedule": f"{job['schedule'] or 'by hand'} ({job['timezone']})",
            "state": state,
            "next": _next_time(job, now),
            "last": f"{when(job['last_run_ms'], now)} {job['last_state'] or ''}".strip(),
            "running": job["running"],
            **{f"run {p['run']}": progress_text(p) for p in job.get("progress", [])},
        },
    )


def _get(context: Context, options: Options) -> None:
    job = context.client.jobs.get(options.job)
    context.show(job, _job_text(job))


def _next(context: Context, options: Options) -> None:
    times = context.client.jobs.next(options.job, options.count)
    context.show(times, "\n".join(map(escaped, times["times"])) or _no_time(context, options.job))


def _no_time(context: Context, name: str) -> str:
    if not context.json and context.client.jobs.get(name)["schedule"] == _REBOOT:
        return "at the next start of plugind"
    return "never: this job is run by hand only"


def _run(context: Context, options: Options) -> int:
    run = context.client.jobs.run(options.job)
    if options.wait:
        from client.cli.wait import wait_for_run

        run = wait_for_run(context, run)
    context.show(run, _run_text(run))
    return 1 if options.wait and run["state"] != "succeeded" else 0


def _run_text(run: RunInfo) -> str:
    text = f"{escaped(run['job'])}: run {escaped(run['id'])} {cell(run['state'])}"
    if run["duration_ms"] is not None:
        text += f" in {duration(run['duration_ms'] / 1000)}"
    if run["error"]:
        text += f"\n{escaped(run['error'], lines=True)}"
    if run["result"] is not None:
        text += f"\n{to_json(run['result'], indent=2)}"
    return text


def _pause(context: Context, options: Options) -> None:
    job = context.client.jobs.pause(options.job)
    context.show(job, f"{escaped(job['job'])}: paused until `pluginctl jobs resume {escaped(job['job'])}`")


def _resume(context: Context, options: Options) -> None:
    job = context.client.jobs.resume(options.job)
    context.show(job, f"{escaped(job['job'])}: resumed; next {when(job['next_due_ms'], now_ms())}")


def _runs(context: Context, options: Options) -> None:
    job, plugin = options.of, options.plugin
    runs = context.client.jobs.runs(job, plugin, options.state, options.before, options.limit)
    now = now_ms()
    rows = [
        (
            r["id"],
            r["job"],
            r["trigger"],
            r["state"],
            when(r["created_ms"], now),
            duration(None if r["duration_ms"] is None else r["duration_ms"] / 1000),
            _last_word(r),
        )
        for r in runs
    ]
    heads = ("RUN", "JOB", "TRIGGER", "STATE", "WHEN", "TOOK", "WHAT")
    context.show(runs, table(heads, rows, width=context.width, colour=context.colour) if rows else "no runs")


def _last_word(run: RunInfo) -> str:
    """Why it failed, or how far it is."""
    return short_cause(run["error"]) if run["error"] else progress_text(run.get("progress"))


def progress_text(progress: ProgressInfo | None) -> str:
    """As in `40 % copying files`; a daemon before this one tells none."""
    if progress is None:
        return ""
    percent = None if progress["fraction"] is None else f"{progress['fraction']:.0%}".replace("%", " %")
    return " ".join(filter(None, (percent, progress["message"])))


def _cancel(context: Context, options: Options) -> None:
    run = context.client.jobs.cancel(options.run_id)
    context.show(run, _run_text(run))


COMMANDS: Commands = {
    "list": Command(
        _list,
        "Jobs with their schedule, next and last.",
        "jobs list --plugin acme.weather",
        Argument("--plugin", metavar="KEY", help="of this plugin only"),
        Argument("-a", "--all", action="store_true", help="those too that their plugin no longer has"),
    ),
    "get": Command(_get, "One job.", "jobs get acme.weather/refresh", JOB),
    "next": Command(
        _next,
        "The next times of a job, paused or not.",
        "jobs next acme.weather/refresh -n 3",
        JOB,
        Argument("-n", "--count", type=whole(1, 100), metavar="N", default=5, help="how many (5)"),
    ),
    "run": Command(
        _run,
        "Run a job now; with --wait, exit code 1 when the run did not succeed.",
        "run acme.weather/refresh --wait",
        JOB,
        Argument("--wait", action=argparse.BooleanOptionalAction, default=False, help="until it has ended"),
    ),
    "pause": Command(_pause, "Take a job off the schedule.", "jobs pause acme.weather/refresh", JOB),
    "resume": Command(_resume, "Put a paused job back on the schedule.", "jobs resume acme.weather/refresh", JOB),
    "runs": Command(
        _runs,
        "Past and present runs, newest first; in short `runs list`.",
        "runs list acme.weather/refresh --state failed",
        Argument("of", metavar="JOB", nargs="?", help="of this job only"),
        Argument("--plugin", metavar="KEY", help="of this plugin only"),
        Argument("--state", choices=STATES, metavar="STATE", help=", ".join(STATES)),
        Argument("--before", type=int, metavar="MS", help="go on before this created_ms"),
        Argument("-n", "--limit", type=whole(1, 1000), metavar="N", default=50, help="at most so many (50)"),
    ),
    "cancel": Command(
        _cancel,
        "Cancel a queued or running run.",
        "runs cancel 4f1c",
        Argument("run_id", metavar="RUN", help="the run's id"),
    ),
}
