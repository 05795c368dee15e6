"""Look every second whether a worker keeps the limits that nobody else enforces."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import trio

from supervisor.worker.crash import Crash
from supervisor.worker.limits import MIB, breach
from supervisor.worker.procfs import ProcessStat, pss_bytes

_EVERY_S: Final = 1.0


async def wait_breach(
    watched: Mapping[str, int],
    look: Callable[[], Sequence[ProcessStat]],
    looked: Callable[[Sequence[ProcessStat]], None],
) -> Crash:
    """Return when the processes that `look` finds exceed one of `watched` (memory_mb, pids).

    `looked` is told what was found while all is well. With nothing to watch it costs nothing.
    """
    while not watched:
        await trio.sleep_forever()
    while True:
        await trio.sleep(_EVERY_S)
        found = look()
        used = sum(process.rss_bytes for process in found)
        if used > watched.get("memory_mb", used) * MIB:
            # What several processes share counts in each of them. To know better is dear, so only now.
            used = shared_out_bytes(found)
        if crash := breach(watched, used_bytes=used, tasks=sum(process.threads for process in found)):
            return crash
        looked(found)


def shared_out_bytes(processes: Sequence[ProcessStat]) -> int:
    """The memory of all, what they share counted once; of one that does not let us look, all that it has mapped."""
    return sum(process.rss_bytes if (pss := pss_bytes(process.pid)) is None else pss for process in processes)
