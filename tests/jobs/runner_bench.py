"""A runner on rows in memory, which fail and take their time as told: for the tests of the runner and its speed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import trio

from supervisor.clock import to_ms
from supervisor.core.errors import SupervisorError
from supervisor.core.job import RUN_STEPS, Job, Run, RunEnd, RunOutcome, RunState, Trigger
from supervisor.core.manifest import JobSpec
from supervisor.core.plugin import PluginId, PluginKey
from supervisor.jobs.runner import Runner
from supervisor.log import get_logger
from tests.jobs.workers import FakeCommands, FakeWorkers

_NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class BenchClock:
    """Noon at the start of the test, then as fast as trio's."""

    def __init__(self) -> None:
        self._offset = _NOON - timedelta(seconds=trio.current_time())

    def now(self) -> datetime:
        return self._offset + timedelta(seconds=trio.current_time())


@dataclass
class Row:
    state: RunState = RunState.QUEUED
    started_at: float | None = None
    ended_at: float | None = None
    outcome: RunOutcome | None = None
    retry_at_ms: int | None = None


class FakeRuns:
    """Rows with the store's rules: each step by compare-and-set. A commit takes `commit_s`, `broken` fails them."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.batches: list[int] = []
        self.commit_s = 0.0
        self.broken: SupervisorError | None = None

    async def start(self, runs: Sequence[Run]) -> frozenset[str]:
        self.batches.append(len(runs))
        await self._commit()
        won = [run.id for run in runs if self.rows[run.id].state is RunState.QUEUED]
        for run_id in won:
            row = self.rows[run_id]
            row.state, row.started_at = RunState.RUNNING, trio.current_time()
        return frozenset(won)

    async def finish(self, run: Run, outcome: RunOutcome) -> bool:
        return run.id in await self.finish_all([RunEnd(run, outcome)])

    async def finish_all(self, ends: Sequence[RunEnd]) -> frozenset[str]:
        await self._commit()
        return frozenset(end.run.id for end in ends if self._finish(end))

    def _finish(self, end: RunEnd) -> bool:
        row = self.rows[end.run.id]
        if end.outcome.state not in RUN_STEPS[row.state]:
            return False
        row.state, row.outcome, row.ended_at = end.outcome.state, end.outcome, trio.current_time()
        row.retry_at_ms = end.retry_at_ms
        return True

    async def _commit(self) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        if self.commit_s:
            with trio.CancelScope(shield=True):  # what was handed over is done
                await trio.sleep(self.commit_s)
        else:
            await trio.lowlevel.cancel_shielded_checkpoint()
        if self.broken is not None:
            raise self.broken


@dataclass
class RunnerBench:
    runner: Runner
    runs: FakeRuns
    workers: FakeWorkers
    commands: FakeCommands
    clock: BenchClock
    nudges: list[float] = field(default_factory=list)
    _numbers: Any = field(default_factory=count)

    def submit(
        self,
        job: str = "acme.weather/refresh",
        *,
        trigger: Trigger = Trigger.SCHEDULE,
        attempt: int = 1,
        age_s: float = 0.0,
        params: Any = None,
        **spec: Any,
    ) -> Run:
        """A run of `<plugin>/<key>`, whose plugin's id is its key, made `age_s` ago."""
        plugin, key = job.split("/")
        declared = JobSpec(key=key, display_name=key, **{"schedule": "* * * * *", **spec})
        made_ms = to_ms(self.clock.now()) - int(age_s * 1000)
        run = Run(
            id=f"{key}-{next(self._numbers)}",
            job_id=job,
            plugin_id=PluginId(plugin),
            plugin_key=PluginKey(plugin),
            job_key=key,
            trigger=trigger,
            state=RunState.QUEUED,
            attempt=attempt,
            due_ms=made_ms,
            created_ms=made_ms,
            params=params,
        )
        self.runs.rows[run.id] = Row()
        self.runner.submit(run, _job(run, declared))
        return run

    async def run_to_end(self, job: str = "acme.weather/refresh", **more: Any) -> Row:
        run = self.submit(job, **more)
        await self.runner.wait_ended(run.id)
        return self.row(run)

    def row(self, run: Run) -> Row:
        return self.runs.rows[run.id]

    def end(self, run: Run) -> tuple[str, str | None]:
        outcome = self.row(run).outcome
        assert outcome is not None, f"run {run.id} is {self.row(run).state}"
        return str(outcome.state), outcome.error

    def states(self) -> list[str]:
        return [str(row.state) for row in self.runs.rows.values()]

    def is_empty(self) -> bool:
        now = self.runner.statistics()
        return now.active == now.waiting == now.running == now.plugins == 0


def _job(run: Run, spec: JobSpec) -> Job:
    return Job(
        id=run.job_id,
        plugin_id=run.plugin_id,
        plugin_key=run.plugin_key,
        key=run.job_key,
        spec=spec,
        active=True,
        paused=False,
        next_due_ms=None,
        last_due_ms=None,
    )


def make_bench(workers: Any = None, **limits: int) -> RunnerBench:
    """`workers`: in place of FakeWorkers."""
    clock, runs, nudges = BenchClock(), FakeRuns(), list[float]()
    workers, commands = workers or FakeWorkers(clock), FakeCommands()
    runner = Runner(
        runs,
        workers,
        commands,
        clock,
        get_logger(),
        timezone="UTC",
        nudge=lambda: nudges.append(trio.current_time()),
        **limits,
    )
    return RunnerBench(runner, runs, workers, commands, clock, nudges)


@asynccontextmanager
async def open_bench(**limits: int) -> AsyncIterator[RunnerBench]:
    """Served until the block ends."""
    bench = make_bench(**limits)
    async with trio.open_nursery() as nursery:
        await nursery.start(bench.runner.run)
        yield bench
        nursery.cancel_scope.cancel()
