"""One lock per plugin, and the activation that a stopping command may cut short."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import trio


class PluginLock:
    """Commands on one plugin hold it one after the other, in the order of their arrival."""

    def __init__(self) -> None:
        self.lock = trio.Lock()
        self.users = 0
        self.overtakers: list[str] = []
        """Commands that wait for the lock and want the worker stopped, the first one first."""
        self._activation: trio.CancelScope | None = None
        self._overtaken_by = "another command"

    @property
    def overtaken_by(self) -> str:
        """The command that cut the last activation short."""
        return self._overtaken_by

    def overtake(self) -> None:
        """End the waiting of an activation: nobody waits 15 s for a worker he wants stopped."""
        if self._activation is not None:
            self._overtaken_by = self.overtakers[0]
            self._activation.cancel(reason=f"overtaken by {self._overtaken_by}")

    @contextmanager
    def activation(self) -> Iterator[None]:
        """The part of a command that only waits for a worker to come up; left early when it is overtaken."""
        with trio.CancelScope() as scope:
            self._activation = scope
            if self.overtakers:
                self.overtake()
            try:
                yield
            finally:
                self._activation = None


class PluginLocks:
    """Locks by plugin key; one exists as long as somebody holds it or waits for it."""

    def __init__(self) -> None:
        self._locks: dict[str, PluginLock] = {}

    @asynccontextmanager
    async def hold(self, key: str, *, overtaking: str | None = None) -> AsyncIterator[PluginLock]:
        """Hold the lock of `key`; `overtaking` names a command that does not wait for an activation to end."""
        lock = self._locks.setdefault(key, PluginLock())
        lock.users += 1
        try:
            await self._acquire(lock, overtaking)
            try:
                yield lock
            finally:
                lock.lock.release()
        finally:
            lock.users -= 1
            if not lock.users:
                del self._locks[key]

    async def _acquire(self, lock: PluginLock, overtaking: str | None) -> None:
        if overtaking is None:
            await lock.lock.acquire()
            return
        lock.overtakers.append(overtaking)
        try:
            lock.overtake()
            await lock.lock.acquire()
        finally:
            lock.overtakers.remove(overtaking)
