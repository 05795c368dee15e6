"""The last word of a command that the former daemon was killed in: the next one says it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from supervisor.core.event import (
    Event,
    PluginDisabled,
    PluginEnabled,
    PluginFailed,
    PluginLoaded,
    PluginRolledBack,
    PluginUpgraded,
    Recorded,
    StatusChanged,
    UpgradePending,
)
from supervisor.core.lifecycle import Status
from supervisor.core.package import Version
from supervisor.core.plugin import Plugin
from supervisor.store.journal import Journal

_LAST_WORDS: Final[Mapping[Status, str]] = {
    Status.READY: PluginEnabled.TYPE,
    Status.DISABLED: PluginDisabled.TYPE,
    Status.ERROR: PluginFailed.TYPE,
    Status.UPGRADE_PENDING: UpgradePending.TYPE,
}
_EXCHANGED: Final = (PluginUpgraded.TYPE, PluginRolledBack.TYPE)
_LOADED_FROM: Final = frozenset({Status.INSTALLED, Status.READY, Status.UPGRADE_PENDING})
"""Whoever becomes ready from there is told to be loaded too: by load, an exchange of versions, approve or reject."""


async def owed_events(journal: Journal, plugin: Plugin, staged: Version | None) -> list[Event]:
    """What should follow the plugin's newest change of status and does not: the command was cut between the two."""
    word = _LAST_WORDS.get(plugin.status)
    if word is None:
        return []
    newest = await journal.list(None, [StatusChanged.TYPE, word, *_EXCHANGED], [plugin.id], 2)
    # An exchange that changed no status owes nothing.
    told = [event for event in newest if event.type not in _EXCHANGED]
    if not told or told[-1].type != StatusChanged.TYPE or told[-1].data.get("status") != plugin.status:
        return []
    return _events(plugin, newest, told[-1], staged)


def added_capabilities(plugin: Plugin, version: Version | None) -> list[str]:
    """What a version asks for beyond what was approved."""
    return sorted(frozenset(version.manifest.capabilities) - plugin.approved) if version else []


def _events(plugin: Plugin, newest: Sequence[Recorded], changed: Recorded, staged: Version | None) -> list[Event]:
    id_, key = plugin.id, plugin.key
    match plugin.status:
        case Status.DISABLED:
            return [PluginDisabled(plugin_id=id_, plugin_key=key, reason=plugin.disable_reason)]
        case Status.ERROR:
            return [PluginFailed(plugin_id=id_, plugin_key=key, error=plugin.last_error or "")]
        case Status.UPGRADE_PENDING:
            return [UpgradePending(plugin_id=id_, plugin_key=key, added=added_capabilities(plugin, staged))]
    enabled = PluginEnabled(plugin_id=id_, plugin_key=key, version=plugin.version)
    exchanged = any(event.type in _EXCHANGED and event.seq == changed.seq - 1 for event in newest)
    if exchanged or changed.data.get("previous") in _LOADED_FROM:
        return [PluginLoaded(plugin_id=id_, plugin_key=key, version=plugin.version), enabled]
    return [enabled]
