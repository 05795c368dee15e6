"""ManualRuns: what people do with runs: one by hand, one more attempt, the end of one."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from supervisor.clock import Clock, to_ms
from supervisor.core.errors import Conflict, FailedPrecondition, InvalidParams
from supervisor.core.job import TERMINAL, Admission, Job, OpenRun, Run, RunOutcome, RunState, Trigger
from supervisor.jobs.admission import admit
from supervisor.jobs.lookup import JobLookup
from supervisor.jobs.runner import Runner
from supervisor.store.claims import ClaimStore, Tick
from supervisor.store.runs import RunStore
from supervisor.wire.run_params import params_problem
from supervisor.worker.command_run import CannotGive, as_json

_BY_OPERATOR: Final = "cancelled by an operator"


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a new run is to be."""

    trigger: Trigger
    params: Any = None
    due_ms: int | None = None
    """None: now."""


class ManualRuns:
    """Who stops waiting for a run does not stop it."""

    def __init__(self, lookup: JobLookup, claims: ClaimStore, runs: RunStore, runner: Runner, clock: Clock) -> None:
        self._lookup = lookup
        self._claims = claims
        self._runs = runs
        self._runner = runner
        self._clock = clock

    async def run(self, name: str, *, params: Mapping[str, Any] | None = None, wait: bool = False) -> Run:
        """Run the job now, paused or not; with `wait`, return when it has ended, or the daemon is about to stop: the
        run as it is then.

        Raises:
            InvalidParams: `params` are too large or too deep, or cannot be given to the job's command.
            FailedPrecondition: the job is not declared any more, or its plugin is not ready.
            Conflict: its runs that have not ended do not allow one more; details: run.
        """
        _check_params(params)
        job = await self._lookup.job(name)
        _check_for_command(job, params)
        return await self._add(job.id, _Wanted(Trigger.MANUAL, params=dict(params) if params else None), wait=wait)

    async def retry(self, run: Run, *, wait: bool = False) -> Run:
        """The next attempt of a run that did not succeed, now; a retry that it waits for is not made any more.

        Raises:
            FailedPrecondition: it has not ended, or succeeded; and as `run`.
            Conflict: as `run`.
        """
        name = f"{run.plugin_key}/{run.job_key}"
        if run.state not in TERMINAL:
            raise FailedPrecondition(
                f"run {run.id} has not ended: it is {run.state}; wait for it, or cancel it first with "
                f"`pluginctl runs cancel {run.id}`",
                run=run.id,
                state=str(run.state),
            )
        if run.state is RunState.SUCCEEDED:
            raise FailedPrecondition(
                f"run {run.id} succeeded, so there is nothing to try again; `pluginctl run {name}` runs the job anew",
                run=run.id,
                state=str(run.state),
            )
        wanted = _Wanted(Trigger.RETRY, params=run.params, due_ms=run.due_ms)
        return await self._add(run.job_id, wanted, wait=wait, retry_of=run.id)

    async def cancel(self, run: Run) -> Run:
        """End a queued or running run: its row says cancelled, then the worker is told. Of one that has ended, the
        retry that it waits for.

        Raises:
            FailedPrecondition: it has ended already, and is not tried again; details: state.
        """
        # The row first: whatever the worker answers from now on comes too late.
        won = await self._runs.finish(run, RunOutcome(state=RunState.CANCELLED, error=_BY_OPERATOR))
        if won:
            self._runner.cancel(run.id, _BY_OPERATOR)
        elif not await self._runs.drop_retry(run.id):
            state = (await self._runs.get(run.id)).state
            raise FailedPrecondition(f"run {run.id} has ended already: {state}", run=run.id, state=str(state))
        return await self._runs.get(run.id)

    async def _add(self, job_id: str, wanted: _Wanted, *, wait: bool, retry_of: str | None = None) -> Run:
        now_ms = to_ms(self._clock.now())

        def build(job: Job, open_runs: tuple[OpenRun, ...]) -> tuple[Run, Admission]:
            admission = admit(job.spec, open_runs)
            if admission.state is not RunState.QUEUED:
                raise _in_the_way(job, open_runs, admission)
            return _row(job, wanted, now_ms), admission

        run = await self._claims.add(job_id, build, self._hand_over, retry_of=retry_of)
        if not wait:
            return run
        await self._runner.wait_ended(run.id)
        return await self._runs.get(run.id)

    def _hand_over(self, tick: Tick) -> None:
        """In the commit's own step."""
        for run_id in tick.cancelled:
            self._runner.cancel(run_id, "another run of the same job was asked for")
        for run, job in tick.queued:
            self._runner.submit(run, job)


def _row(job: Job, wanted: _Wanted, now_ms: int) -> Run:
    return Run(
        id=str(uuid.uuid4()),
        **job.of_run(),
        trigger=wanted.trigger,
        state=RunState.QUEUED,
        attempt=1,
        due_ms=now_ms if wanted.due_ms is None else wanted.due_ms,
        created_ms=now_ms,
        params=wanted.params,
    )


def _in_the_way(job: Job, open_runs: Sequence[OpenRun], admission: Admission) -> Conflict:
    # With queue_one it is the place in the queue that is taken.
    waiting = [each.id for each in open_runs if each.state is RunState.QUEUED]
    run_id = waiting[-1] if waiting and job.spec.overlap == "queue_one" else open_runs[0].id
    return Conflict(
        f"job {job.name} takes no more runs now: {admission.error}; wait, or end it with "
        f"`pluginctl runs cancel {run_id}`",
        job=job.name,
        run=run_id,
    )


def _check_params(params: Mapping[str, Any] | None) -> None:
    if params is not None and (problem := params_problem(params)):
        raise InvalidParams(problem)


def _check_for_command(job: Job, params: Mapping[str, Any] | None) -> None:
    """Its run would fail however often it is tried."""
    if not (params and job.spec.command):
        return
    try:
        as_json(params)
    except CannotGive as error:
        raise InvalidParams(f"the command of job {job.name} cannot be started: {error}", job=job.name) from error
