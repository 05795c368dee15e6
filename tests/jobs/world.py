"""What the jobs' tests share: a wall clock tied to trio's, workers that do as told, all of jobs on a real store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import trio

from supervisor.bus import EventBus
from supervisor.clock import to_ms
from supervisor.core.errors import DeadlineExceeded, SupervisorError
from supervisor.core.job import Run
from supervisor.core.lifecycle import Status
from supervisor.core.manifest import JobSpec, Manifest
from supervisor.core.plugin import Capability, Plugin, PluginId, PluginKey
from supervisor.core.worker_spec import WorkerSpec
from supervisor.jobs.coordinator import JobCoordinator
from supervisor.jobs.operator import JobOperator
from supervisor.jobs.runner import Runner
from supervisor.jobs.scheduler import JobScheduler
from supervisor.log import get_logger
from supervisor.store.database import Database
from supervisor.store.jobs import JobStore
from supervisor.store.plugins import PluginRegistry
from supervisor.store.runs import RunStore
from tests.packages import a_package

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
Handler = Callable[[dict[str, Any]], Awaitable[Any]]


class WallClock:
    """Noon at the start of the test, then as fast as trio's clock; `step` turns it."""

    def __init__(self, start: datetime = NOON) -> None:
        self.offset = start - timedelta(seconds=trio.current_time())

    def now(self) -> datetime:
        return self.offset + timedelta(seconds=trio.current_time())

    def step(self, by: timedelta) -> None:
        self.offset += by


@dataclass(frozen=True)
class Call:
    at: datetime
    plugin_id: str
    params: dict[str, Any]


class FakeWorkers:
    """Workers that are up unless told otherwise, and answer with what `handlers[job]` returns."""

    def __init__(self, clock: WallClock) -> None:
        self.clock = clock
        self.calls: list[Call] = []
        self.cancelled: list[str] = []
        self.handlers: dict[str, Handler] = {}
        self.down: dict[str, trio.Event] = {}
        self.refusing: dict[str, SupervisorError] = {}
        self.stopped: set[str] = set()
        self.deaf = False
        self.unsettled: list[Callable[[], None]] = []

    def wanted(self, plugin_id: PluginId) -> bool:
        return plugin_id not in self.stopped

    async def wait_running(self, plugin_id: PluginId) -> None:
        await trio.lowlevel.checkpoint()
        if plugin_id in self.refusing:
            raise self.refusing[plugin_id]
        if plugin_id in self.down:
            await self.down[plugin_id].wait()

    async def call(
        self,
        plugin_id: PluginId,
        method: str,
        params: dict[str, Any],
        *,
        timeout_s: float | None,
        on_settled: Callable[[], None],
    ) -> Any:
        try:
            return await self._call(plugin_id, method, params, timeout_s)
        finally:
            # A deaf one goes on with what it was told to cancel.
            if self.deaf:
                self.unsettled.append(on_settled)
            else:
                on_settled()

    async def _call(self, plugin_id: PluginId, method: str, params: dict[str, Any], timeout_s: float | None) -> Any:
        assert method == "run_job"
        self.calls.append(Call(self.clock.now(), plugin_id, params))
        handler = self.handlers.get(params["job"], answer_none)
        try:
            with trio.move_on_after(float("inf") if timeout_s is None else timeout_s):
                return await handler(params)
        except trio.Cancelled:
            self.cancelled.append(params["run_id"])
            raise
        self.cancelled.append(params["run_id"])
        raise DeadlineExceeded(f"{method} was not answered within {timeout_s:g} s")

    def times(self, job: str) -> list[datetime]:
        return [call.at for call in self.calls if call.params["job"] == job]


async def answer_none(_: dict[str, Any]) -> Any:
    await trio.lowlevel.checkpoint()


async def never_answer(_: dict[str, Any]) -> Any:
    await trio.sleep_forever()


def job(key: str = "refresh", schedule: str | None = "*/5 * * * *", **more: Any) -> JobSpec:
    return JobSpec(key=key, display_name=key.title(), schedule=schedule, **more)


def manifest(key: str, *jobs: JobSpec) -> Manifest:
    return Manifest(
        key=PluginKey(key),
        version="1.0",
        api_version=1,
        display_name=key,
        description="For tests",
        author="ACME",
        categories=("automation",),
        capabilities=(Capability("jobs.schedule"),),
        min_supervisor_version=None,
        worker=WorkerSpec(command=("worker",)),
        jobs=jobs,
        methods=(),
        config_schema={},
    )


@dataclass
class World:
    """One daemon's jobs. `serve` starts its tasks in a nursery, in the order in which the daemon does."""

    database: Database
    bus: EventBus
    clock: WallClock
    plugins: PluginRegistry
    timezone: str = "UTC"
    workers: FakeWorkers = field(init=False)
    jobs: JobStore = field(init=False)
    runs: RunStore = field(init=False)
    runner: Runner = field(init=False)
    scheduler: JobScheduler = field(init=False)
    coordinator: JobCoordinator = field(init=False)
    operator: JobOperator = field(init=False)

    def __post_init__(self) -> None:
        log, zone = get_logger(), self.timezone
        self.workers = FakeWorkers(self.clock)
        self.jobs, self.runs = JobStore(self.database), RunStore(self.database)
        self.runner = Runner(self.runs, self.workers, log)
        self.scheduler = JobScheduler(self.jobs, self.runs, self.runner, self.clock, log)
        self.coordinator = JobCoordinator(
            self.bus, self.plugins, self.jobs, self.scheduler, self.runner, self.clock, log, timezone=zone
        )
        self.operator = JobOperator(
            self.plugins,
            self.jobs,
            self.runs,
            self.scheduler,
            self.runner,
            self.coordinator,
            self.clock,
            timezone=zone,
        )

    async def serve(self, nursery: trio.Nursery) -> None:
        await self.runs.interrupt_leftovers()
        await nursery.start(self.runner.run)
        await nursery.start(self.scheduler.run)
        await nursery.start(self.coordinator.run)
        await self.coordinator.wait_settled()

    async def install(self, key: str, *jobs: JobSpec) -> Plugin:
        return await self.plugins.install(
            a_package(manifest(key, *jobs), key), approved=frozenset({Capability("jobs.schedule")}), uid=0
        )

    async def install_ready(self, key: str, *jobs: JobSpec) -> Plugin:
        plugin = await self.install(key, *jobs)
        return await self.set_status(plugin, Status.READY)

    async def set_status(self, plugin: Plugin, status: Status) -> Plugin:
        return await self.plugins.set_status(plugin.id, expected=self.plugins.get(plugin.id).status, status=status)

    async def history(self, **filters: Any) -> list[Run]:
        """Oldest first."""
        return (await self.runs.list(limit=1000, **filters))[::-1]

    async def states(self, **filters: Any) -> list[str]:
        return [str(run.state) for run in await self.history(**filters)]

    async def sleep_until(self, instant: datetime) -> None:
        await trio.sleep(max(0.0, (instant - self.clock.now()).total_seconds()))

    def now_ms(self) -> int:
        return to_ms(self.clock.now())


OpenWorld = Callable[..., AbstractAsyncContextManager[World]]
