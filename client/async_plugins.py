"""The methods of the trio client that are about plugins, typed; they answer what supervisor.wire.results says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from client.async_nouns import AsyncNoun

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from typing import Any

    from client.link import OnProgress
    from supervisor.wire import results

    # `list` is a method of this class.
    ConfigRevisionInfos = list[results.ConfigRevisionInfo]
    MetricInfos = list[results.MetricInfo]
    PluginInfos = list[results.PluginInfo]
    VersionInfos = list[results.VersionInfo]


class AsyncPlugins(AsyncNoun):
    """Plugins, named by key or id."""

    async def _operate(self, method: str, on_progress: OnProgress | None, /, **params: Any) -> results.PluginInfo:
        result: results.PluginInfo = await self._caller(method, params, on_progress)
        return result

    async def list(
        self, status: str | None = None, include_uninstalled: bool = False, usage: bool = False
    ) -> PluginInfos:
        """All plugins in install order; uninstalled ones only when asked for, nor what each worker uses."""
        return await self._call("plugins.list", status=status, include_uninstalled=include_uninstalled, usage=usage)

    async def get(self, plugin: str, pss: bool = False) -> results.PluginDetails:
        """All about one plugin, named by key or id; `pss` adds the dear number."""
        return await self._call("plugins.get", plugin=plugin, pss=pss)

    async def install(
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
        return await self._operate(
            "plugins.install",
            on_progress,
            source=source,
            editable=editable,
            index_url=index_url,
            find_links=list(find_links),
            hashes=list(hashes),
            capabilities=None if capabilities is None else list(capabilities),
        )

    async def upgrade(
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
        return await self._operate(
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

    async def approve(self, plugin: str, version: str | None = None) -> results.PluginInfo:
        """Allow what the waiting version asks for, and run it; `version`, if named, must be the one that waits."""
        return await self._call("plugins.approve", plugin=plugin, version=version)

    async def reject(self, plugin: str) -> results.PluginInfo:
        """Drop the waiting version and run the one before."""
        return await self._call("plugins.reject", plugin=plugin)

    async def rollback(self, plugin: str, version: str | None = None) -> results.PluginInfo:
        """Run the version before this one again, or the kept `version`; nothing is fetched."""
        return await self._call("plugins.rollback", plugin=plugin, version=version)

    async def versions(self, plugin: str) -> VersionInfos:
        """The versions that are kept, newest first."""
        return await self._call("plugins.versions", plugin=plugin)

    async def config_get(self, plugin: str) -> results.ConfigInfo:
        """The plugin's configuration, its secrets masked, and its schema."""
        return await self._call("plugins.config_get", plugin=plugin)

    async def config_set(
        self, plugin: str, config: Mapping[str, Any], merge: bool = False, expected_revision: int | None = None
    ) -> results.ConfigInfo:
        """Check a configuration, store it, and give it to the worker, or restart that.

        With `merge` it is laid over what is there, and None takes a value away. A secret that is sent back masked stays
        as it is. `expected_revision` refuses to overwrite what somebody else has set meanwhile.
        """
        return await self._call(
            "plugins.config_set", plugin=plugin, config=dict(config), merge=merge, expected_revision=expected_revision
        )

    async def config_test(
        self, plugin: str, config: Mapping[str, Any] | None = None, merge: bool = False
    ) -> results.ConfigVerdict:
        """Check a configuration against its schema and by the worker, if it runs; None checks the stored one."""
        given = None if config is None else dict(config)
        return await self._call("plugins.config_test", plugin=plugin, config=given, merge=merge)

    async def config_history(self, plugin: str) -> ConfigRevisionInfos:
        """The configurations that were, newest first, without their values."""
        return await self._call("plugins.config_history", plugin=plugin)

    async def config_restore(self, plugin: str, revision: int | None = None) -> results.ConfigInfo:
        """Set an earlier configuration again: `revision`, or the newest other one that a worker has taken."""
        return await self._call("plugins.config_restore", plugin=plugin, revision=revision)

    async def load(self, plugin: str) -> results.PluginInfo:
        """Make an installed, disabled or failed plugin ready; answers when its worker has shaken hands."""
        return await self._call("plugins.load", plugin=plugin)

    async def enable(self, plugin: str) -> results.PluginInfo:
        """Make a disabled, failed or upgrade-pending plugin ready again."""
        return await self._call("plugins.enable", plugin=plugin)

    async def disable(self, plugin: str, reason: str | None = None) -> results.PluginInfo:
        """Drain and stop the worker and keep it stopped; answers when it is gone."""
        return await self._call("plugins.disable", plugin=plugin, reason=reason)

    async def unload(self, plugin: str, remove_data: bool = False) -> results.Done:
        """Uninstall: stop the worker and remove the files; `remove_data` deletes config, state and history too."""
        return await self._call("plugins.unload", plugin=plugin, remove_data=remove_data)

    async def mark_error(self, plugin: str, error: str) -> results.PluginInfo:
        """Put a plugin into status error, with the reason, and stop its worker."""
        return await self._call("plugins.mark_error", plugin=plugin, error=error)

    async def mark_upgrade_pending(self, plugin: str) -> results.PluginInfo:
        """Stop the worker of a ready plugin until its upgrade is decided."""
        return await self._call("plugins.mark_upgrade_pending", plugin=plugin)

    async def start(self, plugin: str) -> results.PluginInfo:
        """Start the worker of a ready plugin that was stopped; the status stays."""
        return await self._call("plugins.start", plugin=plugin)

    async def stop(self, plugin: str) -> results.PluginInfo:
        """Stop the worker of a ready plugin until start, restart or the next boot; the status stays."""
        return await self._call("plugins.stop", plugin=plugin)

    async def restart(self, plugin: str) -> results.PluginInfo:
        """Stop the worker of a ready plugin, if it runs, and start it; answers when the new one has shaken hands."""
        return await self._call("plugins.restart", plugin=plugin)

    async def wait(
        self, plugin: str, status: str | None = None, phase: str | None = None, timeout_s: float = 30.0
    ) -> results.PluginInfo:
        """Answer as soon as the plugin has the status and the phase asked for; DEADLINE_EXCEEDED after `timeout_s`."""
        return await self._call("plugins.wait", plugin=plugin, status=status, phase=phase, timeout_s=timeout_s)

    async def health(self, plugin: str) -> results.HealthInfo:
        """Ask the worker now how it is."""
        return await self._call("plugins.health", plugin=plugin)

    async def can_transition(self, plugin: str, to: str) -> results.TransitionAnswer:
        """Whether the plugin's status may change to `to`."""
        return await self._call("plugins.can_transition", plugin=plugin, to=to)

    async def call(
        self, plugin: str, method: str, params: Any = None, timeout_s: float | None = None
    ) -> results.CallResult:
        """Call a method of the plugin; `timeout_s` None takes the method's own deadline, else 30 s."""
        return await self._call("plugins.call", plugin=plugin, method=method, params=params, timeout_s=timeout_s)

    async def metrics(self, plugin: str) -> MetricInfos:
        """The numbers that the plugin tells of itself, by name; they begin anew with the daemon."""
        return await self._call("plugins.metrics", plugin=plugin)

    async def state_list(
        self, plugin: str, prefix: str = "", after: str | None = None, limit: int = 100
    ) -> results.StatePage:
        """The plugin's stored keys and values, in key order, a page at a time."""
        return await self._call("plugins.state_list", plugin=plugin, prefix=prefix, after=after, limit=limit)

    async def state_get(self, plugin: str, key: str) -> results.StateEntry:
        """One of the plugin's stored values."""
        return await self._call("plugins.state_get", plugin=plugin, key=key)
