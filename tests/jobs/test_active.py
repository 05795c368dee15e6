"""Which runs have not ended, and what their workers tell of them."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.core.errors import InvalidParams, NotFound
from supervisor.core.job import Run, RunState, Trigger
from supervisor.core.manifest import JobSpec
from supervisor.core.plugin import PluginId, PluginKey
from supervisor.jobs.active import MAX_PROGRESS_CHARS, ActiveRun, ActiveRuns


def active(run_id: str, job: str = "refresh", plugin: str = "p", **spec: Any) -> ActiveRun:
    run = Run(
        id=run_id,
        job_id=f"{plugin}/{job}",
        plugin_id=PluginId(plugin),
        plugin_key=PluginKey(plugin),
        job_key=job,
        trigger=Trigger.SCHEDULE,
        state=RunState.QUEUED,
        attempt=1,
        due_ms=0,
        created_ms=0,
    )
    return ActiveRun(run, JobSpec(key=job, display_name=job, **spec))


@pytest.mark.parametrize(
    ("spec", "limit", "needs_worker"),
    [
        ({}, 1, True),
        ({"overlap": "queue_one", "max_running": 5}, 1, True),
        ({"overlap": "cancel_previous"}, 1, True),
        ({"overlap": "allow", "max_running": 5}, 5, True),
        ({"command": ("backup",)}, 1, False),
    ],
)
def test_the_place_that_a_run_wants(spec: dict[str, Any], limit: int, needs_worker: bool) -> None:
    run = active("r", **spec)
    assert (run.job_limit, run.needs_worker, run.job_id, run.plugin_id) == (limit, needs_worker, "p/refresh", "p")


def test_by_job_and_by_plugin() -> None:
    runs = ActiveRuns()
    one, two, other = active("1"), active("2"), active("3", plugin="q")
    for each in (one, two, other):
        runs.add(each)
    assert (len(runs), runs.get("2"), runs.get("4")) == (3, two, None)
    assert runs.of_job("p/refresh") == ("1", "2")
    assert runs.of_plugin(PluginId("p")) == (one, two)
    runs.remove(one)
    assert runs.all() == (two, other)
    assert runs.of_job("p/refresh") == ("2",)
    runs.remove(two)
    assert (runs.of_job("p/refresh"), runs.of_plugin(PluginId("p"))) == ((), ())
    runs.remove(two)  # again is harmless
    assert len(runs) == 1


def test_one_that_its_worker_has_not_let_go_of_counts_for_its_job() -> None:
    runs, run = ActiveRuns(), active("1")
    run.worker_is_at_it = True
    runs.add(run)
    runs.remove(run)
    assert (len(runs), runs.of_job("p/refresh")) == (0, ("1",))
    runs.settle(run)
    assert runs.of_job("p/refresh") == ()


def test_one_that_settles_before_its_end_is_written_counts_until_then() -> None:
    runs, run = ActiveRuns(), active("1")
    run.worker_is_at_it = True
    runs.add(run)
    runs.settle(run)
    assert runs.of_job("p/refresh") == ("1",)
    runs.remove(run)
    assert runs.of_job("p/refresh") == ()


def test_progress() -> None:
    runs, run, quiet = ActiveRuns(), active("1"), active("2")
    runs.add(run)
    runs.add(quiet)
    with pytest.raises(NotFound):  # it has not begun
        runs.note_progress(PluginId("p"), "1", 0.5, None, 7)
    run.worker_is_at_it = True
    with pytest.raises(NotFound):  # it is another's
        runs.note_progress(PluginId("q"), "1", 0.5, None, 7)
    runs.note_progress(PluginId("p"), "1", 0.5, "half", 7)
    told = {"run": "1", "fraction": 0.5, "message": "half", "at_ms": 7}
    assert runs.progress("1") == told
    assert runs.progress_of_job("p/refresh") == [told]
    for fraction, message in ((1.5, None), (-0.1, None), (None, "x" * (MAX_PROGRESS_CHARS + 1))):
        with pytest.raises(InvalidParams):
            runs.note_progress(PluginId("p"), "1", fraction, message, 8)
    assert runs.progress("1") == told
    runs.remove(run)
    assert runs.progress("1") is None
