"""run(plugin): what a worker's process does from start to exit."""

from __future__ import annotations

import os
import signal
import stat
import sys
import threading
from typing import Any, Final, NoReturn, TextIO

from supervisor.sdk.connection import Connection
from supervisor.sdk.forked import watch_forks
from supervisor.sdk.plugin import Plugin
from supervisor.sdk.serving import Worker
from supervisor.sdk.work import print_traceback
from supervisor.wire.limits import WORKER

FD: Final = 3
_USAGE: Final = 2
_FLUSH_S: Final = 0.2


def run(plugin: Plugin) -> NoReturn:
    """Serve plugind on fd 3 and end the process: exit code 0 after a stop that was asked for, 1 when plugind is gone
    or a background task has raised.

    Started by hand, without fd 3, it says how a plugin is started and exits with 2. Threads that a handler left
    behind do not keep the process alive; clean up in `on_stop`, since `atexit` does not run.
    """
    if not _is_socket(FD):
        here = os.path.dirname(os.path.abspath(sys.argv[0])) or "DIR"
        print(f"This is a plugin, and plugind starts it: install it with 'pluginctl install {here}'.", file=sys.stderr)
        sys.exit(_USAGE)
    # What the plugin starts must not keep the connection open after the plugin's end.
    os.set_inheritable(FD, False)
    for stream in (sys.stdout, sys.stderr):
        _write_by_line(stream)
    connection = Connection(FD, WORKER)
    # The handler does nothing: the byte that the wake-up descriptor gets is what the reader acts on.
    signal.signal(signal.SIGTERM, _ignore)
    signal.set_wakeup_fd(connection.wake_fd, warn_on_full_buffer=False)
    worker = Worker(
        plugin,
        connection,
        default_key=os.environ.get("PLUGIND_PLUGIN_KEY", ""),
        default_data_dir=os.environ.get("PLUGIND_DATA_DIR") or os.getcwd(),
    )
    watch_forks(worker)
    code = worker.serve(stop_signal=signal.SIGTERM)
    connection.flush_last()
    # A handler that is still writing may hold the stream for as long as nobody reads; the end does not wait for it.
    flushing = threading.Thread(target=_flush_output, name="flush", daemon=True)
    try:
        flushing.start()
        flushing.join(_FLUSH_S)
    except RuntimeError as error:
        print_traceback("no thread could be started to write the last output:", error)
    os._exit(code)


def _is_socket(fd: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(fd).st_mode)
    except OSError:
        return False


def _write_by_line(stream: Any) -> None:
    # Captured output is a pipe, where print() would stay in the buffer until it is full.
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(line_buffering=True, errors="backslashreplace")


def _flush_output() -> None:
    for stream in (sys.stdout, sys.stderr):
        _flush(stream)


def _flush(stream: TextIO | None) -> None:
    try:
        if stream is not None:
            stream.flush()
    except (OSError, ValueError):
        return  # Nobody reads it any more.


def _ignore(_signum: int, _frame: object) -> None:
    pass
