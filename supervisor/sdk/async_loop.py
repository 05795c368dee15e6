"""The plugin's event loop: trio in a thread of its own, started only for a plugin that has async handlers."""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import trio

from supervisor.core.errors import CallCancelled


class Loop:
    """`on_start` is called first in its thread; `on_ended` with each task's outcome, before anybody else has it;
    `on_broken` when trio itself has failed: nothing runs here any more."""

    def __init__(
        self, on_start: Callable[[], None], on_ended: Callable[[Any], None], on_broken: Callable[[BaseException], None]
    ) -> None:
        self._on_start = on_start
        self.on_ended = on_ended
        self._on_broken = on_broken
        self._lock = threading.Lock()
        self._early: list[Callable[[], object]] | None = []
        """What is to be done once the loop runs; None when it does."""
        self._token: trio.lowlevel.TrioToken | None = None
        self._tasks: set[Task] = set()
        self._until = trio.CancelScope()
        self._nursery: trio.Nursery | None = None
        self._asked_to_turn: float | None = None
        """Since when the loop has not shown that it turns, in monotonic seconds."""
        self._thread = threading.Thread(target=self._run, name="event loop", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def post(self, call: Callable[[], object]) -> bool:
        """Do it in the loop, soon and in order; False if the loop has ended. From any thread."""
        with self._lock:
            if self._early is not None:
                self._early.append(call)
                return True
        try:
            if self._token is not None:
                self._token.run_sync_soon(call)
        except trio.RunFinishedError:
            return False
        return True

    def stalled_s(self) -> float:
        """For how many seconds the loop is known not to have turned: since the first call that it left unanswered."""
        now = time.monotonic()
        if self._asked_to_turn is not None:
            return now - self._asked_to_turn
        self._asked_to_turn = now
        self.post(self._turned)
        return 0.0

    def stop(self, timeout_s: float) -> None:
        """Cancel what still runs, and wait so long for the end. From any other thread."""
        self.post(self._cancel_all)
        self._thread.join(timeout_s)

    def begin(self, task: Task) -> bool:
        """In the loop: run the task; False if the loop is about to end."""
        if self._nursery is None or self._until.cancel_called:
            return False
        self._tasks.add(task)
        self._nursery.start_soon(self._carry_out, task)
        return True

    async def _carry_out(self, task: Task) -> None:
        try:
            await task.run()
        finally:
            self._tasks.discard(task)

    def _turned(self) -> None:
        self._asked_to_turn = None

    def _cancel_all(self) -> None:
        # Each by its own scope, so that a cancelled task can be told from one whose surroundings were.
        self._until.cancel(reason="the worker has stopped")
        for task in self._tasks:
            task.scope.cancel(reason="the worker has stopped")

    def _run(self) -> None:
        self._on_start()
        try:
            trio.run(self._main)
        except BaseException as error:  # noqa: BLE001  the top of a thread: without its loop the worker is no good
            self._on_broken(error)

    async def _main(self) -> None:
        async with trio.open_nursery() as self._nursery:
            with self._lock:
                self._token = trio.lowlevel.current_trio_token()
                # Before anything that is posted from now on.
                early, self._early = self._early or [], None
                for call in early:
                    self._token.run_sync_soon(call)
            with self._until:
                await trio.sleep_forever()


class Task:
    """`work` in the loop; `on_done` is called, once, with what it returned, or with its exception.

    For one that was cancelled, or came too late for the loop, that is CallCancelled. It is called in the loop, and
    must not wait; only when the loop has ended it is called in the thread that starts the task.
    """

    def __init__(self, loop: Loop, work: Callable[[], Awaitable[Any]], on_done: Callable[[Any], None]) -> None:
        self.scope = trio.CancelScope()
        self._loop = loop
        self._work = work
        self._on_done = on_done

    def start(self) -> None:
        """From any thread."""
        if not self._loop.post(self._begin):
            self._refuse()

    def cancel(self) -> None:
        """From any thread; also before it has begun."""
        self._loop.post(partial(self.scope.cancel, reason="nobody waits for it any more"))

    def _begin(self) -> None:
        if not self._loop.begin(self):
            self._refuse()

    def _refuse(self) -> None:
        self._on_done(CallCancelled("the event loop has ended"))

    async def run(self) -> None:
        outcome: Any = CallCancelled("it was cancelled")
        try:
            with self.scope:
                outcome = await self._work()
        except BaseException as error:  # noqa: BLE001  the top of a task: one handler's end is not the loop's
            outcome = error
        self._loop.on_ended(outcome)
        self._on_done(outcome)


def run_in(loop: Loop, work: Callable[[], Awaitable[Any]], started: Callable[[Task], None]) -> Any:
    """Run `work` in the loop and wait for its end, in another thread; `started` gets the task, to cancel it.

    Raises:
        CallCancelled: it was cancelled.
        BaseException: what it raised.
    """
    over = threading.Event()
    outcomes: list[Any] = []

    def on_done(outcome: Any) -> None:
        outcomes.append(outcome)
        over.set()

    task = Task(loop, work, on_done)
    started(task)
    task.start()
    over.wait()
    if isinstance(outcomes[0], BaseException):
        raise outcomes[0]
    return outcomes[0]
