"""A run or a call that a test has asked for and does not wait for. For `testing` only."""

from __future__ import annotations

import threading
from typing import Any

from supervisor.core.errors import DeadlineExceeded
from supervisor.sdk.connection import Connection, answer
from supervisor.wire.peer import CANCEL


class Started:
    """A run or a call that is under way."""

    def __init__(self, connection: Connection, method: str, params: dict[str, Any], timeout_s: float) -> None:
        self._connection = connection
        self._method = method
        self._timeout_s = timeout_s
        self._outcome: Any = None
        self._done = threading.Event()
        self._id = connection.ask(method, [params], self._settle)

    @property
    def done(self) -> bool:
        return self._done.is_set()

    def cancel(self) -> None:
        """As plugind does: tell the worker. What becomes of it is its `result`."""
        self._connection.notify(CANCEL, [self._id])

    def result(self, timeout_s: float | None = None) -> Any:
        """Wait for the answer.

        Raises:
            SupervisorError: what the plugin answered; CallCancelled when it ended because of `cancel`.
            DeadlineExceeded: none came in time.
        """
        if not self._done.wait(self._timeout_s if timeout_s is None else timeout_s):
            raise DeadlineExceeded(f"{self._method} was not answered in time", method=self._method)
        return answer(self._method, self._outcome)

    def _settle(self, outcome: Any) -> None:
        self._outcome = outcome
        self._done.set()
