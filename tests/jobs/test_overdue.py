"""After an outage: what all jobs have to make up for is bounded, and a job that is due now does not wait for it."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
import trio

from supervisor.jobs import arrived
from supervisor.jobs.arrived import MAX_COUNTED, MAX_EACH, Limits
from tests.jobs.world import NOON, OpenWorld, job
from tests.store.jobs_world import execute


@pytest.mark.parametrize(
    ("jobs", "limits"),
    [
        (0, Limits(MAX_EACH, MAX_COUNTED)),
        (20, Limits(1000, 10_000)),
        (100, Limits(200, 2_000)),
        (1_000, Limits(20, 200)),
        (100_000, Limits(10, 100)),
    ],
)
def test_the_more_jobs_are_overdue_the_less_each_has_rows(jobs: int, limits: Limits) -> None:
    assert Limits.among(jobs) == limits


async def test_a_job_that_is_due_does_not_wait_for_what_an_outage_has_left(
    autojump_clock: Any, open_world: OpenWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred minutely jobs after two days; another plugin's comes due while they are made up for."""
    async with open_world() as world, trio.open_nursery() as nursery:
        await world.serve(nursery)
        await world.install_ready("acme.busy", *(job(f"j{n}", "* * * * *", catch_up="skip") for n in range(100)))
        await world.install_ready("acme.other", job("one", "* * * * *"))
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    monkeypatch.setattr(arrived, "_EACH_OF_ALL", 2_000)
    # The other's outage was short: it is due just when the second piece is claimed.
    async with open_world(start=NOON + timedelta(days=2, seconds=30)) as world, trio.open_nursery() as nursery:
        soon_ms = world.now_ms() + 1
        move = "UPDATE job SET next_due_ms = ?1, next_fire_ms = ?1 WHERE key = 'one'"
        await execute(world.database, move, soon_ms)
        claim, pieces = world.claims.claim_due, []

        async def counted(*given: Any) -> Any:
            tick = await claim(*given)
            rows = await execute(world.database, "SELECT count(*) FROM job_run")
            pieces.append((rows[0][0], [run.job_key for run, _ in tick.queued]))
            await trio.sleep(0.001)
            return tick

        monkeypatch.setattr(world.claims, "claim_due", counted)
        await world.serve(nursery)
        await trio.sleep(31)
        assert pieces[1][1] == ["one"]
        written = [after - before for (before, _), (after, _) in pairwise([(0, []), *pieces])]
        assert max(written) < 300 + 21
        [[runs, jobs, times]] = await execute(
            world.database,
            "SELECT count(*), count(DISTINCT job_id), sum(times) FROM job_run WHERE job_key <> 'one'",
        )
        # 20 each, and one row for all before; one more that came on time.
        assert (runs, jobs, times) == (100 * (21 + 1), 100, 100 * (2_020 + 1))
        nursery.cancel_scope.cancel()


async def test_with_catch_up_all_a_hundred_are_queued_however_many_jobs_there_are(
    autojump_clock: Any, open_world: OpenWorld
) -> None:
    spec: dict[str, Any] = {"catch_up": "all", "misfire_grace_s": 1e6}
    async with open_world() as world, trio.open_nursery() as nursery:
        await world.serve(nursery)
        await world.install_ready("acme.all", job("all", "* * * * *", **spec))
        await world.install_ready("acme.busy", *(job(f"j{n}", "0 0 * * *") for n in range(900)))
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    async with open_world(start=NOON + timedelta(days=1, seconds=30)) as world, trio.open_nursery() as nursery:
        await world.serve(nursery)
        await trio.sleep(20)
        assert len(world.workers.times("all")) == 100
        nursery.cancel_scope.cancel()
