"""ConfigGiver: a stored configuration as the plugin's worker is told it."""

from __future__ import annotations

from typing import Any, Final

from supervisor.core.errors import FailedPrecondition
from supervisor.core.plugin import Capability, Plugin, PluginId
from supervisor.core.secrets import divide, spoken
from supervisor.lifecycle.config_references import References, Resolved
from supervisor.store.configs import ConfigStore
from supervisor.worker.host import GivenConfig

_SECRETS: Final = Capability("secrets.read")


class ConfigGiver:
    """What references stand for is read each time that it is given."""

    def __init__(self, configs: ConfigStore, references: References) -> None:
        self._configs = configs
        self._references = references

    async def given(self, plugin: Plugin) -> GivenConfig:
        """
        Raises:
            FailedPrecondition: a reference cannot be read; which one, and why.
        """
        stored = await self._configs.get(plugin.id)
        resolved = _read(await self._references.resolve(stored.data))
        is_new = stored.revision > 0 and not stored.good
        return given_config(plugin, resolved, revision=stored.revision, is_new=is_new)

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


def _read(resolved: Resolved) -> Resolved:
    if resolved.problems:
        raise FailedPrecondition("; ".join(map(str, resolved.problems)))
    return resolved
