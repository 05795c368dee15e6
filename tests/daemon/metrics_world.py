"""A snapshot of a daemon with something of everything, for tests of what becomes of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from supervisor.control.latency import MethodLatency
from supervisor.control.server import ServerStatistics
from supervisor.daemon.metrics_snapshot import PluginNumbers, Snapshot
from supervisor.histogram import COMMIT_S, DELAY_S, REQUEST_S, RUN_S, Distribution, Histogram
from supervisor.store.runner import RunnerStatistics
from supervisor.wire.results import MetricInfo, UsageInfo
from supervisor.worker.phase import Phase
from supervisor.worker.view import WorkerView

USAGE = UsageInfo(cpu_percent=1.5, rss_bytes=20_000_000, pss_bytes=None, threads=3, processes=2, open_files=7)


def seen(bounds: Sequence[float], *values: float) -> Distribution:
    histogram = Histogram(bounds)
    for value in values:
        histogram.observe(value)
    return histogram.look()


def a_plugin(key: str = "acme.up", **more: Any) -> PluginNumbers:
    """One that runs."""
    worker = WorkerView(phase=Phase.RUNNING, wanted=True, pid=4242, restarts=2, calls=9, calls_in_flight=1)
    given = {
        "key": key,
        "version": "1.2.0",
        "status": "ready",
        "worker": worker,
        "usage": USAGE,
        "cpu_s": 12.5,
        "crashes": 3,
        "runs": {"succeeded": 4, "failed": 1},
        "run_s": seen(RUN_S, 0.3, 2, 20_000),
    }
    return PluginNumbers(**{**given, **more})


DOWN = a_plugin(
    "acme.down", status="disabled", worker=WorkerView(), usage=None, cpu_s=None, crashes=0, runs={}, run_s=None
)


def a_metric(name: str, value: float = 1.0, kind: str = "gauge", **labels: str) -> MetricInfo:
    return MetricInfo(name=name, kind=kind, value=value, labels=labels, at_ms=0)


def a_snapshot(**more: Any) -> Snapshot:
    store = RunnerStatistics(waiting=2, transactions=30, commit_s=seen(COMMIT_S, 0.002, 0.004))
    given: dict[str, Any] = {
        "started_s": 1_772_366_400.5,
        "warnings": 1,
        "loop_lag_s": 0.0002,
        "statuses": {"ready": 1, "disabled": 1},
        "plugins": [a_plugin(), DOWN],
        "runs_waiting": 5,
        "runs_running": 6,
        "schedule_paused": True,
        "lateness_s": seen(DELAY_S, 0.02),
        "methods": [MethodLatency("daemon.ping", {"OK": 1, "INTERNAL": 1}, seen(REQUEST_S, 0.0002, 0.2))],
        "server": ServerStatistics(connections=2, shed=1, refused={"uid": 3}, held_bytes=100),
        "subscriptions": 4,
        "overflows": 1,
        "events": {"plugin.installed": 2, "emitted": 7},
        "event_lag_s": seen(DELAY_S, 0.003),
        "store": {"writer": store, "reader": store},
        "own": [("acme.up", [a_metric("weather_temperature_celsius", 21.5, place="Kiel")])],
    }
    return Snapshot(**{**given, **more})
