"""Ends: write how runs ended, each until it is written: a full disk delays the end of a run, it does not lose it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final, Protocol

import trio

from supervisor.clock import Clock, to_ms
from supervisor.core.errors import SupervisorError
from supervisor.core.job import RETRIED, Run, RunEnd, RunOutcome, RunState
from supervisor.jobs.active import ActiveRun
from supervisor.jobs.gathering import Gathering
from supervisor.jobs.plan import retry_at
from supervisor.log import Logger

LAST_WRITE_S: Final = 5.0
"""At the daemon's stop: how long the last rows may take; what is not written by then is `interrupted` at the start."""
AT_ONCE: Final = 256
"""Ends in one transaction: starts and claims do not wait behind more."""
HOLD_S: Final = 0.5
"""How long ends let a burst of starts go first, at most."""
_RETRY_S: Final = 1.0
_MAX_RETRY_S: Final = 30.0


class RunRows(Protocol):
    """The part of `RunStore` that carries runs on."""

    async def start(self, runs: Sequence[Run]) -> frozenset[str]:
        """queued -> running; the ids of those that went."""

    async def finish_all(self, ends: Sequence[RunEnd]) -> frozenset[str]:
        """The ids of those that end by this; the others have an end already, which stays."""


class Ends:
    """One task writes, in the order of ending: while a transaction is under way the next one's ends come together."""

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
        self._added = trio.Event()
        self._empty = trio.Event()
        self._quiet = trio.Event()
        self._quiet.set()
        self._gathering = Gathering()

    def hold(self, *, on: bool) -> None:
        """More runs are being claimed: what starts them goes first. Their lateness is seen, that of ends is not."""
        if not on:
            self._quiet.set()
        elif self._quiet.is_set():
            self._quiet = trio.Event()

    def add(self, active: ActiveRun, outcome: RunOutcome) -> None:
        self._queue.append((active, outcome))
        self._added.set()

    async def run(self) -> None:
        """Write what is added, until cancelled. What fails is tried again, and what comes after it waits."""
        delay_s = _RETRY_S
        while True:
            if not self._queue:
                self._empty.set()
                self._added, self._empty = trio.Event(), trio.Event()
                await self._added.wait()
            with trio.move_on_after(HOLD_S):
                await self._quiet.wait()
            await self._gathering.gather()
            if await self._write():
                delay_s = _RETRY_S
            else:
                await trio.sleep(delay_s)
                delay_s = min(2 * delay_s, _MAX_RETRY_S)

    async def wait_written(self) -> None:
        """Return when `run` has written all that was added so far."""
        if self._queue:
            await self._empty.wait()

    async def write_last(self) -> None:
        """After `run`: try once more. Shielded, since it is the daemon's stop that cancels; LAST_WRITE_S at most."""
        with trio.move_on_after(LAST_WRITE_S, shield=True):
            while self._queue and await self._write():
                pass
        for active, _ in self._queue:
            self._on_ended(active)
        self._queue.clear()

    async def _write(self) -> bool:
        """False: the database failed. An end leaves the queue when it is durable; between the two is no checkpoint."""
        batch = list(islice(self._queue, AT_ONCE))
        now_ms = to_ms(self._clock.now())
        ends = [RunEnd(active.run, outcome, _retry_at(active, outcome, now_ms)) for active, outcome in batch]
        try:
            won = await self._runs.finish_all(ends)
        except SupervisorError as error:
            self._log.error("runs.not_recorded", runs=len(self._queue), error=error.message)
            return False
        for (active, outcome), end in zip(batch, ends, strict=True):
            self._queue.popleft()
            self._tell(active, outcome, active.run.id in won)
            self._on_ended(active)
            if end.retry_at_ms is not None and active.run.id in won:
                self._on_retry()
        return True

    def _tell(self, active: ActiveRun, outcome: RunOutcome, won: bool) -> None:
        if not won and active.cancel_reason is None:
            return  # It had its end, and whoever wrote that has told it.
        # Who cancelled it may have written its row first.
        state, error = (outcome.state, outcome.error) if won else (RunState.CANCELLED, active.cancel_reason)
        run = active.run
        self._log.info(
            "run.ended",
            run=run.id,
            job=f"{run.plugin_key}/{run.job_key}",
            state=str(state),
            trigger=str(run.trigger),
            error=error,
        )


def _retry_at(active: ActiveRun, outcome: RunOutcome, now_ms: int) -> int | None:
    return retry_at(active.spec, active.run, outcome.state, now_ms) if outcome.state in RETRIED else None
