"""Run the daemon as the arguments say: settings, exit codes, and what must be done before the event loop runs."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from supervisor.clock import SystemClock
from supervisor.control.listen import refuse_what_is_not_stale
from supervisor.control.names import rules_of
from supervisor.core.errors import SupervisorError
from supervisor.daemon.app import App
from supervisor.daemon.assembly import Surrounding
from supervisor.daemon.heap import return_large_blocks
from supervisor.daemon.output import write_out
from supervisor.daemon.reaper import become_subreaper
from supervisor.daemon.settings import Settings, SettingsError, describe, load_settings
from supervisor.daemon.signals import Noted, handle_signals, note_signals
from supervisor.daemon.state_dir import make_private_dir, open_state_dir
from supervisor.daemon.systemd import Notifier, SystemdEnvironment, take_environment, take_listener
from supervisor.log import configure, get_logger
from supervisor.version import VERSION
from supervisor.worker.rlimits import raise_files

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_REFUSED: Final = 3
EXIT_INTERRUPTED: Final = 130

_EXAMPLES: Final = """examples:
  plugind demo                          a private daemon with example plugins, to look at
  plugind --state-dir ./state --socket ./plugind.sock
  plugind --check                       validate the settings and print them
"""


def main(arguments: Sequence[str]) -> int:
    """Run the daemon; returns the exit code."""
    options = _parser().parse_args(arguments)
    flags = {name: value for name, value in vars(options).items() if name != "check"}
    try:
        # Taken out first: neither a child nor a warning is to see systemd's variables.
        systemd = take_environment()
        settings = load_settings(flags, os.environ, os.geteuid())
        if options.check:
            return _check(settings)
        configure(settings.log_format, settings.log_level)  # type: ignore[arg-type]  # checked by the settings
        return _run(settings, systemd, flags)
    except SettingsError as error:
        print(f"plugind: {error.message}", file=sys.stderr)
        return EXIT_USAGE
    except SupervisorError as error:
        print(f"plugind: {error.message}", file=sys.stderr)
        return EXIT_REFUSED


def _check(settings: Settings) -> int:
    rules = rules_of(settings.observers, settings.operators, settings.admins)
    for warning in (*settings.warnings, *rules.warnings):
        print(f"plugind: warning: {warning}", file=sys.stderr)
    return 0 if write_out(json.dumps(describe(settings), indent=2, default=str)) else EXIT_FAILED


def _run(settings: Settings, systemd: SystemdEnvironment, flags: dict[str, Any]) -> int:
    for warning in settings.warnings:
        get_logger().warning("settings.warning", warning=warning)
    noted = note_signals(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    close_on_exec()
    become_subreaper()
    listener = take_listener(systemd)
    if listener is None and not os.path.exists(settings.state_dir / "lock"):
        # Looked at again when it is bound; but a second daemon is to be refused before it makes a state directory.
        refuse_what_is_not_stale(Path(settings.socket))
    environ = dict(os.environ)
    with open_state_dir(settings.state_dir) as state_dir:
        make_private_dir(settings.log_dir)
        return_large_blocks()
        given = Surrounding(
            settings=settings,
            state_dir=state_dir,
            listener=listener,
            notifier=Notifier(systemd.notify_socket),
            watchdog_s=systemd.watchdog_s,
            clock=SystemClock(),
            environ=environ,
            reread=partial(load_settings, flags, environ, os.geteuid()),
            # Each worker costs us several; those that we start keep what we were given.
            soft_nofile=raise_files(),
        )
        if signal.SIGINT in noted.heard:
            return EXIT_INTERRUPTED
        trio.run(_serve, given, noted)
    return 0


async def _serve(given: Surrounding, noted: Noted) -> None:
    app = App(given)

    async def reload() -> None:
        with contextlib.suppress(SettingsError):  # It is in the log.
            await app.reload()

    failures: list[SupervisorError] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(
            lambda *, task_status: handle_signals(
                stop=lambda: app.request_stop("a signal asked for it"),
                hurry=app.hurry,
                reload=reload,
                noted=noted,
                task_status=task_status,
            )
        )
        try:
            await app.run()
        except SupervisorError as error:
            failures.append(error)
        nursery.cancel_scope.cancel(reason="the daemon has ended")
    if failures:
        raise failures[0]


def close_on_exec() -> None:
    """Whatever was inherited must not reach workers; ours is so from its beginning."""
    for fd in map(int, os.listdir("/proc/self/fd")):
        # The descriptor that read this directory is in the list, and closed by now.
        with contextlib.suppress(OSError):
            if fd > 2:
                os.set_inheritable(fd, False)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="plugind",
        description="Keep one worker process alive for every ready plugin, and run the plugins' cron jobs. "
        "Runs in the foreground; `plugind demo` shows it at work.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"plugind {VERSION}")
    parser.add_argument("--config", metavar="FILE", help="settings in TOML (default: /etc/plugind/plugind.toml)")
    parser.add_argument("--state-dir", metavar="DIR", help="database, packages and data of the plugins")
    parser.add_argument("--socket", metavar="PATH", help="where to listen")
    parser.add_argument("--log-dir", metavar="DIR", help="logs of the plugins")
    parser.add_argument("--log-level", metavar="LEVEL", help="debug, info, warning or error")
    parser.add_argument("--log-format", metavar="FORMAT", help="auto, console, json or journal")
    parser.add_argument("--timezone", metavar="ZONE", help="of jobs that name none (an IANA name; default: UTC)")
    parser.add_argument("--check", action="store_true", help="validate the settings, print them and exit")
    return parser
