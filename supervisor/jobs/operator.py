"""JobOperator: what people do with jobs over the socket. Runs are in `manual`, pauses in `holding`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Final, TypeVar

from supervisor.clock import Clock, to_ms
from supervisor.core.errors import InvalidParams
from supervisor.core.job import Hold, Job, Run, RunState, Trigger
from supervisor.core.plugin import PluginId
from supervisor.jobs.coordinator import JobCoordinator, Plugins
from supervisor.jobs.holding import Holds
from supervisor.jobs.lookup import JobLookup
from supervisor.jobs.manual import ManualRuns
from supervisor.jobs.runner import Runner
from supervisor.jobs.scheduler import JobScheduler
from supervisor.jobs.shown import job_info, run_info
from supervisor.jobs.upcoming import times_of_many, times_of_one
from supervisor.store.claims import ClaimStore
from supervisor.store.jobs import JobStore
from supervisor.store.runs import RunStore
from supervisor.wire.results import JobInfo, NextTimes, RunInfo

MAX_TIMES: Final = 1_000
MAX_HOURS: Final = 366 * 24
MAX_PAGE: Final = 1_000
_HOUR_MS: Final = 3_600_000
_E = TypeVar("_E", bound=StrEnum)


class JobOperator:
    """Jobs are named `<plugin>/<key>` or by their id, runs by their id or its beginning; every method raises NotFound
    for what is not there.

    `await holds.load()` comes first.
    """

    def __init__(
        self,
        plugins: Plugins,
        jobs: JobStore,
        runs: RunStore,
        claims: ClaimStore,
        scheduler: JobScheduler,
        runner: Runner,
        coordinator: JobCoordinator,
        clock: Clock,
        *,
        timezone: str,
    ) -> None:
        self._jobs = jobs
        self._runs = runs
        self._runner = runner
        self._clock = clock
        self._lookup = JobLookup(plugins, jobs, coordinator, timezone=timezone)
        self._manual = ManualRuns(self._lookup, claims, runs, runner, clock)
        self.holds: Final = Holds(self._lookup, jobs, scheduler, clock)

    async def name(self, name: str) -> str:
        """<plugin>/<key> of a job that is named so or by its id."""
        return (await self._lookup.job(name)).name

    async def get(self, name: str) -> JobInfo:
        job = await self._lookup.job(name)
        return self._job_info(job, await self._jobs.last_run(job.id))

    async def next(
        self, name: str | None = None, count: int = 5, *, plugin_id: PluginId | None = None, hours: float | None = None
    ) -> NextTimes:
        """The next times of one job, paused or not, or of all that are scheduled, in order of time.

        Raises:
            InvalidParams: `count` is not from 1 to MAX_TIMES, `hours` not above 0 and up to MAX_HOURS, or one job is
                asked for and a plugin too.
        """
        _within("count", count, MAX_TIMES)
        now_ms = to_ms(self._clock.now())
        until_ms = None if hours is None else now_ms + _hours_ms(hours)
        held = self.holds.since_ms is not None
        if name is not None:
            if plugin_id is not None:
                raise InvalidParams("job says which one: leave out plugin")
            job = await self._lookup.job(name)
            return await times_of_one(self._lookup, job, now_ms, count, until_ms, all_held=held)
        # While all is held nothing is going to be due. One more than asked for, to know whether there are more.
        jobs = [] if held else await self._jobs.next_of(plugin_id, until_ms, count + 1)
        hold = Hold.SCHEDULER if held else None
        return await times_of_many(self._lookup, jobs, now_ms, count, until_ms, hold=hold)

    async def run(self, name: str, *, params: Mapping[str, Any] | None = None, wait: bool = False) -> RunInfo:
        """See `ManualRuns.run`."""
        return self._run_info(await self._manual.run(name, params=params, wait=wait))

    async def retry(self, run_id: str, *, wait: bool = False) -> RunInfo:
        """See `ManualRuns.retry`."""
        return self._run_info(await self._manual.retry(await self._runs.named(run_id), wait=wait))

    async def cancel(self, run_id: str) -> RunInfo:
        """See `ManualRuns.cancel`."""
        return self._run_info(await self._manual.cancel(await self._runs.named(run_id)))

    async def get_run(self, run_id: str) -> RunInfo:
        return self._run_info(await self._runs.named(run_id))

    async def runs(
        self,
        *,
        job: str | None = None,
        plugin_id: PluginId | None = None,
        state: str | None = None,
        trigger: str | None = None,
        since_ms: int | None = None,
        before_ms: int | None = None,
        before: str | None = None,
        limit: int = 50,
        states: Sequence[str] = (),
        triggers: Sequence[str] = (),
    ) -> list[RunInfo]:
        """History, newest first; `before` pages on from the last run's id, `before_ms` leaves out its millisecond.

        `state` and `states` keep to runs in one of these, `trigger` and `triggers` likewise; none: all.

        Raises:
            InvalidParams: an unknown state or trigger, or a `limit` that is not from 1 to MAX_PAGE.
        """
        _within("limit", limit, MAX_PAGE)
        found = await self._runs.list(
            job_id=None if job is None else (await self._lookup.job(job)).id,
            plugin_id=plugin_id,
            states=_all_of("state", RunState, state, states),
            triggers=_all_of("trigger", Trigger, trigger, triggers),
            since_ms=since_ms,
            before_ms=before_ms,
            before=None if before is None else (await self._runs.named(before)).id,
            limit=limit,
        )
        return [self._run_info(run) for run in found]

    async def list(
        self,
        *,
        plugin_id: PluginId | None = None,
        include_inactive: bool = False,
        after: str | None = None,
        limit: int = MAX_PAGE,
    ) -> list[JobInfo]:
        """Jobs of one plugin or of all, by name; `after` pages on from a name.

        Raises:
            InvalidParams: `limit` is not from 1 to MAX_PAGE.
        """
        _within("limit", limit, MAX_PAGE)
        listed = await self._jobs.list(plugin_id, include_inactive=include_inactive, after=after, limit=limit)
        return [self._job_info(each.job, each.last) for each in listed]

    def _job_info(self, job: Job, last: tuple[RunState, int] | None) -> JobInfo:
        active = self._runner.active
        return job_info(
            job,
            last,
            len(active.of_job(job.id)),
            active.waiting_of_job(job.id),
            active.progress_of_job(job.id),
            self._lookup.timezone,
            all_held=self.holds.since_ms is not None,
        )

    def _run_info(self, run: Run) -> RunInfo:
        return run_info(run, self._runner.active.progress(run.id), self._runner.waiting_for(run.id))


def _hours_ms(hours: float) -> int:
    if not 0 < hours <= MAX_HOURS:
        raise InvalidParams(f"hours must be above 0 and at most {MAX_HOURS}, not {hours:g}", hours=hours)
    return int(hours * _HOUR_MS)


def _within(name: str, value: int, most: int) -> None:
    if not 1 <= value <= most:
        raise InvalidParams(f"{name} must be from 1 to {most}, not {value}", **{name: value})


def _all_of(name: str, kind: type[_E], one: str | None, several: Sequence[str]) -> frozenset[_E]:
    return frozenset(_one_of(name, kind, text) for text in (*([] if one is None else [one]), *several))


def _one_of(name: str, kind: type[_E], text: str) -> _E:
    try:
        return kind(text)
    except ValueError:
        raise InvalidParams(f"{name} must be one of {', '.join(kind)}, not {text[:100]!r}", **{name: text}) from None
