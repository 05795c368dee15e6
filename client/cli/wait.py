"""Waiting for what takes long: a word about it on a terminal, and what Ctrl-C does not end."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from client.cli.failure import tell_interrupted
from client.cli.output import Context
from client.cli.render import escaped
from client.errors import SupervisorError

if TYPE_CHECKING:
    from client.sync_client import Client

PATIENCE_S = 1.0


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
