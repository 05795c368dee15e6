"""How a worker ends: drained because it was asked to, alone because plugind is gone, or by a crash of its own."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from supervisor.core.errors import CallCancelled, Unavailable
from supervisor.sdk.work import print_traceback

if TYPE_CHECKING:
    from supervisor.sdk.serving import Worker

LOST_S: Final = 0.8
"""How long handlers and the stop hook may go on when plugind is gone; with the last output it is a second in all."""
TERM_DRAIN_S: Final = 2.0
"""Drain after SIGTERM, where nobody said how long it may take."""
_CANCEL_AFTER: Final = 0.8
"""The part of a drain after which the handlers still running are told to end."""
_LEAST_S: Final = 0.2
"""For background tasks to clean up, when handlers have used up the drain."""


class Ending:
    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._begun = threading.Lock()
        """Taken for good by the first who ends the worker."""
        self._requests: list[int] = []
        self._postponed_s: float | None = None
        """The drain for which there was no thread: the reader does it when it has stopped reading."""
        self.exit_code: int | None = None

    @property
    def begun(self) -> bool:
        return self._begun.locked()

    def drain(self, drain_s: float, request_id: int | None = None) -> None:
        """Stop once, within so many seconds; whoever asks later waits for the same end. In the reader."""
        if request_id is not None:
            self._requests.append(request_id)
        if not self._begun.acquire(blocking=False):
            return
        try:
            threading.Thread(target=self._drain, args=(drain_s,), name="drain", daemon=True).start()
        except RuntimeError:
            self._postponed_s = drain_s
            self._worker.connection.stop()

    def drain_postponed(self) -> None:
        """The drain that no thread could do, if there is one. The reader has stopped: handlers cannot ask any more."""
        if self._postponed_s is not None:
            self._drain(self._postponed_s)

    def terminate(self) -> None:
        """A signal asks. The second one hurries."""
        if self.begun:
            self._worker.in_flight.hurry()
        self.drain(TERM_DRAIN_S)

    def alone(self) -> None:
        """plugind is gone: end within LOST_S, whatever the handlers do."""
        deadline = time.monotonic() + LOST_S
        worker = self._worker
        first = self._begun.acquire(blocking=False)
        worker.subscriptions.stop()
        worker.cancel_all()
        worker.in_flight.wait_none(LOST_S / 2)
        worker.stop_background(LOST_S / 4)
        if first:
            hook = threading.Thread(target=self._run_stop_hook, name="on_stop", daemon=True)
            try:
                hook.start()
            except RuntimeError as error:
                # Not here: it might never return, and nobody is left who would end us.
                print_traceback("no thread could be started for on_stop:", error)
                return
            hook.join(max(0.0, deadline - time.monotonic()))

    def crash(self, why: str, error: BaseException) -> None:
        """The plugin cannot go on: exit with code 1 at once, and plugind sees a crash. In any thread."""
        if not self._worker.connection.is_up:
            return  # plugind is gone, which is why it failed; the reader sees it too, and ends in good order.
        print_traceback(why, error)
        self._settle(1)
        self._worker.connection.stop()

    def _drain(self, drain_s: float) -> None:
        worker, deadline = self._worker, time.monotonic() + drain_s
        worker.subscriptions.stop()
        if not worker.in_flight.wait_none(drain_s * _CANCEL_AFTER):
            worker.cancel_all()
            worker.in_flight.calm()
            worker.in_flight.wait_none(min(TERM_DRAIN_S, deadline - time.monotonic()))
        worker.stop_background(min(TERM_DRAIN_S, max(_LEAST_S, deadline - time.monotonic())))
        self._run_stop_hook()
        for work in worker.in_flight:
            worker.finish(work, CallCancelled(f"the worker stopped before {work.what} had ended"))
        # Before it is said: plugind may hang up as soon as it has read it.
        self._settle(0)
        self._say_last()
        worker.connection.stop()

    def _say_last(self) -> None:
        try:
            self._worker.outlet.tell_dropped()
        except Unavailable:
            # In a postponed drain it was we who stopped reading, and plugind still listens.
            if self._postponed_s is None:
                return  # plugind has gone meanwhile, and with it who asked.
        for id_ in self._requests:
            self._worker.connection.respond(id_, {})

    def _settle(self, exit_code: int) -> None:
        if self.exit_code is None:
            self.exit_code = exit_code

    def _run_stop_hook(self) -> None:
        if not self._worker.ready:
            return
        try:
            self._worker.run_hook("on_stop")
        except BaseException as error:  # noqa: BLE001  sys.exit() too: the worker ends in any case, and says so
            print_traceback("on_stop failed:", error)
