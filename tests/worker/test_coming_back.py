"""A worker that is stopped only to be started again: who waits for it goes on waiting, unless it comes to nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing

from supervisor.core.errors import CallCancelled, SupervisorError
from supervisor.core.plugin import PluginId
from tests.worker.fakes import PLUGIN_ID, Script, World, make_plugin

Clock = trio.testing.MockClock


class Waiting:
    """Waits until the worker runs, and notes when it did or why it will not."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.end: tuple[float, SupervisorError | None] | None = None

    async def wait(self) -> None:
        error = None
        try:
            await self.world.manager.wait_running(PLUGIN_ID)
        except SupervisorError as refused:
            error = refused
        self.end = (trio.current_time(), error)


@pytest.mark.parametrize("started_again", [True, False])
async def test_a_restart(autojump_clock: Clock, tmp_path: Path, started_again: bool) -> None:
    world = World(tmp_path, Script(drains_in_s=2), Script())
    manager, waiting = world.manager, Waiting(world)

    async def work() -> None:
        manager.want(make_plugin())
        await manager.wait_up(PLUGIN_ID)
        up_since = manager.up_since(PLUGIN_ID)
        assert up_since is not None
        async with trio.open_nursery() as nursery:
            with manager.coming_back(PLUGIN_ID):
                with manager.coming_back(PLUGIN_ID):  # by two at once
                    manager.unwant(PLUGIN_ID)
                    nursery.start_soon(waiting.wait)
                await manager.wait_stopped(PLUGIN_ID)
                await trio.sleep(5)
                assert (manager.up_since(PLUGIN_ID), manager.comes_back(PLUGIN_ID)) == (None, True)
                assert waiting.end is None
                if started_again:
                    manager.want(make_plugin())
                left_at = trio.current_time()
        assert waiting.end is not None
        at, error = waiting.end
        if started_again:
            assert error is None
            assert manager.up_since(PLUGIN_ID) == pytest.approx(at, abs=0.11)
            assert at > up_since + 5
        else:
            assert isinstance(error, CallCancelled)
            assert at == left_at
            assert not manager.comes_back(PLUGIN_ID)

    await world.serve(work)


async def test_a_stop_is_no_restart(autojump_clock: Clock, tmp_path: Path) -> None:
    world = World(tmp_path, Script(drains_in_s=2))
    manager, waiting = world.manager, Waiting(world)

    async def work() -> None:
        manager.want(make_plugin())
        await manager.wait_up(PLUGIN_ID)
        manager.unwant(PLUGIN_ID)
        assert (manager.up_since(PLUGIN_ID), manager.comes_back(PLUGIN_ID)) == (None, False)
        await waiting.wait()
        assert waiting.end is not None
        assert isinstance(waiting.end[1], CallCancelled)

    await world.serve(work)


async def test_of_a_plugin_that_nobody_knows(autojump_clock: Clock, tmp_path: Path) -> None:
    world, nobody = World(tmp_path), PluginId("nobody")

    async def work() -> None:
        await trio.lowlevel.checkpoint()
        with world.manager.coming_back(nobody):
            assert world.manager.comes_back(nobody)
        assert not world.manager.comes_back(nobody)
        assert world.manager.up_since(nobody) is None

    await world.serve(work)
