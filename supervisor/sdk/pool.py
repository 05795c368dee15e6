"""Plain threads for handlers: made when there is work and none is idle, up to a limit; more work waits in order."""

from __future__ import annotations

import threading
import time
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
        self._hurried = False

    def submit(self, task: Task) -> None:
        with self._changed:
            self._tasks.append(task)
            if len(self._tasks) > self._idle and self._threads < self._limit:
                self._threads += 1
                threading.Thread(target=self._work, name=f"handler-{self._threads}", daemon=True).start()
            else:
                self._changed.notify_all()

    def withdraw(self, task: Task) -> bool:
        """Take back a task that has not begun; whether it was so."""
        with self._changed:
            if task not in self._tasks:
                return False
            self._tasks.remove(task)
            self._changed.notify_all()
            return True

    def wait_idle(self, timeout_s: float) -> bool:
        """Wait until nothing runs or waits; whether it is so. `hurry` ends all waiting."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            self._changed.wait_for(lambda: self._hurried or self._at_rest(), max(0.0, deadline - time.monotonic()))
            return self._at_rest()

    def hurry(self) -> None:
        """Let who waits in `wait_idle` go on."""
        with self._changed:
            self._hurried = True
            self._changed.notify_all()

    def calm(self) -> None:
        """Waiting in `wait_idle` is waiting again."""
        with self._changed:
            self._hurried = False

    def _at_rest(self) -> bool:
        return not self._tasks and self._idle == self._threads

    def _work(self) -> None:
        while True:
            with self._changed:
                self._idle += 1
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._tasks)
                self._idle -= 1
                task = self._tasks.popleft()
            task()
