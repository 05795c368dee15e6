"""One lock per plugin, and the activation that a stopping command may cut short."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterator
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
        self._yields_to: Collection[str] | None = None
        self._overtaken_by = "another command"
        self._start_again: Callable[[], None] | None = None

    @property
    def overtaken_by(self) -> str:
        """The command that cut the last activation short."""
        return self._overtaken_by

    @property
    def is_overtaken(self) -> bool:
        """Whether the activation under way has been cut short."""
        return self._activation is not None and self._activation.cancel_called

    def overtake(self) -> None:
        """End the waiting of an activation: nobody waits 15 s for a worker he wants stopped."""
        first = next((name for name in self.overtakers if self._yields_to is None or name in self._yields_to), None)
        if self._activation is not None and first is not None:
            self._overtaken_by = first
            self._activation.cancel(reason=f"overtaken by {first}")

    @contextmanager
    def activation(self, *, yields_to: Collection[str] | None = None) -> Iterator[None]:
        """The part of a command that only waits for a worker to come up; left early when it is overtaken.

        `yields_to` are the commands that may do so, None all: one that would be refused afterwards gains nothing.
        """
        with trio.CancelScope() as scope:
            self._activation, self._yields_to = scope, yields_to
            self.overtake()
            try:
                yield
            finally:
                self._activation = None

    def owe_start(self, start_again: Callable[[], None]) -> None:
        """A command that was cut short has left the worker stopped, for whoever cut it wants it so. That one may fail
        yet: `start_again`, which starts it unless it is to have none, is called when nobody waits any more who does."""
        self._start_again = start_again

    def forgive_start(self) -> None:
        """It is to stay stopped."""
        self._start_again = None

    def pay(self) -> None:
        """Whoever lets go of the lock."""
        if self._start_again is not None and not self.overtakers:
            start_again, self._start_again = self._start_again, None
            start_again()

    def settle(self) -> None:
        """Within an activation: what follows is done to its end, and whoever wants the worker stopped waits."""
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
                lock.pay()
                lock.lock.release()
        finally:
            if not lock.lock.locked():  # Else whoever holds it does; and that one may be trying another worker.
                lock.pay()
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
