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

    One that never has is not waited for: `had` says whether it is worth it.
    """

    def __init__(self, lost_at: float | None = None) -> None:
        self.lost_at = lost_at
        self.had = lost_at is not None

    def made(self) -> None:
        """It has answered."""
        self.had = True
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
        self.timeout_s = protocol.seconds("timeout_s", timeout_s)
        reconnect = protocol.seconds("reconnect_s", reconnect_s)
        self.reconnect_s = float("inf") if reconnect is None else reconnect
        self.limit_s = protocol.seconds("timeout_s", limit_s)
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
        self.sent = True
        """Whether the latest try came so far, and did not fail in connecting."""
        self.answered = False
        """Whether its error is the daemon's answer, and no failure on the way."""
        self._params = params
        self._connect_s = terms.timeout_s
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
        """It was sent, and no answer came."""
        self._backoff = Backoff()

    def left_s(self, now: float) -> float | None:
        """How long to wait for the answer."""
        return None if self.deadline is None else max(0.0, self.deadline - now)

    def connect_by(self, now: float) -> float | None:
        """Until when to wait for a connection, hello answered: even for what may itself take as long as it takes."""
        if self.deadline is None and self._connect_s is not None:
            return now + self._connect_s
        return self.deadline

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
        self._in_doubt = self._in_doubt or (self.sent and not self.answered)
        refused = not self.sent and error.retryable
        if not (refused or isinstance(error, ConnectionLost | DaemonNotRunning)):
            return 0.0
        if self._lost_at is None:
            # Others may have found the daemon again since this one lost it.
            known = self._contact.had or (self.sent and isinstance(error, ConnectionLost))
            self._lost_at = now if self._contact.lost_at is None and known else self._contact.lost_at
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
        if self._in_doubt and not self.answered:
            return outcome_unknown(error, self.method, self._request_id)
        error.details = {**error.details, "request_id": self._request_id}
        return error
