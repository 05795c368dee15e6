"""A snapshot as Prometheus text. Takes its time, as does importing it: for another thread than the event loop's."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence

from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from supervisor.core.lifecycle import Status, wants_worker
from supervisor.daemon.metrics_families import counter, gauge, histogram
from supervisor.daemon.metrics_plugins import own_families
from supervisor.daemon.metrics_snapshot import PluginNumbers, Snapshot
from supervisor.version import VERSION
from supervisor.wire.control import PROTOCOL_VERSION
from supervisor.worker.phase import Phase


def to_text(snapshot: Snapshot) -> str:
    return generate_latest(_Families(snapshot)).decode()


class _Families(Collector):
    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        snapshot = self._snapshot
        yield from _daemon(snapshot)
        yield from ProcessCollector(registry=None).collect()
        yield from _plugins(snapshot)
        yield from _workers(snapshot.plugins)
        yield from _jobs(snapshot)
        yield from _requests(snapshot)
        yield from _events(snapshot)
        yield from _store(snapshot)
        yield from _own(snapshot)


def _daemon(snapshot: Snapshot) -> Iterator[Metric]:
    about = {"version": VERSION, "python": sys.version.split()[0], "protocol": str(PROTOCOL_VERSION)}
    yield gauge("build_info", "Always 1; the labels say what runs.", about, [(tuple(about.values()), 1)])
    yield gauge("start_time_seconds", "When the daemon started, in seconds since 1970.", (), [((), snapshot.started_s)])
    yield gauge(
        "warnings", "What the daemon wants to be looked at; daemon.status names it.", (), [((), snapshot.warnings)]
    )
    yield gauge(
        "event_loop_lag_seconds",
        "How long all that was ready to run took before this reading.",
        (),
        [((), snapshot.loop_lag_s)],
    )


def _plugins(snapshot: Snapshot) -> Iterator[Metric]:
    plugins = snapshot.plugins
    yield gauge(
        "plugins",
        "Plugins by status.",
        ["status"],
        [([str(status)], snapshot.statuses.get(str(status), 0)) for status in Status],
    )
    yield gauge(
        "plugin_info",
        "Always 1; the labels say which version of a plugin is installed, and its status.",
        ["plugin", "version", "status"],
        [([one.key, one.version, one.status], 1) for one in plugins],
    )
    yield _of_plugins("plugin_wanted", "Whether the plugin is to have a worker.", plugins, _wanted)
    yield _of_plugins("plugin_up", "Whether the plugin's worker takes calls.", plugins, _up)
    yield gauge(
        "plugin_phase",
        "1 for the phase that the plugin's worker is in, 0 for the others.",
        ["plugin", "phase"],
        [([one.key, str(phase)], one.worker.phase is phase) for one in plugins for phase in Phase],
    )


def _wanted(one: PluginNumbers) -> bool:
    return wants_worker(Status(one.status)) and one.worker.wanted is not False


def _up(one: PluginNumbers) -> bool:
    return one.worker.phase is Phase.RUNNING


def _workers(plugins: Sequence[PluginNumbers]) -> Iterator[Metric]:
    by_plugin = ["plugin"]
    yield counter(
        "worker_restarts_total",
        "Starts of workers after crashes.",
        by_plugin,
        [([one.key], one.worker.restarts) for one in plugins],
    )
    yield counter(
        "worker_crashes_total",
        "Ends of workers that nobody had asked for.",
        by_plugin,
        [([one.key], one.crashes) for one in plugins],
    )
    yield counter(
        "calls_total",
        "Calls and runs that workers were given.",
        by_plugin,
        [([one.key], one.worker.calls) for one in plugins],
    )
    yield _of_plugins(
        "calls_in_flight", "Requests that the worker has not answered.", plugins, lambda one: one.worker.calls_in_flight
    )
    yield counter(
        "worker_cpu_seconds_total",
        "Processor time of the present worker, with all processes of its own.",
        by_plugin,
        [([one.key], one.cpu_s) for one in plugins if one.cpu_s is not None and one.usage is not None],
    )
    used = [(one.key, one.usage) for one in plugins if one.usage is not None]
    yield gauge(
        "worker_resident_memory_bytes",
        "Memory that the worker's processes have, shared pages counted in each.",
        by_plugin,
        [([key], usage["rss_bytes"]) for key, usage in used],
    )
    yield gauge(
        "worker_threads", "Threads of the worker.", by_plugin, [([key], usage["threads"]) for key, usage in used]
    )
    yield gauge(
        "worker_processes", "Processes of the worker.", by_plugin, [([key], usage["processes"]) for key, usage in used]
    )
    yield gauge(
        "worker_open_fds",
        "Open file descriptors of the worker.",
        by_plugin,
        [([key], files) for key, usage in used if (files := usage["open_files"]) is not None],
    )


def _jobs(snapshot: Snapshot) -> Iterator[Metric]:
    yield counter(
        "job_runs_total",
        "Runs that have an end, and those that were skipped or missed, by state.",
        ["plugin", "state"],
        [([one.key, state], count) for one in snapshot.plugins for state, count in sorted(one.runs.items())],
    )
    yield histogram(
        "job_run_duration_seconds",
        "How long runs took, from their start to their end.",
        ["plugin"],
        [([one.key], one.run_s) for one in snapshot.plugins if one.run_s is not None],
    )
    yield histogram(
        "job_start_lateness_seconds",
        "How long after their due time, jitter added, scheduled runs started.",
        (),
        [((), snapshot.lateness_s)],
    )
    yield gauge("job_runs_waiting", "Runs that are due and have not started.", (), [((), snapshot.runs_waiting)])
    yield gauge("job_runs_running", "Runs that are being carried out.", (), [((), snapshot.runs_running)])
    yield gauge("schedule_paused", "1 while an operator holds all jobs.", (), [((), snapshot.schedule_paused)])


def _requests(snapshot: Snapshot) -> Iterator[Metric]:
    yield counter(
        "rpc_requests_total",
        "Requests on the control socket that were answered, by method and OK or the error's name.",
        ["method", "code"],
        [([one.method, code], count) for one in snapshot.methods for code, count in sorted(one.codes.items())],
    )
    yield histogram(
        "rpc_request_duration_seconds",
        "How long requests took until their answer was there; those that wait for something are among them.",
        ["method"],
        [([one.method], one.took_s) for one in snapshot.methods],
    )
    server = snapshot.server
    yield gauge("connections", "Open connections of the control socket.", (), [((), server.connections)])
    yield counter(
        "connections_refused_total",
        "Connections that were turned away, by reason.",
        ["reason"],
        [([reason], count) for reason, count in sorted(server.refused.items())],
    )
    yield counter(
        "connections_shed_total", "Idle connections closed so that others could come in.", (), [((), server.shed)]
    )
    yield gauge(
        "connections_held_bytes",
        "What clients who are no admins have sent or asked for, and the daemon still holds.",
        (),
        [((), server.held_bytes)],
    )
    yield gauge("subscriptions", "Subscriptions to events and logs.", (), [((), snapshot.subscriptions)])
    yield counter(
        "subscription_overflows_total",
        "Subscriptions to events that ended because the subscriber was too slow.",
        (),
        [((), snapshot.overflows)],
    )


def _events(snapshot: Snapshot) -> Iterator[Metric]:
    yield counter(
        "events_recorded_total",
        "Events in the journal, by type; those that plugins emit are one.",
        ["type"],
        [([type_], count) for type_, count in sorted(snapshot.events.items())],
    )
    yield histogram(
        "event_lag_seconds",
        "From when an event is recorded until it is in the buffers of all who subscribe.",
        (),
        [((), snapshot.event_lag_s)],
    )


def _store(snapshot: Snapshot) -> Iterator[Metric]:
    store = snapshot.store
    yield counter(
        "store_transactions_total",
        "Transactions that were run; several share a commit.",
        ["connection"],
        [([name], one.transactions) for name, one in store.items()],
    )
    yield gauge(
        "store_transactions_waiting",
        "Transactions that have not begun.",
        ["connection"],
        [([name], one.waiting) for name, one in store.items()],
    )
    yield histogram(
        "store_fsync_seconds",
        "How long commits took that had something to store, which is their fsync nearly all of it.",
        (),
        [((), store["writer"].commit_s)],
    )


def _own(snapshot: Snapshot) -> Iterator[Metric]:
    families, left_out = own_families(snapshot.own)
    yield gauge(
        "plugin_series_left_out",
        "Series of plugins that are not in this text: the name is the daemon's (reserved), or is of another kind "
        "in another plugin (kind), or it is too much (too_much).",
        ["reason"],
        [([reason], count) for reason, count in left_out.items()],
    )
    yield from families


def _of_plugins(
    name: str, about: str, plugins: Sequence[PluginNumbers], number: Callable[[PluginNumbers], float]
) -> Metric:
    return gauge(name, about, ["plugin"], [([one.key], number(one)) for one in plugins])
