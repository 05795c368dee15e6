"""What is counted as events are published: runs, crashes, how long they took to come."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from supervisor.core.event import Event, PluginEmitted, PluginUnloaded, Recorded, RunFinished, RunStarted, WorkerCrashed
from supervisor.core.plugin import PluginId, PluginKey
from supervisor.daemon.metrics_events import EventCounts

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
LAG = timedelta(seconds=0.25)
RUN = {"job": "tick", "run_id": "r", "trigger": "schedule", "attempt": 1, "due_ms": 0}


def recorded(kind: type[Event], key: str = "acme.one", **fields: Any) -> Recorded:
    event = kind(plugin_id=PluginId("p"), plugin_key=PluginKey(key), **fields)
    return Recorded(seq=1, at=AT, type=event.type, plugin_id="p", plugin_key=key, data=event.data())


def finished(state: str, duration_ms: int | None, key: str = "acme.one") -> Recorded:
    return recorded(RunFinished, key, **RUN, state=state, error=None, duration_ms=duration_ms)


def crashed(key: str = "acme.one") -> Recorded:
    about = {"cause": "c", "pid": 1, "exit_code": 1, "signal": None, "stderr_tail": "", "crashes": 1}
    return recorded(WorkerCrashed, key, **about, restart_in_s=None)


def counts(*events: Recorded, now: datetime = AT + LAG) -> EventCounts:
    one = EventCounts(lambda: now)
    for event in events:
        one.note(event)
    return one


@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled", "timed_out", "interrupted"])
def test_runs_that_ended_have_a_state_and_a_duration(state: str) -> None:
    seen = counts(recorded(RunStarted, **RUN), finished(state, 1500))
    assert seen.runs == {"acme.one": {state: 1}}
    assert seen.run_s["acme.one"].look().sum == 1.5
    assert seen.recorded == {"job.run_started": 1, f"job.run_{state}": 1}


@pytest.mark.parametrize("state", ["skipped", "missed"])
def test_what_never_started_took_no_time(state: str) -> None:
    seen = counts(finished(state, None))
    assert (seen.runs, seen.run_s) == ({"acme.one": {state: 1}}, {})


def test_plugins_are_told_apart() -> None:
    seen = counts(finished("failed", 1, "acme.a"), finished("failed", 1, "acme.b"), crashed("acme.b"))
    assert seen.runs == {"acme.a": {"failed": 1}, "acme.b": {"failed": 1}}
    assert seen.crashes == {"acme.b": 1}


def test_what_plugins_emit_is_one_type_whatever_they_call_it() -> None:
    names = ["a", "b", "job.run_failed", "plugin.worker_crashed"]
    seen = counts(*(recorded(PluginEmitted, name=name, payload={"duration_ms": "x"}) for name in names))
    assert seen.recorded == {"emitted": 4}
    assert (seen.runs, seen.crashes) == ({}, {})


def test_how_long_they_took_to_come() -> None:
    seen = counts(crashed(), crashed()).lag_s.look()
    assert (seen.sum, seen.buckets[-1][1]) == (0.5, 2)


def test_a_clock_that_was_turned_back_makes_no_negative_lag() -> None:
    assert counts(crashed(), now=AT - timedelta(hours=1)).lag_s.look().sum == 0


@pytest.mark.parametrize(("remove_data", "left"), [(True, set()), (False, {"acme.one"})])
def test_of_a_plugin_whose_data_is_gone_nothing_is_kept(remove_data: bool, left: set[str]) -> None:
    others = [crashed("acme.other"), finished("failed", 1, "acme.other")]
    gone = recorded(PluginUnloaded, remove_data=remove_data)
    seen = counts(crashed(), finished("failed", 1), *others, gone)
    assert set(seen.crashes) == set(seen.runs) == set(seen.run_s) == left | {"acme.other"}


def test_it_may_have_had_nothing() -> None:
    assert counts(recorded(PluginUnloaded, remove_data=True)).recorded == {"plugin.unloaded": 1}
