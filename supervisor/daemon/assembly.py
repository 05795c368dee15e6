"""The parts of the daemon, built and joined; nothing runs yet."""

from __future__ import annotations

import os
import random
import shutil
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from supervisor.bus import EventBus
from supervisor.clock import Clock, to_ms
from supervisor.control.calls import MethodCaller
from supervisor.core.plugin import Plugin
from supervisor.daemon.checks import schedule_problem
from supervisor.daemon.delegation import prepare_groups
from supervisor.daemon.host import StoreHost
from supervisor.daemon.host_calls import HostCalls, HostParts
from supervisor.daemon.host_events import WorkerFeeds
from supervisor.daemon.places import PluginData, PluginPlaces
from supervisor.daemon.settings import Settings
from supervisor.daemon.state_dir import StateDir
from supervisor.daemon.systemd import Notifier
from supervisor.faultpoints import FaultPoints
from supervisor.jobs.alarm import Alarm, open_alarm
from supervisor.jobs.coordinator import JobCoordinator
from supervisor.jobs.operator import JobOperator
from supervisor.jobs.runner import Runner
from supervisor.jobs.scheduler import JobScheduler
from supervisor.lifecycle.children import Children
from supervisor.lifecycle.config import Configurator, Restart
from supervisor.lifecycle.config_giver import ConfigGiver
from supervisor.lifecycle.config_references import References
from supervisor.lifecycle.editable import EditableWatcher
from supervisor.lifecycle.locks import PluginLocks
from supervisor.lifecycle.manager import LifecycleManager
from supervisor.lifecycle.packages import PackageStore
from supervisor.lifecycle.pip_command import find_tools
from supervisor.lifecycle.reconcile import Reconciler
from supervisor.lifecycle.threads import Threads
from supervisor.log import get_logger
from supervisor.metrics import Metrics
from supervisor.store.audit import AuditLog
from supervisor.store.claims import ClaimStore
from supervisor.store.configs import ConfigStore
from supervisor.store.database import Database
from supervisor.store.intents import IntentLog
from supervisor.store.jobs import JobStore
from supervisor.store.journal import Journal
from supervisor.store.plugins import PluginRegistry
from supervisor.store.processes import ProcessBook
from supervisor.store.requests import RequestLog
from supervisor.store.runs import RunStore
from supervisor.store.state import StateStore
from supervisor.worker.cgroup import Groups
from supervisor.worker.commands import Commands
from supervisor.worker.containment import Containment
from supervisor.worker.launch import CannotLaunch, Launch, Surroundings, plan_launch
from supervisor.worker.logfile import Entry
from supervisor.worker.logs import PluginLogs
from supervisor.worker.manager import WorkerManager
from supervisor.worker.process import spawn
from supervisor.worker.shutdown import Graces
from supervisor.worker.tools import Tools


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
    reread: Callable[[], Settings]
    """The settings as their sources say them now; raises SettingsError."""
    soft_nofile: int | None = None
    """The limit of open files for workers that declare none; None: the daemon's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly:
    """Every part that outlives a single request."""

    database: Database
    journal: Journal
    audit: AuditLog
    registry: PluginRegistry
    requests: RequestLog
    processes: ProcessBook
    state: StateStore
    runs: RunStore
    packages: PackageStore
    places: PluginPlaces
    logs: PluginLogs
    groups: Groups | None
    children: Children
    """Programs that an install runs; whoever reaps orphans leaves them alone."""
    containment: Containment
    workers: WorkerManager
    commands: Commands
    """Those of jobs; they are children of ours, as workers are."""
    methods: MethodCaller
    metrics: Metrics
    lifecycle: LifecycleManager
    faults: FaultPoints
    configurator: Configurator
    reconciler: Reconciler
    editable: EditableWatcher
    alarm: Alarm
    runner: Runner
    scheduler: JobScheduler
    coordinator: JobCoordinator
    operator: JobOperator


async def assemble(given: Surrounding, database: Database, bus: EventBus) -> Assembly:
    """Build the parts over an open database; `bus` goes on counting where the journal ends."""
    settings, state_dir, clock, log = given.settings, given.state_dir, given.clock, get_logger()

    def now_ms() -> int:
        return to_ms(clock.now())

    journal = Journal(database)
    bus.last_seq = await journal.last_seq()
    registry = await PluginRegistry.load(database)
    processes, state = ProcessBook(database), StateStore(database)
    jobs, runs, claims = JobStore(database), RunStore(database), ClaimStore(database)
    logs = PluginLogs(settings.log_dir, max_bytes=settings.log_max_bytes, files=settings.log_files)
    metrics = Metrics(now_ms)
    groups = prepare_groups(state_dir.state_id)
    containment = Containment(groups, kill_grace_s=settings.kill_grace_s, soft_nofile=given.soft_nofile)
    children = Children(containment)
    making = find_tools(given.environ, settings.index_url, state_id=state_dir.state_id, children=children)
    packages = PackageStore(state_dir.packages, state_dir.staging, schedule_problem, tools=making)
    places = PluginPlaces(packages, state_dir.data, logs)
    configs = ConfigStore(database)
    references = References(given.environ.get("CREDENTIALS_DIRECTORY"), uid=os.geteuid())
    giver = ConfigGiver(configs, references)
    host = StoreHost(registry, giver, processes, containment)
    tools = _tools(given, _preparing(given, places, packages, registry), logs, host, containment)
    workers = WorkerManager(tools, start_concurrency=settings.start_concurrency)
    commands = Commands(tools, registry.find)
    faults = FaultPoints(given.environ)

    def make_config(locks: PluginLocks, restart: Restart) -> Configurator:
        return Configurator(registry, configs, workers, locks, references, faults, restart=restart)

    lifecycle = LifecycleManager(
        registry,
        workers,
        packages,
        PluginData(places, metrics, commands),
        intents=IntentLog(database),
        make_config=make_config,
        faults=faults,
        keep_versions=settings.keep_versions,
    )
    reconciler = Reconciler(
        registry,
        workers,
        lifecycle,
        bus,
        journal,
        clock,
        recover_after_s=settings.recover_after_s,
    )
    alarm, zone = open_alarm(clock), settings.timezone
    runner = Runner(
        runs,
        workers,
        commands,
        clock,
        log,
        timezone=zone,
        nudge=alarm.nudge,
        max_runs=settings.run_limit,
        max_runs_per_plugin=settings.plugin_run_limit,
    )
    scheduler = JobScheduler(jobs, claims, runner, alarm, clock, log, timezone=zone)
    coordinator = JobCoordinator(bus, registry, jobs, runs, scheduler, runner, clock, log, timezone=zone)
    methods = MethodCaller(registry, workers, settings.call_timeout_s)
    host.calls = HostCalls(
        HostParts(
            registry=registry,
            configs=giver,
            state=state,
            feeds=WorkerFeeds(bus, journal, registry),
            metrics=metrics,
            workers=workers,
            methods=methods,
            runs=runner.active,
            now_ms=now_ms,
        )
    )
    operator = JobOperator(registry, jobs, runs, claims, scheduler, runner, coordinator, clock, timezone=zone)
    return Assembly(
        database=database,
        journal=journal,
        audit=AuditLog(database),
        registry=registry,
        requests=RequestLog(database),
        processes=processes,
        state=state,
        runs=runs,
        packages=packages,
        places=places,
        logs=logs,
        groups=groups,
        children=children,
        containment=containment,
        workers=workers,
        commands=commands,
        methods=methods,
        metrics=metrics,
        lifecycle=lifecycle,
        faults=faults,
        configurator=lifecycle.config,
        reconciler=reconciler,
        editable=_editable(lifecycle, registry, bus, logs, now_ms),
        alarm=alarm,
        runner=runner,
        scheduler=scheduler,
        coordinator=coordinator,
        operator=operator,
    )


def _editable(
    lifecycle: LifecycleManager, registry: PluginRegistry, bus: EventBus, logs: PluginLogs, now_ms: Callable[[], int]
) -> EditableWatcher:
    def note(plugin: Plugin, level: str, message: str) -> None:
        lines, at_ms = message.splitlines(), now_ms()
        entries = [Entry(time_ms=at_ms, stream="plugind", level=level, message=line) for line in lines]
        logs.of(plugin.key).write(entries)

    return EditableWatcher(registry, bus, partial(lifecycle.in_place.refresh, check_schedule=schedule_problem), note)


def _tools(
    given: Surrounding,
    prepare: Callable[[Plugin], Awaitable[Launch]],
    logs: PluginLogs,
    host: StoreHost,
    containment: Containment,
) -> Tools:
    settings = given.settings
    return Tools(
        host=host,
        graces=Graces(term_s=settings.term_grace_s, kill_s=settings.kill_grace_s),
        prepare=prepare,
        spawn=lambda launch: spawn(launch, containment),
        open_log=lambda plugin: logs.of(plugin.key),
        now_ms=lambda: to_ms(given.clock.now()),
        random=random.Random(),  # noqa: S311  it spreads restarts; nobody gains by guessing them
    )


def _preparing(
    given: Surrounding, places: PluginPlaces, packages: PackageStore, registry: PluginRegistry
) -> Callable[[Plugin], Awaitable[Launch]]:
    around = Surroundings(python=sys.executable, environ=given.environ, state_id=given.state_dir.state_id)
    threads, limit_s = Threads(given.settings.start_concurrency), given.settings.phase_timeout_s

    def plan(plugin: Plugin) -> Launch:
        data_dir = places.data_dir(plugin)
        data_dir.mkdir(mode=0o700, exist_ok=True)
        return plan_launch(
            plugin,
            package_dir=places.package_dir(plugin),
            environment=places.environment(plugin),
            data_dir=data_dir,
            around=around,
            is_file=Path.is_file,
            which=lambda name, path: shutil.which(name, path=path),
        )

    async def prepare(plugin: Plugin) -> Launch:
        # In threads, and bounded: a file system that does not answer costs this start, and no other plugin anything.
        with trio.move_on_after(limit_s):
            if plugin.editable is None:
                await packages.verify(plugin.package_dir, registry)
            return await threads.run(partial(plan, plugin))
        raise CannotLaunch(f"cannot be started: its files could not be looked at within {limit_s:g} s")

    return prepare
