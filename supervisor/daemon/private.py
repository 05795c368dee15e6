"""A whole daemon in a temporary directory: for `plugind demo` in its own process, for `pluginctl dev` as a child.

As a child (`main`) it lives as long as its standard input is open: whoever started it holds the other end, so that it
ends in order, and takes its directory with it, however that one ends.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import trio

from supervisor.clock import SystemClock
from supervisor.core.errors import SupervisorError
from supervisor.daemon.app import App
from supervisor.daemon.assembly import Surrounding
from supervisor.daemon.output import write_out
from supervisor.daemon.reaper import become_subreaper
from supervisor.daemon.settings import Settings, load_settings
from supervisor.daemon.signals import Noted, handle_signals, note_signals
from supervisor.daemon.state_dir import open_state_dir
from supervisor.daemon.systemd import Notifier
from supervisor.daemon.temporary import DEVELOP, temporary_directory
from supervisor.log import configure

_DRAIN_S: Final = 2.0
LOG_NAME: Final = "plugind.log"


def private_settings(directory: Path, drain_s: float) -> Settings:
    """From a file of its own, so that the system's settings and variables have no say; stops are quick.

    Raises:
        SettingsError: the directory's path is too long for a socket.
    """
    file = directory / "plugind.toml"
    if not file.exists():  # somebody may have changed it, and have it read anew
        file.write_text(f"drain_s = {drain_s}\nterm_grace_s = 0.5\nkill_grace_s = 0.5\n")
    flags: dict[str, object] = {
        "config": str(file),
        "state_dir": str(directory / "state"),
        "socket": str(directory / "control.sock"),
        "log_format": "json",
    }
    return load_settings(flags, {}, os.geteuid())


@contextmanager
def private_app(directory: Path, reread: Callable[[], Settings]) -> Iterator[App]:
    """The daemon, to be run inside the `with`; its own log is a file in `directory`.

    Raises:
        SupervisorError: its settings are wrong.
        OSError: the directory cannot be written.
    """
    settings = reread()
    with (directory / LOG_NAME).open("w") as log, open_state_dir(settings.state_dir) as state_dir:
        configure("json", "info", log)
        yield App(
            Surrounding(
                settings=settings,
                state_dir=state_dir,
                listener=None,
                notifier=Notifier(None),
                watchdog_s=None,
                clock=SystemClock(),
                environ=dict(os.environ),
                reread=reread,
            )
        )


def messages(error: BaseException) -> list[str]:
    """What is in a group of failures, for people."""
    if isinstance(error, BaseExceptionGroup):
        return [message for inner in error.exceptions for message in messages(inner)]
    return [error.message if isinstance(error, SupervisorError) else str(error)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until standard input ends or a signal says so; returns the exit code.

    One line of JSON on standard output says `socket`, `pid` and `directory` once it is ready, or `error`: why not.
    """
    parser = argparse.ArgumentParser(prog="plugind (private)")
    parser.add_argument("--keep", action="store_true", help="leave the directory behind")
    options = parser.parse_args(arguments)
    # To the very end: nothing is to cut the cleaning short.
    noted = note_signals(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    become_subreaper()
    failures: list[str] = []
    with temporary_directory(DEVELOP, keep=options.keep) as directory:
        try:
            trio.run(_run, directory, noted)
        except* (SupervisorError, OSError) as group:
            failures = messages(group)
    if failures:
        write_out(json.dumps({"error": "; ".join(failures)}))
    return 1 if failures else 0


async def _run(directory: Path, noted: Noted) -> None:
    with private_app(directory, lambda: private_settings(directory, _DRAIN_S)) as app:
        async with trio.open_nursery() as watch:

            def stop() -> None:
                app.request_stop("whoever started it has gone, or a signal asked for it")

            async def hang_up() -> None:
                stop()

            await watch.start(_handle_signals, stop, app.hurry, hang_up, noted)
            watch.start_soon(_wait_alone, stop)
            async with trio.open_nursery() as daemon:
                await daemon.start(app.run)
                ready: dict[str, Any] = {"socket": str(directory / "control.sock"), "directory": str(directory)}
                write_out(json.dumps({**ready, "pid": os.getpid()}))
                sys.stdout.flush()
            watch.cancel_scope.cancel(reason="the daemon has ended")


async def _handle_signals(
    stop: Callable[[], None],
    hurry: Callable[[], None],
    reload: Callable[[], Any],
    noted: Noted,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    await handle_signals(stop=stop, hurry=hurry, reload=reload, noted=noted, task_status=task_status)


async def _wait_alone(stop: Callable[[], None]) -> None:
    """Until nobody holds the other end of standard input."""
    async with trio.lowlevel.FdStream(os.dup(0)) as stdin:
        while await stdin.receive_some(4096):
            pass  # Nothing is to be said there.
    stop()


if __name__ == "__main__":
    sys.exit(main())
