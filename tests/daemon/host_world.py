"""A worker's connection to the real host calls on a real store; the worker's end is a channel of the test's own."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import trio
import trio.testing

from supervisor.channel import Channel
from supervisor.control.calls import MethodCaller
from supervisor.core.errors import Unavailable
from supervisor.core.lifecycle import Status
from supervisor.core.manifest import MethodSpec
from supervisor.core.plugin import Capability, Plugin
from supervisor.daemon.host import StoreHost
from supervisor.daemon.host_calls import HostCalls, HostParts
from supervisor.daemon.host_events import WorkerFeeds
from supervisor.jobs.active import ActiveRuns
from supervisor.lifecycle.config_giver import ConfigGiver
from supervisor.lifecycle.config_references import References
from supervisor.metrics import Metrics
from supervisor.store.configs import ConfigStore
from supervisor.store.journal import Journal
from supervisor.store.processes import ProcessBook
from supervisor.store.state import StateStore
from supervisor.wire.limits import WORKER
from supervisor.wire.message import Notification
from supervisor.wire.worker import HOST_REQUESTS
from supervisor.worker.containment import Containment
from supervisor.worker.discretion import Discretion
from supervisor.worker.host import serve_worker
from supervisor.worker.link import WorkerLink
from tests.fakes import LifecycleWorld, open_lifecycle_world
from tests.packages import a_package

ALL = frozenset(str(request.CAPABILITY) for request in HOST_REQUESTS.values())
SECRETIVE = {
    "properties": {
        "city": {"type": "string"},
        "token": {"type": "string", "writeOnly": True},
        "db": {"properties": {"host": {}, "password": {"writeOnly": True}}},
    }
}
CONFIG = {"city": "Oslo", "token": "s3cret", "db": {"host": "h", "password": "hunter2"}}


@dataclass
class FakeWorker:
    """The worker's end."""

    channel: Channel
    heard: list[Notification] = field(default_factory=list)
    told: trio.Event = field(default_factory=trio.Event)

    async def ask(self, method: str, /, **params: Any) -> Any:
        return await self.channel.call(method, [params], timeout_s=60)

    def hear(self, notification: Notification) -> None:
        self.heard.append(notification)
        self.told.set()

    async def events(self, count: int) -> list[dict[str, Any]]:
        """The params of the first `count` notifications."""
        while len(self.heard) < count:
            self.told = trio.Event()
            await self.told.wait()
        return [notification.params[0] for notification in self.heard]


@dataclass
class HostWorld:
    world: LifecycleWorld
    host: StoreHost
    configs: ConfigStore
    metrics: Metrics
    runs: ActiveRuns
    nursery: trio.Nursery
    discretion: Discretion = field(default_factory=Discretion)

    async def plugin(
        self,
        key: str = "acme.one",
        capabilities: frozenset[str] = ALL,
        *,
        ready: bool = False,
        methods: tuple[MethodSpec, ...] = (),
    ) -> Plugin:
        manifest = replace(
            self.world.packages.manifest_of(key),
            capabilities=tuple(map(Capability, sorted(ALL))),
            config_schema=SECRETIVE,
            methods=methods,
        )
        plugin = await self.world.registry.install(
            a_package(manifest, key), approved=frozenset(map(Capability, capabilities)), uid=0
        )
        await self.configs.set(plugin, CONFIG, uid=0)
        if ready:
            plugin = await self.world.registry.set_status(plugin.id, expected=Status.INSTALLED, status=Status.READY)
            self.world.workers.want(plugin)
            await self.world.workers.wait_up(plugin.id)
        return plugin

    @asynccontextmanager
    async def wire(self, plugin: Plugin) -> AsyncIterator[trio.abc.Stream]:
        """A life of the plugin's worker, and the worker's end of its connection; what is not read there is not sent."""
        ours, theirs = trio.testing.lockstep_stream_pair()
        async with trio.open_nursery() as life:
            channel = Channel(
                ours,
                WORKER,
                on_request=lambda request: serve_worker(self.host, plugin, request, link),
                on_notification=lambda notification: self.host.told(plugin, notification),
                on_unexpected=unexpected,
            )
            link = WorkerLink(plugin, channel, life, self.discretion)
            await life.start(channel.run)
            yield theirs
            channel.close(Unavailable("the process is gone"))
            life.cancel_scope.cancel()
        assert link.subscriptions == {}

    @asynccontextmanager
    async def life(self, plugin: Plugin) -> AsyncIterator[FakeWorker]:
        """The same with a worker that reads."""
        async with self.wire(plugin) as stream, trio.open_nursery() as far:
            worker = FakeWorker(
                Channel(stream, WORKER, on_notification=lambda n: worker.hear(n), on_unexpected=unexpected)
            )
            await far.start(worker.channel.run)
            yield worker
            far.cancel_scope.cancel()


def unexpected(request: Any, error: Exception) -> str:
    raise AssertionError(f"{request.method} failed inside") from error


@asynccontextmanager
async def open_host_world(directory: Path) -> AsyncIterator[HostWorld]:
    async with open_lifecycle_world(directory / "host.db") as world, trio.open_nursery() as nursery:
        journal = Journal(world.database)
        world.bus.last_seq = await journal.last_seq()
        metrics, runs = Metrics(lambda: 1234), ActiveRuns()
        configs = ConfigStore(world.database)
        giver = ConfigGiver(configs, References(None, uid=os.geteuid()))
        host = StoreHost(world.registry, giver, ProcessBook(world.database), Containment())
        host.calls = HostCalls(
            HostParts(
                registry=world.registry,
                configs=giver,
                state=StateStore(world.database),
                feeds=WorkerFeeds(world.bus, journal, world.registry),
                metrics=metrics,
                workers=world.workers,  # type: ignore[arg-type]
                methods=MethodCaller(world.registry, world.workers, 5),  # type: ignore[arg-type]
                runs=runs,
                now_ms=lambda: 1234,
            )
        )
        yield HostWorld(world, host, configs, metrics, runs, nursery)
        nursery.cancel_scope.cancel()
