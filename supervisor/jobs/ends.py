"""Ends: write how runs ended, each until it is written: a full disk delays the end of a run, it does not lose it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import trio

from supervisor.clock import Clock, to_ms
from supervisor.core.errors import SupervisorError
from supervisor.core.job import RETRIED, Run, RunOutcome, RunState
from supervisor.jobs.active import ActiveRun
from supervisor.jobs.plan import retry_at
from supervisor.log import Logger

LAST_WRITE_S: Final = 5.0
"""At the daemon's stop: how long the last rows may take; what is not written by then is `interrupted` at the start."""
_RETRY_S: Final = 1.0
_MAX_RETRY_S: Final = 30.0
_WRITERS: Final = 32
"""That write ends which no task of a run's own sees to; what is written at once shares a commit."""


class RunRows(Protocol):
    """The part of `RunStore` that carries runs on."""

    async def start(self, runs: Sequence[Run]) -> frozenset[str]:
        """queued -> running; the ids of those that went."""

    async def finish(self, run: Run, outcome: RunOutcome, *, retry_at_ms: int | None = None) -> bool:
        """False: it has an end already, which stays."""


class Ends:
    def __init__(
        self,
        runs: RunRows,
        clock: Clock,
        log: Logger,
        *,
        on_ended: Callable[[ActiveRun], None],
        on_retry: Callable[[], None],
    ) -> None:
        """`on_ended`: the run's row has its end, or will have none from us. `on_retry`: there is one to come."""
        self._runs = runs
        self._clock = clock
        self._log = log
        self._on_ended = on_ended
        self._on_retry = on_retry
        self._queue: deque[tuple[ActiveRun, RunOutcome]] = deque()
        self._writers = 0

    async def record(self, active: ActiveRun, outcome: RunOutcome) -> None:
        """Return when the run's row has its end. Cancelled, it tries once more, for LAST_WRITE_S at most."""
        delay_s, recorded = _RETRY_S, False
        try:
            while not (recorded := await self._write(active, outcome)):
                await trio.sleep(delay_s)
                delay_s = min(2 * delay_s, _MAX_RETRY_S)
        finally:
            try:
                if not recorded:
                    # It is the daemon's stop that cancels; all runs that it cuts have this time together.
                    with trio.move_on_after(LAST_WRITE_S, shield=True):
                        await self._write(active, outcome)
            finally:
                self._on_ended(active)

    def record_soon(self, nursery: trio.Nursery, active: ActiveRun, outcome: RunOutcome) -> None:
        """The same for a run that never started: of thousands of them, a few are written at a time.

        What is left of them when the daemon stops stays queued.
        """
        self._queue.append((active, outcome))
        if self._writers < _WRITERS:
            self._writers += 1
            nursery.start_soon(self._write_queued)

    async def _write_queued(self) -> None:
        try:
            while self._queue:
                await self.record(*self._queue.popleft())
        finally:
            self._writers -= 1

    async def _write(self, active: ActiveRun, outcome: RunOutcome) -> bool:
        """Whether the run's row has its end: this one, or the one that came first."""
        run = active.run
        again_ms = None
        if outcome.state in RETRIED:
            again_ms = retry_at(active.spec, run, outcome.state, to_ms(self._clock.now()))
        try:
            won = await self._runs.finish(run, outcome, retry_at_ms=again_ms)
        except SupervisorError as error:
            self._log.error("run.not_recorded", run=run.id, job=f"{run.plugin_key}/{run.job_key}", error=error.message)
            return False
        if won and again_ms is not None:
            self._on_retry()
        if won or active.cancel_reason is not None:
            # Who cancelled it may have written its row first.
            state, error_text = (outcome.state, outcome.error) if won else (RunState.CANCELLED, active.cancel_reason)
            self._log.info(
                "run.ended",
                run=run.id,
                job=f"{run.plugin_key}/{run.job_key}",
                state=str(state),
                trigger=str(run.trigger),
                error=error_text,
            )
        return True
