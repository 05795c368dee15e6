"""Where a plugin's things are below the state directory, and their removal."""

from __future__ import annotations

import shutil
from collections.abc import Container
from pathlib import Path

import trio

from supervisor.core.package import ENVIRONMENT_DIR
from supervisor.core.plugin import Plugin, PluginId, PluginKey
from supervisor.lifecycle.packages import PackageStore
from supervisor.log import get_logger
from supervisor.metrics import Metrics
from supervisor.worker.commands import Commands
from supervisor.worker.logs import PluginLogs


class PluginPlaces:
    """Directories and files are named by the plugin's key, which the checks of keys make safe for that."""

    def __init__(self, packages: PackageStore, data: Path, logs: PluginLogs) -> None:
        self._packages = packages
        self._data = data
        self._logs = logs

    def package_dir(self, plugin: Plugin) -> Path:
        """Where it runs from: its package in the store, or its source where that is run in place."""
        return Path(plugin.editable) if plugin.editable else self._packages.path(plugin.package_dir)

    def environment(self, plugin: Plugin) -> Path:
        """Its virtual environment, if it has one; always in the store."""
        return self._packages.path(plugin.package_dir) / ENVIRONMENT_DIR

    def data_dir(self, plugin: Plugin) -> Path:
        return self._data / plugin.key

    def shown(self, plugin: Plugin) -> dict[str, str]:
        """All of them as text. Joined by hand: this is asked for with every status, and paths are slow to make."""
        return {
            "package_dir": plugin.editable or f"{self._packages.root}/{plugin.package_dir}",
            "data_dir": f"{self._data}/{plugin.key}",
            "log_file": str(self._logs.path(plugin.key)),
        }

    async def remove(self, key: PluginKey) -> None:
        """A plugin's data directory and its logs. Does not raise: what is left over is logged, and goes at the next
        boot."""
        logs = self._logs.retire(key)
        await trio.to_thread.run_sync(_remove, self._data / key, logs)

    async def collect(self, keys: Container[str]) -> None:
        """Remove the data directories of plugins that are not there any more: a removal was cut short."""
        await trio.to_thread.run_sync(self._collect, keys)

    def _collect(self, keys: Container[str]) -> None:
        for directory in self._data.iterdir():
            if directory.name not in keys:
                get_logger().warning("data.collected", directory=str(directory))
                _remove(directory, [])


class PluginData:
    """What goes when a plugin is uninstalled with its data, beside its rows."""

    def __init__(self, places: PluginPlaces, metrics: Metrics, commands: Commands) -> None:
        self._places = places
        self._metrics = metrics
        self._commands = commands

    async def remove(self, key: PluginKey, plugin_id: PluginId | None) -> None:
        """No id: the daemon that knew it is gone. Does not raise."""
        if plugin_id is not None:
            self._metrics.forget(plugin_id)
            # They may write there still: the news that the plugin has left ready gets to them on its own way.
            await self._commands.end(plugin_id)
        await self._places.remove(key)


def _remove(directory: Path, files: list[Path]) -> None:
    def note(_function: object, path: str, error: BaseException | tuple[object, BaseException, object]) -> None:
        why = error[1] if isinstance(error, tuple) else error
        if not isinstance(why, FileNotFoundError):
            get_logger().error("data.not_removed", path=path, why=str(why))

    # `onerror` until 3.11 is gone: 3.12 calls it deprecated in favour of `onexc`.
    shutil.rmtree(directory, onerror=note)
    for file in files:
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            get_logger().error("data.not_removed", path=str(file), why=str(error))
