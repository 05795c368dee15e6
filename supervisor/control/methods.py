"""Request type -> handler: what the socket's methods do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import trio

from supervisor.bus import EventBus
from supervisor.channel import Immediate
from supervisor.clock import Clock, to_ms
from supervisor.control.access import Caller
from supervisor.control.calls import MethodCaller
from supervisor.control.describe import describe
from supervisor.control.logfeed import wanted_lines
from supervisor.control.paging import PAGE_BYTES, as_many_as_fit, check_limit, state_page
from supervisor.control.views import Outlook, plugin_details, plugin_info
from supervisor.core.errors import DeadlineExceeded, InvalidParams, SupervisorError
from supervisor.core.lifecycle import Status, can_transition
from supervisor.core.plugin import Plugin, PluginId
from supervisor.jobs.operator import JobOperator
from supervisor.lifecycle.manager import LifecycleManager
from supervisor.metrics import Metrics
from supervisor.store.journal import Journal
from supervisor.store.plugins import PluginRegistry
from supervisor.store.state import StateStore
from supervisor.wire import control, results
from supervisor.wire import worker as worker_methods
from supervisor.worker.containment import Containment, Ward
from supervisor.worker.logread import Lookback, read_log
from supervisor.worker.logs import PluginLogs
from supervisor.worker.manager import WorkerManager
from supervisor.worker.phase import Phase
from supervisor.worker.view import WorkerView

Answer = Immediate | Coroutine[Any, Any, Any]
_MAX_TAIL: Final = 10_000
_MAX_REASON: Final = 500
_MAX_ERROR: Final = 8000
_MAX_WAIT_S: Final = 7 * 86_400.0


class Daemon(Protocol):
    """The daemon itself, as seen from the socket."""

    def info(self) -> results.DaemonInfo: ...
    def status(self) -> results.DaemonStatus: ...
    def settings(self) -> dict[str, Any]: ...
    def request_stop(self, why: str) -> None: ...
    async def backup(self, path: Path) -> None: ...


class Places(Protocol):
    """Where a plugin's things are."""

    def shown(self, plugin: Plugin) -> Mapping[str, str]:
        """package_dir, data_dir and log_file as absolute paths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the methods are made of."""

    daemon: Daemon
    registry: PluginRegistry
    lifecycle: LifecycleManager
    next_recovery_in_s: Callable[[PluginId], float | None]
    """Of a plugin in error; None: it is not tried again."""
    workers: WorkerManager
    jobs: JobOperator
    journal: Journal
    bus: EventBus
    state: StateStore
    metrics: Metrics
    containment: Containment
    places: Places
    logs: PluginLogs
    clock: Clock
    methods: MethodCaller


