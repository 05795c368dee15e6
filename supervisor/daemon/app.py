"""The composition root: builds every part, joins them, opens the nurseries and closes them in order."""

from __future__ import annotations

import os
import random
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import trio

from supervisor.bus import EventBus
from supervisor.clock import Clock, to_ms
from supervisor.control.connection import Service
from supervisor.control.detached import Detached
from supervisor.control.listen import bound_socket
from supervisor.control.methods import Methods, Parts, daemon_status
from supervisor.control.server import ControlServer
from supervisor.core.lifecycle import Status
from supervisor.core.plugin import Plugin
from supervisor.daemon.checks import schedule_problem
from supervisor.daemon.host import StoreHost
from supervisor.daemon.leftovers import remove_leftovers
from supervisor.daemon.places import PluginPlaces
from supervisor.daemon.reaper import kill_strays, reap_orphans
from supervisor.daemon.settings import Settings, describe
from supervisor.daemon.state_dir import StateDir
from supervisor.daemon.systemd import Notifier, watchdog
from supervisor.daemon.upkeep import keep_short
from supervisor.jobs.coordinator import JobCoordinator
from supervisor.jobs.history import HistoryKeeper
from supervisor.jobs.operator import JobOperator
from supervisor.jobs.runner import Runner
from supervisor.jobs.scheduler import JobScheduler
from supervisor.lifecycle.manager import LifecycleManager
from supervisor.lifecycle.packages import PackageStore
from supervisor.lifecycle.reconcile import Reconciler
from supervisor.log import get_logger
from supervisor.store.database import Database
from supervisor.store.jobs import JobStore
from supervisor.store.journal import Journal
from supervisor.store.plugins import PluginRegistry
from supervisor.store.processes import ProcessBook
from supervisor.store.requests import RequestLog
from supervisor.store.runs import RunStore
from supervisor.store.state import StateStore
from supervisor.version import VERSION
from supervisor.wire.control import PROTOCOL_VERSION
from supervisor.wire.results import DaemonInfo, DaemonStatus
from supervisor.worker.launch import Launch, Surroundings, plan_launch
from supervisor.worker.life import Graces
from supervisor.worker.logfile import LogFile
from supervisor.worker.manager import WorkerManager
from supervisor.worker.process import spawn
from supervisor.worker.supervise import Tools

DATABASE_NAME: Final = "plugind.db"


@dataclass(frozen=True, slots=True, kw_only=True)
class Surrounding:
    """What the process was given: opened and checked before the event loop runs."""

    settings: Settings
    state_dir: StateDir
    listener: socket.socket | None
    """Inherited from a socket unit; None: bind one."""
    notifier: Notifier
    watchdog_s: float | None
    clock: Clock
    environ: Mapping[str, str]


