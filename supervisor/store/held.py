"""HeldPlugins: every plugin and version in memory, so looking at them costs no SQL.

What is held changes once a transaction is committed and before its events are published: whoever hears of a change
finds it here.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any, Final

from supervisor.core.errors import NotFound
from supervisor.core.package import Version
from supervisor.core.plugin import Plugin, PluginId

_MAX_NAME: Final = 100
"""Characters; no key is longer."""


def _nothing(_: Plugin) -> None:
    """Nobody else is to know."""


class HeldPlugins:
    """Names are keys or ids; an id goes first where a key looks like one."""

    def __init__(self) -> None:
        self._by_id: dict[str, Plugin] = {}
        self._id_by_key: dict[str, str] = {}
        self._unreadable: set[str] = set()
        self._versions: dict[str, list[Version]] = {}

    def find(self, name: str) -> Plugin | None:
        return self._by_id.get(name) or self._by_id.get(self._id_by_key.get(name, ""))

    def get(self, name: str) -> Plugin:
        """
        Raises:
            NotFound: details: plugin.
        """
        plugin = self.find(name)
        if plugin is None:
            if len(name) > _MAX_NAME:
                # Told at once: comparing takes time with the length.
                shown = name[:_MAX_NAME] + "…"
                raise NotFound(f"there is no plugin {shown!r}", plugin=shown)
            near = difflib.get_close_matches(name, self._id_by_key, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise NotFound(f"there is no plugin {name!r}{hint}", plugin=name)
        return plugin

    def all(self) -> list[Plugin]:
        """In install order, uninstalled ones included."""
        return sorted(self._by_id.values(), key=lambda plugin: plugin.install_order)

    def versions(self, plugin_id: PluginId) -> list[Version]:
        """Those that are kept, in the order in which they were stored."""
        return list(self._versions.get(plugin_id, ()))

    def version(self, plugin_id: PluginId, package_dir: str | None) -> Version | None:
        """The one in `package_dir`."""
        return next((v for v in self._versions.get(plugin_id, ()) if v.package_dir == package_dir), None)

    def package_dirs(self) -> set[str]:
        """Of all versions of all plugins."""
        return {version.package_dir for versions in self._versions.values() for version in versions}

    def _hold(self, plugin: Plugin) -> None:
        self._by_id[plugin.id] = plugin
        self._id_by_key[plugin.key] = plugin.id
        self._unreadable.discard(plugin.id)

    def _hold_change(
        self,
        plugin_id: PluginId,
        changes: dict[str, Any],
        changed: list[Plugin],
        also: Callable[[Plugin], None] = _nothing,
    ) -> None:
        after = replace(self._by_id[plugin_id], **changes)
        self._hold(after)
        changed.append(after)
        also(after)

    def _hold_version(self, version: Version) -> None:
        others = [v for v in self._versions.get(version.plugin_id, ()) if v.package_dir != version.package_dir]
        self._versions[version.plugin_id] = sorted([*others, version], key=lambda v: (v.stored_at, v.package_dir))

    def _drop_versions(self, plugin_id: PluginId, package_dirs: Collection[str]) -> None:
        kept = [v for v in self._versions.get(plugin_id, ()) if v.package_dir not in package_dirs]
        self._versions[plugin_id] = kept

    def _drop(self, plugin_id: PluginId) -> None:
        self._unreadable.discard(plugin_id)
        self._versions.pop(plugin_id, None)
        plugin = self._by_id.pop(plugin_id, None)
        if plugin and self._id_by_key.get(plugin.key) == plugin_id:
            del self._id_by_key[plugin.key]
