"""HistoryKeeper: old runs are deleted at the start and from time to time, so that history stays bounded."""

from __future__ import annotations

from typing import Final

import trio

from supervisor.core.errors import SupervisorError
from supervisor.log import Logger
from supervisor.store.run_history import KEEP_MS, KEEP_RUNS
from supervisor.store.runs import RunStore

INTERVAL_S: Final = 6 * 3600.0


class HistoryKeeper:
    def __init__(
        self,
        runs: RunStore,
        log: Logger,
        *,
        keep_runs: int = KEEP_RUNS,
        keep_ms: int = KEEP_MS,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._runs = runs
        self._log = log
        self.keep_runs = keep_runs
        self.keep_ms = keep_ms
        """Both may be changed: the next look goes by them."""
        self._interval_s = interval_s

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled; what fails is logged and tried again at the next time."""
        task_status.started()
        while True:
            try:
                deleted = await self._runs.trim(keep_runs=self.keep_runs, keep_ms=self.keep_ms)
                if deleted:
                    self._log.info("runs.trimmed", deleted=deleted)
            except SupervisorError as error:
                self._log.warning("runs.not_trimmed", error=error.message, retry_in_s=self._interval_s)
            await trio.sleep(self._interval_s)
