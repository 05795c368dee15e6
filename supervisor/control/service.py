"""Service: what all connections of the socket share."""

from __future__ import annotations

from dataclasses import dataclass, field

from supervisor.bus import EventBus
from supervisor.control.access import Gate
from supervisor.control.detached import Detached
from supervisor.control.filters import JobName
from supervisor.control.meters import Meters
from supervisor.control.parts import Handlers, Operations
from supervisor.lifecycle.operation import PHASE_TIMEOUT_S
from supervisor.store.journal import Journal
from supervisor.store.plugins import PluginRegistry
from supervisor.worker.logs import PluginLogs


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    handlers: Handlers
    operations: Operations
    detached: Detached
    gate: Gate
    bus: EventBus
    journal: Journal
    registry: PluginRegistry
    job_name: JobName
    logs: PluginLogs
    version: str
    phase_timeout_s: float = PHASE_TIMEOUT_S
    """For each phase of an operation."""
    meters: Meters = field(default_factory=Meters)
