"""What a claim writes: the rows of its runs, the ends that make room for them, their events; all told in a Tick."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from supervisor.core.job import Admission, Job, Run, RunOutcome, RunState, Trigger
from supervisor.store.database import Transaction
from supervisor.store.run_rows import find_run, finish_run, insert_runs, record_unstarted

_BY_CLOCK: Final = frozenset({Trigger.SCHEDULE, Trigger.CATCH_UP})


@dataclass(frozen=True, slots=True)
class Tick:
    """What a transaction came to, durable by now."""

    queued: list[tuple[Run, Job]] = field(default_factory=list)
    """Runs to carry out, in order; the job as it was before this claim."""
    cancelled: list[str] = field(default_factory=list)
    """Runs that made room: their rows say so, whoever carries them out is to be told."""
    broken: list[tuple[Job, str]] = field(default_factory=list)
    """Jobs that could not be decided about and why: they are off the schedule until their next sync."""
    more: bool = False
    """More is due at the same instant."""
    head_ms: int | None = None
    """When there is something to do next; None: nothing, or the scheduler is held."""


@dataclass(frozen=True, slots=True)
class NewRun:
    run: Run
    job: Job
    cancel: tuple[str, ...] = ()
    """Runs to end if this one gets its row."""


def admitted(run: Run, admission: Admission) -> Run:
    ended = admission.state is not RunState.QUEUED
    return replace(run, state=admission.state, error=admission.error, finished_ms=run.created_ms if ended else None)


def write_runs(tx: Transaction, tick: Tick, new: Sequence[NewRun]) -> list[Run]:
    """Insert the rows, end the runs that make room for them, record what is an end at once; note all of it in `tick`.

    A run whose due time had its row before (the clock was turned back) is not written, and ends nobody; be that row
    deleted by now.
    """
    new = [each for each in new if not _is_trimmed(each)]
    runs = insert_runs([each.run for each in new])
    if len(runs) < len(new):
        there = {run.id for run in runs}
        new = [each for each in new if each.run.id in there]
    for each in new:
        for run_id in each.cancel:
            _make_room(tx, tick, run_id, each.run)
    tick.queued.extend((each.run, each.job) for each in new if each.run.state is RunState.QUEUED)
    record_unstarted(tx, (run for run in runs if run.state is not RunState.QUEUED))
    return runs


def _is_trimmed(new: NewRun) -> bool:
    return new.run.trigger in _BY_CLOCK and new.run.due_ms <= new.job.trimmed_to_ms


def _make_room(tx: Transaction, tick: Tick, run_id: str, newer: Run) -> None:
    old = find_run(run_id)
    why = f"run {newer.id} of the same job is due"
    if old is not None and finish_run(tx, old, RunOutcome(state=RunState.CANCELLED, error=why)):
        tick.cancelled.append(run_id)
