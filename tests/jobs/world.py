"""What the jobs' tests share: a wall clock tied to trio's, an alarm that follows it, all of jobs on a real store."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import trio

from supervisor.bus import EventBus
from supervisor.clock import to_ms
from supervisor.core.job import Job, Run
from supervisor.core.lifecycle import Status
from supervisor.core.manifest import JobSpec, Manifest
from supervisor.core.plugin import Capability, Plugin, PluginKey
from supervisor.core.worker_spec import WorkerSpec
from supervisor.jobs.coordinator import JobCoordinator
from supervisor.jobs.operator import JobOperator
from supervisor.jobs.plan import retry_interrupted
from supervisor.jobs.runner import Runner
from supervisor.jobs.scheduler import JobScheduler
from supervisor.log import get_logger
from supervisor.store.claims import ClaimStore
from supervisor.store.database import Database
from supervisor.store.jobs import JobStore
from supervisor.store.plugins import PluginRegistry
from supervisor.store.runs import RunStore
from tests.jobs.workers import Call, FakeCommands, FakeWorkers, Handler, answer_none, never_answer
from tests.packages import a_package

__all__ = ["NOON", "Call", "FakeCommands", "FakeWorkers", "Handler", "OpenWorld", "WallClock", "World"]
__all__ += ["answer_none", "job", "manifest", "never_answer"]

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class WallClock:
    """Noon at the start of the test, then as fast as trio's clock; `step` turns it, and whoever watches is told."""

    def __init__(self, start: datetime = NOON) -> None:
        self.offset = start - timedelta(seconds=trio.current_time())
        self.watchers: list[Callable[[], None]] = []

    def now(self) -> datetime:
        return self.offset + timedelta(seconds=trio.current_time())

    def step(self, by: timedelta) -> None:
        self.offset += by
        for tell in self.watchers:
            tell()


class FakeAlarm:
    """As the kernel's, on a WallClock: counts how often it rang."""

    def __init__(self, clock: WallClock) -> None:
        self._clock = clock
        self._woken = trio.Event()
        self.rings = 0
        clock.watchers.append(self.nudge)

    async def wait_until(self, at_ms: int | None) -> None:
        while at_ms is None or to_ms(self._clock.now()) < at_ms:
            wait_s = float("inf") if at_ms is None else at_ms / 1000 - self._clock.now().timestamp()
            with trio.move_on_after(max(wait_s, 1e-4)) as scope:
                await self._woken.wait()
            if not scope.cancelled_caught:
                break
        await trio.lowlevel.checkpoint()
        self._woken = trio.Event()
        self.rings += 1

    def nudge(self) -> None:
        self._woken.set()

    def close(self) -> None:
        pass


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
    workers: Any = None
    """FakeWorkers, unless others are given."""
    commands: FakeCommands = field(default_factory=FakeCommands)
    alarm: FakeAlarm = field(init=False)
    jobs: JobStore = field(init=False)
    runs: RunStore = field(init=False)
    claims: ClaimStore = field(init=False)
    runner: Runner = field(init=False)
    scheduler: JobScheduler = field(init=False)
    coordinator: JobCoordinator = field(init=False)
    operator: JobOperator = field(init=False)

    def __post_init__(self) -> None:
        log, zone, clock = get_logger(), self.timezone, self.clock
        self.workers = self.workers or FakeWorkers(clock)
        self.jobs, self.runs, self.claims = JobStore(self.database), RunStore(self.database), ClaimStore(self.database)
        self.alarm = FakeAlarm(clock)
        self.runner = Runner(self.runs, self.workers, self.commands, clock, log, timezone=zone, nudge=self.alarm.nudge)
        self.scheduler = JobScheduler(self.jobs, self.claims, self.runner, self.alarm, clock, log, timezone=zone)
        self.coordinator = JobCoordinator(
            self.bus, self.plugins, self.jobs, self.runs, self.scheduler, self.runner, clock, log, timezone=zone
        )
        self.operator = JobOperator(
            self.plugins,
            self.jobs,
            self.runs,
            self.claims,
            self.scheduler,
            self.runner,
            self.coordinator,
            clock,
            timezone=zone,
        )

    async def serve(self, nursery: trio.Nursery) -> None:
        await self.operator.holds.load()
        await self.runs.interrupt_leftovers(retry_interrupted)
        await nursery.start(self.runner.run)
        await nursery.start(self.coordinator.run)
        await self.coordinator.wait_settled()
        await nursery.start(self.scheduler.run)

    async def install(self, key: str, *jobs: JobSpec) -> Plugin:
        return await self.plugins.install(
            a_package(manifest(key, *jobs), key), approved=frozenset({Capability("jobs.schedule")}), uid=0
        )

    async def install_ready(self, key: str, *jobs: JobSpec) -> Plugin:
        plugin = await self.install(key, *jobs)
        return await self.set_status(plugin, Status.READY)

    async def set_status(self, plugin: Plugin, status: Status) -> Plugin:
        return await self.plugins.set_status(plugin.id, expected=self.plugins.get(plugin.id).status, status=status)

    async def job(self, name: str) -> Job:
        return await self.jobs.get(name)

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
