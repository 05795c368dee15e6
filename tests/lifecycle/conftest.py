"""Fixtures of the lifecycle's tests; what they build is in `tests/fakes.py`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import LifecycleWorld, open_lifecycle_world


@pytest.fixture
async def world(autojump_clock: Any, tmp_path: Path) -> AsyncIterator[LifecycleWorld]:
    async with open_lifecycle_world(tmp_path / "lifecycle.db") as world:
        yield world
