"""One call: what it says each time it is asked, and whether it is asked again. Pure.

Instants are those of the caller's clock, in seconds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from client import protocol
from client.backoff import Backoff
from client.errors import Conflict, ConnectionLost, DaemonNotRunning, SupervisorError, Unavailable, outcome_unknown

TYPE_CHECKING = False  # type checkers know the name; `typing` itself would be half of what a blocking program imports
if TYPE_CHECKING:
    from typing import Any

RECONNECT_S = 5.0


def fresh_request_id() -> str:
    """One that nobody else has."""
    return os.urandom(16).hex()


class Contact:
    """What a client's connections have shown: since when the daemon that had answered does not, None if it does.

    None, too, if it never has: there is nothing to wait for then.
    """

    def __init__(self, lost_at: float | None = None) -> None:
        self.lost_at = lost_at

    def made(self) -> None:
        self.lost_at = None

    def lost(self, now: float) -> None:
        if self.lost_at is None:
            self.lost_at = now


class Terms:
    """What a client wants of each of its calls.

    `timeout_s` limits what answers at once, `limit_s` everything, and `reconnect_s` how long a daemon that is gone is
    waited for, where a call may be repeated; in seconds, None is no limit. `request_ids` gives each change its id;
    None: changes have none, and are never asked twice.
    """

    def __init__(
        self,
        timeout_s: float | None,
        reconnect_s: float,
        limit_s: float | None = None,
        request_ids: Callable[[], str] | None = None,
    ) -> None:
        self.timeout_s = timeout_s
        self.reconnect_s = reconnect_s
        self.limit_s = limit_s
        self.request_ids = request_ids

    def within(self, limit_s: float) -> Terms:
        return Terms(limit_s, self.reconnect_s, limit_s, self.request_ids)

    def once(self, request_id: str | None) -> Terms:
        ids = fresh_request_id if request_id is None else lambda: request_id
        return Terms(self.timeout_s, self.reconnect_s, self.limit_s, ids)


class Call:
    """`message()` is what to send at each try, `pause_s` says after a failure how long to wait for the next."""

    def __init__(
        self,
        method: str,
        params: Mapping[str, Any],
        terms: Terms,
        contact: Contact,
        now: float,
        *,
        progress: bool = False,
    ) -> None:
        limit_s, self._told_s = protocol.time_limits_s(method, params, terms.timeout_s, terms.limit_s)
        self.method = method
        self.deadline = None if limit_s is None else now + limit_s
        self._params = params
        self._limit_s = limit_s
        self._reconnect_s = terms.reconnect_s
        self._contact = contact
        self._begun = now
        self._waited_s = 0.0
        """From the beginning to the latest try."""
        self._progress = progress
        numbered = terms.request_ids is not None and protocol.is_change(method)
        self._request_id = terms.request_ids() if terms.request_ids is not None and numbered else None
        self._repeatable = numbered or method in protocol.READS
        self._lost_at: float | None = None
        self._in_doubt = False
        """It was sent, and the answer was lost."""
        self._backoff = Backoff()

    def left_s(self) -> float | None:
        """How long to wait for the answer to this try."""
        return None if self._limit_s is None else self._limit_s - self._waited_s

    def message(self) -> list[Any]:
        """The params as they travel."""
        told_s, params = self._told_s, self._params
        if self._waited_s and told_s is not None:
            told_s -= self._waited_s
        if self._waited_s and "timeout_s" in params:
            params = {**params, "timeout_s": max(params["timeout_s"] - self._waited_s, 0.001)}
        return protocol.to_params(params, told_s, progress=self._progress, request_id=self._request_id)

    def pause_s(self, error: SupervisorError, now: float) -> float | None:
        """Seconds until it is to be asked again; None: `error` is its end."""
        if not self._repeatable:
            return None
        left_s = self._patience_s(error, now)
        pause_s = min(self._backoff.next_s(), left_s)
        if left_s <= 0 or (self.deadline is not None and now + pause_s >= self.deadline):
            return None
        self._waited_s = now + pause_s - self._begun
        return pause_s

    def _patience_s(self, error: SupervisorError, now: float) -> float:
        if self._is_later(error):
            self._lost_at = now  # it is there: its time to come back begins anew when it goes
            return float("inf")
        if not isinstance(error, ConnectionLost | DaemonNotRunning):
            return 0.0
        self._in_doubt = self._in_doubt or isinstance(error, ConnectionLost)
        if self._lost_at is None:
            self._lost_at = self._contact.lost_at
        return 0.0 if self._lost_at is None else self._lost_at + self._reconnect_s - now

    def _is_later(self, error: SupervisorError) -> bool:
        """Whether the daemon has answered that it will answer later: it is being restarted, or still at this very
        request."""
        if isinstance(error, Unavailable):
            return error.details.get("stopping") is True
        mine = self._request_id is not None and error.details.get("request_id") == self._request_id
        return mine and isinstance(error, Conflict)

    def outcome(self, error: SupervisorError) -> SupervisorError:
        """What the caller is told at the end: the error, and under which id to ask for what is not known."""
        if self._request_id is None:
            return error
        if self._in_doubt and isinstance(error, ConnectionLost | DaemonNotRunning):
            return outcome_unknown(error, self.method, self._request_id)
        error.details = {**error.details, "request_id": self._request_id}
        return error
