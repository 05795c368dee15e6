"""When jobs are due from now on: of one job, or of many in order of time."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from typing import Final

import trio

from supervisor.core.errors import FailedPrecondition
from supervisor.core.job import Due, Hold, Job
from supervisor.jobs.lookup import JobLookup
from supervisor.jobs.shown import held_by
from supervisor.wire.results import NextTime, NextTimes

_AT_ONCE: Final = 50
"""Times that are computed before others have their turn."""


async def times_of_one(
    lookup: JobLookup, job: Job, now_ms: int, count: int, until_ms: int | None, *, all_held: bool
) -> NextTimes:
    """Its next times, paused or not; none for a job that runs by hand or at the daemon's start only.

    `all_held`: the whole schedule is paused.

    Raises:
        FailedPrecondition: its schedule is wrong by now.
    """
    walk = _walk(lookup, job, now_ms) if job.active else iter(())
    times, more = await _take(lookup, walk, count, until_ms)
    hold = held_by(job, all_held=all_held)
    scheduled = hold is None and job.next_due_ms is not None
    return _told(job.name, lookup.zone(job), times, more, hold=hold, scheduled=scheduled)


async def times_of_many(
    lookup: JobLookup, jobs: Iterable[Job], now_ms: int, count: int, until_ms: int | None, *, hold: Hold | None
) -> NextTimes:
    """Of jobs that are scheduled, in order of time. `hold`: what keeps all that were asked for off the schedule."""
    walks = (_walk_while_right(lookup, job, now_ms) for job in jobs)
    times, more = await _take(lookup, heapq.merge(*walks, key=lambda due: due[0].fire_ms), count, until_ms)
    return _told(None, lookup.timezone, times, more, hold=hold, scheduled=hold is None)


def _walk(lookup: JobLookup, job: Job, now_ms: int) -> Iterator[tuple[Due, Job]]:
    """The time that is stored, since it may be older than now and not served yet, then those behind it."""
    if job.next_due_ms is not None and job.next_fire_ms is not None:
        due: Due | None = Due(job.next_due_ms, job.next_fire_ms)
    else:
        due = lookup.due_after(job, now_ms)
    while due is not None:
        yield due, job
        due = lookup.due_after(job, due.due_ms)


def _walk_while_right(lookup: JobLookup, job: Job, now_ms: int) -> Iterator[tuple[Due, Job]]:
    try:
        yield from _walk(lookup, job, now_ms)
    except FailedPrecondition:
        # `jobs.next` of this job says what is wrong with its schedule; that does not hide the times of the others.
        return


async def _take(
    lookup: JobLookup, walk: Iterator[tuple[Due, Job]], count: int, until_ms: int | None
) -> tuple[list[NextTime], bool]:
    """At most `count` of them, and whether there are more up to `until_ms`."""
    times: list[NextTime] = []
    for due, job in walk:
        if until_ms is not None and due.fire_ms > until_ms:
            return times, False
        if len(times) == count:
            return times, True
        at = lookup.in_zone(job, due.fire_ms)
        times.append(NextTime(job=job.name, due_ms=due.due_ms, fire_ms=due.fire_ms, at=at))
        if len(times) % _AT_ONCE == 0:
            await trio.lowlevel.checkpoint()
    return times, False


def _told(
    job: str | None, zone: str, times: list[NextTime], more: bool, *, hold: Hold | None, scheduled: bool
) -> NextTimes:
    return NextTimes(
        job=job,
        timezone=zone,
        times=[each["at"] for each in times],
        next=times,
        more=more,
        held_by=None if hold is None else str(hold),
        scheduled=scheduled,
    )
