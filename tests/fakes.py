"""Stand-ins for what is slow or hard to command: workers without processes, packages without files."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import trio

from supervisor.bus import EventBus
from supervisor.core.errors import ActivationFailed, CallCancelled, SupervisorError
from supervisor.core.event import Event, Recorded, WorkerCrashed, WorkerStarted, WorkerStopped
from supervisor.core.lifecycle import Status
from supervisor.core.manifest import Manifest
from supervisor.core.package import Package
from supervisor.core.plugin import Capability, Plugin, PluginId, PluginKey
from supervisor.faultpoints import FaultPoints
from supervisor.lifecycle.manager import LifecycleManager
from supervisor.lifecycle.operation import Operation
from supervisor.lifecycle.owed import owed_events
from supervisor.lifecycle.reconcile import Reconciler
from supervisor.lifecycle.sources import Source
from supervisor.lifecycle.staging import Look, Staged, came_from
from supervisor.store.database import Database
from supervisor.store.intents import IntentLog
from supervisor.store.journal import Journal
from supervisor.store.plugins import PluginRegistry
from supervisor.worker.phase import Phase
from supervisor.worker.turns import Turn, Turns
from supervisor.worker.view import WorkerView
from tests.jobs.world import WallClock, manifest
from tests.packages import a_package

Answer = Callable[[str, dict[str, Any]], Any]


@dataclass
class Script:
    """What a plugin's worker does; seconds. A worker whose start `fails` does so after `up_after_s`; one on trial that
    `dies` does so `dies_after_s` after it came up, unless it has taken over. One that `finishes` has done its work once
    it takes over."""

    up_after_s: float = 0.5
    stops_after_s: float = 0.25
    fails: str | None = None
    dies: str | None = None
    dies_after_s: float = 0.0
    finishes: bool = False


class _Worker:
    def __init__(self) -> None:
        self.plugin: Plugin | None = None
        self.wanted: bool | None = None
        self.first_try_only = False
        self.phase = Phase.STOPPED
        self.failure: ActivationFailed | None = None
        self.gave_up = False
        self.changed = trio.Event()
        self.life = trio.CancelScope()
        self.alive = False

    def notify(self) -> None:
        changed, self.changed = self.changed, trio.Event()
        changed.set()


@dataclass
class FakeSuccessor:
    """`Successor`'s face; `pid` is 2, for it runs beside pid 1."""

    plugin: Plugin
    failure: ActivationFailed | None = None
    took_over: bool = False
    pid: int = 2
    hand_over: Callable[[], None] = lambda: None
    former_gone: trio.Event = field(default_factory=trio.Event)

    @property
    def up(self) -> bool:
        return self.failure is None

    def take_over(self, plugin: Plugin | None = None) -> bool:
        if self.failure is None and not self.took_over:
            self.plugin = plugin or self.plugin
            self.took_over = True
            self.hand_over()
        return self.took_over

    async def wait_former_gone(self) -> None:
        if self.took_over:
            await self.former_gone.wait()


