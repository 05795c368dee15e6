"""Versions of one plugin, written by code: what they answer tells which one it is, and how they misbehave is named."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

KEY = "test.versions"
_MAIN = """
import os, sys, time
from supervisor.sdk import Plugin, run

plugin = Plugin()
VERSION = {version!r}
BEHAVIOUR = {behaviour!r}

@plugin.method("version")
def version(ctx):
    return VERSION

@plugin.method("slow_version")
def slow_version(ctx, s):
    time.sleep(s)
    return VERSION

@plugin.method("die")
def die(ctx):
    os._exit(3)

@plugin.job("tick")
def tick(ctx):
    return VERSION

if BEHAVIOUR == "exits":
    sys.exit("cannot work here")
if BEHAVIOUR == "dies_soon":
    import threading
    threading.Timer(0.2, os._exit, (5,)).start()
if __name__ == "__main__":
    run(plugin)
"""
_MANIFEST = """
[plugin]
key = "{key}"
version = "{version}"
api_version = 1
display_name = "Versions"
description = "Tells which version it is."
author = "plugind's tests"
categories = ["automation"]
capabilities = {capabilities}

[worker]
command = ["python", "main.py"]
start_timeout_s = 10
stop_timeout_s = 3
upgrade = "{upgrade}"

[worker.restart]
backoff_s = {backoff_s}
max_backoff_s = {backoff_s}
max_restarts = 2

[[jobs]]
key = "tick"
display_name = "Tick"
schedule = "0 0 1 1 *"

[[methods]]
name = "version"

[[methods]]
name = "slow_version"

[[methods]]
name = "die"

{more}
"""
CAPABILITIES = ("jobs.schedule", "methods.register")


def write_version(
    directory: Path,
    version: str,
    *,
    key: str = KEY,
    behaviour: str = "good",
    upgrade: str = "overlap",
    capabilities: Iterable[str] = CAPABILITIES,
    backoff_s: float = 0.05,
    more: str = "",
) -> Path:
    """The directory, made anew, that only we may write."""
    directory.mkdir(mode=0o755, parents=True)
    manifest = _MANIFEST.format(
        key=key,
        version=version,
        capabilities=list(capabilities),
        upgrade=upgrade,
        backoff_s=backoff_s,
        more=textwrap.dedent(more),
    )
    for name, text in (
        ("plugin.toml", manifest),
        ("main.py", _MAIN.format(version=version, behaviour=behaviour)),
    ):
        file = directory / name
        file.write_text(text)
        file.chmod(0o644)
    return directory


def stored(state: Path) -> dict[str, list[str]]:
    """Plugin key -> names of the package directories in the daemon's store; what is in staging is under ""."""
    there: dict[str, Any] = {
        parent.name: sorted(version.name for version in parent.iterdir()) for parent in (state / "packages").iterdir()
    }
    return there | {"": sorted(entry.name for entry in (state / "staging").iterdir())}
