"""The child of a handler that forks: it has the worker's memory and none of its duties, and ends with the handler."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any, NoReturn

from supervisor.sdk.work import print_traceback

if TYPE_CHECKING:
    from supervisor.sdk.serving import Worker


def watch_forks(worker: Worker) -> None:
    """From now on a forked child cannot speak for the worker. There is no way back: in a worker's own process only."""

    masks = threading.local()

    def before() -> None:
        # A signal that comes to the child before it has let go of the worker's wake-up pipe would end the worker.
        masks.old = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])

    def in_parent() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.old)

    def in_child() -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        worker.forked()
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.old)

    os.register_at_fork(before=before, after_in_parent=in_parent, after_in_child=in_child)


def leave(outcome: Any) -> NoReturn:
    """End the child as a program would: 0 for a result, 1 and the traceback for an exception, what `sys.exit` says."""
    code = 0
    if isinstance(outcome, SystemExit):
        code = _exit_code(outcome)
    elif isinstance(outcome, BaseException):
        print_traceback("a forked child of the worker failed:", outcome)
        code = 1
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # noqa: BLE001,S112  closed, replaced or read by nobody: the child ends all the same
            continue
    os._exit(code)


def _exit_code(error: SystemExit) -> int:
    if error.code is None:
        return 0
    return error.code & 0xFF if isinstance(error.code, int) else 1
