"""The phase table, whole: every phase and step, written out by hand."""

from __future__ import annotations

import pytest

from supervisor.worker.phase import PHASES, Phase, Step, next_phase

STEPS = ["spawn", "up", "crash", "give_up", "finish", "stop", "reaped"]
TABLE = """
stopped   starting -        -        -        -        -         -
starting  -        running  backoff  stopped  stopped  stopping  -
running   -        -        backoff  stopped  stopped  stopping  -
stopping  -        -        -        -        -        -         stopped
backoff   starting -        -        -        -        stopped   -
"""
CELLS = [
    (phase, step, target)
    for phase, *targets in map(str.split, TABLE.strip().splitlines())
    for step, target in zip(STEPS, targets, strict=True)
]


def test_the_table_is_whole() -> None:
    assert {(p, s) for p, s, _ in CELLS} == {(str(p), str(s)) for p in Phase for s in Step}
    assert set(PHASES) == set(Phase)


@pytest.mark.parametrize(("phase", "step", "target"), CELLS)
def test_step(phase: str, step: str, target: str) -> None:
    if target == "-":
        with pytest.raises(KeyError):
            next_phase(Phase(phase), Step(step))
    else:
        assert next_phase(Phase(phase), Step(step)) is Phase(target)


def test_every_phase_can_be_reached_and_left() -> None:
    assert {target for steps in PHASES.values() for target in steps.values()} == set(Phase)
    assert all(PHASES.values())
