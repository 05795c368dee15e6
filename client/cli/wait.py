"""Waiting for what takes long: how long, a word about it on a terminal, and what Ctrl-C does not end."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from client.cli.command import Argument, Options, span
from client.cli.failure import tell_interrupted
from client.cli.output import Context
from client.cli.render import escaped
from client.errors import DeadlineExceeded, SupervisorError

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from client.sync_client import Client
    from supervisor.wire.results import PluginInfo

PATIENCE_S = 1.0
GOES_ON = "plugind goes on with it"
REFUSAL_S = 0.5
"""So long is waited with --no-wait: what is refused is refused within less."""
WAITING = (
    Argument(
        "--wait",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="until it is done, as it always does; --no-wait: only until plugind has begun",
    ),
    Argument("--timeout", type=span, metavar="SPAN", help="wait for at most so long (30s, 5m); plugind goes on then"),
)


def ask(
    context: Context, options: Options, plugin: str, act: Callable[[Client], PluginInfo]
) -> tuple[PluginInfo, bool]:
    """What `act` answers with, and whether it is done; as it stands, if it is not and that was not to be waited for.

    Raises:
        DeadlineExceeded: it took longer than `--timeout`. It goes on, as it does when nobody waits.
    """
    limit_s = options.timeout if options.wait else REFUSAL_S
    try:
        return act(context.client if limit_s is None else context.client.within(limit_s)), True
    except DeadlineExceeded as error:
        if limit_s is None:
            raise
        if not options.wait:
            return context.client.plugins.get(plugin), False
        error.message = f"{plugin}: not done within {limit_s:g} s; {GOES_ON}"
        error.details = {**error.details, "plugin": plugin}
        raise


def under_way(info: PluginInfo) -> str:
    """Of what was not waited for."""
    return f"{escaped(info['key'])}: {GOES_ON}. {escaped(info['summary'])}"


@contextmanager
def patience(context: Context, plugin: str) -> Iterator[None]:
    """Say on a terminal what is waited for, once it has taken a second: stopping a worker may take its time."""
    if context.json or not sys.stderr.isatty():
        yield
        return
    from threading import Timer

    # Asked first, since the connection is busy afterwards.
    text = f"waiting for the worker to finish{_at_most(context.client, plugin)} …"
    timer = Timer(PATIENCE_S, context.note, [text])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def goes_on(context: Context, what: str, plugin: str) -> Iterator[None]:
    """Around a command that plugind carries out whoever waits for it: Ctrl-C ends the waiting only, and says so."""
    try:
        yield
    except KeyboardInterrupt:
        tell_interrupted(context, f"{what}: `pluginctl status {escaped(plugin)}` shows what becomes of it")
        raise


def _at_most(client: Client, plugin: str) -> str:
    try:
        details, settings = client.plugins.get(plugin), client.daemon.settings()
        limit_s = details["stop_timeout_s"] + settings["term_grace_s"] + settings["kill_grace_s"]
    except (SupervisorError, KeyError):
        return ""  # the command itself will say what is wrong, and an older daemon does not tell
    return f", at most {limit_s:g} s"
