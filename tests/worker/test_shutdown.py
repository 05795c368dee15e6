"""stop_in_stages: what ends a process, and when, to the second."""

from __future__ import annotations

import pytest
import trio

from supervisor.worker.shutdown import Stage, StopStep, WorkerUnkillable, stop_in_stages

Clock = trio.testing.MockClock
GRACES = {Stage.DRAIN: 10.0, Stage.TERM: 5.0, Stage.KILL: 2.0}


class Stubborn:
    """Ends `after_s` seconds after being asked in the way of `stage`; with None, never."""

    pid = 4711

    def __init__(self, stage: Stage | None, after_s: float = 0.0, *, asking_s: float = 0.0) -> None:
        self.stage, self.after_s, self.asking_s = stage, after_s, asking_s
        self.asked: list[tuple[Stage, float]] = []
        self.ended = trio.Event()
        self.began = trio.current_time()

    async def wait(self) -> None:
        await self.ended.wait()

    def steps(self) -> list[StopStep]:
        return [StopStep(stage=stage, act=self._act(stage), grace_s=grace_s) for stage, grace_s in GRACES.items()]

    def _act(self, stage: Stage):
        async def act() -> None:
            self.asked.append((stage, trio.current_time() - self.began))
            if stage is self.stage:
                await trio.sleep(self.after_s)
                self.ended.set()
            await trio.sleep(self.asking_s)

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
    assert [stage for stage, _ in process.asked] == list(Stage)


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
    assert process.asked == [(stage, 0) for stage in Stage]
