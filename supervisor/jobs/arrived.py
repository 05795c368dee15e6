"""The due times of a job that have come: the newest one by one, older ones by their number. Pure.

What finding them costs has a bound, however long the outage and however often the job is due.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from supervisor.core.job import Due, Job
from supervisor.jobs.cron import Schedule
from supervisor.jobs.due import due_at

MAX_EACH: Final = 1_000
MAX_COUNTED: Final = 10_000
_EACH_OF_ALL: Final = 20_000
_COUNTED_OF_ALL: Final = 200_000


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one job and outage."""

    each: int = MAX_EACH
    """So many have a row each."""
    counted: int = MAX_COUNTED
    """Of those before them; more are "at least"."""

    @classmethod
    def among(cls, jobs: int) -> Limits:
        """Where so many jobs are overdue: what all of them cost has a bound too."""
        each = min(max(_EACH_OF_ALL // max(jobs, 1), 10), MAX_EACH)
        return cls(each, min(max(_COUNTED_OF_ALL // max(jobs, 1), 100), MAX_COUNTED))


@dataclass(frozen=True, slots=True)
class Older:
    """Due times that share one row. Not `exact`: there are more than `times`."""

    first_ms: int
    last_ms: int
    """Due itself, as is `first_ms`."""
    times: int
    exact: bool


@dataclass(frozen=True, slots=True)
class Arrived:
    """`each` is in order and not empty; `older` came before. `next` is the first that has not come; None: never."""

    older: Older | None
    each: tuple[Due, ...]
    next: Due | None


def arrived(job: Job, schedule: Schedule, first: Due, now_ms: int, limits: Limits) -> Arrived:
    """All from `first`, which has come, to now. A due time has come when its fire time has."""
    following = schedule.next_ms(first.due_ms)
    if following is None or following > now_ms:  # as nearly always
        return Arrived(None, (first,), _due(job, schedule, following))
    older, newest = _split(schedule, first.due_ms, now_ms, limits)
    each = [due_at(job.spec, schedule, job.plugin_id, due_ms) for due_ms in newest]
    if newest[0] == first.due_ms:
        each[0] = first
    # Each fires before the next one is due, so at most the last is still to come.
    if each[-1].fire_ms > now_ms:
        return Arrived(older, tuple(each[:-1]), each[-1])
    return Arrived(older, tuple(each), _due(job, schedule, schedule.next_ms(newest[-1])))


def _due(job: Job, schedule: Schedule, due_ms: int | None) -> Due | None:
    return None if due_ms is None else due_at(job.spec, schedule, job.plugin_id, due_ms)


def _split(schedule: Schedule, first_ms: int, now_ms: int, limits: Limits) -> tuple[Older | None, list[int]]:
    """Older ones together, and the newest `limits.each`."""
    most = limits.counted + limits.each
    found = list(islice(_fires(schedule, first_ms, now_ms), most + 1))
    if len(found) > most:
        last_ms, *newest = _newest(schedule, first_ms, now_ms, limits.each + 1)
        return Older(first_ms, last_ms, limits.counted, exact=False), newest
    older, newest = found[: -limits.each], found[-limits.each :]
    return Older(older[0], older[-1], len(older), exact=True) if older else None, newest


def _newest(schedule: Schedule, first_ms: int, now_ms: int, most: int) -> list[int]:
    """The last so many not after now, of many more: found by bisection, since nobody can go backwards."""

    def too_few(second: int) -> bool:
        return len(list(islice(_fires_after(schedule, second * 1000, now_ms), most))) < most

    seconds = range(first_ms // 1000, now_ms // 1000 + 1)
    # Jobs are due to the second: the last second behind which there are enough has just so many.
    enough = seconds[bisect_left(seconds, True, key=too_few) - 1]
    return list(_fires_after(schedule, enough * 1000, now_ms))


def _fires(schedule: Schedule, first_ms: int, until_ms: int) -> Iterator[int]:
    yield first_ms
    yield from _fires_after(schedule, first_ms, until_ms)


def _fires_after(schedule: Schedule, after_ms: int, until_ms: int) -> Iterator[int]:
    fire = schedule.next_ms(after_ms)
    while fire is not None and fire <= until_ms:
        yield fire
        fire = schedule.next_ms(fire)
