"""Job and Run as the socket shows them. Pure."""

from __future__ import annotations

from supervisor.core.job import Hold, Job, Run, RunState
from supervisor.core.manifest import JobSpec
from supervisor.wire.results import JobInfo, ProgressInfo, RunInfo


def job_info(
    job: Job,
    last: tuple[RunState, int] | None,
    running: int,
    waiting: int,
    progress: list[ProgressInfo],
    default_zone: str,
    *,
    all_held: bool,
) -> JobInfo:
    """`last`: the state of the newest run and when it started, in UTC ms. `all_held`: the whole schedule is paused.

    `running` counts the runs that have not ended, `waiting` those of them that have not started; `progress` is what
    some of them tell.
    """
    spec = job.spec
    hold = held_by(job, all_held=all_held)
    # While all is held the rows keep their times, but those that pass are never served.
    due_ms, fire_ms = (job.next_due_ms, job.next_fire_ms) if hold is None else (None, None)
    return JobInfo(
        id=job.id,
        job=job.name,
        plugin=job.plugin_key,
        key=job.key,
        display_name=spec.display_name,
        schedule=schedule_text(spec),
        timezone=spec.timezone or default_zone,
        overlap=spec.overlap,
        command=list(spec.command) or None,
        paused=job.paused,
        held_by=None if hold is None else str(hold),
        active=job.active,
        scheduled=due_ms is not None,
        next_due_ms=due_ms,
        next_fire_ms=fire_ms,
        last_due_ms=job.last_due_ms,
        last_run_ms=None if last is None else last[1],
        last_state=None if last is None else str(last[0]),
        running=running,
        waiting=waiting,
        progress=progress,
    )


def held_by(job: Job, *, all_held: bool) -> Hold | None:
    """Who keeps it off the schedule: the widest one."""
    if all_held:
        return Hold.SCHEDULER
    if job.plugin_paused:
        return Hold.PLUGIN
    return Hold.JOB if job.paused else None


def schedule_text(spec: JobSpec) -> str | None:
    """As written; None: it runs by hand only."""
    if spec.every is not None:
        return f"every {spec.every}"
    return spec.schedule if spec.at is None else f"at {spec.at}"


def run_info(run: Run, progress: ProgressInfo | None, waiting_for: str | None) -> RunInfo:
    """`progress` is what its worker said last; it counts while the run is running. `waiting_for` while it is queued."""
    took = None if run.started_ms is None or run.finished_ms is None else max(0, run.finished_ms - run.started_ms)
    return RunInfo(
        id=run.id,
        job=f"{run.plugin_key}/{run.job_key}",
        plugin=run.plugin_key,
        trigger=str(run.trigger),
        state=str(run.state),
        attempt=run.attempt,
        due_ms=run.due_ms,
        created_ms=run.created_ms,
        started_ms=run.started_ms,
        finished_ms=run.finished_ms,
        duration_ms=took,
        error=run.error,
        result=run.result,
        exit_code=run.exit_code,
        params=run.params,
        times=run.times,
        retry_at_ms=run.retry_at_ms,
        waiting_for=waiting_for if run.state is RunState.QUEUED else None,
        progress=progress if run.state is RunState.RUNNING else None,
    )
