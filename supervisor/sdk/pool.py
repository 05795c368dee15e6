"""Plain threads for handlers: made when there is work and none is idle, up to a limit; more work waits in order."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from supervisor.core.errors import ResourceExhausted
from supervisor.sdk.work import print_traceback

Task = Callable[[], None]
"""Answers what it raises by itself."""


class Pool:
    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._tasks: deque[Task] = deque()
        self._changed = threading.Condition()
        self._threads = 0
        self._idle = 0
        self._closed = False

    def submit(self, task: Task) -> None:
        """Run it when a thread is free.

        Raises:
            ResourceExhausted: the pool has no thread, and the system gives none.
        """
        with self._changed:
            self._tasks.append(task)
            if len(self._tasks) > self._idle and self._threads < self._limit:
                self._add_thread(task)
            else:
                self._changed.notify()

    def close(self) -> None:
        """Let each thread end once it has nothing to do; what has not begun is dropped."""
        with self._changed:
            self._closed = True
            self._tasks.clear()
            self._changed.notify_all()

    def _add_thread(self, task: Task) -> None:
        self._threads += 1
        try:
            threading.Thread(target=self._work, name=f"handler-{self._threads}", daemon=True).start()
        except RuntimeError as error:
            self._threads -= 1
            if self._threads == 0:
                self._tasks.remove(task)
                raise ResourceExhausted(f"the worker cannot start a thread for a handler: {error}") from error
            # The threads that there are will come to it.
            self._changed.notify()

    def withdraw(self, task: Task) -> bool:
        """Take back a task that has not begun; whether it was so."""
        with self._changed:
            if task not in self._tasks:
                return False
            self._tasks.remove(task)
            return True

    def _work(self) -> None:
        while True:
            with self._changed:
                self._idle += 1
                self._changed.wait_for(lambda: self._tasks or self._closed)
                self._idle -= 1
                if not self._tasks:
                    return
                task = self._tasks.popleft()
            try:
                task()
            except BaseException as error:  # noqa: BLE001  the next task is to find this thread
                print_traceback("a handler's thread failed:", error)
