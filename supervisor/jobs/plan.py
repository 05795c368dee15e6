"""What becomes of a job's due times: run, skipped or missed, and when it is due next. Pure.

Instants are UTC milliseconds. A due time is on time within ON_TIME_MS; later it is caught up with, or missed.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from supervisor.clock import from_ms, to_ms
from supervisor.core.job import Job, RunState, Trigger
from supervisor.core.manifest import JobSpec
from supervisor.core.plugin import PluginKey
from supervisor.jobs.cron import Schedule, parse_schedule

ON_TIME_MS: Final = 5_000
"""How late the daemon itself may be without calling it a miss."""
MAX_GRACE_MS: Final = 3_600_000
MIN_GRACE_MS: Final = 1_000
"""Jobs are due to the second; less than one is never late."""
MAX_COUNTED: Final = 1_000
"""Missed times beyond this many are told as "more than"."""


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """A row to write: a run (`queued`), or the record that there was none (`skipped`, `missed`)."""

    due_ms: int
    state: RunState
    trigger: Trigger = Trigger.SCHEDULE
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """At most one of `runs` is queued. `next_due_ms` is later than now and than all of them; None: never again."""

    runs: tuple[PlannedRun, ...]
    next_due_ms: int | None


def schedule_of(spec: JobSpec, plugin_key: PluginKey, default_zone: str) -> Schedule | None:
    """When the job is due; None if it runs by hand only.

    Raises:
        ScheduleError: the expression, the interval or the zone is wrong.
    """
    if spec.schedule is None and spec.every is None:
        return None
    return parse_schedule(
        spec.schedule,
        zone=spec.timezone or default_zone,
        seconds=spec.seconds,
        identity=f"{plugin_key}/{spec.key}",
        every=spec.every,
    )


def first_due(
    spec: JobSpec, schedule: Schedule | None, stored: Job | None, *, now_ms: int, starting: bool
) -> int | None:
    """When a job is due that is being scheduled; None: not by the clock. Both specs have their zone filled in.

    An unchanged schedule keeps its stored due time, so that what was missed meanwhile is seen; never one beyond the
    next fire, which was stored before the clock was turned back. What was claimed by then is not claimed again.
    `starting`: the plugin becomes ready for the first time since the daemon began, which is when @reboot is due.
    """
    if schedule is None or (stored is not None and stored.paused):
        return None
    if schedule.on_start:
        return now_ms if starting else None
    following = _next_ms(schedule, now_ms)
    if stored is None or stored.next_due_ms is None or timing(stored.spec) != timing(spec):
        return following
    return stored.next_due_ms if following is None else min(stored.next_due_ms, following)


def timing(spec: JobSpec) -> tuple[str | None, str | None, bool, str | None]:
    """The part of a spec that decides when it is due."""
    return spec.schedule, spec.every, spec.seconds, spec.timezone


def plan(job: Job, schedule: Schedule, *, now_ms: int, active_run: str | None) -> Plan:
    """What to do about a job whose `next_due_ms` has come. `active_run` is a run of it that has not ended."""
    due_ms = job.next_due_ms
    if due_ms is None or due_ms > now_ms:
        raise ValueError(f"job {job.id} is not due: {due_ms} at {now_ms}")
    latest_ms = _latest(schedule, due_ms, now_ms)
    next_ms = _next_ms(schedule, latest_ms)
    late_ms = now_ms - latest_ms
    several = latest_ms > due_ms
    grace_ms = _grace_ms(job.spec, None if next_ms is None else next_ms - latest_ms)
    if late_ms > (grace_ms if job.spec.catch_up == "latest" else min(grace_ms, ON_TIME_MS)):
        return Plan((_missed(schedule, due_ms, latest_ms, now_ms, caught_up=False),), next_ms)
    caught_up = job.spec.catch_up == "latest" and (several or late_ms > ON_TIME_MS)
    run = _run(job.spec, latest_ms, Trigger.CATCH_UP if caught_up else Trigger.SCHEDULE, active_run)
    if not several:
        return Plan((run,), next_ms)
    return Plan((_missed(schedule, due_ms, latest_ms - 1, now_ms, caught_up=True), run), next_ms)


def _run(spec: JobSpec, due_ms: int, trigger: Trigger, active_run: str | None) -> PlannedRun:
    if active_run is None or spec.overlap == "allow":
        return PlannedRun(due_ms, RunState.QUEUED, trigger)
    why = f"run {active_run} has not ended, and overlap is {spec.overlap}"
    return PlannedRun(due_ms, RunState.SKIPPED, trigger, why)


def _missed(schedule: Schedule, due_ms: int, until_ms: int, now_ms: int, *, caught_up: bool) -> PlannedRun:
    """One row for all due times from `due_ms` to `until_ms`."""
    count = _count(schedule, due_ms, until_ms)
    times = "1 due time" if count == 1 else f"{count} due times" if count <= MAX_COUNTED else _MANY
    end = "; the latest follows" if caught_up else ""
    why = f"{times} from {_shown(due_ms)} passed unserved until {_shown(now_ms)}{end}"
    return PlannedRun(due_ms, RunState.MISSED, Trigger.SCHEDULE, why)


_MANY: Final = f"more than {MAX_COUNTED} due times"


def _grace_ms(spec: JobSpec, period_ms: int | None) -> int:
    if spec.misfire_grace_s is not None:
        return max(MIN_GRACE_MS, int(spec.misfire_grace_s * 1000))
    return max(MIN_GRACE_MS, MAX_GRACE_MS if period_ms is None else min(period_ms // 2, MAX_GRACE_MS))


def _latest(schedule: Schedule, due_ms: int, now_ms: int) -> int:
    """The last fire not after now, found by bisection: a month of missed seconds costs as much as three."""
    following = _next_ms(schedule, due_ms)
    if following is None or following > now_ms:
        return due_ms
    seconds = range(due_ms // 1000, now_ms // 1000 + 1)
    beyond = bisect_left(seconds, True, key=lambda s: (_next_ms(schedule, s * 1000) or now_ms + 1) > now_ms)
    return _next_ms(schedule, seconds[beyond - 1] * 1000) or due_ms


def _count(schedule: Schedule, due_ms: int, until_ms: int) -> int:
    count, fire = 0, due_ms
    while fire <= until_ms and count <= MAX_COUNTED:
        count += 1
        following = _next_ms(schedule, fire)
        if following is None:
            break
        fire = following
    return count


def _next_ms(schedule: Schedule, after_ms: int) -> int | None:
    fire = schedule.next_after(from_ms(after_ms))
    return None if fire is None else to_ms(fire)


def earlier_due(job: Job, schedule: Schedule, *, now_ms: int) -> int | None:
    """When a waiting job is due now that the clock was turned back; None: no earlier than it says."""
    following = now_ms if schedule.on_start else _next_ms(schedule, now_ms)
    if job.next_due_ms is None or following is None or following >= job.next_due_ms:
        return None
    return following


def next_due_ms(schedule: Schedule, after: datetime) -> int | None:
    """The first fire strictly after the instant `after`."""
    return _next_ms(schedule, to_ms(after))


def _shown(ms: int) -> str:
    return datetime.fromtimestamp(ms // 1000, UTC).isoformat().replace("+00:00", "Z")
