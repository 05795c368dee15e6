"""Whoever has much to do delays nobody else, and no limit is exceeded, by the real scheduler and runner."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import trio

from tests.jobs.world import NOON, World, job

WORK_S = 0.5
"""A run's; with a place for it at once, its plugin has another one to give soon."""
SECOND = timedelta(seconds=1)
MOMENT = timedelta(milliseconds=3)
"""For which the next batch gathers, when many wait."""
DUE = NOON + timedelta(minutes=5)


class Crowd:
    """Takes WORK_S for a run, and counts those at once: overall, by plugin and by job."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.now: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.began: dict[str, list[timedelta]] = {}
        world.workers.call = self.call  # type: ignore[method-assign]

    async def call(self, plugin_id: str, _: str, params: dict[str, Any], *, on_settled: Any, **__: Any) -> None:
        plugin = self._world.plugins.get(plugin_id).key
        name = f"{plugin}/{params['job']}"
        self.began.setdefault(name, []).append(self._world.clock.now() - DUE)
        for what in ("all", plugin, name):
            self.now[what] += 1
            self.most[what] = max(self.most[what], self.now[what])
        await trio.sleep(WORK_S)
        self.now.subtract(("all", plugin, name))
        on_settled()


def jobs(count: int, **more: Any) -> list[Any]:
    return [job(f"job-{number}", start_within_s=3600, **more) for number in range(count)]


async def test_a_thousand_due_jobs_of_one_plugin_leave_places_to_another(autojump_clock: Any, world: World) -> None:
    crowd = Crowd(world)
    await world.install_ready("busy", *jobs(999))
    await world.install_ready("quiet", *jobs(1))
    await world.sleep_until(DUE + timedelta(minutes=3))
    [waited] = crowd.began["quiet/job-0"]
    assert waited <= MOMENT
    assert (crowd.most["all"], crowd.most["busy"], crowd.most["quiet"]) == (9, 8, 1)
    # 8 at a time, one after the other: the busy plugin is served as fast as its own limit lets it.
    assert sorted(began for name, [began] in crowd.began.items() if name != "quiet/job-0") == [
        timedelta(seconds=WORK_S) * (number // 8) for number in range(999)
    ]
    assert await world.states() == ["succeeded"] * 1000


async def test_a_full_house_lets_the_next_plugin_in_with_the_first_place(autojump_clock: Any, world: World) -> None:
    """All 64 places are taken by plugins with many more: whoever comes then waits for one run, not for a queue."""
    crowd = Crowd(world)
    for number in range(10):
        await world.install_ready(f"busy-{number}", *jobs(40))
    await world.install_ready("late", *jobs(1, schedule="0 5 12 * * *", seconds=True, jitter_s=0))
    await world.sleep_until(DUE + timedelta(minutes=1))
    [waited] = crowd.began["late/job-0"]
    assert waited <= SECOND
    assert crowd.most["all"] == 64
    assert {crowd.most[f"busy-{number}"] for number in range(10)} <= {6, 7, 8}, "as good as equal shares"
    assert set(await world.states()) == {"succeeded"}


async def test_one_that_is_due_a_moment_later_waits_no_longer(autojump_clock: Any, world: World) -> None:
    crowd = Crowd(world)
    for number in range(10):
        await world.install_ready(f"busy-{number}", *jobs(100))
    await world.install_ready("late", *jobs(1, schedule="3 5 12 * * *", seconds=True))
    await world.sleep_until(DUE + timedelta(minutes=1))
    [began] = crowd.began["late/job-0"]
    assert timedelta(0) <= began - 3 * SECOND <= SECOND


async def test_a_job_runs_once_at_a_time_whatever_it_allows_others(autojump_clock: Any, world: World) -> None:
    """Runs by hand, due ones and retries of one job share its one place; `allow` has as many as it says."""
    crowd = Crowd(world)
    often = {"schedule": "* * * * * *", "seconds": True}
    await world.install_ready(
        "acme",
        job("one", overlap="queue_one", **often),
        job("skips", **often),
        job("some", overlap="allow", max_running=3, **often),
    )
    for _ in range(3):
        await world.operator.run("acme/some")
    await world.sleep_until(NOON + timedelta(seconds=30))
    assert [crowd.most[f"acme/{key}"] for key in ("one", "skips", "some")] == [1, 1, 3]
