"""pluginctl runs: run a job, and look at, cancel and repeat its runs."""

from __future__ import annotations

import argparse
import json

from client.cli.command import JOB, Argument, Command, Commands, Options, UsageError, output, since, span, whole
from client.cli.output import Context
from client.cli.render import duration, escaped, now_ms, table, when
from client.cli.run_text import UNDER_WAY, again, last_word, run_details, run_text, short_ids
from client.errors import NotFound

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from typing import Any

    from supervisor.wire.results import LogLine, RunInfo

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
TRIGGERS = ("schedule", "manual", "retry", "catch_up")
_HEADS = ("RUN", "JOB", "TRIGGER", "STATE", "WHEN", "TOOK", "WHAT")
_NARROW = 110
_LEFT_OUT = "TRIGGER"
"""On a terminal with fewer columns than that, to leave room for what is wrong."""
_SOONER_MS = 1000
_MOST_LINES = 1_000_000


def _run(context: Context, options: Options) -> int:
    params = _params(options)
    try:
        run = context.client.jobs.run(options.job, params=params)
    except NotFound as error:
        if "/" not in options.job and (job := _only_job(context, options.job)):
            error.message = f"there is no job {options.job!r}; did you mean {job!r}?"
        raise
    return _show_and_wait(context, run, options)


def _only_job(context: Context, key: str) -> str | None:
    """The job of that key, if no other plugin has one."""
    found = [job["job"] for job in context.client.jobs.list() if job["job"].partition("/")[2] == key]
    return found[0] if len(found) == 1 else None


def _retry(context: Context, options: Options) -> int:
    run = context.client.jobs.retry(options.run_id)
    return _show_and_wait(context, run, options)


def _show_and_wait(context: Context, run: RunInfo, options: Options) -> int:
    code = 0
    if options.wait:
        from client.cli.run_wait import exit_code, wait_for_run

        run = wait_for_run(context, run, options.timeout)
        code = exit_code(run)
    context.show(run, _with_hint(run))
    return code


def _with_hint(run: RunInfo) -> str:
    text = run_text(run)
    if run["state"] in UNDER_WAY:
        text += f"; `pluginctl runs logs -f {escaped(run['id'])}` shows what it says"
    elif run["retry_at_ms"] is not None:
        text += f"\nit is tried again {again(run['retry_at_ms'], now_ms())}"
    return text


def _params(options: Options) -> dict[str, Any] | None:
    params = _given_params(options)
    if params is not None:
        from supervisor.wire.run_params import params_problem

        if problem := params_problem(params):
            raise UsageError(problem)
    return params


def _given_params(options: Options) -> dict[str, Any] | None:
    if options.params is None:
        from client.cli.config_values import read_settings

        return read_settings(options.param) if options.param else None
    if options.param:
        raise UsageError("--params is all there is, so it cannot stand with --param: keep one of them")
    try:
        params = json.loads(options.params)
    except RecursionError:
        raise UsageError("--params is nested too deeply: 12 levels are kept") from None
    except ValueError as error:
        raise UsageError(f'--params must be JSON, such as \'{{"city": "Rome"}}\': {error}') from None
    if not isinstance(params, dict):
        raise UsageError('--params must be a map, such as \'{"city": "Rome"}\'')
    return params


def _runs(context: Context, options: Options) -> None:
    job, plugin = _of(context, options)
    since_ms = None if options.since is None else since(options.since)
    before_ms, before = _before(options.before)
    runs = context.client.jobs.runs(
        job,
        plugin,
        before_ms=before_ms,
        limit=options.limit,
        before=before,
        since_ms=since_ms,
        states=options.state,
        triggers=options.trigger,
    )
    context.show_list(runs, "id", _run_table(context, runs) if runs else "no runs")


def _of(context: Context, options: Options) -> tuple[str | None, str | None]:
    """The job and the plugin whose runs are wanted: JOB may name either."""
    if options.of and options.of_job:
        raise UsageError("the job is named twice: JOB and --job are the same")
    job, plugin = options.of or options.of_job, options.plugin
    if options.of is None or "/" in options.of or plugin is not None:
        return job, plugin
    try:
        context.client.jobs.get(options.of)
    except NotFound:
        return None, options.of
    return job, None


def _before(text: str | None) -> tuple[int | None, str | None]:
    """An instant, or the id of a run to go on from."""
    if text is None:
        return None, None
    try:
        return since(text, "--before"), None
    except UsageError:
        return None, text


def _run_table(context: Context, runs: list[RunInfo]) -> str:
    now = now_ms()
    rows = [
        (
            id_,
            r["job"],
            r["trigger"],
            r["state"],
            when(r["created_ms"], now),
            duration(None if r["duration_ms"] is None else r["duration_ms"] / 1000),
            last_word(r, now),
        )
        for id_, r in zip(short_ids(runs, context.width), runs, strict=True)
    ]
    shown = [i for i, head in enumerate(_HEADS) if (context.width or _NARROW) >= _NARROW or head != _LEFT_OUT]
    heads = [_HEADS[i] for i in shown]
    return table(heads, [[row[i] for i in shown] for row in rows], width=context.width, colour=context.colour)