class App:
    """`run` it once. `request_stop` and `hurry` may be called at any time, from the event loop's thread."""

    def __init__(self, given: Surrounding) -> None:
        self._given = given
        self._settings = given.settings
        self._clock = given.clock
        self._stop = trio.Event()
        self._work_scope: trio.CancelScope | None = None
        self._started_at = given.clock.now()
        self._started = trio.current_time()
        self._bus = EventBus()
        self._server: ControlServer | None = None
        self.warnings: list[str] = list(given.settings.warnings)

    # The daemon as seen from the socket and from signals.

    def request_stop(self, why: str) -> None:
        if not self._stop.is_set():
            get_logger().info("daemon.stopping", why=why)
        self._stop.set()

    def hurry(self) -> None:
        """A second time asked to stop: no more draining."""
        get_logger().warning("daemon.hurried")
        self._stop.set()
        if self._work_scope:
            self._work_scope.cancel(reason="hurried")
            self._workers.kill_all()

    def info(self) -> DaemonInfo:
        return {
            "name": "plugind",
            "version": VERSION,
            "pid": os.getpid(),
            "uid": os.geteuid(),
            "protocol": PROTOCOL_VERSION,
            "python": sys.version.split()[0],
            "state_dir": str(self._given.state_dir.path),
            "socket": self._settings.socket,
            "started_at_ms": to_ms(self._started_at),
        }

    def status(self) -> DaemonStatus:
        plugins, workers = daemon_status(self._registry, self._workers)
        return {
            "uptime_s": trio.current_time() - self._started,
            "plugins": plugins,
            "workers": workers,
            "connections": self._server.connections if self._server else 0,
            "runs_in_flight": len(self._runner.active),
            "last_seq": self._bus.last_seq,
            "stopping": self._stop.is_set(),
            "warnings": list(self.warnings),
        }

    def settings(self) -> dict[str, Any]:
        return describe(self._settings)

    async def backup(self, path: Path) -> None:
        await self._database.backup(path)

    # From start to end.

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Start, serve until asked to stop, drain, stop. Started means: the socket answers, and boot is under way.

        Raises:
            FailedPrecondition: the database or the socket cannot be used; nothing was started.
        """
        async with AsyncExitStack() as stack:
            self._database = await stack.enter_async_context(self._opened_database())
            listener = self._given.listener or stack.enter_context(bound_socket(Path(self._settings.socket)))
            await self._build()
            await self._clean_up_after_the_last_daemon()
            await self._serve(listener, task_status)
            await kill_strays(except_pids=self._workers.pids())
        get_logger().info("daemon.stopped", uptime_s=round(trio.current_time() - self._started, 3))

    @asynccontextmanager
    async def _opened_database(self) -> AsyncIterator[Database]:
        path = self._given.state_dir.path / DATABASE_NAME
        database = await Database.open(path, clock=self._clock, publish=self._bus.publish)
        self.warnings += database.warnings
        for warning in database.warnings:
            get_logger().error("database.warning", warning=warning)
        try:
            yield database
        finally:
            # The last rows are on their way; what is committed is safe already.
            with trio.CancelScope(shield=True, deadline=trio.current_time() + self._settings.drain_s):
                await database.aclose()

    async def _build(self) -> None:
        settings, database = self._settings, self._database
        log = get_logger()
        self._journal = Journal(database)
        self._bus.last_seq = await self._journal.last_seq()
        self._registry = await PluginRegistry.load(database)
        self._requests = RequestLog(database)
        self._processes = ProcessBook(database)
        self._state = StateStore(database)
        jobs, self._runs = JobStore(database), RunStore(database)
        state_dir = self._given.state_dir
        self._packages = PackageStore(state_dir.packages, state_dir.staging, schedule_problem)
        self._places = PluginPlaces(self._packages, state_dir.data, settings.log_dir, log_files=settings.log_files)
        self._workers = WorkerManager(self._tools())
        self._lifecycle = LifecycleManager(self._registry, self._workers, self._packages, self._places)
        self._reconciler = Reconciler(
            self._registry,
            self._workers,
            self._lifecycle,
            self._bus,
            start_concurrency=settings.start_concurrency,
            recover_after_s=settings.recover_after_s,
        )
        self._runner = Runner(
            self._runs,
            self._workers,
            log,
            max_runs=settings.run_limit,
            max_runs_per_plugin=settings.plugin_run_limit,
        )
        self._scheduler = JobScheduler(jobs, self._runs, self._runner, self._clock, log)
        self._coordinator = JobCoordinator(
            self._bus, self._registry, jobs, self._scheduler, self._runner, self._clock, log, timezone=settings.timezone
        )
        self._operator = JobOperator(
            self._registry,
            jobs,
            self._runs,
            self._scheduler,
            self._runner,
            self._coordinator,
            self._clock,
            timezone=settings.timezone,
        )

    def _tools(self) -> Tools:
        settings = self._settings
        return Tools(
            host=StoreHost(self._registry, self._state, self._processes),
            graces=Graces(term_s=settings.term_grace_s, kill_s=settings.kill_grace_s),
            prepare=self._prepare,
            spawn=spawn,
            open_log=lambda plugin: LogFile(
                self._places.log_file(plugin), max_bytes=settings.log_max_bytes, files=settings.log_files
            ),
            now_ms=lambda: to_ms(self._clock.now()),
            random=random.Random(),  # noqa: S311  it spreads restarts; nobody gains by guessing them
        )

    def _prepare(self, plugin: Plugin) -> Launch:
        data_dir = self._places.data_dir(plugin)
        data_dir.mkdir(mode=0o700, exist_ok=True)
        return plan_launch(
            plugin,
            package_dir=self._places.package_dir(plugin),
            data_dir=data_dir,
            around=Surroundings(
                python=sys.executable, environ=self._given.environ, state_id=self._given.state_dir.state_id
            ),
            is_file=Path.is_file,
            which=lambda name, path: shutil.which(name, path=path),
        )

    async def _clean_up_after_the_last_daemon(self) -> None:
        """It may have been killed at any instant: end what it left running, before anything of ours starts."""
        await remove_leftovers(
            self._given.state_dir.state_id,
            await self._processes.all(),
            term_grace_s=self._settings.term_grace_s,
            kill_grace_s=self._settings.kill_grace_s,
        )
        await self._processes.clear()
        interrupted = await self._runs.interrupt_leftovers()
        if interrupted:
            get_logger().warning("runs.interrupted", count=interrupted)
        if self._database.warnings:
            return  # The rows are gone, not the plugins: whoever restores them wants the files still there.
        plugins = self._registry.all()
        await self._packages.collect({p.package_dir for p in plugins if p.status is not Status.UNINSTALLED})
        await self._places.collect({plugin.key for plugin in plugins})

    async def _serve(self, listener: socket.socket, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as workers:  # child processes: last to go
            await workers.start(self._workers.run)
            workers.start_soon(reap_orphans, lambda pid: pid in self._workers.pids())
            async with trio.open_nursery() as work:  # requests and runs in flight
                self._work_scope = work.cancel_scope
                await work.start(self._runner.run)
                async with trio.open_nursery() as intake:  # accept loop, schedule, subscriptions
                    await self._start_services(intake, work, listener)
                    self._given.notifier.ready(f"{len(self._registry.all())} plugins")
                    get_logger().info("daemon.ready", version=VERSION, pid=os.getpid(), socket=self._settings.socket)
                    task_status.started()
                    await self._stop.wait()
                    self._given.notifier.stopping("draining")
                    self._given.notifier.extend_timeout(self._longest_stop_s())
                    intake.cancel_scope.cancel(reason="stop requested")
                self._runner.close()
                work.cancel_scope.deadline = trio.current_time() + self._settings.drain_s
            workers.cancel_scope.cancel(reason="drained")

    async def _start_services(self, intake: trio.Nursery, work: trio.Nursery, listener: socket.socket) -> None:
        settings = self._settings
        service = Service(
            handlers=Methods(self._parts()).handlers,
            detached=Detached(work, self._requests),
            bus=self._bus,
            journal=self._journal,
            registry=self._registry,
            version=VERSION,
        )
        self._server = ControlServer(listener, service)
        await intake.start(self._coordinator.run)
        await intake.start(self._scheduler.run)
        await intake.start(self._reconciler.run)
        await intake.start(self._server.run, work)
        keep = timedelta(days=settings.event_keep_days)
        history = HistoryKeeper(
            self._runs,
            get_logger(),
            keep_runs=settings.run_keep,
            keep_ms=int(timedelta(days=settings.run_keep_days) / timedelta(milliseconds=1)),
        )
        intake.start_soon(history.run)
        intake.start_soon(
            _bound(keep_short, self._journal, self._requests, max_events=settings.event_keep, max_age=keep)
        )
        if self._given.watchdog_s:
            intake.start_soon(watchdog, self._given.notifier, self._given.watchdog_s, self._check_health)

    async def _check_health(self) -> None:
        """The event loop turns, or this would not run; and the database answers."""
        await self._database.read(lambda: None)

    def _parts(self) -> Parts:
        return Parts(
            daemon=self,
            registry=self._registry,
            lifecycle=self._lifecycle,
            workers=self._workers,
            jobs=self._operator,
            journal=self._journal,
            bus=self._bus,
            state=self._state,
            places=self._places,
            clock=self._clock,
            call_timeout_s=self._settings.call_timeout_s,
        )

    def _longest_stop_s(self) -> float:
        settings = self._settings
        return 2 * settings.drain_s + settings.term_grace_s + settings.kill_grace_s + 5.0


def _bound(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Callable[[], Any]:
    return lambda: function(*args, **kwargs)
