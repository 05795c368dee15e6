"""Job and Run as the socket shows them. Pure."""

from __future__ import annotations

from supervisor.core.job import Job, Run, RunState
from supervisor.wire.results import JobInfo, ProgressInfo, RunInfo


def job_info(
    job: Job,
    last: tuple[RunState, int] | None,
    running: int,
    progress: list[ProgressInfo],
    default_zone: str,
) -> JobInfo:
    """`last`: the state of the newest run and when it started, in UTC ms.

    `running` counts the runs that have not ended, queued ones too; `progress` is what some of them tell.
    """
    spec = job.spec
    return JobInfo(
        id=job.id,
        job=f"{job.plugin_key}/{job.key}",
        plugin=job.plugin_key,
        key=job.key,
        display_name=spec.display_name,
        schedule=spec.schedule if spec.every is None else f"every {spec.every}",
        timezone=spec.timezone or default_zone,
        paused=job.paused,
        active=job.active,
        scheduled=job.next_due_ms is not None,
        next_due_ms=job.next_due_ms,
        last_due_ms=job.last_due_ms,
        last_run_ms=None if last is None else last[1],
        last_state=None if last is None else str(last[0]),
        running=running,
        progress=progress,
    )


def run_info(run: Run, progress: ProgressInfo | None) -> RunInfo:
    """`progress` is what its worker said last; it counts while the run is running."""
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
        progress=progress if run.state is RunState.RUNNING else None,
    )