def _show(context: Context, options: Options) -> None:
    run = context.client.jobs.get_run(options.run_id)
    context.show(run, run_details(run, now_ms(), colour=context.colour))


def _cancel(context: Context, options: Options) -> None:
    run = context.client.jobs.cancel(options.run_id)
    if run["state"] == "cancelled":
        text = run_text(run)
    else:
        text = f"{escaped(run['job'])}: run {escaped(run['id'])} {escaped(run['state'])}, and is not tried again"
    context.show(run, text)


def _logs(context: Context, options: Options) -> None:
    run = context.client.jobs.get_run(options.run_id)
    if not options.follow or run["state"] not in UNDER_WAY:
        _read(context, run, options.tail)
        return
    if options.tail is not None:
        raise UsageError("-f shows all of a run that is under way, so it cannot stand with -n: keep one of them")
    from client.cli.run_wait import Screen, follow

    ended = follow(context, run, Screen(context), lines=True)
    context.note(run_text(ended))


def _read(context: Context, run: RunInfo, most: int | None) -> None:
    """All that there is now, or the last `most` lines."""
    from client.cli.log_lines import follow_until
    from client.cli.status import log_line

    since_ms = run["created_ms"] - _SOONER_MS
    newest = context.client.logs.read(run["plugin"], 1, since_ms, run=run["id"])
    lines: list[LogLine] = []
    whole = follow_until(context, newest[0], run["plugin"], most, since_ms, run=run["id"]) if newest else ()
    for line in whole:
        if context.json:
            lines.append(line)
        else:
            context.say(log_line(line))
    if context.json:
        context.show(lines, "")
    if not newest:
        context.note(
            "its log has no line of this run, or not any more; what a handler prints carries no run: "
            f"`pluginctl logs {escaped(run['plugin'])}` has it"
        )


def _several(flag: str, choices: tuple[str, ...], metavar: str) -> Argument:
    return Argument(
        flag,
        action="append",
        choices=choices,
        metavar=metavar,
        default=[],
        help=f"one of {', '.join(choices)}; given again, that one too",
    )


_RUN = Argument("run_id", metavar="RUN", help="the run's id, or its beginning (4 characters or more)")
_WAIT = Argument(
    "--wait",
    action=argparse.BooleanOptionalAction,
    default=False,
    help="show its log and progress until it has ended; the exit code is 0 if it succeeded, 3 if it was cancelled or "
    "skipped, 1 for any other end",
)
_TIMEOUT = Argument("--timeout", type=span, metavar="SPAN", help="with --wait: for at most so long (30s, 5m)")
COMMANDS: Commands = {
    "run": Command(
        _run,
        "Run a job now, also while it is paused; with --wait, until it has ended.",
        "run acme.weather/refresh --param city=Rome --wait",
        JOB,
        _WAIT,
        _TIMEOUT,
        Argument("--params", metavar="JSON", help="a map for its handler (ctx.params)"),
        Argument(
            "--param",
            action="append",
            metavar="NAME=VALUE",
            default=[],
            help="one of them: JSON or a plain word; @FILE and - (stdin) are read",
        ),
    ),
    "runs": Command(
        _runs,
        "Past and present runs, newest first; in short `runs list`.",
        "runs list acme.weather/refresh --state failed --since 2h",
        Argument("of", metavar="JOB", nargs="?", help="of this job only, or of all jobs of the plugin of this key"),
        Argument("--job", dest="of_job", metavar="JOB", help="the same"),
        Argument("--plugin", metavar="KEY", help="of this plugin only"),
        _several("--state", STATES, "STATE"),
        _several("--trigger", TRIGGERS, "WHY"),
        Argument("--since", metavar="WHEN", help="created since: 10m, 2h, 1d ago, or a date and time"),
        Argument("--before", metavar="WHEN", help="created before, likewise; or go on behind this run, by its id"),
        Argument("-n", "--limit", type=whole(1, 1000), metavar="N", default=50, help="at most so many (50)"),
        output("wide", "json", "name"),
    ),
    "get-run": Command(_show, "One run: all of it; in short `runs show`.", "runs show 4f1c", _RUN),
    "cancel": Command(
        _cancel,
        "Cancel a queued or running run, or the retry that one waits for; in short `runs cancel`.",
        "runs cancel 4f1c",
        _RUN,
    ),
    "retry": Command(
        _retry,
        "Run again now what did not succeed, with its due time and params; in short `runs retry`.",
        "runs retry 4f1c --wait",
        _RUN,
        _WAIT,
        _TIMEOUT,
    ),
    "run-logs": Command(
        _logs,
        "What a run logged, and of one that is a command also what it printed; in short `runs logs`. What a handler "
        "prints is in `pluginctl logs KEY`, without its run.",
        "runs logs -f 4f1c",
        _RUN,
        Argument("-n", "--tail", type=whole(1, _MOST_LINES), metavar="N", help="the last so many lines (all)"),
        Argument("-f", "--follow", action="store_true", help="as it comes, until the run has ended"),
    ),
}
