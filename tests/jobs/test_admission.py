"""Which run may stand beside those that have not ended, and where an automatic retry stands back."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import trio

from supervisor.core.errors import PluginError
from supervisor.core.job import OpenRun, RunState
from supervisor.jobs.admission import admit_retry
from tests.jobs.world import NOON, OpenWorld, World, job

GROUP = OpenRun("g", RunState.QUEUED, caught_up=True)
OTHER = OpenRun("o", RunState.RUNNING)


@pytest.mark.parametrize(
    ("overlap", "caught_up", "opens", "why"),
    [
        ("skip", False, (), None),
        ("cancel_previous", False, (), None),
        ("cancel_previous", False, (OTHER,), "a newer run o has not ended, and overlap is cancel_previous"),
        ("cancel_previous", True, (GROUP,), "a newer run g has not ended, and overlap is cancel_previous"),
        ("skip", False, (OTHER,), "run o has not ended, and overlap is skip"),
        ("skip", True, (GROUP, GROUP), None),
        ("skip", True, (GROUP, OTHER), "run g has not ended, and overlap is skip"),
        ("skip", False, (GROUP,), "run g has not ended, and overlap is skip"),
        ("queue_one", False, (OTHER,), None),
        ("queue_one", False, (GROUP, GROUP), "run g waits already, and overlap is queue_one"),
        ("queue_one", True, (GROUP, GROUP), None),
        ("allow", True, (GROUP, GROUP), "2 runs have not ended, and max_running is 2"),
        ("allow", False, (OTHER,), None),
    ],
)
def test_a_retry_beside_open_runs(overlap: Any, caught_up: bool, opens: tuple[OpenRun, ...], why: str | None) -> None:
    admission = admit_retry(job(overlap=overlap, max_running=2), caught_up, opens)
    assert (admission.error, admission.cancel) == (why, ())
    assert admission.state is (RunState.QUEUED if why is None else RunState.SKIPPED)


async def test_a_retry_cancels_no_newer_run(autojump_clock: Any, world: World) -> None:
    async def first_fails(_: dict[str, Any]) -> None:
        if len(world.workers.calls) == 1:
            raise PluginError("no")
        await trio.sleep(50)

    world.workers.handlers["c"] = first_fails
    spec = job("c", "* * * * *", overlap="cancel_previous", retries=2, retry_backoff_s=70)
    await world.install_ready("acme.weather", spec)
    await trio.sleep(200)
    history = await world.history()
    assert [(str(run.trigger), str(run.state)) for run in history] == [
        ("schedule", "failed"),
        ("schedule", "succeeded"),
        ("retry", "skipped"),
        ("schedule", "running"),
    ]
    assert history[2].error == f"a newer run {history[1].id} has not ended, and overlap is cancel_previous"


@pytest.mark.parametrize("overlap", ["skip", "queue_one"])
async def test_a_caught_up_run_is_tried_again_behind_its_group(
    autojump_clock: Any, open_world: OpenWorld, overlap: str
) -> None:
    """Ten runs of 200 s, one after the other; the first fails, and its retry is not expired while it waits."""
    spec = job(
        "c", "0 * * * *", overlap=overlap, catch_up="all", misfire_grace_s=86_400.0, retries=1, start_within_s=60
    )
    async with open_world() as world, trio.open_nursery() as nursery:
        await world.serve(nursery)
        await world.install_ready("acme.weather", spec)
        await trio.sleep(60)
        nursery.cancel_scope.cancel()
    async with open_world(start=NOON + timedelta(hours=10, minutes=1)) as world, trio.open_nursery() as nursery:

        async def first_fails(_: dict[str, Any]) -> None:
            await trio.sleep(200)
            if len(world.workers.calls) == 1:
                raise PluginError("no")

        world.workers.handlers["c"] = first_fails
        await world.serve(nursery)
        await trio.sleep(3000)
        history = [run for run in await world.history() if run.due_ms <= world.now_ms() - 3000_000]
        assert [(str(run.trigger), str(run.state)) for run in history] == [
            ("catch_up", "failed"),
            *[("catch_up", "succeeded")] * 9,
            ("retry", "succeeded"),
        ]
        assert history[-1].due_ms == history[0].due_ms
        nursery.cancel_scope.cancel()
