"""What was refused at the door, logged so sparingly that nobody can flood the log with it."""

from __future__ import annotations

from typing import Final

import trio

from supervisor.log import get_logger

_MOST: Final = 20
_PERIOD_S: Final = 60.0


class Refusals:
    """At most so many lines in a period; what was left out is said with the next one."""

    def __init__(self, *, most: int = _MOST, period_s: float = _PERIOD_S) -> None:
        self._most = most
        self._period_s = period_s
        self._left = most
        self._begun: float | None = None
        self._left_out = 0

    def connection(self, why: str, **fields: int | str) -> None:
        self._tell("connection.refused", why=why, **fields)

    def request(self, method: str, required: str, **fields: int | str) -> None:
        self._tell("request.denied", method=method, required=required, **fields)

    def _tell(self, event: str, **fields: int | str) -> None:
        now = trio.current_time()
        if self._begun is None or now - self._begun >= self._period_s:
            self._begun, self._left = now, self._most
        if not self._left:
            self._left_out += 1
            return
        self._left -= 1
        left_out, self._left_out = self._left_out, 0
        if left_out:
            fields["left_out_before"] = left_out
        get_logger(**fields).warning(event)
