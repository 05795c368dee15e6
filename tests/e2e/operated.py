"""A real daemon to be operated by hand, and plugins in it that are brought into the status that a command needs."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

from tests.e2e.conftest import PATIENCE_S, Rpc

KEEPER = "test.keeper"
_KEEPER = f"""
[plugin]
key = "{KEEPER}"
version = "1.0"
api_version = 1
display_name = "Keeper"
description = "Has something of everything that can be looked at."
author = "plugind's tests"
categories = ["automation"]
capabilities = ["jobs.schedule", "methods.register", "state.write", "state.read", "metrics.write"]

[worker]
command = ["python", "main.py"]
stop_timeout_s = 2

[[jobs]]
key = "keep"
display_name = "Keep"
schedule = "0 0 1 1 *"

[[methods]]
name = "echo"

[[methods]]
name = "sleep"
"""
_KEEPER_MAIN = """
from supervisor.sdk import Plugin, run

plugin = Plugin()

@plugin.job("keep")
def keep(ctx):
    ctx.state.set("city", "Ghent")
    ctx.metric("rounds", 1)
    ctx.log.info("kept")

@plugin.method("echo")
def echo(ctx, value):
    return value

@plugin.method("sleep")
def sleep(ctx, s):
    ctx.wait_cancelled(s)

run(plugin)
"""
_SLEEPER = """
[plugin]
key = "{key}"
version = "{version}"
api_version = 1
display_name = "Sleeper"
description = "Any program, with a quick job and one that does not end by itself."
author = "plugind's tests"
categories = ["automation"]
capabilities = {capabilities}

[worker]
command = ["sleep", "1000"]
transport = "none"
start_grace_s = 0
stop_timeout_s = 1

[[jobs]]
key = "quick"
display_name = "Quick"
schedule = "0 0 1 1 *"
command = ["echo", "done"]

[[jobs]]
key = "endless"
display_name = "Endless"
command = ["sleep", "1000"]

[[jobs]]
key = "failing"
display_name = "Failing"
command = ["false"]

[config_schema.properties.city]
type = "string"
"""


class Operated:
    """`rpc` prepares what the command under test is to find."""

    def __init__(self, rpc: Rpc, directory: Path, socket: Path) -> None:
        self.rpc = rpc
        self.socket = socket
        self._directory = directory
        self._numbers = itertools.count(1)

    def keep(self) -> None:
        """Have KEEPER run, and have run its job."""
        source = self._source(_KEEPER)
        _write(source / "main.py", _KEEPER_MAIN)
        self.rpc.load(source)
        self.rpc.call("jobs.run", job=f"{KEEPER}/keep", wait=True)

    def write(self, key: str, version: str = "1.0", *capabilities: str) -> Path:
        """The source of a version, which asks for these capabilities too."""
        wanted = ["jobs.schedule", *capabilities]
        return self._source(_SLEEPER.format(key=key, version=version, capabilities=wanted))

    def _source(self, manifest: str) -> Path:
        source = self.new_path("source")
        source.mkdir(mode=0o755)
        _write(source / "plugin.toml", manifest)
        return source

    def new_key(self) -> str:
        return f"test.sleeper{next(self._numbers)}"

    def new_path(self, name: str) -> Path:
        """Of a file that is not there."""
        return self._directory / f"{name}{next(self._numbers)}"

    def bring(self, state: str) -> str:
        """A new plugin, in a status, or in one of the states that need more words."""
        key, call = self.new_key(), self.rpc.call
        self.rpc.install(self.write(key))
        if state not in {"installed", "uninstalled"}:
            call("plugins.load", plugin=key)
        match state:
            case "installed" | "ready":
                pass
            case "uninstalled":
                call("plugins.unload", plugin=key)
            case "disabled":
                call("plugins.disable", plugin=key)
            case "stopped":
                call("plugins.stop", plugin=key)
            case "paused":
                call("jobs.pause", plugin=key)
            case "configured":
                call("plugins.config_set", plugin=key, config={"city": "Ghent"})
                call("plugins.config_set", plugin=key, config={"city": "Oslo"})
            case "upgraded":
                call("plugins.upgrade", plugin=key, source=str(self.write(key, "2.0")))
            case "waiting":
                call("plugins.upgrade", plugin=key, source=str(self.write(key, "2.0", "network.outbound")))
            case _:
                raise ValueError(state)
        return key

    def run(self, key: str, state: str) -> str:
        """The id of a run of the plugin: one that is `running`, has `failed`, or was `quick`."""
        if state != "running":
            job = {"failed": "failing", "quick": "quick"}[state]
            return str(self.rpc.call("jobs.run", job=f"{key}/{job}", wait=True)["id"])
        run = self.rpc.call("jobs.run", job=f"{key}/endless")["id"]
        deadline = time.monotonic() + PATIENCE_S
        while self.rpc.call("jobs.get_run", run=run)["state"] != "running":
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return str(run)


def _write(file: Path, text: str) -> None:
    file.write_text(text)
    file.chmod(0o644)  # Only we may write it, whatever the umask.


def formatted(words: str, **values: Any) -> list[str]:
    """The words of a command line, with `{names}` filled in."""
    return [word.format_map(values) for word in words.split()]
