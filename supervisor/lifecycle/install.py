"""Install: files and row come together, or not at all; and who requires whom stays sound."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from supervisor.core.errors import AlreadyExists, ApprovalRequired
from supervisor.core.lifecycle import Status
from supervisor.core.manifest import Manifest
from supervisor.core.plugin import Capability, Plugin
from supervisor.faultpoints import FaultPoint
from supervisor.lifecycle.cleaning import Adding, Cleaner, Removing
from supervisor.lifecycle.locks import PluginLock, PluginLocks
from supervisor.lifecycle.operation import Operation
from supervisor.lifecycle.parts import Parts
from supervisor.lifecycle.sources import Source
from supervisor.lifecycle.staging import Staged
from supervisor.log import get_logger

_ADDING: Final = Adding(
    intent_written=FaultPoint.INSTALL_INTENT_WRITTEN, files_stored=FaultPoint.INSTALL_FILES_STORED, undone=Removing()
)


class Installer:
    """The lifecycle manager's part that takes plugins in."""

    def __init__(self, parts: Parts, cleaner: Cleaner) -> None:
        self._parts = parts
        self._cleaner = cleaner

    async def install(
        self, source: Source, *, uid: int | None, agreed: frozenset[Capability] | None, operation: Operation
    ) -> Plugin:
        parts = self._parts

        async def look(manifest: Manifest) -> None:
            self._refuse(manifest)
            _refuse_more(manifest, agreed)

        async with parts.packages.staged(source, operation, look) as staged:
            parts.faults.reach(FaultPoint.INSTALL_STAGED)
            async with abortable_hold(parts.locks, staged.manifest.key, operation):
                plugin = await self._store(staged, uid)
        get_logger().info("plugin.installed", plugin=plugin.key, version=plugin.version)
        return plugin

    async def _store(self, staged: Staged, uid: int | None) -> Plugin:
        manifest, parts = staged.manifest, self._parts
        # Again, for it took long to build, and before the files move; the registry refuses too, for it alone knows.
        self._refuse(manifest)
        async with self._cleaner.adding(staged, _ADDING) as (package, intent), parts.requirements.graph:
            # Again: what it requires may be gone by now, or require it. Each plugin's own lock does not see that.
            parts.requirements.refuse_install(manifest)
            approved = frozenset(manifest.capabilities)
            plugin = await parts.registry.install(package, approved=approved, uid=uid, ends=intent)
            parts.faults.reach(FaultPoint.INSTALL_ROW_WRITTEN)
            return plugin

    def _refuse(self, manifest: Manifest) -> None:
        self._refuse_twin(manifest.key)
        self._parts.requirements.refuse_install(manifest)

    def _refuse_twin(self, key: str) -> None:
        there = self._parts.registry.find(key)
        if there is not None and there.status is not Status.UNINSTALLED:
            raise AlreadyExists(
                f"plugin {key!r} is installed already: version {there.version}, {there.status}; upgrade it, or "
                "uninstall it first",
                plugin=key,
                version=there.version,
                status=str(there.status),
            )


@asynccontextmanager
async def abortable_hold(locks: PluginLocks, key: str, operation: Operation) -> AsyncIterator[PluginLock]:
    """Hold a plugin's lock; the wait for it may still be aborted, what follows may not.

    Raises:
        CallCancelled: the caller has cancelled it.
    """
    async with AsyncExitStack() as stack:
        with operation.phase("store", math.inf):
            lock = await stack.enter_async_context(locks.hold(key))
        operation.enter("store")
        yield lock


def _refuse_more(manifest: Manifest, agreed: frozenset[Capability] | None) -> None:
    """
    Raises:
        ApprovalRequired: it asks for more than was agreed to.
    """
    asked = frozenset(manifest.capabilities)
    if agreed is not None and (more := sorted(asked - agreed)):
        raise ApprovalRequired(
            f"plugin {manifest.key!r} {manifest.version} asks for {', '.join(more)}, which nobody has agreed to: look "
            "at what it asks for, and install it again agreeing to that; nothing was changed",
            plugin=manifest.key,
            version=manifest.version,
            capabilities=sorted(asked),
        )
