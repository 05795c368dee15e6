"""When a job is due: its schedule, its jitter, and which due time of before still holds. Pure.

Instants are UTC milliseconds. Everything here may run in the database's thread.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from supervisor.core.job import Due, Job
from supervisor.core.manifest import JobSpec
from supervisor.core.plugin import PluginId, PluginKey
from supervisor.jobs.cron import Schedule, parse_schedule

RULES: Final = 1
"""Counted up when a schedule is read in another way: every plugin's jobs are declared anew at the next start."""
CLOCK_SET_MS: Final = 1_735_689_600_000
"""2025-01-01: a clock before it is certainly wrong. A machine without a clock of its own shows 1970, or when its system
was built, until its time is set."""
_BITS: Final = 64


def schedule_of(spec: JobSpec, plugin_key: PluginKey, default_zone: str) -> Schedule | None:
    """When the job is due; None if it runs by hand only.

    Raises:
        ScheduleError: the expression, the interval, the date or the zone is wrong.
    """
    if not spec.timed:
        return None
    return parse_schedule(
        spec.schedule,
        zone=spec.timezone or default_zone,
        seconds=spec.seconds,
        identity=f"{plugin_key}/{spec.key}",
        every=spec.every,
        at=spec.at,
    )


def timing(spec: JobSpec, zone: str, fingerprint: str) -> str:
    """Short, and another one when the due times are others: by the spec, its zone, or the zone's rules.

    "" for a job that runs by hand only; that of @reboot is the same everywhere.
    """
    if not spec.timed:
        return ""
    if is_on_start(spec):
        return ON_START
    where = "" if spec.every is not None else f"{zone} {fingerprint}"
    said = repr((spec.schedule, spec.every, spec.at, spec.seconds, where))
    return blake2b(said.encode(), digest_size=8).hexdigest()


ON_START: Final = "@reboot"
"""The `timing` of jobs that are due whenever the daemon starts."""


def is_on_start(spec: JobSpec) -> bool:
    return spec.schedule is not None and spec.schedule.strip().lower() == ON_START


def due_at(spec: JobSpec, schedule: Schedule, plugin_id: PluginId, due_ms: int) -> Due:
    """The due time with its jitter: it is acted on before the next one is due."""
    if not spec.jitter_s:
        return Due(due_ms, due_ms)
    following = schedule.next_ms(due_ms)
    return Due(due_ms, due_ms + jitter_ms(spec, plugin_id, due_ms, None if following is None else following - due_ms))


def due_after(spec: JobSpec, schedule: Schedule, plugin_id: PluginId, after_ms: int) -> Due | None:
    """The first due time strictly after the instant; None: never again, or at the daemon's start only."""
    due_ms = schedule.next_ms(after_ms)
    return None if due_ms is None else due_at(spec, schedule, plugin_id, due_ms)


def jitter_ms(spec: JobSpec, plugin_id: PluginId, due_ms: int, gap_ms: int | None) -> int:
    """The same for the same job and due time, in [0, jitter_s) and less than the gap to the next due time."""
    most = int(spec.jitter_s * 1000) if gap_ms is None else min(int(spec.jitter_s * 1000), gap_ms)
    drawn = blake2b(f"{plugin_id}/{spec.key} {due_ms}".encode(), digest_size=_BITS // 8).digest()
    return int.from_bytes(drawn, "big") * most >> _BITS


def first_due(
    spec: JobSpec,
    schedule: Schedule | None,
    stored: Job | None,
    plugin_id: PluginId,
    *,
    timing: str,
    now_ms: int,
    since_ms: int | None = None,
    starting: bool = False,
) -> Due | None:
    """When a job is due that is being scheduled; None: not by the clock.

    One that was not on the schedule is due from `since_ms` on, or else from now.

    With the same `timing` the stored due time holds, so that what was missed meanwhile is seen; not one beyond the
    next fire, which was stored before the clock was turned back, unless all up to there was served by then. One that
    had come before another `timing` did holds too: the new times go on from there.
    `starting`: the plugin becomes ready for the first time since the daemon began, which is when @reboot is due.
    """
    if schedule is None or (stored is not None and (stored.paused or stored.plugin_paused)):
        return None
    since_ms = now_ms if since_ms is None else since_ms
    same = stored is not None and _same_timing(stored, timing)
    if schedule.on_start:
        kept = stored is not None and same and stored.next_due_ms is not None
        return Due(now_ms, now_ms) if starting or kept else _overdue(stored, None, since_ms)
    if stored is None or not same:
        following = due_after(spec, schedule, plugin_id, since_ms)
        return _overdue(stored, following, since_ms) or following
    served_ms = stored.last_due_ms if was_served(stored, now_ms) else None
    if stored.next_due_ms is None:
        return due_after(spec, schedule, plugin_id, since_ms if served_ms is None else served_ms)
    following = due_after(spec, schedule, plugin_id, now_ms)
    if served_ms is None and following is not None and following.due_ms < stored.next_due_ms:
        return following
    return due_at(spec, schedule, plugin_id, stored.next_due_ms)


def _same_timing(stored: Job, timing: str) -> bool:
    """Due times of a version before timings were stored were computed by the spec that is declared anew."""
    return stored.timing == timing or (not stored.timing and stored.next_due_ms is not None)


def _overdue(stored: Job | None, following: Due | None, since_ms: int) -> Due | None:
    """What was due before other times were: its jitter passes, but not beyond the first of those."""
    if stored is None or stored.next_due_ms is None or stored.next_due_ms > since_ms:
        return None
    fire_ms = stored.next_due_ms if stored.next_fire_ms is None else stored.next_fire_ms
    return Due(stored.next_due_ms, fire_ms if following is None else min(fire_ms, following.due_ms))


def was_served(job: Job, now_ms: int) -> bool:
    """Whether the clock was turned back into what the job has served: nothing there is to run again."""
    return (
        job.served_from_ms is not None
        and job.last_due_ms is not None
        and job.served_from_ms <= now_ms < job.last_due_ms
    )


def earlier_due(job: Job, schedule: Schedule, *, now_ms: int) -> Due | None:
    """When a waiting job is due now that the clock was turned back; None: when it says, or after all it has served."""
    if was_served(job, now_ms):
        return None
    if schedule.on_start:
        return Due(now_ms, now_ms) if job.next_due_ms is not None and now_ms < job.next_due_ms else None
    following = due_after(job.spec, schedule, job.plugin_id, now_ms)
    if job.next_due_ms is None:  # a future that did not happen may have used up all there were
        return following
    return following if following is not None and following.due_ms < job.next_due_ms else None
