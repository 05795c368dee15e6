"""The methods of the blocking client, by noun, typed; they answer what supervisor.wire.results says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from client.link import OnProgress
    from supervisor.wire import results

    # `list` is a method in some of these classes.
    ConfigRevisionInfos = list[results.ConfigRevisionInfo]
    JobInfos = list[results.JobInfo]
    LogLines = list[results.LogLine]
    MetricInfos = list[results.MetricInfo]
    PluginInfos = list[results.PluginInfo]
    RunInfos = list[results.RunInfo]
    VersionInfos = list[results.VersionInfo]

_T = TypeVar("_T")


class Noun:
    def __init__(self, call: Callable[..., Any]) -> None:
        self._caller = call

    def _operate(self, method: str, on_progress: OnProgress | None, /, **params: Any) -> results.PluginInfo:
        result: results.PluginInfo = self._caller(method, params, on_progress)
        return result

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

    def stop(self) -> results.Done:
        """Drain and stop the daemon; answers before it does."""
        return self._call("daemon.stop")

    def backup(self, path: str) -> results.Done:
        """Write a consistent copy of the database to a new file; `path` is absolute."""
        return self._call("daemon.backup", path=path)


class Plugins(Noun):
    """Plugins, named by key or id."""

    def list(self, status: str | None = None, include_uninstalled: bool = False) -> PluginInfos:
        """All plugins in install order; uninstalled ones only when asked for."""
        return self._call("plugins.list", status=status, include_uninstalled=include_uninstalled)

    def get(self, plugin: str, pss: bool = False) -> results.PluginDetails:
        """All about one plugin, named by key or id; `pss` adds the dear number."""
        return self._call("plugins.get", plugin=plugin, pss=pss)

    def install(
        self,
        source: str,
        editable: bool = False,
        index_url: str | None = None,
        find_links: Sequence[str] = (),
        hashes: Sequence[str] = (),
        capabilities: Sequence[str] | None = None,
        on_progress: OnProgress | None = None,
    ) -> results.PluginInfo:
        """Fetch a plugin, check it and store it; it is not loaded yet.

        `source` is a directory, an archive, a wheel or an sdist by its absolute path, or a requirement such as
        `acme-weather>=1.2`. `capabilities` are what you agree to (None: all that it asks for); APPROVAL_REQUIRED says
        what is missing. `on_progress` is called as it goes on; what it raises cancels the install.
        """
        return self._operate(
            "plugins.install",
            on_progress,
            source=source,
            editable=editable,
            index_url=index_url,
            find_links=list(find_links),
            hashes=list(hashes),
            capabilities=None if capabilities is None else list(capabilities),
        )

    def upgrade(
        self,
        plugin: str,
        source: str | None = None,
        version: str | None = None,
        index_url: str | None = None,
        find_links: Sequence[str] = (),
        hashes: Sequence[str] = (),
        approve: bool = False,
        probation_s: float | None = None,
        capabilities: Sequence[str] | None = None,
        editable: bool = False,
        on_progress: OnProgress | None = None,
    ) -> results.PluginInfo:
        """Exchange the plugin's version for the one in `source` (as in install), or for a kept `version`.

        With neither, for what its own source has now, asked of the index that it came from unless another is named.

        It happens wholly, or the version before goes on (UPGRADE_FAILED). What asks for more capabilities than were
        approved waits for `approve`, unless `approve` is true, or they are all among `capabilities`, which you have
        agreed to. With `editable` it is refused instead (APPROVAL_REQUIRED). Who gives up within `probation_s` is
        rolled back.
        """
        return self._operate(
            "plugins.upgrade",
            on_progress,
            plugin=plugin,
            source=source,
            version=version,
            index_url=index_url,
            find_links=list(find_links),
            hashes=list(hashes),
            approve=approve,
            probation_s=probation_s,
            capabilities=None if capabilities is None else list(capabilities),
            editable=editable,
        )

    def approve(self, plugin: str, version: str | None = None) -> results.PluginInfo:
        """Allow what the waiting version asks for, and run it; `version`, if named, must be the one that waits."""
        return self._call("plugins.approve", plugin=plugin, version=version)

    def reject(self, plugin: str) -> results.PluginInfo:
        """Drop the waiting version and run the one before."""
        return self._call("plugins.reject", plugin=plugin)

    def rollback(self, plugin: str, version: str | None = None) -> results.PluginInfo:
        """Run the version before this one again, or the kept `version`; nothing is fetched."""
        return self._call("plugins.rollback", plugin=plugin, version=version)

    def versions(self, plugin: str) -> VersionInfos:
        """The versions that are kept, newest first."""
        return self._call("plugins.versions", plugin=plugin)

    def config_get(self, plugin: str) -> results.ConfigInfo:
        """The plugin's configuration, its secrets masked, and its schema."""
        return self._call("plugins.config_get", plugin=plugin)

    def config_set(
        self, plugin: str, config: Mapping[str, Any], merge: bool = False, expected_revision: int | None = None
    ) -> results.ConfigInfo:
        """Check a configuration, store it, and give it to the worker, or restart that.

        With `merge` it is laid over what is there, and None takes a value away. A secret that is sent back masked stays
        as it is. `expected_revision` refuses to overwrite what somebody else has set meanwhile.
        """
        return self._call(
            "plugins.config_set", plugin=plugin, config=dict(config), merge=merge, expected_revision=expected_revision
        )

    def config_test(
        self, plugin: str, config: Mapping[str, Any] | None = None, merge: bool = False
    ) -> results.ConfigVerdict:
        """Check a configuration against its schema and by the worker, if it runs; None checks the stored one."""
        given = None if config is None else dict(config)
        return self._call("plugins.config_test", plugin=plugin, config=given, merge=merge)

    def config_history(self, plugin: str) -> ConfigRevisionInfos:
        """The configurations that were, newest first, without their values."""
        return self._call("plugins.config_history", plugin=plugin)

    def config_restore(self, plugin: str, revision: int | None = None) -> results.ConfigInfo:
        """Set an earlier configuration again: `revision`, or the newest other one that a worker has taken."""
        return self._call("plugins.config_restore", plugin=plugin, revision=revision)

    def load(self, plugin: str) -> results.PluginInfo:
        """Make an installed, disabled or failed plugin ready; answers when its worker has shaken hands."""
        return self._call("plugins.load", plugin=plugin)

    def enable(self, plugin: str) -> results.PluginInfo:
        """Make a disabled, failed or upgrade-pending plugin ready again."""
        return self._call("plugins.enable", plugin=plugin)

    def disable(self, plugin: str, reason: str | None = None) -> results.PluginInfo:
        """Drain and stop the worker and keep it stopped; answers when it is gone."""
        return self._call("plugins.disable", plugin=plugin, reason=reason)

    def unload(self, plugin: str, remove_data: bool = False) -> results.Done:
        """Uninstall: stop the worker and remove the files; `remove_data` deletes config, state and history too."""
        return self._call("plugins.unload", plugin=plugin, remove_data=remove_data)

    def mark_error(self, plugin: str, error: str) -> results.PluginInfo:
        """Put a plugin into status error, with the reason, and stop its worker."""
        return self._call("plugins.mark_error", plugin=plugin, error=error)

    def mark_upgrade_pending(self, plugin: str) -> results.PluginInfo:
        """Stop the worker of a ready plugin until its upgrade is decided."""
        return self._call("plugins.mark_upgrade_pending", plugin=plugin)

    def start(self, plugin: str) -> results.PluginInfo:
        """Start the worker of a ready plugin that was stopped; the status stays."""
        return self._call("plugins.start", plugin=plugin)

    def stop(self, plugin: str) -> results.PluginInfo:
        """Stop the worker of a ready plugin until start, restart or the next boot; the status stays."""
        return self._call("plugins.stop", plugin=plugin)

    def restart(self, plugin: str) -> results.PluginInfo:
        """Stop the worker of a ready plugin, if it runs, and start it; answers when the new one has shaken hands."""
        return self._call("plugins.restart", plugin=plugin)

    def wait(
        self, plugin: str, status: str | None = None, phase: str | None = None, timeout_s: float = 30.0
    ) -> results.PluginInfo:
        """Answer as soon as the plugin has the status and the phase asked for; DEADLINE_EXCEEDED after `timeout_s`."""
        return self._call("plugins.wait", plugin=plugin, status=status, phase=phase, timeout_s=timeout_s)

    def health(self, plugin: str) -> results.HealthInfo:
        """Ask the worker now how it is."""
        return self._call("plugins.health", plugin=plugin)

    def can_transition(self, plugin: str, to: str) -> results.TransitionAnswer:
        """Whether the plugin's status may change to `to`."""
        return self._call("plugins.can_transition", plugin=plugin, to=to)

    def call(self, plugin: str, method: str, params: Any = None, timeout_s: float | None = None) -> results.CallResult:
        """Call a method of the plugin; `timeout_s` None takes the method's own deadline, else 30 s."""
        return self._call("plugins.call", plugin=plugin, method=method, params=params, timeout_s=timeout_s)

    def metrics(self, plugin: str) -> MetricInfos:
        """The numbers that the plugin tells of itself, by name; they begin anew with the daemon."""
        return self._call("plugins.metrics", plugin=plugin)

    def state_list(
        self, plugin: str, prefix: str = "", after: str | None = None, limit: int = 100
    ) -> results.StatePage:
        """The plugin's stored keys and values, in key order, a page at a time."""
        return self._call("plugins.state_list", plugin=plugin, prefix=prefix, after=after, limit=limit)


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


class Events(Noun):
    """The journal of events; `events_stream` of the client follows it."""

    def list(
        self, after_seq: int | None = None, types: Sequence[str] = (), plugins: Sequence[str] = (), limit: int = 100
    ) -> results.EventPage:
        """Events after `after_seq`, oldest first; with `after_seq` None the newest ones."""
        return self._call("events.list", after_seq=after_seq, types=list(types), plugins=list(plugins), limit=limit)


class Logs(Noun):
    """Plugins' logs; `logs_stream` of the client follows one."""

    def read(
        self,
        plugin: str,
        tail: int = 100,
        since_ms: int | None = None,
        level: str | None = None,
        run: str | None = None,
        until_ms: int | None = None,
        stream: str | None = None,
    ) -> LogLines:
        """The last `tail` lines of a plugin's log, oldest first, filtered by time, level (and above), run and stream.

        If they do not fit into one answer, the newest of them come.
        """
        return self._call(
            "logs.read",
            plugin=plugin,
            tail=tail,
            since_ms=since_ms,
            level=level,
            run=run,
            until_ms=until_ms,
            stream=stream,
        )
