"""InPlace: a plugin that is run in place has changed; check it anew, and let its worker begin anew."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Final

from supervisor.core.errors import ApprovalRequired, InvalidParams
from supervisor.core.lifecycle import Command, Status
from supervisor.core.manifest import Manifest
from supervisor.core.plugin import Plugin
from supervisor.lifecycle.activation import Activation
from supervisor.lifecycle.checking import CheckSchedule, check_directory
from supervisor.lifecycle.copying import PackageLimits, look_through
from supervisor.lifecycle.parts import Parts
from supervisor.lifecycle.running import start_again
from supervisor.lifecycle.threads import Threads, check_cancelled
from supervisor.trust import parents_problem

_AT_ONCE: Final = 4


class InPlace:
    def __init__(self, parts: Parts, activation: Activation) -> None:
        self._parts = parts
        self._registry = parts.registry
        self._workers = parts.workers
        self._activation = activation
        self._threads = Threads(_AT_ONCE)

    async def refresh(self, name: str, check_schedule: CheckSchedule) -> Plugin | None:
        """Take over the manifest as it is now, and restart the worker; None: there is nothing to do for it.

        Does not wait for the worker of a ready plugin to come up: the next change may be what it needs for that. One
        that an operator has stopped stays so. A plugin whose worker has failed is enabled.

        Raises:
            InvalidParams, PackageRefused, ResourceExhausted: it is not fit to be run; the worker goes on.
            ApprovalRequired: it asks for more than was approved; the worker goes on with what it had.
            FailedPrecondition: it requires what is not there; the worker goes on.
            ActivationFailed: it did not come up; the status is error.
        """
        async with AsyncExitStack() as afterwards, self._parts.locks.hold(self._registry.get(name).key) as lock:
            plugin = self._registry.get(name)
            if plugin.editable is None or not is_to_refresh(plugin):
                return None
            manifest = await self._threads.run(partial(check_in_place, Path(plugin.editable), check_schedule))
            await self._judge(plugin, manifest)
            if manifest != plugin.manifest:
                plugin = await self._store(plugin, manifest)
            if plugin.status is Status.ERROR:
                return await self._activation.bring_up(plugin, Command.ENABLE, lock)
            if not self._workers.wanted(plugin.id):
                return None
            self._parts.requirements.refuse_start(plugin, "restart")
            # Until whoever lets go of the lock has started it.
            afterwards.enter_context(self._workers.coming_back(plugin.id))
            await self._activation.stop(plugin)
            # Whoever waits for the lock wants it stopped.
            lock.owe_start(partial(start_again, self._registry, self._workers, plugin.id))
            return plugin

    async def _judge(self, plugin: Plugin, manifest: Manifest) -> None:
        if manifest.key != plugin.key:
            raise InvalidParams(
                f"plugin.key is {manifest.key!r} now: this is another plugin; change it back to {plugin.key!r}, or "
                f"install {plugin.editable} anew",
                plugin=plugin.key,
            )
        if added := sorted(frozenset(manifest.capabilities) - plugin.approved):
            raise ApprovalRequired(
                f"it asks for {', '.join(added)} beyond what was approved; to approve that, `pluginctl upgrade "
                f"{plugin.key} --editable`",
                plugin=plugin.key,
                version=manifest.version,
                added=added,
            )
        await self._parts.config.refuse_misfit(plugin, manifest)

    async def _store(self, plugin: Plugin, manifest: Manifest) -> Plugin:
        async with self._parts.requirements.graph:
            self._parts.requirements.refuse_install(manifest)
            return await self._registry.revise(manifest, expected=plugin)


def is_to_refresh(plugin: Plugin) -> bool:
    """Whether a change of its files is one of its worker: also of one that has failed, and not of one that an operator
    marked so, or has disabled."""
    failed = plugin.recoverable or plugin.manifest.worker.restart.policy == "never"
    return plugin.status is Status.READY or (plugin.status is Status.ERROR and failed)


def check_in_place(directory: Path, check_schedule: CheckSchedule) -> Manifest:
    """As an install of the directory checks it. Blocking; for a thread.

    Raises:
        InvalidParams: it is gone, may be changed by others, or its manifest has problems.
        ResourceExhausted: it holds more than a package may.
    """
    try:
        real = directory.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise InvalidParams(f"there is no directory {directory} any more: put it back, or uninstall") from error
    if real != directory:
        raise InvalidParams(f"{directory} leads to {real} now: put a directory there, or install anew")
    if problem := parents_problem(real, os.geteuid()):
        raise InvalidParams(problem)
    manifest = check_directory(real, check_schedule)
    look_through(real, PackageLimits(), check_cancelled, trusted=False)
    return manifest
