"""The answer to `health`, whatever else the worker is at."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

from supervisor.sdk.connection import Connection
from supervisor.sdk.work import Work, described

STALLED_S: Final = 5.0
"""An event loop that has not turned for so long is blocked by a handler; plugind then counts the check as failed."""


class Health:
    """`stalled_s` says how long the event loop is known to stand still."""

    def __init__(self, connection: Connection, stalled_s: Callable[[], float]) -> None:
        self._connection = connection
        self._stalled_s = stalled_s
        self._lock = threading.Lock()
        """Held while the hook runs."""
        self._asking: Work | None = None

    def answer(self, id_: int) -> None:
        """Without a hook; in the reader."""
        if (stalled_s := self._stalled_s()) < STALLED_S:
            self._connection.respond(id_, {"status": "ok"})
            return
        why = f"the event loop has stood still for {stalled_s:.0f} s: async code blocks it; use trio.to_thread.run_sync"
        self._connection.respond(id_, {"status": "error", "message": why})

    def ask(self, work: Work) -> None:
        """Let the hook answer, in a thread of its own: it must not wait for handlers, nor the reader for it."""
        if self._lock.acquire(blocking=False):
            self._asking = work
            try:
                threading.Thread(target=self._ask, args=(work,), name="health", daemon=True).start()
            except RuntimeError as error:
                self._asking = None
                self._lock.release()
                self._respond(work, {"status": "degraded", "message": f"the health hook cannot be asked: {error}"})
        else:
            self._respond(work, {"status": "error", "message": "the health check before has not ended"})

    def cancelled(self, id_: int) -> None:
        """plugind waits no longer for this answer."""
        asking = self._asking
        if asking is not None and asking.id == id_:
            asking.cancel()

    def _ask(self, work: Work) -> None:
        try:
            complaint = work.call()
            answer = {"status": "ok"} if complaint is None else {"status": "degraded", "message": str(complaint)}
        except BaseException as error:  # noqa: BLE001  the hook's way to say that the plugin is not well; sys.exit() too
            answer = {"status": "error", "message": described(error)}
        finally:
            self._asking = None
            self._lock.release()
        self._respond(work, answer)

    def _respond(self, work: Work, answer: dict[str, Any]) -> None:
        if work.id is not None:
            self._connection.respond(work.id, answer)
