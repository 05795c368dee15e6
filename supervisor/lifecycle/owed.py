"""The last word of a command that the former daemon was killed in: the next one says it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from supervisor.core.event import (
    Event,
    PluginDisabled,
    PluginEnabled,
    PluginFailed,
    PluginLoaded,
    Recorded,
    StatusChanged,
    UpgradePending,
)
from supervisor.core.lifecycle import Status
from supervisor.core.plugin import Plugin
from supervisor.store.journal import Journal

_LAST_WORDS: Final[Mapping[Status, str]] = {
    Status.READY: PluginEnabled.TYPE,
    Status.DISABLED: PluginDisabled.TYPE,
    Status.ERROR: PluginFailed.TYPE,
    Status.UPGRADE_PENDING: UpgradePending.TYPE,
}


async def owed_events(journal: Journal, plugin: Plugin) -> list[Event]:
    """What should follow the plugin's newest change of status and does not: the command was cut between the two."""
    word = _LAST_WORDS.get(plugin.status)
    if word is None:
        return []
    newest = await journal.list(None, [StatusChanged.TYPE, word], [plugin.id], 1)
    if not newest or newest[-1].type != StatusChanged.TYPE or newest[-1].data.get("status") != plugin.status:
        return []
    return _events(plugin, newest[-1])


def _events(plugin: Plugin, changed: Recorded) -> list[Event]:
    id_, key = plugin.id, plugin.key
    match plugin.status:
        case Status.DISABLED:
            return [PluginDisabled(plugin_id=id_, plugin_key=key, reason=plugin.disable_reason)]
        case Status.ERROR:
            return [PluginFailed(plugin_id=id_, plugin_key=key, error=plugin.last_error or "")]
        case Status.UPGRADE_PENDING:
            return [UpgradePending(plugin_id=id_, plugin_key=key, added=[])]
    enabled = PluginEnabled(plugin_id=id_, plugin_key=key, version=plugin.version)
    if changed.data.get("previous") == Status.INSTALLED:
        return [PluginLoaded(plugin_id=id_, plugin_key=key, version=plugin.version), enabled]
    return [enabled]
