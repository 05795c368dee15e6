"""History is trimmed at the start and from time to time, and a failure costs only that time."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from supervisor.core.errors import ResourceExhausted
from supervisor.jobs.history import HistoryKeeper
from supervisor.log import get_logger
from tests.jobs.world import World, job


async def test_history_is_trimmed_from_time_to_time(
    autojump_clock: Any, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.install_ready("acme.weather", job(schedule="* * * * *"))
    keeper = HistoryKeeper(world.runs, get_logger(), keep_runs=5, interval_s=600)
    async with trio.open_nursery() as nursery:
        await nursery.start(keeper.run)
        await trio.sleep(601)
        assert len(await world.history()) == 5
        trim, failures = world.runs.trim, 0

        async def full(**_: object) -> int:
            nonlocal failures
            await trio.lowlevel.checkpoint()
            failures += 1
            raise ResourceExhausted("the disk is full")

        monkeypatch.setattr(world.runs, "trim", full)
        await trio.sleep(600)
        assert (failures, len(await world.history())) == (1, 15)
        monkeypatch.setattr(world.runs, "trim", trim)
        await trio.sleep(600)
        assert len(await world.history()) == 5
        nursery.cancel_scope.cancel()
