"""Job, Run and what may become of a run. Pure.

Instants in rows are integers: milliseconds since the Unix epoch, UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from supervisor.core.manifest import JobSpec
from supervisor.core.plugin import PluginId, PluginKey


class RunState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    INTERRUPTED = "interrupted"
    SKIPPED = "skipped"
    MISSED = "missed"


class Trigger(StrEnum):
    SCHEDULE = "schedule"
    MANUAL = "manual"
    RETRY = "retry"
    CATCH_UP = "catch_up"


# A terminal state is final: nothing leads out of it.
RUN_STEPS: Final[Mapping[RunState, frozenset[RunState]]] = {
    RunState.QUEUED: frozenset(
        {RunState.RUNNING, RunState.CANCELLED, RunState.SKIPPED, RunState.FAILED, RunState.INTERRUPTED},
    ),
    RunState.RUNNING: frozenset(
        {RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED, RunState.TIMED_OUT, RunState.INTERRUPTED},
    ),
    **{
        state: frozenset()
        for state in (
            RunState.SUCCEEDED,
            RunState.FAILED,
            RunState.CANCELLED,
            RunState.TIMED_OUT,
            RunState.INTERRUPTED,
            RunState.SKIPPED,
            RunState.MISSED,
        )
    },
}
TERMINAL: Final = frozenset(state for state, steps in RUN_STEPS.items() if not steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A declared job of a plugin. `next_due_ms` is None when it runs by hand only, is paused, or is not scheduled."""

    id: str
    plugin_id: PluginId
    plugin_key: PluginKey
    key: str
    spec: JobSpec
    active: bool
    """Declared by the manifest in force; jobs that are gone keep their history and are not active."""
    paused: bool
    """By an operator; no sync touches it."""
    next_due_ms: int | None
    last_due_ms: int | None
    """Due time of the latest claim, run or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One execution of a job, or the record that there was none (`skipped`, `missed`)."""

    id: str
    job_id: str
    plugin_id: PluginId
    plugin_key: PluginKey
    job_key: str
    trigger: Trigger
    state: RunState
    attempt: int
    """1 for the first."""
    due_ms: int
    created_ms: int
    started_ms: int | None = None
    finished_ms: int | None = None
    error: str | None = None
    result: Any = None
    """What the worker returned: plain values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome:
    """How a run ended."""

    state: RunState
    error: str | None = None
    result: Any = None
