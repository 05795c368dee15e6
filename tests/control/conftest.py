"""Fixtures of the socket's tests; what they build is in `world.py`. Real sockets, so the clock is the real one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from tests.control.world import ControlWorld, Wire, open_control_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[ControlWorld]:
    with trio.fail_after(20):
        async with open_control_world(tmp_path) as world:
            yield world


@pytest.fixture
async def wire(world: ControlWorld) -> AsyncIterator[Wire]:
    """A connection that has said hello."""
    wire = await world.dial()
    async with wire.stream:
        yield await wire.hello()
