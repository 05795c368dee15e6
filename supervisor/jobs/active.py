"""ActiveRuns: which runs have not ended, by job and by plugin, and how far they are. Synchronous, in memory."""

from __future__ import annotations

from typing import Final

import trio

from supervisor.core.errors import InvalidParams, NotFound
from supervisor.core.job import Run
from supervisor.core.manifest import JobSpec
from supervisor.core.plugin import PluginId
from supervisor.jobs.lanes import Standing, Ticket
from supervisor.wire.results import ProgressInfo

MAX_PROGRESS_CHARS: Final = 500


class ActiveRun(Ticket):
    """A run on its way, from when it was submitted. Whoever cancels it says why; nobody having said so, it was the
    daemon's stop."""

    __slots__ = ("asked_at", "cancel_reason", "ended", "progress", "run", "scope", "spec", "worker_is_at_it")

    def __init__(self, run: Run, spec: JobSpec) -> None:
        limit = spec.max_running if spec.overlap == "allow" else 1
        super().__init__(run.plugin_id, run.job_id, job_limit=limit, needs_worker=not spec.command)
        self.run = run
        self.spec = spec
        self.scope: trio.CancelScope | None = None
        """Of what carries it out, once that has begun."""
        self.asked_at: float | None = None
        """When it was given to its worker, on trio's clock; None again where that has gone before it was sent."""
        self.ended: trio.Event | None = None
        """If somebody waits for its end."""
        self.cancel_reason: str | None = None
        self.worker_is_at_it = False
        """Also after the run has ended, if it was given up and the worker has not answered yet."""
        self.progress: ProgressInfo | None = None
        """As its worker told it last."""


class ActiveRuns:
    def __init__(self) -> None:
        self._runs: dict[str, ActiveRun] = {}
        self._by_job: dict[str, dict[str, None]] = {}
        self._by_plugin: dict[PluginId, dict[str, ActiveRun]] = {}

    def __len__(self) -> int:
        return len(self._runs)

    def add(self, active: ActiveRun) -> None:
        run = active.run
        self._runs[run.id] = active
        self._by_job.setdefault(run.job_id, {})[run.id] = None
        self._by_plugin.setdefault(run.plugin_id, {})[run.id] = active

    def remove(self, active: ActiveRun) -> None:
        """The run has ended. While its worker is still at it, it goes on to count for its job, until `settle`."""
        run = active.run
        self._runs.pop(run.id, None)
        if not active.worker_is_at_it:
            self._forget_of_job(run.job_id, run.id)
        of_plugin = self._by_plugin.get(run.plugin_id, {})
        of_plugin.pop(run.id, None)
        if not of_plugin:
            self._by_plugin.pop(run.plugin_id, None)

    def settle(self, active: ActiveRun) -> None:
        """The worker has nothing more to do with the run."""
        active.worker_is_at_it = False
        if active.run.id not in self._runs:
            self._forget_of_job(active.run.job_id, active.run.id)

    def get(self, run_id: str) -> ActiveRun | None:
        return self._runs.get(run_id)

    def note_progress(
        self, plugin_id: PluginId, run_id: str, fraction: float | None, message: str | None, at_ms: int
    ) -> None:
        """What the worker says of a run of its own.

        Raises:
            InvalidParams: `fraction` is not from 0 to 1, or `message` longer than MAX_PROGRESS_CHARS.
            NotFound: no such run of this plugin is running.
        """
        if fraction is not None and not 0 <= fraction <= 1:
            raise InvalidParams(f"fraction must be from 0 to 1, or nil, not {fraction!r}")
        if message is not None and len(message) > MAX_PROGRESS_CHARS:
            raise InvalidParams(f"message may have {MAX_PROGRESS_CHARS} characters, not {len(message)}")
        active = self._by_plugin.get(plugin_id, {}).get(run_id)
        if active is None or not active.worker_is_at_it:
            raise NotFound(f"no run {run_id[:100]!r} of this plugin is running", run=run_id[:100])
        active.progress = ProgressInfo(run=run_id, fraction=fraction, message=message, at_ms=at_ms)

    def progress(self, run_id: str) -> ProgressInfo | None:
        """Of a run that has not ended; None when its worker has said nothing."""
        active = self._runs.get(run_id)
        return active.progress if active else None

    def progress_of_job(self, job_id: str) -> list[ProgressInfo]:
        """Of the job's runs that have not ended and whose worker has said something, the oldest first."""
        told = (self.progress(run_id) for run_id in self.of_job(job_id))
        return [progress for progress in told if progress is not None]

    def of_job(self, job_id: str) -> tuple[str, ...]:
        """Ids of the job's runs, the oldest first."""
        return tuple(self._by_job.get(job_id, ()))

    def waiting_of_job(self, job_id: str) -> int:
        """How many of the job's runs have not started."""
        runs = map(self._runs.get, self.of_job(job_id))
        return sum(active is not None and active.standing is Standing.WAITING for active in runs)

    def of_plugin(self, plugin_id: PluginId) -> tuple[ActiveRun, ...]:
        return tuple(self._by_plugin.get(plugin_id, {}).values())

    def all(self) -> tuple[ActiveRun, ...]:
        return tuple(self._runs.values())

    def _forget_of_job(self, job_id: str, run_id: str) -> None:
        of_job = self._by_job.get(job_id, {})
        of_job.pop(run_id, None)
        if not of_job:
            self._by_job.pop(job_id, None)