class FakeWorkers:
    """WorkerManager's face over scripted outcomes; records its calls, and the events that the real one records."""

    def __init__(self, registry: PluginRegistry, nursery: trio.Nursery) -> None:
        self.turns = Turns(8)
        self.scripts: dict[str, Script] = {}
        self.calls: list[tuple[str, str]] = []
        self.wanted_at: dict[str, float] = {}
        self.answer: Answer = lambda method, params: {"method": method, **params}
        self._registry = registry
        self._nursery = nursery
        self._workers: dict[str, _Worker] = {}
        self._formers: dict[str, list[_Worker]] = {}
        self._give_ups: list[PluginId] = []
        self._gave_up = trio.Event()

    def script(self, key: str) -> Script:
        """Of a plugin's worker, for all versions that have none of their own as `key@version`."""
        return self.scripts.setdefault(key, Script())

    def script_of(self, plugin: Plugin) -> Script:
        return self.scripts.get(f"{plugin.key}@{plugin.version}") or self.script(plugin.key)

    # WorkerManager's face.

    def want(self, plugin: Plugin, *, first_try_only: bool = False, queued: bool = False) -> None:
        self.calls.append(("want", plugin.key))
        worker = self._worker(plugin.id)
        worker.plugin, worker.wanted, worker.first_try_only = plugin, True, first_try_only
        worker.failure, worker.gave_up = None, False
        if not worker.alive:
            worker.alive = True
            came, turn = trio.Event(), None
            if queued:
                turn = self.turns.ask(plugin.install_order, came.set)
            self._nursery.start_soon(self._live_in_turn, worker, plugin, turn, came)
        worker.notify()

    @contextmanager
    def coming_back(self, plugin_id: PluginId) -> Iterator[None]:
        assert self._worker(plugin_id) is not None
        yield

    def unwant(self, plugin_id: PluginId) -> None:
        self.calls.append(("unwant", self._registry.get(plugin_id).key))
        worker = self._worker(plugin_id)
        worker.wanted = False
        worker.life.cancel()
        worker.notify()

    def forget(self, plugin_id: PluginId) -> None:
        self.calls.append(("forget", plugin_id))
        self._workers.pop(plugin_id, None)

    def view(self, plugin_id: PluginId) -> WorkerView:
        worker = self._worker(plugin_id)
        failure = worker.failure.message if worker.failure else None
        return WorkerView(phase=worker.phase, wanted=worker.wanted, gave_up=worker.gave_up, last_failure=failure)

    def phase(self, plugin_id: PluginId) -> Phase:
        return self._worker(plugin_id).phase

    def changed(self, plugin_id: PluginId) -> trio.Event:
        return self._worker(plugin_id).changed

    def pids(self) -> set[int]:
        return set()

    def wanted(self, plugin_id: PluginId) -> bool:
        return self._worker(plugin_id).wanted

    async def wait_given_up(self) -> PluginId:
        while not self._give_ups:
            self._gave_up = trio.Event()
            await self._gave_up.wait()
        return self._give_ups.pop(0)

    async def wait_up(self, plugin_id: PluginId) -> None:
        worker = self._worker(plugin_id)
        while not (worker.wanted and worker.phase is Phase.RUNNING):
            if worker.failure:
                raise worker.failure
            if not worker.wanted:
                raise CallCancelled("not wanted")
            await worker.changed.wait()

    async def wait_stopped(self, plugin_id: PluginId) -> None:
        for worker in (*self._formers.get(plugin_id, ()), self._worker(plugin_id)):
            while worker.phase is not Phase.STOPPED:
                await worker.changed.wait()

    async def call(
        self,
        plugin_id: PluginId,
        method: str,
        params: dict[str, Any],
        *,
        timeout_s: float | None,
        secrets: Collection[str] = (),
    ) -> Any:
        await trio.lowlevel.checkpoint()
        return self.answer(method, params)

    @asynccontextmanager
    async def beside(self, plugin: Plugin) -> AsyncIterator[FakeSuccessor]:
        self.calls.append(("beside", plugin.key))
        script = self.script_of(plugin)
        await trio.sleep(script.up_after_s)
        if script.fails is not None:
            raise ActivationFailed(script.fails)
        with trio.CancelScope(shield=True):
            await self._tell(_started(plugin, 2))
        successor = FakeSuccessor(plugin)
        successor.hand_over = lambda: self._hand_over(successor)
        self._nursery.start_soon(self._die, successor, script)
        try:
            yield successor
        finally:
            if not successor.took_over:
                with trio.CancelScope(shield=True):
                    if successor.failure is None:
                        await trio.sleep(script.stops_after_s)
                    await self._tell(_stopped(plugin, 2))
        if successor.failure is not None:
            raise successor.failure

    # For tests.

    def plugin_of(self, plugin_id: PluginId) -> Plugin | None:
        """What its worker was last wanted as, or has taken over as."""
        return self._worker(plugin_id).plugin

    async def crash_for_good(self, plugin: Plugin, why: str) -> None:
        """As a worker that has crashed too often."""
        worker = self._worker(plugin.id)
        worker.wanted, worker.gave_up, worker.failure = False, True, ActivationFailed(why)
        worker.life.cancel()
        worker.phase = Phase.STOPPED
        worker.notify()
        self._give_ups.append(plugin.id)
        self._gave_up.set()
        await self._tell(_crashed(plugin, why))

    async def _die(self, successor: FakeSuccessor, script: Script) -> None:
        if script.dies is not None:
            await trio.sleep(script.dies_after_s)
            if not successor.took_over:
                successor.failure = ActivationFailed(script.dies)

    def _hand_over(self, successor: FakeSuccessor) -> None:
        plugin = successor.plugin
        self.calls.append(("take_over", plugin.key))
        former, worker = self._worker(plugin.id), _Worker()
        worker.plugin, worker.wanted, worker.alive, worker.phase = plugin, True, True, Phase.RUNNING
        self._workers[plugin.id] = worker
        if self.script_of(plugin).finishes:
            worker.wanted, worker.alive, worker.phase = False, False, Phase.STOPPED
        else:
            self._nursery.start_soon(self._live_on, worker, plugin)
        self._formers.setdefault(plugin.id, []).append(former)
        self._nursery.start_soon(self._drain, former, successor.former_gone)
        former.wanted = False
        former.life.cancel()
        former.notify()

    async def _live_on(self, worker: _Worker, plugin: Plugin) -> None:
        """As `_live`, of one that is up already."""
        with trio.CancelScope() as worker.life:
            if worker.wanted:
                await trio.sleep_forever()
        if not worker.gave_up:
            await self._end(worker, plugin, 2)
        await self._live(worker, plugin, lambda: None)

    async def _drain(self, former: _Worker, gone: trio.Event) -> None:
        while former.phase is not Phase.STOPPED:
            await former.changed.wait()
        gone.set()

    async def _end(self, worker: _Worker, plugin: Plugin, pid: int | None) -> None:
        worker.phase = Phase.STOPPING
        worker.notify()
        await trio.sleep(self.script_of(plugin).stops_after_s)
        if pid is not None:
            await self._tell(_stopped(plugin, pid))
        worker.phase = Phase.STOPPED
        worker.notify()

    async def _tell(self, event: Event) -> None:
        # As the real one: what cannot be recorded has happened all the same.
        with suppress(SupervisorError):
            await self._registry.record(event)

    def _worker(self, plugin_id: str) -> _Worker:
        return self._workers.setdefault(plugin_id, _Worker())

    async def _live_in_turn(self, worker: _Worker, plugin: Plugin, turn: Turn | None, came: trio.Event) -> None:
        if turn is None:
            await self._live(worker, plugin, lambda: None)
            return
        with trio.CancelScope() as worker.life:
            if not turn.granted:
                await came.wait()
        pending = [turn]
        await self._live(worker, plugin, lambda: pending.pop().give_back() if pending else None)

    async def _live(self, worker: _Worker, plugin: Plugin, over: Callable[[], None]) -> None:
        if not worker.wanted:
            over()
        else:
            self.wanted_at.setdefault(plugin.key, trio.current_time())
        while worker.wanted:
            plugin = worker.plugin or plugin
            script = self.script_of(plugin)
            started = False
            worker.phase = Phase.STARTING
            worker.notify()
            with trio.CancelScope() as worker.life:
                await trio.sleep(script.up_after_s)
                if script.fails is not None:
                    worker.failure = ActivationFailed(script.fails)
                    over()
                    worker.gave_up, worker.wanted, worker.phase = True, False, Phase.STOPPED
                    worker.alive = False
                    worker.notify()
                    self._give_ups.append(plugin.id)
                    self._gave_up.set()
                    await self._tell(_crashed(plugin, script.fails))
                    return
                with trio.CancelScope(shield=True):
                    await self._tell(_started(plugin, 1))
                over()
                started, worker.phase = True, Phase.RUNNING
                worker.notify()
                await trio.sleep_forever()
            if worker.gave_up:
                break
            over()
            await self._end(worker, plugin, 1 if started else None)
        worker.alive = False


