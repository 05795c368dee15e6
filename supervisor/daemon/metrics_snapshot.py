"""The daemon's numbers at one moment, taken in the event loop's thread in small steps, for another thread to print."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

import trio

from supervisor.control.latency import MethodLatency
from supervisor.control.meters import Meters
from supervisor.control.server import ServerStatistics
from supervisor.core.lifecycle import Status
from supervisor.core.plugin import Plugin
from supervisor.daemon.assembly import Assembly
from supervisor.daemon.metrics_events import EventCounts
from supervisor.histogram import Distribution
from supervisor.store.runner import RunnerStatistics as StoreStatistics
from supervisor.wire.results import MetricInfo, UsageInfo
from supervisor.worker.view import WorkerView


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginNumbers:
    key: str
    version: str
    status: str
    worker: WorkerView
    usage: UsageInfo | None
    """None: there is no process."""
    cpu_s: float | None
    """Of its present worker."""
    crashes: int
    runs: Mapping[str, int]
    run_s: Distribution | None
    """None: it has no runs that had started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    started_s: float
    """Unix time."""
    warnings: int
    loop_lag_s: float
    statuses: Mapping[str, int]
    plugins: Sequence[PluginNumbers]
    """Without those that are uninstalled."""
    runs_waiting: int
    runs_running: int
    schedule_paused: bool
    lateness_s: Distribution
    methods: Sequence[MethodLatency]
    server: ServerStatistics
    subscriptions: int
    overflows: int
    events: Mapping[str, int]
    event_lag_s: Distribution
    store: Mapping[str, StoreStatistics]
    own: Sequence[tuple[str, Sequence[MetricInfo]]]
    """A plugin's key, and what it tells of itself; empty if nobody has asked for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    built: Assembly
    events: EventCounts
    meters: Meters
    server: Callable[[], ServerStatistics]
    warnings: Callable[[], int]
    started_s: float


async def take_snapshot(sources: Sources, *, own: bool) -> Snapshot:
    """`own`: with what plugins tell of themselves."""
    built, events, meters = sources.built, sources.events, sources.meters
    began_s = perf_counter()
    await trio.lowlevel.checkpoint()
    loop_lag_s = perf_counter() - began_s
    everybody = built.registry.all()
    there = [plugin for plugin in everybody if plugin.status is not Status.UNINSTALLED]
    plugins = await _plugin_numbers(built, events, there)
    told = await _told(built, there) if own else []
    runs = built.runner.statistics()
    return Snapshot(
        started_s=sources.started_s,
        warnings=sources.warnings(),
        loop_lag_s=loop_lag_s,
        statuses=Counter(str(plugin.status) for plugin in everybody),
        plugins=plugins,
        runs_waiting=runs.waiting,
        runs_running=runs.running,
        schedule_paused=built.operator.holds.since_ms is not None,
        lateness_s=built.runner.lateness.seconds.look(),
        methods=list(meters.latency.look()),
        server=sources.server(),
        subscriptions=meters.subscriptions,
        overflows=meters.overflows,
        events=dict(events.recorded),
        event_lag_s=events.lag_s.look(),
        store=built.database.statistics(),
        own=told,
    )


async def _plugin_numbers(built: Assembly, events: EventCounts, plugins: Sequence[Plugin]) -> list[PluginNumbers]:
    views = {}
    for plugin in plugins:
        views[plugin.id] = built.workers.view(plugin.id)
        await trio.lowlevel.checkpoint()  # Where there are hundreds, others have their turn.
    pids = [view.pid for view in views.values() if view.pid is not None]
    usage = await built.containment.usage(pids)
    found = []
    for plugin in plugins:
        view = views[plugin.id]
        ward = None if view.pid is None else built.containment.ward(view.pid)
        run_s = events.run_s.get(plugin.key)
        found.append(
            PluginNumbers(
                key=plugin.key,
                version=plugin.version,
                status=str(plugin.status),
                worker=view,
                usage=None if view.pid is None else usage.get(view.pid),
                cpu_s=None if ward is None else ward.meter.cpu_s,
                crashes=events.crashes[plugin.key],
                runs=dict(events.runs.get(plugin.key, {})),
                run_s=None if run_s is None else run_s.look(),
            )
        )
        await trio.lowlevel.checkpoint()
    return found


async def _told(built: Assembly, plugins: Sequence[Plugin]) -> list[tuple[str, Sequence[MetricInfo]]]:
    told: list[tuple[str, Sequence[MetricInfo]]] = []
    for plugin in plugins:
        told.append((plugin.key, built.metrics.read(plugin.id)))
        await trio.lowlevel.checkpoint()
    return told
