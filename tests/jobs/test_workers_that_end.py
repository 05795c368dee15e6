"""Runs and the real keeper of workers: who waits behind a run whose worker ends is not taken along."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from supervisor.worker.process import Exit
from tests.jobs.runner_bench import RunnerBench, make_bench
from tests.worker.fakes import NEVER, PLUGIN_ID, Script, World, make_plugin, policy

Clock = trio.testing.MockClock
PLUGIN = make_plugin(restart=policy(backoff_s=3))
SITS, DOES = Script(ends_on_kill_in_s=2), Script(does_runs=True)


class Both:
    """A runner over the fake processes of `world`; `open` it around the test."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.bench: RunnerBench = make_bench(world.manager)

    async def serve(self, work: Any) -> None:
        async def both() -> None:
            async with trio.open_nursery() as nursery:
                await nursery.start(self.bench.runner.run)
                self.world.manager.want(PLUGIN)
                await self.world.manager.wait_up(PLUGIN_ID)
                await work(self.bench)
                nursery.cancel_scope.cancel()

        await self.world.serve(both)


def job(key: str = "refresh") -> str:
    return f"{PLUGIN_ID}/{key}"


@pytest.mark.parametrize("how", ["exits", "hangs up"])
async def test_a_crash_fails_what_runs_and_nothing_else(autojump_clock: Clock, tmp_path: Path, how: str) -> None:
    ends: dict[str, Any] = {"exits": {"exits_after_s": 5.0}, "hangs up": {"hangs_up_after_s": 5.0}}[how]
    world = World(tmp_path, Script(ends_on_kill_in_s=2, exit=Exit(3, None), **ends), DOES)

    async def work(bench: RunnerBench) -> None:
        first = [bench.submit(job(f"j{n}")) for n in range(8)]
        await trio.sleep(1)
        waiting = [bench.submit(job(f"j{n}"), overlap="queue_one") for n in range(30)]
        with trio.fail_after(60):
            for run in (*first, *waiting):
                await bench.runner.wait_ended(run.id)
        assert {bench.end(run)[0] for run in first} == {"failed"}
        assert [bench.end(run) for run in waiting] == [("succeeded", None)] * 30
        assert world.processes[0].asked.count("run_job") == 8
        assert bench.is_empty()

    await Both(world).serve(work)


@pytest.mark.parametrize("behind", ["queued", "retried"])
async def test_who_waits_behind_a_stuck_run_survives_the_restart(
    autojump_clock: Clock, tmp_path: Path, behind: str
) -> None:
    world = World(tmp_path, SITS, DOES)

    async def work(bench: RunnerBench) -> None:
        stuck = bench.submit(job(), timeout_s=1.0, on_timeout="restart", overlap="queue_one", retries=1)
        await trio.sleep(0.5 if behind == "queued" else 5)
        attempt = 1 if behind == "queued" else 2
        other = bench.submit(job(), timeout_s=1.0, on_timeout="restart", overlap="queue_one", attempt=attempt)
        with trio.fail_after(60):
            await bench.runner.wait_ended(other.id)
        assert bench.end(stuck)[0] == "timed_out"
        assert (bench.end(other), bench.row(other).outcome.result) == (("succeeded", None), attempt)  # type: ignore[union-attr]
        assert bench.row(other).started_at == pytest.approx(1 + 10 + 2 + 3, abs=0.1)
        assert bench.is_empty()

    await Both(world).serve(work)


async def test_what_was_started_as_the_worker_failed_is_given_to_the_next(
    autojump_clock: Clock, tmp_path: Path
) -> None:
    """Between the look at the worker and the call, the row is written: the worker may go meanwhile."""
    world = World(tmp_path, SITS, DOES)

    async def work(bench: RunnerBench) -> None:
        bench.runs.commit_s = 0.5
        run = bench.submit(job())
        await trio.sleep(0.2)
        world.manager.hang(PLUGIN_ID, "is stuck")
        with trio.fail_after(60):
            await bench.runner.wait_ended(run.id)
        assert bench.end(run) == ("succeeded", None)
        assert [process.asked.count("run_job") for process in world.processes] == [0, 1]

    await Both(world).serve(work)


async def test_a_run_that_an_upgrade_cut_is_interrupted(autojump_clock: Clock, tmp_path: Path) -> None:
    """Also one that the former was given while the successor was on trial."""
    world = World(tmp_path, Script(drains_in_s=1), DOES)

    async def work(bench: RunnerBench) -> None:
        before = bench.submit(job("a"), retries=1)
        async with world.manager.beside(PLUGIN) as successor:
            await trio.sleep(1)
            on_trial = bench.submit(job("b"), retries=1, timeout_s=NEVER)
            await trio.sleep(1)
            assert successor.take_over()
            await successor.wait_former_gone()
        for run in (before, on_trial):
            await bench.runner.wait_ended(run.id)
            state, error = bench.end(run)
            assert (state, error and error.partition(":")[0]) == ("interrupted", "its worker was restarted or replaced")
            assert bench.row(run).retry_at_ms is not None

    await Both(world).serve(work)
