"""Who writes often shares; who comes alone does not wait."""

from typing import Any

import trio

from supervisor.core.job import RunEnd, RunOutcome, RunState
from supervisor.jobs.ends import HOLD_S
from supervisor.jobs.gathering import Gathering
from tests.jobs.runner_bench import open_bench


async def test_only_under_load(autojump_clock: Any) -> None:
    gathering, waited = Gathering(), []
    for pause_s in (0.0, 0.0, 0.0, 0.01, 1.0, 0.0):
        await trio.sleep(pause_s)
        began = trio.current_time()
        await gathering.gather()
        waited.append(round(trio.current_time() - began, 6))
    assert waited == [0.0, 0.0, 0.003, 0.003, 0.0, 0.0]


async def test_ends_let_a_burst_of_starts_go_first_but_not_for_ever(autojump_clock: Any) -> None:
    async with open_bench() as bench:
        began = trio.current_time()
        bench.runner.expect_more(True)
        run = bench.submit()
        await bench.runner.wait_ended(run.id)
        assert trio.current_time() - began == HOLD_S
        bench.runner.expect_more(False)
        began = trio.current_time()
        await bench.run_to_end("acme.weather/other")
        assert trio.current_time() == began


async def test_an_end_that_came_first_stays(autojump_clock: Any) -> None:
    async with open_bench() as bench:
        bench.runner.expect_more(True)
        run = bench.submit()
        await trio.testing.wait_all_tasks_blocked()
        taken = await bench.runs.finish_all([RunEnd(run, RunOutcome(state=RunState.CANCELLED, error="by hand"))])
        assert taken == {run.id}
        bench.runner.expect_more(False)
        await bench.runner.wait_ended(run.id)
        assert bench.end(run) == ("cancelled", "by hand")
