"""Look every second whether workers keep the limits that nobody else enforces."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import floor, inf
from typing import Final

import trio

from supervisor.log import log
from supervisor.worker.crash import Crash
from supervisor.worker.limits import MIB, breach
from supervisor.worker.procfs import ProcessStat, pss_bytes

_EVERY_S: Final = 1.0

Adopted = Callable[[], Sequence[ProcessStat]]


class Watch:
    """Of all workers: they wait for the same instant of each second, so that many wake us no more often than one.

    Each looks in a task of its own, so that one whose look fails harms no other; one after the other, and between two
    of them everything else gets its turn.
    """

    def __init__(self, adopted: Adopted) -> None:
        """`adopted` lists those of our children that are nobody's worker: asked once a second, however many look."""
        self._list_adopted = adopted
        self._listed: Sequence[ProcessStat] = ()
        self._listed_in = -inf
        self._turn = trio.Lock()

    async def wait_breach(
        self,
        watched: Mapping[str, int],
        look: Callable[[Adopted], Sequence[ProcessStat]],
        looked: Callable[[Sequence[ProcessStat]], None],
    ) -> Crash:
        """Return when the processes that `look` finds exceed one of `watched` (memory_mb, pids).

        `look` is given the children that may be among them, as they were within the last second, and `looked` is told
        what was found while all is well. With nothing to watch it costs nothing. What the kernel does not let us see
        now, as we have no descriptor left, is looked for again in the next second.
        """
        while not watched:
            await trio.sleep_forever()
        failed = False
        while True:
            await trio.sleep_until(_second() + _EVERY_S)
            async with self._turn:
                try:
                    crash = _look_once(watched, lambda: look(self._adopted), looked)
                    failed = False
                except OSError as error:
                    crash = None
                    if not failed:
                        log.error("limits.not_looked_at", limits=dict(watched), error=str(error))
                    failed = True
            if crash:
                return crash

    def _adopted(self) -> Sequence[ProcessStat]:
        if self._listed_in != (now := _second()):
            self._listed, self._listed_in = self._list_adopted(), now
        return self._listed


def _second() -> float:
    """The last instant at which all look."""
    return floor(trio.current_time() / _EVERY_S) * _EVERY_S


def _look_once(
    watched: Mapping[str, int],
    look: Callable[[], Sequence[ProcessStat]],
    looked: Callable[[Sequence[ProcessStat]], None],
) -> Crash | None:
    found = look()
    used = sum(process.rss_bytes for process in found)
    if used > watched.get("memory_mb", used) * MIB:
        # What several processes share counts in each of them. To know better is dear, so only now.
        used = shared_out_bytes(found)
    if crash := breach(watched, used_bytes=used, tasks=sum(process.threads for process in found)):
        return crash
    looked(found)
    return None


def shared_out_bytes(processes: Sequence[ProcessStat]) -> int:
    """The memory of all, what they share counted once; of one that does not let us look, all that it has mapped."""
    return sum(process.rss_bytes if (pss := pss_bytes(process.pid)) is None else pss for process in processes)
