"""Activation: bring a plugin's worker up, or put the plugin into status error; and say the last word once."""

from __future__ import annotations

from collections.abc import Callable

from supervisor.core.errors import ActivationFailed
from supervisor.core.event import Event, PluginEnabled, PluginFailed, PluginLoaded
from supervisor.core.lifecycle import Command, Status, next_status
from supervisor.core.plugin import Plugin, PluginId
from supervisor.lifecycle.locks import PluginLock
from supervisor.lifecycle.owed import owed_events
from supervisor.lifecycle.parts import Parts
from supervisor.lifecycle.running import overtaken
from supervisor.store.journal import Journal


class Activation:
    """Its callers hold the plugin's lock."""

    def __init__(self, parts: Parts) -> None:
        self._registry = parts.registry
        self._workers = parts.workers
        self._requirements = parts.requirements
        self.owing: set[PluginId] = set()
        """Plugins whose newest command may not have said its last word: it is under way, or was cut."""

    async def bring_up(self, plugin: Plugin, command: Command, lock: PluginLock, *, queued: bool = False) -> Plugin:
        next_status(plugin.key, plugin.status, command)
        self._requirements.refuse_start(plugin, str(command))
        plugin = await self.step(plugin.id, command)
        await self.activate(plugin, lock, queued=queued)
        await self.say(plugin, *([enabled(plugin)] if command is Command.ENABLE else both(plugin)))
        return self._registry.get(plugin.id)

    async def step(self, name: str, command: Command, *, reason: str | None = None, error: str | None = None) -> Plugin:
        """Refuse or persist; the registry publishes as it commits."""
        plugin = self._registry.get(name)
        status = next_status(plugin.key, plugin.status, command)
        self.owing.add(plugin.id)
        return await self._registry.set_status(
            plugin.id, expected=plugin.status, status=status, reason=reason, error=error
        )

    async def activate(self, plugin: Plugin, lock: PluginLock, *, queued: bool = False) -> None:
        """
        Raises:
            ActivationFailed: the status is error now.
            CallCancelled: another command came first.
        """
        with lock.activation():
            try:
                self._workers.want(plugin, first_try_only=True, queued=queued)
                await self._workers.wait_up(plugin.id)
            except ActivationFailed as error:
                await self.fail(plugin, error)
                raise
            return
        raise overtaken(plugin, lock)

    async def fail(self, plugin: Plugin, error: ActivationFailed) -> Plugin:
        words = error.message
        after = await self._registry.set_status(
            plugin.id,
            expected=plugin.status,
            status=Status.ERROR,
            error=words,
            # Whose policy is never to start it again means it.
            recoverable=plugin.manifest.worker.restart.policy != "never",
            then=[failed(words)(plugin)],
        )
        self.owing.discard(plugin.id)
        return after

    async def say(self, plugin: Plugin, *last_words: Event) -> None:
        if last_words:
            await self._registry.record(*last_words)
        self.owing.discard(plugin.id)

    async def say_what_is_owed(self, plugin: Plugin, journal: Journal) -> bool:
        """Whether anything was."""
        owed = await owed_events(journal, plugin, self._registry.version(plugin.id, plugin.staged_dir))
        await self.say(plugin, *owed)
        return bool(owed)

    async def stop(self, plugin: Plugin) -> None:
        self._workers.unwant(plugin.id)
        await self._workers.wait_stopped(plugin.id)


def enabled(plugin: Plugin) -> Event:
    return PluginEnabled(plugin_id=plugin.id, plugin_key=plugin.key, version=plugin.version)


def both(plugin: Plugin) -> list[Event]:
    return [PluginLoaded(plugin_id=plugin.id, plugin_key=plugin.key, version=plugin.version), enabled(plugin)]


def failed(error: str) -> Callable[[Plugin], Event]:
    return lambda plugin: PluginFailed(plugin_id=plugin.id, plugin_key=plugin.key, error=error)
