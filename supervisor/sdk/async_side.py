"""The async half of a Worker: its handlers, hooks and background tasks in the event loop."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from supervisor.core.errors import CallCancelled
from supervisor.sdk.async_context import AsyncContext, AsyncRunContext
from supervisor.sdk.async_host import LoopHost
from supervisor.sdk.async_loop import Loop, Task, run_in
from supervisor.sdk.work import Work, print_traceback

if TYPE_CHECKING:
    from supervisor.sdk.serving import Worker

BackgroundTask = Callable[[AsyncContext], Awaitable[Any]]


class AsyncSide:
    """All of it is for other threads than the loop's."""

    def __init__(self, worker: Worker, background: Sequence[BackgroundTask]) -> None:
        self._worker = worker
        self._loop = Loop(
            worker.connection.never_wait,
            worker.leave_child,
            partial(worker.ending.crash, "the plugin's event loop has failed:"),
        )
        self._host = LoopHost(worker.connection)
        self._background = _Background(background, self._begin, partial(self.context, None), worker.ending.crash)

    def start(self) -> None:
        self._loop.start()

    def stop(self, timeout_s: float) -> None:
        self._loop.stop(timeout_s)

    def stalled_s(self) -> float:
        return self._loop.stalled_s()

    def context(self, run: Mapping[str, Any] | None) -> AsyncContext:
        worker = self._worker
        if run:
            return AsyncRunContext(self._host, worker.settings, worker.outlet, run)
        return AsyncContext(self._host, worker.settings, worker.outlet)

    def start_work(self, work: Work, finish: Callable[[Any], None]) -> None:
        """Run a handler; `finish` gets its result, or the SupervisorError instead of one."""

        async def run() -> Any:
            self._worker.outlet.enter_run(work.run_id)
            return await work.call()

        def on_done(outcome: Any) -> None:
            finish(work.failed(outcome) if isinstance(outcome, BaseException) else outcome)

        work.cancel_with(self._begin(run, on_done).cancel)

    def run_here(self, call: Callable[[], Awaitable[Any]], cancel_with: Callable[[Callable[[], None]], None]) -> Any:
        """Run it in the loop while this thread waits. Raises what it raises; CallCancelled."""
        return run_in(self._loop, call, lambda task: cancel_with(task.cancel))

    def _begin(self, work: Callable[[], Awaitable[Any]], on_done: Callable[[Any], None]) -> Task:
        task = Task(self._loop, work, on_done)
        task.start()
        return task

    def start_background(self) -> None:
        self._background.start()

    def stop_background(self, timeout_s: float) -> None:
        """Cancel the background tasks and wait so long for their end."""
        self._background.stop(timeout_s)


class _Background:
    """The plugin's background tasks. One that raises is `crash`."""

    def __init__(
        self,
        works: Sequence[BackgroundTask],
        begin: Callable[[Callable[[], Awaitable[Any]], Callable[[Any], None]], Task],
        context: Callable[[], AsyncContext],
        crash: Callable[[str, BaseException], None],
    ) -> None:
        self._works = works
        self._begin = begin
        self._context = context
        self._crash = crash
        self._tasks: list[Task] = []
        self._changed = threading.Condition()
        self._running = 0
        self._stopping = False

    def start(self) -> None:
        for work in self._works:
            with self._changed:
                self._running += 1
            self._tasks.append(self._begin(partial(work, self._context()), partial(self._ended, work)))

    def stop(self, timeout_s: float) -> None:
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        with self._changed:
            self._changed.wait_for(lambda: self._running == 0, timeout_s)

    def _ended(self, work: BackgroundTask, outcome: Any) -> None:
        if isinstance(outcome, BaseException):
            self._raised(f"the background task {getattr(work, '__name__', work)!r} failed:", outcome)
        with self._changed:
            self._running -= 1
            self._changed.notify_all()

    def _raised(self, what: str, error: BaseException) -> None:
        if not self._stopping:
            self._crash(what, error)
        elif not isinstance(error, CallCancelled):
            print_traceback(what, error)
