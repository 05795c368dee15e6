"""What may become of a run."""

from __future__ import annotations

import pytest

from supervisor.core.job import RUN_STEPS, TERMINAL, RunState


def test_terminal_states_are_final() -> None:
    assert {"succeeded", "failed", "cancelled", "timed_out", "interrupted", "skipped", "missed"} == TERMINAL
    assert all(RUN_STEPS[state] == frozenset() for state in TERMINAL)


def test_every_state_has_its_steps() -> None:
    assert set(RUN_STEPS) == set(RunState)


@pytest.mark.parametrize("state", ["queued", "running"])
def test_what_has_begun_can_always_end(state: str) -> None:
    assert {"failed", "cancelled"} <= RUN_STEPS[RunState(state)]


def test_what_waits_is_not_cut_short() -> None:
    assert [state for state, steps in RUN_STEPS.items() if RunState.INTERRUPTED in steps] == [RunState.RUNNING]


def test_nothing_runs_twice() -> None:
    assert [state for state, steps in RUN_STEPS.items() if RunState.RUNNING in steps] == [RunState.QUEUED]
    assert not any(RunState.QUEUED in steps for steps in RUN_STEPS.values())