def _started(plugin: Plugin, pid: int) -> WorkerStarted:
    return WorkerStarted(plugin_id=plugin.id, plugin_key=plugin.key, pid=pid, restarts=0)


def _stopped(plugin: Plugin, pid: int) -> WorkerStopped:
    return WorkerStopped(plugin_id=plugin.id, plugin_key=plugin.key, pid=pid, stage="drain", exit_code=0, signal=None)


def _crashed(plugin: Plugin, why: str) -> WorkerCrashed:
    return WorkerCrashed(
        plugin_id=plugin.id,
        plugin_key=plugin.key,
        cause=why,
        pid=1,
        exit_code=1,
        signal=None,
        stderr_tail="",
        crashes=11,
        restart_in_s=None,
    )


class FakePackages:
    """PackageStore's face: the name of a source's path is the plugin's key."""

    def __init__(self) -> None:
        self.stored: set[str] = set()
        self.in_staging = 0
        self.version = "1.0"
        self.more: tuple[str, ...] = ()
        """Capabilities beside jobs.schedule."""
        self.upgrade = "overlap"

    @asynccontextmanager
    async def staged(self, source: Source, operation: Operation, look: Look) -> AsyncIterator[Staged]:
        with operation.phase("unpack"):
            await trio.lowlevel.checkpoint()
        assert source.path is not None
        await look(self.manifest_of(source.path.name))
        self.in_staging += 1
        try:
            staged = Staged(manifest=self.manifest_of(source.path.name), digest="0" * 64, dir=source.path)
            yield came_from(staged, source)
        finally:
            await trio.lowlevel.cancel_shielded_checkpoint()
            self.in_staging -= 1

    def manifest_of(self, key: str) -> Manifest:
        plain = manifest(key)
        return replace(
            plain,
            version=self.version,
            capabilities=(*plain.capabilities, *map(Capability, self.more)),
            worker=replace(plain.worker, upgrade=self.upgrade),
        )

    async def commit(self, staged: Staged) -> Package:
        await trio.lowlevel.checkpoint()
        self.stored.add(staged.name)
        return staged.package

    async def remove(self, package_dir: str) -> None:
        await trio.lowlevel.checkpoint()
        self.stored.discard(package_dir)


