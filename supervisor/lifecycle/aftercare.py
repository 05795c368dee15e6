"""Aftercare: what is done about plugins that nobody has just asked for: given up, to be tried again, left unsaid."""

from __future__ import annotations

from supervisor.core.errors import ActivationFailed, SupervisorError
from supervisor.core.lifecycle import Command, Status, wants_worker
from supervisor.faultpoints import FaultPoint
from supervisor.lifecycle.activation import Activation
from supervisor.lifecycle.parts import Parts
from supervisor.lifecycle.probation import Probation
from supervisor.lifecycle.rollback import Rollback
from supervisor.log import get_logger
from supervisor.store.journal import Journal


class Aftercare:
    def __init__(self, parts: Parts, activation: Activation, rollback: Rollback, probation: Probation) -> None:
        self._registry = parts.registry
        self._workers = parts.workers
        self._locks = parts.locks
        self._faults = parts.faults
        self._activation = activation
        self._rollback = rollback
        self._probation = probation

    async def give_up(self, name: str) -> None:
        plugin = self._registry.find(name)
        if plugin is None:
            return
        async with self._locks.hold(plugin.key) as lock:
            plugin = self._registry.find(name)
            view = self._workers.view(plugin.id) if plugin else None
            if not (plugin and view and view.gave_up and wants_worker(plugin.status)):
                return
            get_logger().error("plugin.gave_up", plugin=plugin.key, crashes=view.crashes)
            why = view.last_failure or "the worker was given up"
            if not self._probation.fails_with(plugin) or not await self._rollback.go_back(plugin, why, lock):
                await self._activation.fail(plugin, ActivationFailed(why))

    async def recover(self, name: str) -> None:
        plugin = self._registry.find(name)
        if plugin is None or plugin.status is not Status.ERROR or not plugin.recoverable:
            return
        get_logger().info("plugin.recovering", plugin=plugin.key)
        try:
            async with self._locks.hold(plugin.key) as lock:
                # Looked at again: a command may have come first, and its word counts.
                current = self._registry.find(plugin.id)
                if current and current.status is Status.ERROR and current.recoverable:
                    await self._activation.bring_up(current, Command.ENABLE, lock, queued=True)
        except SupervisorError as error:
            get_logger().warning("plugin.not_recovered", plugin=plugin.key, error=error.message)

    async def say_what_is_owed(self, name: str, journal: Journal) -> None:
        plugin = self._registry.find(name)
        if plugin is None or plugin.id not in self._activation.owing:
            return
        async with self._locks.hold(plugin.key):
            # Under the lock: a command that is under way says its last word itself.
            plugin = self._registry.find(name)
            if not plugin or plugin.id not in self._activation.owing:
                return
            if await self._activation.say_what_is_owed(plugin, journal):
                self._faults.reach(FaultPoint.BOOT_WORDS_SAID)
