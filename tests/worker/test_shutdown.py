"""stop_in_stages: what ends a process, and when, to the second."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from supervisor.core.worker_spec import WorkerSpec
from supervisor.worker.shutdown import (
    Act,
    Graces,
    Stage,
    StopStep,
    Way,
    WorkerUnkillable,
    longest_stop_s,
    plan_stop,
    stop_in_stages,
)

Clock = trio.testing.MockClock
GRACES = {Stage.DRAIN: 10.0, Stage.TERM: 5.0, Stage.KILL: 2.0}


class Stubborn:
    """Ends `after_s` seconds after being asked in the way of `stage`; with None, never."""

    pid = 4711

    def __init__(self, stage: Stage | None, after_s: float = 0.0, *, asking_s: float = 0.0) -> None:
        self.stage, self.after_s, self.asking_s = stage, after_s, asking_s
        self.asked: list[tuple[Stage, float]] = []
        self.ended = trio.Event()
        self.deaf_to: set[Stage] = set()
        """It cannot be asked in these ways."""
        self.began = trio.current_time()

    async def wait(self) -> None:
        await self.ended.wait()

    def steps(self) -> list[StopStep]:
        return [StopStep(stage=stage, act=self._act(stage), grace_s=grace_s) for stage, grace_s in GRACES.items()]

    def _act(self, stage: Stage) -> Act:
        async def act() -> bool:
            self.asked.append((stage, trio.current_time() - self.began))
            if stage is self.stage:
                await trio.sleep(self.after_s)
                self.ended.set()
            await trio.sleep(self.asking_s)
            return stage not in self.deaf_to

        return act


@pytest.mark.parametrize("asking_s", [0.0, float("inf")])
@pytest.mark.parametrize(
    ("stage", "after_s", "total_s"),
    [
        (Stage.DRAIN, 0, 0),
        (Stage.DRAIN, 9.99, 9.99),
        (Stage.TERM, 0, 10),
        (Stage.TERM, 4.5, 14.5),
        (Stage.KILL, 0, 15),
        (Stage.KILL, 1.9, 16.9),
    ],
)
async def test_it_ends_in_its_stage(
    autojump_clock: Clock, stage: Stage, after_s: float, total_s: float, asking_s: float
) -> None:
    process = Stubborn(stage, after_s, asking_s=asking_s)
    assert await stop_in_stages(process, process.steps()) is stage
    assert trio.current_time() - process.began == pytest.approx(total_s)
    asked = [(Stage.DRAIN, 0), (Stage.TERM, 10), (Stage.KILL, 15)][: list(GRACES).index(stage) + 1]
    assert [(stage, round(at, 6)) for stage, at in process.asked] == asked


@pytest.mark.parametrize("asking_s", [0.0, float("inf")])
async def test_what_outlives_everything(autojump_clock: Clock, asking_s: float) -> None:
    process = Stubborn(None, asking_s=asking_s)
    with pytest.raises(WorkerUnkillable, match="pid 4711 outlived SIGKILL") as caught:
        await stop_in_stages(process, process.steps())
    assert trio.current_time() - process.began == pytest.approx(17)
    assert caught.value.details == {"pid": 4711}
    assert [stage for stage, _ in process.asked] == list(GRACES)


async def test_one_that_has_ended_before(autojump_clock: Clock) -> None:
    process = Stubborn(None)
    process.ended.set()
    assert await stop_in_stages(process, process.steps()) is Stage.DRAIN
    assert trio.current_time() == process.began


@pytest.mark.parametrize("cancelled_at_s", [0, 3, 12, 16])
async def test_cancelling_around_it_changes_nothing(autojump_clock: Clock, cancelled_at_s: float) -> None:
    process, stages = Stubborn(Stage.KILL, 1.5), []
    with trio.move_on_after(cancelled_at_s) as scope:
        stages.append(await stop_in_stages(process, process.steps()))
        await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert stages == [Stage.KILL]
    assert trio.current_time() - process.began == pytest.approx(16.5)


async def test_cancelled_and_unkillable_is_bounded_all_the_same(autojump_clock: Clock) -> None:
    process = Stubborn(None)
    with trio.CancelScope() as scope:
        scope.cancel()
        with pytest.raises(WorkerUnkillable):
            await stop_in_stages(process, process.steps())
    assert trio.current_time() - process.began == pytest.approx(17)


async def test_without_grace_each_step_still_asks(autojump_clock: Clock) -> None:
    process = Stubborn(None)
    steps = [StopStep(stage=step.stage, act=step.act, grace_s=0) for step in process.steps()]
    with pytest.raises(WorkerUnkillable):
        await stop_in_stages(process, steps)
    assert process.asked == [(stage, 0) for stage in GRACES]


async def test_who_cannot_be_asked_is_not_waited_for(autojump_clock: Clock) -> None:
    process = Stubborn(Stage.KILL)
    process.deaf_to = {Stage.DRAIN, Stage.TERM}
    assert await stop_in_stages(process, process.steps()) is Stage.KILL
    assert trio.current_time() == process.began


async def test_a_worker_that_ends_while_it_could_not_be_asked(autojump_clock: Clock) -> None:
    process = Stubborn(Stage.DRAIN)
    process.deaf_to = {Stage.DRAIN}
    stage = await stop_in_stages(process, process.steps())
    assert stage in {Stage.DRAIN, Stage.TERM}, "whichever is seen first"
    assert trio.current_time() == process.began


# What the stages are.

GRACE = Graces(term_s=5, kill_s=2)
KILL = Way(Stage.KILL, 2)
DRAIN = Way(Stage.DRAIN, 7)
RPC = {"stop_timeout_s": 7.0}
PLAIN = {"transport": "none", "stop_timeout_s": 7.0}
STOP_COMMAND = {**PLAIN, "stop_command": ("bye",)}
TERM, INT = 15, 2


@pytest.mark.parametrize(
    ("worker", "up", "plan"),
    [
        (RPC, True, [DRAIN, Way(Stage.TERM, 5, TERM), KILL]),
        (RPC, False, [Way(Stage.TERM, 5, TERM), KILL]),
        ({**RPC, "stop_signal": "SIGINT"}, True, [DRAIN, Way(Stage.TERM, 5, INT), KILL]),
        (PLAIN, True, [Way(Stage.TERM, 7, TERM), KILL]),
        (PLAIN, False, [Way(Stage.TERM, 7, TERM), KILL]),
        ({**PLAIN, "stop_signal": "SIGINT"}, True, [Way(Stage.TERM, 7, INT), Way(Stage.TERM, 5, TERM), KILL]),
        (STOP_COMMAND, True, [Way(Stage.COMMAND, 7), Way(Stage.TERM, 5, TERM), KILL]),
        (STOP_COMMAND, False, [Way(Stage.TERM, 7, TERM), KILL]),
        (
            {**STOP_COMMAND, "stop_signal": "SIGINT"},
            True,
            [Way(Stage.COMMAND, 7), Way(Stage.TERM, 5, INT), Way(Stage.TERM, 5, TERM), KILL],
        ),
    ],
)
def test_plan(worker: dict[str, Any], up: bool, plan: list[Way]) -> None:
    spec = WorkerSpec(command=("x",), **worker)
    assert plan_stop(spec, GRACE, up=up) == plan
    assert longest_stop_s(spec, GRACE) >= sum(way.grace_s for way in plan)
    if up:
        assert longest_stop_s(spec, GRACE) == sum(way.grace_s for way in plan)
