"""Which new run may stand beside those of its job that have not ended. Pure.

An automatic retry stands back: it is the work of an earlier due time, so it makes no newer run end. Behind runs that
are caught up with it waits, if it is one of theirs: they were made all at once, to run one after the other, so that it
would find one of them open every time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from supervisor.core.job import Admission, OpenRun, RunState
from supervisor.core.manifest import JobSpec

_FREE: Final = Admission()
_ONE_AND_ONE: Final = 2
"""One that runs, or is about to, and one that waits for it."""


def admit(spec: JobSpec, open_runs: Sequence[OpenRun]) -> Admission:
    """What becomes of a new run of a job with these open ones, the oldest first."""
    if not open_runs:
        return _FREE
    if spec.overlap == "cancel_previous":
        return Admission(cancel=tuple(each.id for each in open_runs))
    why = _in_its_way(spec, open_runs)
    return _FREE if why is None else Admission(RunState.SKIPPED, why)


def admit_retry(spec: JobSpec, caught_up: bool, open_runs: Sequence[OpenRun]) -> Admission:
    """What becomes of the next attempt of a run of a job with these open ones; `caught_up`: that run was."""
    if not open_runs:
        return _FREE
    if spec.overlap == "cancel_previous":
        return Admission(
            RunState.SKIPPED, f"a newer run {open_runs[-1].id} has not ended, and overlap is cancel_previous"
        )
    if spec.overlap != "allow" and caught_up and all(each.caught_up for each in open_runs):
        return _FREE
    return admit(spec, open_runs)


def _in_its_way(spec: JobSpec, open_runs: Sequence[OpenRun]) -> str | None:
    first = open_runs[0].id
    if spec.overlap == "allow":
        if len(open_runs) < spec.max_running:
            return None
        return f"{len(open_runs)} runs have not ended, and max_running is {spec.max_running}"
    if spec.overlap == "queue_one":
        if len(open_runs) < _ONE_AND_ONE:
            return None
        return f"run {open_runs[-1].id} waits already, and overlap is queue_one"
    return f"run {first} has not ended, and overlap is {spec.overlap}"