class FakeData:
    def __init__(self) -> None:
        self.removed: list[str] = []

    async def remove(self, key: PluginKey, plugin_id: PluginId | None) -> None:
        await trio.lowlevel.checkpoint()
        self.removed.append(key)


class FakeConfig:
    """The Configurator's face: `misfit` is what it finds wrong."""

    def __init__(self) -> None:
        self.misfit: SupervisorError | None = None

    async def refuse_misfit(self, plugin: Plugin, manifest: Manifest) -> None:
        await trio.lowlevel.checkpoint()
        if self.misfit is not None:
            raise self.misfit


def a_lifecycle(
    database: Database,
    registry: PluginRegistry,
    workers: Any,
    packages: Any,
    data: Any,
    *,
    config: Any = None,
    keep_versions: int = 3,
) -> LifecycleManager:
    """A lifecycle manager over parts that may be fakes; it is never killed at a fault point."""
    return LifecycleManager(
        registry,
        workers,
        packages,
        data,
        intents=IntentLog(database),
        make_config=lambda _locks, _restart: config or FakeConfig(),
        faults=FaultPoints({}),
        keep_versions=keep_versions,
    )


@dataclass
class LifecycleWorld:
    """A lifecycle manager on a real store, with workers, packages and data that are fakes."""

    database: Database
    bus: EventBus
    events: list[Recorded]
    registry: PluginRegistry
    workers: FakeWorkers
    packages: FakePackages = field(default_factory=FakePackages)
    data: FakeData = field(default_factory=FakeData)
    config: FakeConfig = field(default_factory=FakeConfig)
    lifecycle: LifecycleManager = field(init=False)

    def __post_init__(self) -> None:
        self.lifecycle = a_lifecycle(
            self.database, self.registry, self.workers, self.packages, self.data, config=self.config
        )

    @asynccontextmanager
    async def reconciled(self, recover_after_s: float = 600) -> AsyncIterator[Reconciler]:
        """With the reconciler of a daemon that has just started."""
        reconciler = Reconciler(
            self.registry,
            self.workers,  # type: ignore[arg-type]
            self.lifecycle,
            self.bus,
            Journal(self.database),
            self.database.clock,
            recover_after_s=recover_after_s,
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(reconciler.run)
            yield reconciler
            nursery.cancel_scope.cancel()

    async def put(self, key: str, status: Status, *, recoverable: bool = False, error: str | None = None) -> Plugin:
        """A plugin of this status, its worker running if it is ready; what it took is forgotten."""
        plugin = await self.registry.install(
            a_package(self.packages.manifest_of(key), f"{key}/1.0-000000000000"),
            approved=frozenset({Capability("jobs.schedule")}),
            uid=0,
        )
        self.packages.stored.add(plugin.package_dir)
        if status is not Status.INSTALLED:
            plugin = await self.registry.set_status(
                plugin.id, expected=Status.INSTALLED, status=status, recoverable=recoverable, error=error
            )
        if status is Status.READY:
            self.workers.want(plugin)
            await self.workers.wait_up(plugin.id)
        await self.finish(plugin)
        self.forget_the_past()
        return plugin

    async def finish(self, plugin: Plugin) -> None:
        """Say the last words of the command that led to the plugin's status."""
        staged = self.registry.version(plugin.id, plugin.staged_dir)
        await self.registry.record(*await owed_events(Journal(self.database), plugin, staged))

    def forget_the_past(self) -> None:
        self.events.clear()
        self.workers.calls.clear()
        self.workers.wanted_at.clear()

    def told(self) -> list[str]:
        """The events since, shortened: a status change is `-> status`, others lose their `plugin.`."""
        return [
            f"-> {event.data['status']}"
            if event.type == "plugin.status_changed"
            else event.type.removeprefix("plugin.")
            for event in self.events
        ]

    def fail_next_transaction(self, error: SupervisorError) -> None:
        """The next one does its work, and fails at the commit."""
        transact = self.database.transact

        async def failing(work: Callable[[Any], Any], **how: Any) -> Any:
            self.database.transact = transact  # type: ignore[method-assign]

            def do(transaction: Any) -> Any:
                work(transaction)
                raise error

            return await transact(do, **how)

        self.database.transact = failing  # type: ignore[method-assign]

    def hold_next_transaction(self) -> tuple[trio.Event, trio.Event]:
        """(it has arrived, let it go on)."""
        transact, arrived, go_on = self.database.transact, trio.Event(), trio.Event()

        async def held(work: Callable[[Any], Any], **how: Any) -> Any:
            self.database.transact = transact  # type: ignore[method-assign]
            arrived.set()
            with trio.CancelScope(shield=True):
                await go_on.wait()
            return await transact(work, **how)

        self.database.transact = held  # type: ignore[method-assign]
        return arrived, go_on


@asynccontextmanager
async def open_lifecycle_world(path: Path) -> AsyncIterator[LifecycleWorld]:
    """Opening the same path again is the daemon's next start."""
    bus, events = EventBus(), []

    def publish(event: Recorded) -> None:
        events.append(event)
        bus.publish(event)

    database = await Database.open(path, clock=WallClock(), publish=publish, inline=True)
    try:
        registry = await PluginRegistry.load(database)
        async with trio.open_nursery() as nursery:
            yield LifecycleWorld(database, bus, events, registry, FakeWorkers(registry, nursery))
            nursery.cancel_scope.cancel()
    finally:
        await database.aclose()
