"""What becomes of a job's due times: run, skipped or missed, and when it is due next. Pure.

Instants are UTC milliseconds. A due time is on time within ON_TIME_MS of its fire time; later it is late, and
`catch_up` says what becomes of it. Everything here may run in the database's thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain, takewhile
from typing import Final

from supervisor.core.job import RETRIED, Due, Job, OpenRun, Plan, PlannedRun, Run, RunState, Trigger
from supervisor.core.manifest import JobSpec
from supervisor.jobs.admission import admit
from supervisor.jobs.arrived import Arrived, Limits, Older, arrived
from supervisor.jobs.cron import Schedule

ON_TIME_MS: Final = 5_000
"""How late the daemon itself may be without calling it a miss."""
MAX_CAUGHT_UP: Final = 100
"""Of one outage, with catch_up = "all"."""
MAX_GRACE_MS: Final = 3_600_000
_MIN_GRACE_MS: Final = 1_000
"""Jobs are due to the second; less than one is never late."""
_LEAST_WAIT_S: Final = 60.0
_MOST_WAIT_S: Final = 3600.0
MAX_BACKOFF_S: Final = 3600.0
_ALONE: Final = Limits()


def plan(job: Job, schedule: Schedule, open_runs: Sequence[OpenRun], *, now_ms: int, limits: Limits = _ALONE) -> Plan:
    """What to do about a job whose `next_due_ms` has come. `open_runs`: those of it that have not ended, oldest first.
    `limits` leave room for what catch_up = "all" serves.

    Raises:
        ValueError: it has not come.
    """
    due_ms = job.next_due_ms
    fire_ms = due_ms if job.next_fire_ms is None else job.next_fire_ms
    if due_ms is None or fire_ms is None or fire_ms > now_ms:
        raise ValueError(f"job {job.id} is not due: {due_ms}, acted on at {fire_ms}, at {now_ms}")
    if job.spec.catch_up == "all" and limits.each < MAX_CAUGHT_UP:
        limits = replace(limits, each=MAX_CAUGHT_UP)
    come = arrived(job, schedule, Due(due_ms, fire_ms), now_ms, limits)
    grace_ms = _grace_ms(job.spec, come)
    on_time_ms = min(ON_TIME_MS, grace_ms)
    late = list(takewhile(lambda due: now_ms - due.fire_ms > on_time_ms, come.each))
    caught_up = late[_caught_up_from(job.spec, late, len(late) < len(come.each), now_ms - grace_ms) :]
    missed = late[: len(late) - len(caught_up)]
    rows = chain(
        _missed_together(come.older, now_ms),
        _missed(job.spec, missed, bool(caught_up) or len(late) < len(come.each), grace_ms, now_ms),
    )
    served, cancel = _served(job.spec, caught_up, come.each[len(late) :], open_runs)
    return Plan((*rows, *served), come.next, cancel, gap=bool(missed or come.older))


def _grace_ms(spec: JobSpec, come: Arrived) -> int:
    """How late a due time may be served. By default it leaves the daemon's own lateness out of account."""
    if spec.misfire_grace_s is not None:
        return max(_MIN_GRACE_MS, int(spec.misfire_grace_s * 1000))
    if come.next is None:
        return MAX_GRACE_MS
    return max(ON_TIME_MS, min((come.next.due_ms - come.each[-1].due_ms) // 2, MAX_GRACE_MS))


def _caught_up_from(spec: JobSpec, late: Sequence[Due], on_time: bool, least_fire_ms: int) -> int:
    """Which of the late ones is the first to be served after all: an index, and that of the end for none."""
    most = {"all": MAX_CAUGHT_UP, "latest": 0 if on_time else 1}.get(spec.catch_up, 0)
    within = sum(due.fire_ms >= least_fire_ms for due in late)
    return len(late) - min(most, within)


def _served(
    spec: JobSpec, caught_up: Sequence[Due], on_time: Sequence[Due], open_runs: Sequence[OpenRun]
) -> tuple[list[PlannedRun], tuple[str, ...]]:
    """Their rows, and the open runs that make room. With catch_up = "all" it is all of them or none: they queue up."""
    triggers = [(due, Trigger.CATCH_UP) for due in caught_up] + [(due, Trigger.SCHEDULE) for due in on_time]
    if not triggers:
        return [], ()
    if len(triggers) == 1 or spec.catch_up == "all":
        admission = admit(spec, open_runs)
        rows = [PlannedRun(due.due_ms, admission.state, trigger, admission.error) for due, trigger in triggers]
        return rows, admission.cancel
    return _one_by_one(spec, [due for due, _ in triggers], open_runs)


def _one_by_one(
    spec: JobSpec, dues: Sequence[Due], open_runs: Sequence[OpenRun]
) -> tuple[list[PlannedRun], tuple[str, ...]]:
    """Several at once that are all on time, since the daemon was slow for a moment: each finds those before it open."""
    if spec.overlap == "cancel_previous":
        why = f"the due time {_shown(dues[-1].due_ms)} came before it could start, and overlap is cancel_previous"
        early = [PlannedRun(due.due_ms, RunState.SKIPPED, error=why) for due in dues[:-1]]
        return [*early, PlannedRun(dues[-1].due_ms, RunState.QUEUED)], tuple(each.id for each in open_runs)
    rows, beside = [], list(open_runs)
    for due in dues:
        admission = admit(spec, beside)
        rows.append(PlannedRun(due.due_ms, admission.state, error=admission.error))
        if admission.state is RunState.QUEUED:
            beside.append(OpenRun(f"due {_shown(due.due_ms)}", RunState.QUEUED))
    return rows, ()


def _missed(spec: JobSpec, dues: Sequence[Due], served: bool, grace_ms: int, now_ms: int) -> Iterator[PlannedRun]:
    """A row each. `served`: at least one that came after them."""
    if not dues:  # as nearly always
        return
    passed = f"it passed unserved until {_shown(now_ms)}"
    for due in dues:
        if spec.catch_up == "skip":
            why = "catch_up is skip"
        elif now_ms - due.fire_ms > grace_ms:
            why = f"more than misfire_grace_s = {grace_ms / 1000:g} s"
        elif spec.catch_up == "all":
            why = f"only the latest {MAX_CAUGHT_UP} are caught up with"
        else:
            why = "a later one is served" if served else "catch_up is latest"
        yield PlannedRun(due.due_ms, RunState.MISSED, error=f"{passed}; {why}")


def _missed_together(older: Older | None, now_ms: int) -> Iterator[PlannedRun]:
    if older is not None:
        count = f"{older.times} due times" if older.exact else f"at least {older.times} due times"
        period = f"from {_shown(older.first_ms)} to {_shown(older.last_ms)}"
        why = f"{count} {period} passed unserved until {_shown(now_ms)}"
        # By the last of them: the first may have rows of their own, from before the clock was turned back.
        yield PlannedRun(older.last_ms, RunState.MISSED, error=why, times=older.times)


def start_within(spec: JobSpec, schedule: Schedule | None, due_ms: int = 0) -> float:
    """How long a run may wait for its worker or a place, in seconds: by default half the period after `due_ms`."""
    if spec.start_within_s is not None:
        return spec.start_within_s
    first = None if schedule is None else schedule.next_ms(due_ms)
    second = None if schedule is None or first is None else schedule.next_ms(first)
    if first is None or second is None:
        return _MOST_WAIT_S
    return min(max((second - first) / 2000, _LEAST_WAIT_S), _MOST_WAIT_S)


def retry_at(spec: JobSpec, run: Run, state: RunState, now_ms: int) -> int | None:
    """When the run that ended in `state` is tried again; None: not."""
    if state not in RETRIED or run.attempt > spec.retries:
        return None
    return now_ms + int(1000 * min(spec.retry_backoff_s * 2 ** (run.attempt - 1), MAX_BACKOFF_S))


def retry_interrupted(spec: JobSpec, run: Run, now_ms: int) -> int | None:
    """`retry_at` of a run that the daemon's end cut short."""
    return retry_at(spec, run, RunState.INTERRUPTED, now_ms)


def _shown(ms: int) -> str:
    return datetime.fromtimestamp(ms // 1000, UTC).isoformat().replace("+00:00", "Z")
