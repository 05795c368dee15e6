"""ConfigGiver: a stored configuration as the plugin's worker is told it."""

from __future__ import annotations

from typing import Any, Final

from supervisor.core.errors import FailedPrecondition
from supervisor.core.plugin import Capability, Plugin, PluginId
from supervisor.core.problem import Problem
from supervisor.core.secrets import divide, spoken
from supervisor.lifecycle.config_checks import schema_problems
from supervisor.lifecycle.config_references import References, Resolved
from supervisor.lifecycle.schemas import SchemaChecks
from supervisor.store.configs import ConfigStore, StoredConfig
from supervisor.worker.host import GivenConfig

_SECRETS: Final = Capability("secrets.read")


class ConfigGiver:
    """What references stand for is read each time that it is given."""

    def __init__(self, configs: ConfigStore, references: References) -> None:
        self._configs = configs
        self._references = references
        self._checks = SchemaChecks()

    async def given(self, plugin: Plugin) -> GivenConfig:
        """
        Raises:
            FailedPrecondition: a reference cannot be read; which one, and why.
        """
        stored = await self._configs.get(plugin.id)
        return _given(plugin, stored, _read(await self._references.resolve(stored.data)))

    async def given_at_start(self, plugin: Plugin) -> GivenConfig:
        """The same for a worker that is to begin with it: a file may have been changed since it was checked, and a
        plugin that is disabled upgraded.

        Raises:
            FailedPrecondition: as `given`; or what was set does not fit the schema of this version.
        """
        stored = await self._configs.get(plugin.id)
        resolved = _read(await self._references.resolve(stored.data))
        # Where nothing was ever set, nobody can have set it wrongly.
        if stored.revision and (problems := await schema_problems(self._checks, plugin.manifest, resolved)):
            raise _misfit(plugin, stored, problems)
        return _given(plugin, stored, resolved)

    async def secrets(self, plugin: Plugin) -> dict[str, Any]:
        """By their names, as `divide` has them; raises as `given`."""
        stored = await self._configs.get(plugin.id)
        resolved = _read(await self._references.resolve(stored.data))
        return divide(plugin.manifest.config_schema, resolved.config)[1]

    async def taken(self, plugin_id: PluginId, revision: int) -> None:
        """A worker works with it. Does not raise."""
        await self._configs.mark_good(plugin_id, revision)


def given_config(plugin: Plugin, resolved: Resolved, *, revision: int = 0, is_new: bool = False) -> GivenConfig:
    """What this version's worker is told: its secrets too, if the plugin was granted `secrets.read`."""
    without, secrets = divide(plugin.manifest.config_schema, resolved.config)
    config = resolved.config if _SECRETS in plugin.granted else without
    hidden = resolved.learnt.union(*map(spoken, secrets.values()))
    return GivenConfig(config=config, secrets=hidden, revision=revision, is_new=is_new)


def _given(plugin: Plugin, stored: StoredConfig, resolved: Resolved) -> GivenConfig:
    is_new = stored.revision > 0 and not stored.good
    return given_config(plugin, resolved, revision=stored.revision, is_new=is_new)


def _misfit(plugin: Plugin, stored: StoredConfig, problems: list[Problem]) -> FailedPrecondition:
    told = "; ".join(map(str, problems))
    return FailedPrecondition(
        f"revision {stored.revision} does not fit the config_schema of version {plugin.version}: {told}; set one that "
        f"does: pluginctl config set {plugin.key} …, or put right the file that it refers to",
        plugin=plugin.key,
        revision=stored.revision,
        problems=[{"path": problem.path, "message": problem.message} for problem in problems],
    )


def _read(resolved: Resolved) -> Resolved:
    if resolved.problems:
        raise FailedPrecondition("; ".join(map(str, resolved.problems)))
    return resolved
