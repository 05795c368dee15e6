"""What a worker uses, over all its processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import trio

from supervisor.wire.results import UsageInfo
from supervisor.worker.procfs import TICKS_PER_S, ProcessStat, open_files
from supervisor.worker.watch import Adopted

_FRESH_S: Final = 1.0


class Meter:
    """Of one worker, from its start. `renew` it where waiting is possible; a process that vanishes meanwhile is just
    not counted."""

    def __init__(
        self, look: Callable[[Adopted | None], Sequence[ProcessStat]], cpu_s: Callable[[], float | None]
    ) -> None:
        """`cpu_s`: the processor time of all who ever were the worker's, where somebody has counted it."""
        self._look = look
        self._cpu_s = cpu_s
        self._cpu_before_s = 0.0
        self.cpu_s = 0.0
        """Processor time in all, as of the last look. It only grows."""
        self._looked_at = trio.current_time()
        self._last: UsageInfo | None = None

    def last(self, now: float) -> UsageInfo | None:
        """What was found within the last second; None: look again. `now` is on trio's clock."""
        return self._last if now - self._looked_at < _FRESH_S else None

    def renew(self, now: float, adopted: Adopted | None = None) -> UsageInfo | None:
        """Look; None if it has no process. The share of the processor is that since the look before, at first since
        the start. Without the dear number.

        One at a time, which may be in another thread. `adopted`: see `Kin.look`.
        """
        found = self._look(adopted)
        self._last = _usage(found, self._cpu_percent(found, now)) if found else None
        return self._last

    def _cpu_percent(self, found: Sequence[ProcessStat], now: float) -> float | None:
        counted = self._cpu_s()
        used_s = sum(process.cpu_ticks for process in found) / TICKS_PER_S if counted is None else counted
        took_s, self._looked_at = now - self._looked_at, now
        # Never below 0: the time of a process that nobody waited for goes with it.
        share = max(0.0, used_s - self._cpu_before_s)
        self._cpu_before_s = used_s
        self.cpu_s += share
        return round(100 * share / took_s, 1) if took_s > 0 else None


def _usage(found: Sequence[ProcessStat], cpu_percent: float | None) -> UsageInfo:
    files = [count for process in found if (count := open_files(process.pid)) is not None]
    return UsageInfo(
        cpu_percent=cpu_percent,
        rss_bytes=sum(process.rss_bytes for process in found),
        pss_bytes=None,
        threads=sum(process.threads for process in found),
        processes=len(found),
        open_files=sum(files) if files else None,
    )
