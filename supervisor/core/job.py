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


# A terminal state is final: nothing leads out of it. What is queued has never been handed to anybody: it survives the
# daemon's end, while what was running is interrupted by it.
RUN_STEPS: Final[Mapping[RunState, frozenset[RunState]]] = {
    RunState.QUEUED: frozenset({RunState.RUNNING, RunState.CANCELLED, RunState.SKIPPED, RunState.FAILED}),
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
RETRIED: Final = frozenset({RunState.FAILED, RunState.TIMED_OUT, RunState.INTERRUPTED})
"""Ends after which a job's `retries` apply: nobody wanted them."""


class Hold(StrEnum):
    """Who keeps a job off the schedule; the widest one is told."""

    SCHEDULER = "scheduler"
    PLUGIN = "plugin"
    JOB = "job"


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
    plugin_paused: bool = False
    """All jobs of the plugin are, by an operator."""
    next_due_ms: int | None
    next_fire_ms: int | None = None
    """When the scheduler acts on `next_due_ms`: that, and the job's jitter."""
    last_due_ms: int | None
    """Due time of the latest claim, run or not."""
    served_from_ms: int | None = None
    """Every due time from here to `last_due_ms` has been claimed: a clock turned back into it runs nothing again."""
    timing: str = ""
    """What decides its due times, as they were computed; see `jobs.plan.timing`."""
    trimmed_to_ms: int = 0
    """Rows of claims up to this due time were deleted from the history: it counts as served, as all before it."""
    damaged: str | None = None
    """Why its stored spec cannot be read: `spec` stands in for it, and nothing runs until it is declared anew."""

    @property
    def name(self) -> str:
        return f"{self.plugin_key}/{self.key}"

    def of_run(self) -> dict[str, Any]:
        """What each of its runs says of it: fields of Run."""
        return {
            "job_id": self.id,
            "plugin_id": self.plugin_id,
            "plugin_key": self.plugin_key,
            "job_key": self.key,
        }


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
    """A retry keeps that of the run before it."""
    created_ms: int
    started_ms: int | None = None
    finished_ms: int | None = None
    error: str | None = None
    result: Any = None
    """What the worker returned: plain values."""
    exit_code: int | None = None
    """Of a command job that ended by itself."""
    params: Any = None
    """What an operator gave a run by hand; its retries keep it."""
    times: int = 1
    """Due times that a row stands for; more than one only where so many were missed that a row each is too much."""
    retry_at_ms: int | None = None
    """It did not succeed, and is tried again then. None again once that attempt has its own row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome:
    """How a run ended."""

    state: RunState
    error: str | None = None
    result: Any = None
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class RunEnd:
    """A run that has ended, and when it is tried again, if it is."""

    run: Run
    outcome: RunOutcome
    retry_at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A run of a job that has not ended."""

    id: str
    state: RunState
    caught_up: bool = False
    """It was made with others, all at once, for due times that had been missed; or it is the retry of one."""


@dataclass(frozen=True, slots=True)
class Admission:
    """What becomes of a new run beside the open ones: `queued`, or `skipped` and why. `cancel`: who makes room."""

    state: RunState = RunState.QUEUED
    error: str | None = None
    cancel: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Due:
    """A due time, and when it is acted on: jitter later."""

    due_ms: int
    fire_ms: int


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """A row to write: a run (`queued`), or the record that there was none (`skipped`, `missed`)."""

    due_ms: int
    state: RunState
    trigger: Trigger = Trigger.SCHEDULE
    error: str | None = None
    times: int = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """What becomes of a job's due times: the rows in order of their due time, and when it is due next.

    `next` is later than now and than all of them; None: never again. `cancel` are open runs that make room.
    `gap`: due times were missed, so those served start anew with the first row that is not `missed`.
    """

    runs: tuple[PlannedRun, ...]
    next: Due | None
    cancel: tuple[str, ...] = ()
    gap: bool = False
