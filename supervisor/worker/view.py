"""What is wanted of a worker, and what is observed of it."""

from __future__ import annotations

from dataclasses import dataclass

from supervisor.core.plugin import Plugin, PluginKey
from supervisor.worker.phase import Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """Somebody wants this plugin to have a worker. `first_try_only`: a first life that never comes up is the last.
    `queued`: it is started in its turn, for there are many to start."""

    plugin: Plugin
    first_try_only: bool = False
    queued: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerView:
    """What is observed of a worker; seconds throughout."""

    phase: Phase = Phase.STOPPED
    wanted: bool | None = None
    """None: nobody has asked for it since the daemon began."""
    pid: int | None = None
    restarts: int = 0
    crashes: int = 0
    uptime_s: float | None = None
    next_restart_in_s: float | None = None
    calls: int = 0
    """Calls and runs that its workers were given since the daemon began."""
    calls_in_flight: int = 0
    gave_up: bool = False
    last_failure: str | None = None
    last_reason: str | None = None
    """A `Reason`: that of the latest crash since it was wanted."""
    waiting_for: tuple[PluginKey, ...] = ()
    """Keys of the plugins it requires that are not up: it is started when they are."""
    finished: str | None = None
    """How it ended by itself, where its restart policy is content with that."""
