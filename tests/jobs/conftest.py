"""Fixtures of the jobs' tests; what they build is in `world.py`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import trio

from supervisor.bus import EventBus
from supervisor.store.database import Database
from supervisor.store.plugins import PluginRegistry
from tests.jobs.world import NOON, OpenWorld, WallClock, World


@pytest.fixture
def open_world(tmp_path: Path) -> OpenWorld:
    """A daemon's jobs on the test's database; opening it again is the daemon's next start."""

    @asynccontextmanager
    async def open_it(*, start: datetime = NOON, timezone: str = "UTC") -> AsyncIterator[World]:
        bus, clock = EventBus(), WallClock(start)
        database = await Database.open(tmp_path / "jobs.db", clock=clock, publish=bus.publish, inline=True)
        try:
            yield World(database, bus, clock, await PluginRegistry.load(database), timezone)
        finally:
            await database.aclose()

    return open_it


@pytest.fixture
async def world(autojump_clock: Any, open_world: OpenWorld) -> AsyncIterator[World]:
    """Served until the test ends."""
    async with open_world() as world, trio.open_nursery() as nursery:
        await world.serve(nursery)
        yield world
        nursery.cancel_scope.cancel()
