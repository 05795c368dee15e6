"""How late runs start: those of the schedule alone, and jitter is not lateness."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from supervisor.clock import from_ms
from supervisor.core.job import Run, RunState, Trigger
from supervisor.core.plugin import PluginId, PluginKey
from supervisor.jobs.active import ActiveRun
from supervisor.jobs.due import due_at, schedule_of
from supervisor.jobs.lateness import Lateness
from tests.jobs.world import job

DUE = datetime(2026, 3, 1, 12, tzinfo=UTC)
DUE_MS = int(DUE.timestamp() * 1000)
PLUGIN = PluginId("11111111-1111-1111-1111-111111111111")


@dataclass
class At:
    """A clock that stands still."""

    ms: int

    def now(self) -> datetime:
        return from_ms(self.ms)


def active(trigger: Trigger = Trigger.SCHEDULE, **spec: Any) -> ActiveRun:
    run = Run(
        id="r",
        job_id="j",
        plugin_id=PLUGIN,
        plugin_key=PluginKey("acme.one"),
        job_key="tick",
        trigger=trigger,
        state=RunState.QUEUED,
        attempt=1,
        due_ms=DUE_MS,
        created_ms=DUE_MS,
    )
    return ActiveRun(run, job("tick", **spec))


def noted(now_ms: int, *started: ActiveRun) -> tuple[int, float]:
    """How many, and their sum in seconds."""
    lateness = Lateness(At(now_ms), "UTC")
    lateness.note(started)
    seen = lateness.seconds.look()
    return seen.buckets[-1][1], seen.sum


def test_from_the_due_time_on() -> None:
    assert noted(DUE_MS + 250, active(), active()) == (2, 0.5)


def test_a_clock_that_was_turned_back_is_not_early() -> None:
    assert noted(DUE_MS - 9_000, active()) == (1, 0)


@pytest.mark.parametrize("trigger", [Trigger.MANUAL, Trigger.RETRY, Trigger.CATCH_UP])
def test_what_was_not_due_now_is_not_late(trigger: Trigger) -> None:
    assert noted(DUE_MS + 250, active(trigger)) == (0, 0)


def test_jitter_is_not_lateness() -> None:
    one = active(jitter_s=200.0)
    schedule = schedule_of(one.spec, one.run.plugin_key, "UTC")
    assert schedule is not None
    fire_ms = due_at(one.spec, schedule, PLUGIN, DUE_MS).fire_ms
    assert fire_ms > DUE_MS + 1000
    assert noted(fire_ms + 500, one) == (1, 0.5)


def test_a_zone_that_is_gone_leaves_the_due_time() -> None:
    one = active(jitter_s=200.0, timezone="Gone/Nowhere")
    assert noted(DUE_MS + 250, one) == (1, 0.25)
