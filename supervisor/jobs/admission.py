"""Which new run may stand beside those of its job that have not ended. Pure."""

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
