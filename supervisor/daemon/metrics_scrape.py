"""Scrape: the daemon's numbers as Prometheus text, one at a time, without holding up the event loop."""

from __future__ import annotations

import trio

from supervisor.daemon.metrics_snapshot import Snapshot, Sources, take_snapshot


class Scrape:
    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._turn = trio.Lock()
        self._thread = trio.CapacityLimiter(1)

    async def warm_up(self) -> None:
        """Have the first one take no longer than those that follow."""
        await trio.to_thread.run_sync(_import, limiter=self._thread)

    async def text(self, *, plugins: bool) -> str:
        """`plugins`: with what plugins tell of themselves."""
        async with self._turn:  # However many ask: one reading of all workers, one text in memory.
            snapshot = await take_snapshot(self._sources, own=plugins)
            return await trio.to_thread.run_sync(_print, snapshot, limiter=self._thread)


def _print(snapshot: Snapshot) -> str:
    # Here, since the library takes longer to import than the daemon to start, and many never ask.
    from supervisor.daemon.metrics_text import to_text

    return to_text(snapshot)


def _import() -> None:
    import supervisor.daemon.metrics_text  # noqa: F401
