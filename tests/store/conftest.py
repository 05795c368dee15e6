"""What the store's tests share: a clock to turn, a database of either kind, plugins to put into it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from supervisor.core.event import Recorded
from supervisor.core.job import Job
from supervisor.core.manifest import Manifest
from supervisor.core.plugin import Capability, Plugin, PluginKey
from supervisor.core.worker_spec import WorkerSpec
from supervisor.store.claims import ClaimStore
from supervisor.store.database import Database
from supervisor.store.jobs import JobStore
from supervisor.store.plugins import PluginRegistry
from supervisor.store.runs import RunStore
from tests.packages import a_package
from tests.store.jobs_world import make_jobs


class TurnableClock:
    def __init__(self) -> None:
        self.instant = datetime(2026, 3, 1, 12, tzinfo=UTC)

    def now(self) -> datetime:
        return self.instant

    def advance(self, by: timedelta) -> None:
        self.instant += by


@pytest.fixture
def clock() -> TurnableClock:
    return TurnableClock()


@pytest.fixture
def published() -> list[Recorded]:
    return []


OpenDatabase = Callable[..., AbstractAsyncContextManager[Database]]


@pytest.fixture
def open_database(tmp_path: Path, clock: TurnableClock, published: list[Recorded]) -> OpenDatabase:
    """Open the test's database (or another file) for the length of a block."""

    @asynccontextmanager
    async def open_it(name: str = "plugind.db", *, inline: bool = False) -> AsyncIterator[Database]:
        path = tmp_path / name
        database = await Database.open(path, clock=clock, publish=published.append, inline=inline)
        try:
            yield database
        finally:
            await database.aclose()

    return open_it


@pytest.fixture(params=["thread", "inline"])
async def database(request: pytest.FixtureRequest, open_database: OpenDatabase) -> AsyncIterator[Database]:
    async with open_database(inline=request.param == "inline") as database:
        yield database


@pytest.fixture
async def registry(database: Database) -> PluginRegistry:
    return await PluginRegistry.load(database)


@pytest.fixture
def make_manifest() -> Callable[..., Manifest]:
    def make(key: str = "acme.weather", version: str = "1.0", capabilities: tuple[str, ...] = ()) -> Manifest:
        return Manifest(
            key=PluginKey(key),
            version=version,
            api_version=1,
            display_name="Weather",
            description="Tells the weather",
            author="ACME",
            categories=("connector",),
            capabilities=tuple(map(Capability, capabilities)),
            min_supervisor_version=None,
            worker=WorkerSpec(command=("python", "-m", "weather"), env={"MODE": "größer"}),
            jobs=(),
            methods=(),
            config_schema={"type": "object", "properties": {"city": {"type": "string", "default": "Bern"}}},
        )

    return make


@pytest.fixture
async def plugin(registry: PluginRegistry, make_manifest: Callable[..., Manifest]) -> Plugin:
    """One installed plugin, for stores whose rows refer to one."""
    return await registry.install(a_package(make_manifest(), "acme.weather-1.0"), approved=frozenset(), uid=0)


@pytest.fixture
def claims(database: Database) -> ClaimStore:
    return ClaimStore(database)


@pytest.fixture
def runs(database: Database) -> RunStore:
    return RunStore(database)


@pytest.fixture
def jobs(database: Database) -> JobStore:
    return JobStore(database)


@pytest.fixture
async def job(database: Database, plugin: Plugin) -> Job:
    [job] = await make_jobs(database, plugin)
    return job
