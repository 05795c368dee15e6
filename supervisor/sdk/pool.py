"""Plain threads for handlers: made when there is work and none is idle, up to a limit; more work waits in order."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

Task = Callable[[], None]
"""Never raises."""


class Pool:
    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._tasks: deque[Task] = deque()
        self._changed = threading.Condition()
        self._threads = 0
        self._idle = 0

    def submit(self, task: Task) -> None:
        with self._changed:
            self._tasks.append(task)
            if len(self._tasks) > self._idle and self._threads < self._limit:
                self._threads += 1
                threading.Thread(target=self._work, name=f"handler-{self._threads}", daemon=True).start()
            else:
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
                self._changed.wait_for(lambda: self._tasks)
                self._idle -= 1
                task = self._tasks.popleft()
            task()
