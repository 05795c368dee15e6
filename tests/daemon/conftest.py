"""Fixtures of the daemon's tests; what they build is in `host_world.py`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.daemon.host_world import HostWorld, open_host_world


@pytest.fixture
async def host_world(autojump_clock: Any, tmp_path: Path) -> AsyncIterator[HostWorld]:
    # Of the mock clock: what waits for ever fails at once.
    with trio.fail_after(3600):
        async with open_host_world(tmp_path) as world:
            yield world
