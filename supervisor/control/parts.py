"""What the socket's methods are made of, and what a handler is."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from supervisor.bus import EventBus
from supervisor.channel import Immediate
from supervisor.clock import Clock
from supervisor.control.access import Caller
from supervisor.control.calls import MethodCaller
from supervisor.control.names import UserNames
from supervisor.core.plugin import Plugin, PluginId
from supervisor.jobs.operator import JobOperator
from supervisor.lifecycle.config import Configurator
from supervisor.lifecycle.manager import LifecycleManager
from supervisor.lifecycle.operation import Operation
from supervisor.metrics import Metrics
from supervisor.store.audit import AuditLog
from supervisor.store.journal import Journal
from supervisor.store.plugins import PluginRegistry
from supervisor.store.state import StateStore
from supervisor.wire import control, results
from supervisor.worker.containment import Containment
from supervisor.worker.logs import PluginLogs
from supervisor.worker.manager import WorkerManager

Answer = Immediate | Coroutine[Any, Any, Any]
Handlers = Mapping[type[control.ControlRequest], Callable[[Any, Caller], Answer]]
Operations = Mapping[type[control.ControlRequest], Callable[[Any, Caller, Operation], Coroutine[Any, Any, Any]]]


class Daemon(Protocol):
    """The daemon itself, as seen from the socket."""

    def info(self) -> results.DaemonInfo: ...
    def status(self) -> results.DaemonStatus: ...
    def settings(self) -> dict[str, Any]: ...
    async def reload(self) -> results.ReloadInfo: ...
    async def metrics(self, *, plugins: bool) -> str: ...
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
    audit: AuditLog
    names: UserNames
    bus: EventBus
    state: StateStore
    metrics: Metrics
    containment: Containment
    places: Places
    logs: PluginLogs
    clock: Clock
    methods: MethodCaller
    config: Configurator
