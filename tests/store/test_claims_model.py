"""Claims, starts, ends, retries, restarts and clocks turned back, in any order: what must hold after each step."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.core.job import TERMINAL, Admission, Job, OpenRun, Plan, Run, RunOutcome, RunState, Trigger
from supervisor.core.manifest import JobSpec
from supervisor.store.claims import ClaimStore
from supervisor.store.database import Database
from supervisor.store.jobs import JobStore
from supervisor.store.runs import RunStore
from tests.store.conftest import TurnableClock
from tests.store.jobs_world import MINUTE_MS, due_at, each_minute, execute, nothing, run_of, spec

EXAMPLES: Final = int(os.environ.get("PLUGIND_TEST_EXAMPLES", "60")) // 5
"""Each opens a database of its own."""
JOBS = 2
STEPS = st.one_of(
    st.tuples(st.just("claim"), st.sampled_from(["allow", "skip", "cancel_previous"])),
    st.tuples(st.just("start"), st.integers(0, 5)),
    st.tuples(st.just("finish"), st.integers(0, 5), st.sampled_from(sorted(TERMINAL - {RunState.MISSED}))),
    st.tuples(st.just("by_hand"), st.integers(0, 5)),
    st.tuples(st.just("try_again"), st.integers(0, 5)),
    st.tuples(st.just("turn_back"), st.integers(1, 3)),
    st.tuples(st.just("restart")),
)


def admission(overlap: str, opens: tuple[OpenRun, ...]) -> Admission:
    if overlap == "cancel_previous":
        return Admission(cancel=tuple(each.id for each in opens))
    return Admission(RunState.SKIPPED, "another run") if opens and overlap == "skip" else Admission()


@dataclass
class World:
    path: Path
    now_ms: int = 10 * MINUTE_MS
    rows: dict[str, Run] = field(default_factory=dict)

    async def open(self) -> None:
        self.database = await Database.open(self.path, clock=TurnableClock(), publish=nothing, inline=True)
        # Restarts are what is tried here, not the loss of power.
        self.database._writer._connection.raw.execute("PRAGMA synchronous = OFF")  # type: ignore[attr-defined]
        self.claims, self.runs, self.jobs = (
            ClaimStore(self.database),
            RunStore(self.database),
            JobStore(self.database),
        )

    async def begin(self) -> None:
        await self.open()
        columns = "id, key, version, status, manifest, package_dir, install_order, installed_at_ms, updated_at_ms"
        await execute(
            self.database, f"INSERT INTO plugin ({columns}) VALUES ('p', 'k', '1', 'ready', '{{}}', 'd', 1, 0, 0)"
        )
        await self.sync(self.now_ms)

    async def sync(self, at: int) -> None:
        specs = [spec(f"job{n}") for n in range(JOBS)]
        await self.jobs.sync("p", "k", specs, due_at(at), source="v1")  # type: ignore[arg-type]

    async def claim(self, overlap: str) -> None:
        def decide(job: Job, opens: tuple[OpenRun, ...]) -> Plan:
            made, plan = admission(overlap, opens), each_minute(job, opens)
            [run] = plan.runs
            return replace(plan, runs=(replace(run, state=made.state, error=made.error),), cancel=made.cancel)

        tick = await self.claims.claim_due(
            self.now_ms, decide, lambda _job, _run, _caught_up, opens: admission(overlap, opens), nothing
        )
        assert tick.broken == []
        known = set(self.rows)
        assert not known & {run.id for run, _ in tick.queued}
        self.now_ms += MINUTE_MS

    def pick(self, n: int) -> Run | None:
        return sorted(self.rows.values(), key=lambda run: run.id)[n % len(self.rows)] if self.rows else None

    async def start(self, n: int) -> None:
        if run := self.pick(n):
            won = await self.runs.start([run])
            assert bool(won) == (run.state is RunState.QUEUED)

    async def finish(self, n: int, end: RunState) -> None:
        if run := self.pick(n):
            retry_at_ms = self.now_ms if end is RunState.FAILED else None
            await self.runs.finish(run, RunOutcome(state=end), retry_at_ms=retry_at_ms)

    async def by_hand(self, n: int) -> None:
        job = (await self.jobs.list())[n % JOBS].job
        # A due time of its own: not on the minute.
        run = run_of(job, due_ms=self.now_ms + 1 + len(self.rows))
        await self.claims.add(job.id, lambda *_: (run, Admission()), nothing)

    async def try_again(self, n: int) -> None:
        if run := self.pick(n):
            again = replace(run, trigger=Trigger.RETRY, state=RunState.QUEUED)

            def build(job: Job, _: Any) -> tuple[Run, Admission]:
                return replace(again, id=run_of(job).id, created_ms=self.now_ms), Admission()

            await self.claims.add(run.job_id, build, nothing, retry_of=run.id)

    async def turn_back(self, minutes: int) -> None:
        """And the jobs are due at times that were served."""
        self.now_ms -= minutes * MINUTE_MS
        await self.sync(self.now_ms)

    async def restart(self) -> None:
        def retry(_spec: JobSpec, _run: Run, _now_ms: int) -> int:
            return self.now_ms

        await self.database.aclose()
        await self.open()
        ran = [run for run in self.rows.values() if run.state is RunState.RUNNING]
        assert await self.runs.interrupt_leftovers(retry) == len(ran)
        waiting = {run.id for run, _ in await self.runs.waiting()}
        assert waiting == {run.id for run in self.rows.values() if run.state is RunState.QUEUED}

    async def check(self) -> None:
        found = {run.id: run for run in await self.runs.list(limit=10_000)}
        for before in self.rows.values():
            after = found[before.id]
            if before.state in TERMINAL:
                assert replace(after, retry_at_ms=None) == replace(before, retry_at_ms=None)
                assert after.retry_at_ms in {before.retry_at_ms, None}
        claimed = Counter(
            (run.job_id, run.due_ms) for run in found.values() if run.trigger in {Trigger.SCHEDULE, Trigger.CATCH_UP}
        )
        assert set(claimed.values()) <= {1}
        attempts = Counter((run.job_id, run.due_ms, run.attempt) for run in found.values())
        assert set(attempts.values()) <= {1}
        self.rows = found


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(STEPS, min_size=5, max_size=30))
def test_once_for_each_due_time_and_final_for_ever(steps: list[tuple[Any, ...]]) -> None:
    async def main(path: Path) -> None:
        world = World(path)
        await world.begin()
        try:
            for name, *arguments in steps:
                await getattr(world, name)(*arguments)
                await world.check()
        finally:
            await world.database.aclose()

    with tempfile.TemporaryDirectory() as directory:
        trio.run(main, Path(directory) / "model.db")