class Methods:
    """`handlers` has one for every method but those of the connection itself (hello, subscriptions)."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.handlers: Mapping[type[control.ControlRequest], Callable[[Any, Caller], Answer]] = {
            control.Describe: lambda _request, _caller: Immediate(describe()),
            control.DaemonPing: lambda _request, _caller: Immediate(self._pong()),
            control.DaemonInfo: lambda _request, _caller: Immediate(parts.daemon.info()),
            control.DaemonStatus: lambda _request, _caller: Immediate(parts.daemon.status()),
            control.DaemonSettings: lambda _request, _caller: Immediate(parts.daemon.settings()),
            control.DaemonStop: self._stop_daemon,
            control.DaemonBackup: self._backup,
            control.PluginsList: lambda request, _caller: Immediate(self._list(request)),
            control.PluginsGet: self._get,
            control.PluginsCanTransition: lambda request, _caller: Immediate(self._can_transition(request)),
            control.PluginsInstall: self._install,
            control.PluginsLoad: lambda request, _caller: self._seen(parts.lifecycle.load(request.plugin)),
            control.PluginsEnable: lambda request, _caller: self._seen(parts.lifecycle.enable(request.plugin)),
            control.PluginsDisable: lambda request, _caller: self._seen(
                parts.lifecycle.disable(request.plugin, bounded("reason", request.reason, _MAX_REASON))
            ),
            control.PluginsUnload: self._unload,
            control.PluginsMarkError: lambda request, _caller: self._seen(
                parts.lifecycle.mark_error(request.plugin, bounded("error", request.error, _MAX_ERROR))
            ),
            control.PluginsMarkUpgradePending: lambda request, _caller: self._seen(
                parts.lifecycle.mark_upgrade_pending(request.plugin)
            ),
            control.PluginsStart: lambda request, _caller: self._seen(parts.lifecycle.start_worker(request.plugin)),
            control.PluginsStop: lambda request, _caller: self._seen(parts.lifecycle.stop_worker(request.plugin)),
            control.PluginsRestart: lambda request, _caller: self._seen(parts.lifecycle.restart_worker(request.plugin)),
            control.PluginsWait: self._wait,
            control.PluginsHealth: self._health,
            control.PluginsCall: self._call,
            control.PluginsMetrics: lambda request, _caller: Immediate(
                parts.metrics.read(parts.registry.get(request.plugin).id)
            ),
            control.PluginsStateList: self._state_list,
            control.JobsList: self._jobs_list,
            control.JobsGet: lambda request, _caller: parts.jobs.get(request.job),
            control.JobsNext: lambda request, _caller: parts.jobs.next(request.job, request.count),
            control.JobsRun: lambda request, _caller: parts.jobs.run(request.job, wait=request.wait),
            control.JobsPause: lambda request, _caller: parts.jobs.pause(request.job),
            control.JobsResume: lambda request, _caller: parts.jobs.resume(request.job),
            control.JobsRuns: self._jobs_runs,
            control.JobsCancel: lambda request, _caller: parts.jobs.cancel(request.run),
            control.EventsList: self._events_list,
            control.LogsRead: self._logs_read,
        }

    # daemon

    def _pong(self) -> results.Pong:
        return {"pong": True, "now_ms": to_ms(self._parts.clock.now())}

    async def _stop_daemon(self, _: control.DaemonStop, caller: Caller) -> results.Done:
        self._parts.daemon.request_stop(f"uid {caller.uid} asked for it over the socket")
        return {"ok": True}

    async def _backup(self, request: control.DaemonBackup, _: Caller) -> results.Done:
        path = absolute("path", request.path)
        await self._parts.daemon.backup(path)
        return {"ok": True}

    # plugins

    def _list(self, request: control.PluginsList) -> list[results.PluginInfo]:
        wanted = None if request.status is None else one_of(Status, request.status, "status")
        hidden = Status.UNINSTALLED if wanted is None and not request.include_uninstalled else None
        return [
            self._info(plugin)
            for plugin in self._parts.registry.all()
            if plugin.status is not hidden and wanted in {None, plugin.status}
        ]

    def _get(self, request: control.PluginsGet, _: Caller) -> Answer:
        plugin = self._parts.registry.get(request.plugin)
        worker = self._parts.workers.view(plugin.id)
        ward = self._parts.containment.ward(worker.pid) if worker.pid is not None else None
        details = plugin_details(
            plugin,
            worker,
            self._parts.places.shown(plugin),
            self._outlook(plugin, worker),
            self._parts.lifecycle.requirements.required_by(plugin.key),
            usage=ward.usage() if ward else None,
            limits=ward.limits if ward else self._parts.containment.foresee(plugin.manifest.worker.limits),
        )
        return self._with_pss(details, ward) if ward and request.pss else Immediate(details)

    async def _with_pss(self, details: results.PluginDetails, ward: Ward) -> results.PluginDetails:
        details["usage"] = await ward.usage_with_pss()
        return details

    def _can_transition(self, request: control.PluginsCanTransition) -> results.TransitionAnswer:
        plugin = self._parts.registry.get(request.plugin)
        to = one_of(Status, request.to, "to")
        return {"allowed": can_transition(plugin.status, to), "status": str(plugin.status), "to": str(to)}

    async def _install(self, request: control.PluginsInstall, caller: Caller) -> results.PluginInfo:
        source = absolute("source", request.source)
        return self._info(await self._parts.lifecycle.install(source, uid=caller.uid))

    async def _unload(self, request: control.PluginsUnload, _: Caller) -> results.Done:
        await self._parts.lifecycle.unload(request.plugin, remove_data=request.remove_data)
        return {"ok": True}

    async def _wait(self, request: control.PluginsWait, _: Caller) -> results.PluginInfo:
        status = None if request.status is None else one_of(Status, request.status, "status")
        phase = None if request.phase is None else one_of(Phase, request.phase, "phase")
        if not 0 <= request.timeout_s <= _MAX_WAIT_S:
            raise InvalidParams(f"timeout_s must be from 0 to {_MAX_WAIT_S:g}, not {request.timeout_s!r}")
        plugin_id = self._parts.registry.get(request.plugin).id
        with trio.move_on_after(request.timeout_s), self._parts.bus.subscribe() as events:
            while True:
                # Taken before the look, so that no change falls between the two.
                changed = self._parts.workers.changed(plugin_id)
                plugin = self._parts.registry.get(plugin_id)
                if status in {None, plugin.status} and phase in {None, self._parts.workers.phase(plugin_id)}:
                    return self._info(plugin)
                await first_of(changed.wait, events.__anext__)
        seen = self._info(self._parts.registry.get(plugin_id))
        raise DeadlineExceeded(
            f"{seen['key']!r} was not {' and '.join(str(w) for w in (status, phase) if w)} within "
            f"{request.timeout_s:g} s: it is {seen['status']}, its worker {seen['phase']}",
            status=seen["status"],
            phase=seen["phase"],
        )

    async def _health(self, request: control.PluginsHealth, _: Caller) -> results.HealthInfo:
        plugin = self._parts.registry.get(request.plugin)
        phase = self._parts.workers.phase(plugin.id)
        if phase is not Phase.RUNNING or plugin.manifest.worker.transport == "none":
            message = self._info(plugin)["summary"]
            return {"healthy": phase is Phase.RUNNING, "phase": phase, "message": message, "answer_ms": None}
        asked = trio.current_time()
        timeout_s = plugin.manifest.worker.health.timeout_s
        try:
            answer = await self._parts.workers.call(plugin.id, worker_methods.HEALTH, {}, timeout_s=timeout_s)
        except SupervisorError as error:
            return {"healthy": False, "phase": phase, "message": error.message, "answer_ms": None}
        told = answer if isinstance(answer, dict) else {}
        return {
            "healthy": told.get("status") in {"ok", "degraded"},
            "phase": phase,
            "message": str(told.get("message") or told.get("status")),
            "answer_ms": (trio.current_time() - asked) * 1000,
        }

    async def _call(self, request: control.PluginsCall, _: Caller) -> results.CallResult:
        result = await self._parts.methods.call(
            request.plugin, request.method, request.params, timeout_s=request.timeout_s
        )
        return {"result": result}

    async def _state_list(self, request: control.PluginsStateList, _: Caller) -> results.StatePage:
        plugin = self._parts.registry.get(request.plugin)
        check_limit(request.limit)
        found = await self._parts.state.list(plugin.id, prefix=request.prefix, after=request.after, limit=request.limit)
        return state_page(*found)

    # jobs, events, logs

    async def _jobs_list(self, request: control.JobsList, _: Caller) -> list[results.JobInfo]:
        plugin_id = self._parts.registry.get(request.plugin).id if request.plugin is not None else None
        return await self._parts.jobs.list(plugin_id=plugin_id, include_inactive=request.include_inactive)

    async def _jobs_runs(self, request: control.JobsRuns, _: Caller) -> list[results.RunInfo]:
        plugin_id = self._parts.registry.get(request.plugin).id if request.plugin is not None else None
        runs = await self._parts.jobs.runs(
            job=request.job,
            plugin_id=plugin_id,
            state=request.state,
            before_ms=request.before_ms,
            before=request.before,
            limit=request.limit,
        )
        return as_many_as_fit(runs)

    async def _events_list(self, request: control.EventsList, _: Caller) -> results.EventPage:
        ids = [self._parts.registry.get(name).id for name in request.plugins]
        found = await self._parts.journal.list(request.after_seq, request.types, ids, request.limit)
        events = [results.EventInfo(**event.to_wire()) for event in found]  # type: ignore[typeddict-item]
        # Without a place to begin at, the newest are wanted.
        events = as_many_as_fit(events[::-1])[::-1] if request.after_seq is None else as_many_as_fit(events)
        return {"events": events, "last_seq": await self._parts.journal.last_seq()}

    async def _logs_read(self, request: control.LogsRead, _: Caller) -> list[results.LogLine]:
        plugin, logs = self._parts.registry.get(request.plugin), self._parts.logs
        if not 1 <= request.tail <= _MAX_TAIL:
            raise InvalidParams(f"tail must be from 1 to {_MAX_TAIL}, not {request.tail}")
        lookback = Lookback(wanted_lines(request), most=request.tail, since_ms=request.since_ms, most_bytes=PAGE_BYTES)
        await read_log(logs.of(plugin.key), lookback, logs.threads)
        return as_many_as_fit(lookback.lines)[::-1]

    # shared

    def _info(self, plugin: Plugin) -> results.PluginInfo:
        worker = self._parts.workers.view(plugin.id)
        return plugin_info(plugin, worker, self._outlook(plugin, worker))

    def _outlook(self, plugin: Plugin, worker: WorkerView) -> Outlook:
        requirements, registry = self._parts.lifecycle.requirements, self._parts.registry
        active = registry.version(plugin.id, plugin.package_dir)
        return Outlook(
            recovery_in_s=self._parts.next_recovery_in_s(plugin.id),
            standings={key: requirements.standing(key).words for key in worker.waiting_for},
            active=active,
            staged=registry.version(plugin.id, plugin.staged_dir),
            previous=registry.version(plugin.id, active.previous_dir) if active else None,
            probation_left_s=self._left_s(plugin.probation_until),
        )

    def _left_s(self, until: datetime | None) -> float | None:
        if until is None:
            return None
        left_s = (until - self._parts.clock.now()).total_seconds()
        return left_s if left_s > 0 else None

    async def _seen(self, command: Coroutine[Any, Any, Plugin]) -> results.PluginInfo:
        return self._info(await command)


def one_of(kind: Any, text: str, what: str) -> Any:
    """A member of an enum by its value.

    Raises:
        InvalidParams: there is none; the message lists them.
    """
    try:
        return kind(text)
    except ValueError:
        raise InvalidParams(f"{what} must be one of {', '.join(kind)}, not {text!r}") from None


def absolute(what: str, text: str) -> Path:
    """A path that the daemon understands as its caller does.

    Raises:
        InvalidParams: it is relative, or holds NUL.
    """
    if "\0" in text:
        raise InvalidParams(f"{what} must not contain NUL: {text!r} can be no path")
    path = Path(text)
    if not path.is_absolute():
        raise InvalidParams(f"{what} must be an absolute path: {text!r} would be relative to the daemon, not to you")
    return path


_S = TypeVar("_S", str, None)


def bounded(what: str, text: _S, longest: int) -> _S:
    """`text`, if it is not too long to be shown with every status.

    Raises:
        InvalidParams: it is.
    """
    if text is not None and len(text) > longest:
        raise InvalidParams(f"{what} may have {longest} characters, not {len(text)}")
    return text


async def first_of(*waits: Callable[[], Coroutine[Any, Any, object]]) -> None:
    """Return when the first of them does, or raise the SupervisorError with which it failed."""
    failures: list[SupervisorError] = []
    async with trio.open_nursery() as nursery:

        async def one(wait: Callable[[], Coroutine[Any, Any, object]]) -> None:
            try:
                await wait()
            except SupervisorError as error:
                # Out of a nursery it would come as a group.
                failures.append(error)
            nursery.cancel_scope.cancel(reason="another came first")

        for wait in waits:
            nursery.start_soon(one, wait)
    if failures:
        raise failures[0]


def daemon_status(registry: PluginRegistry, workers: WorkerManager) -> tuple[dict[str, int], dict[str, int]]:
    """How many plugins have each status, and how many workers are in each phase."""
    plugins = registry.all()
    statuses = Counter(str(plugin.status) for plugin in plugins)
    phases = Counter(str(workers.phase(plugin.id)) for plugin in plugins)
    return dict(statuses), dict(phases)
