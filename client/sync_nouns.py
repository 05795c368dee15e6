"""The methods of the blocking client, by noun, typed; they answer what supervisor.wire.results says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from typing import Any, TypeVar

    from supervisor.wire import results

    # `list` is a method in some of these classes.
    JobInfos = list[results.JobInfo]
    RunInfos = list[results.RunInfo]

    _T = TypeVar("_T")


class Noun:
    def __init__(self, call: Callable[..., Any]) -> None:
        self._caller = call

    def _call(self, method: str, /, **params: Any) -> _T:  # type: ignore[type-var]
        # The method that calls this says what comes back.
        result: _T = self._caller(method, params)
        return result


class Daemon(Noun):
    """The daemon itself."""

    def ping(self) -> results.Pong:
        """Answer at once."""
        return self._call("daemon.ping")

    def info(self) -> results.DaemonInfo:
        """What does not change while the daemon runs: version, pid, paths."""
        return self._call("daemon.info")

    def status(self) -> results.DaemonStatus:
        """Counts of plugins, workers, connections and runs."""
        return self._call("daemon.status")

    def settings(self) -> dict[str, Any]:
        """The settings in force."""
        return self._call("daemon.settings")

    def metrics(self, plugins: bool = True) -> results.MetricsText:
        """The daemon's numbers as Prometheus text; with `plugins`, what plugins tell of themselves too."""
        return self._call("daemon.metrics", plugins=plugins)

    def reload(self) -> results.ReloadInfo:
        """Read the settings anew, as SIGHUP does; with a problem in them (INVALID_PARAMS) nothing changes."""
        return self._call("daemon.reload")

    def stop(self) -> results.Done:
        """Drain and stop the daemon; answers before it does."""
        return self._call("daemon.stop")

    def backup(self, path: str) -> results.Done:
        """Write a consistent copy of the database to a new file; `path` is absolute."""
        return self._call("daemon.backup", path=path)


class Jobs(Noun):
    """Jobs, named `<plugin>/<key>` or by id, and their runs."""

    def list(
        self, plugin: str | None = None, include_inactive: bool = False, after: str | None = None, limit: int = 1000
    ) -> JobInfos:
        """Jobs of one plugin or of all by name, with next and last; after the name `after`, until an empty page."""
        params = {"plugin": plugin, "include_inactive": include_inactive, "after": after, "limit": limit}
        return self._call("jobs.list", **params)

    def get(self, job: str) -> results.JobInfo:
        """One job, named `<plugin>/<key>` or by its id, as in every method that takes a job."""
        return self._call("jobs.get", job=job)

    def next(
        self, job: str | None = None, count: int = 5, plugin: str | None = None, hours: float | None = None
    ) -> results.NextTimes:
        """The next times of one job, or, without `job`, of all jobs (of `plugin`), in order of time.

        At most `count`, and none later than `hours` from now where that is given. One job is told paused or not; of
        several, those that are paused are left out.
        """
        return self._call("jobs.next", job=job, count=count, plugin=plugin, hours=hours)

    def run(self, job: str, wait: bool = False, params: Mapping[str, Any] | None = None) -> results.RunInfo:
        """Run a job now, paused or not, with `params` for its handler; with `wait`, answer when it has ended."""
        return self._call("jobs.run", job=job, wait=wait, params=params)

    def pause(self, job: str | None = None, plugin: str | None = None) -> results.HoldInfo:
        """Take a job, all of a plugin's jobs, or with neither all jobs there are (maintenance) off the schedule.

        Until resumed, over every sync, upgrade and restart; what was due meanwhile is not made up for.
        """
        return self._call("jobs.pause", job=job, plugin=plugin)

    def resume(self, job: str | None = None, plugin: str | None = None) -> results.HoldInfo:
        """Put back on the schedule what `pause` with the same params took off it."""
        return self._call("jobs.resume", job=job, plugin=plugin)

    def runs(
        self,
        job: str | None = None,
        plugin: str | None = None,
        state: str | None = None,
        before_ms: int | None = None,
        limit: int = 50,
        before: str | None = None,
        since_ms: int | None = None,
        trigger: str | None = None,
        states: Sequence[str] = (),
        triggers: Sequence[str] = (),
    ) -> RunInfos:
        """History, newest first, of one job, one plugin or all; `before`, a run's id, pages on from that run.

        `before_ms` and `since_ms` keep to runs created before, or not before, that instant; many runs may share one.
        `state` and `states` keep to runs in one of these, `trigger` and `triggers` likewise.
        """
        return self._call(
            "jobs.runs",
            job=job,
            plugin=plugin,
            state=state,
            before_ms=before_ms,
            limit=limit,
            before=before,
            since_ms=since_ms,
            trigger=trigger,
            states=list(states),
            triggers=list(triggers),
        )

    def get_run(self, run: str) -> results.RunInfo:
        """One run, with how far it is; `run` is its id, or the beginning of it (4 characters or more), as below."""
        return self._call("jobs.get_run", run=run)

    def cancel(self, run: str) -> results.RunInfo:
        """Cancel a queued or running run, or the retry that one waits for: the row says so, and the worker is told."""
        return self._call("jobs.cancel", run=run)

    def retry(self, run: str, wait: bool = False) -> results.RunInfo:
        """Run again now what did not succeed, with the same due time and params, as its next attempt."""
        return self._call("jobs.retry", run=run, wait=wait)
