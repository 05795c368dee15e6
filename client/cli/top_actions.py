"""What the keys of `pluginctl top` do to a plugin, by what it is: a question and a request, or why not. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from client.cli.top_text import safe

if TYPE_CHECKING:
    from supervisor.wire.results import PluginInfo


@dataclass(frozen=True, slots=True)
class Action:
    """A request of the socket, and how to speak of it."""

    method: str
    params: dict[str, Any]
    question: str
    doing: str
    done: str


def restart(plugin: PluginInfo) -> Action | str:
    """Of the worker alone."""
    if plugin["status"] != "ready":
        return _not_ready(plugin, "restarted")
    return _action(plugin, "restart", "Restart the worker of", "restarting", "was restarted")


def start_or_stop(plugin: PluginInfo) -> Action | str:
    """Of the worker alone: what it is not."""
    if plugin["status"] != "ready":
        return _not_ready(plugin, "started or stopped")
    if plugin["phase"] in {"stopped", "stopping"}:
        return _action(plugin, "start", "Start the worker of", "starting", "was started")
    return _action(plugin, "stop", "Stop the worker of", "stopping", "was stopped, until it is started")


def enable_or_disable(plugin: PluginInfo) -> Action | str:
    """The status: what it is not."""
    match plugin["status"]:
        case "ready":
            return _action(plugin, "disable", "Disable", "disabling", "is disabled")
        case "installed":
            return _action(plugin, "load", "Load", "loading", "is loaded")
        case "upgrade_pending":
            name = safe(plugin["key"])
            return f"a version of {name} waits: `pluginctl approve {name}` shows what it asks for, and allows it"
        case _:
            return _action(plugin, "enable", "Enable", "enabling", "is enabled")


def run(job: str) -> Action:
    name = safe(job)
    doing, done = f"starting a run of {name}", f"a run of {name} was started"
    return Action("jobs.run", {"job": job}, f"Run {name}?", doing, done)


def _action(plugin: PluginInfo, verb: str, ask: str, doing: str, done: str) -> Action:
    name = safe(plugin["key"])
    busy = plugin["calls_in_flight"]
    note = f" {busy} in flight will be waited for." if busy and verb in {"restart", "stop", "disable"} else ""
    return Action(
        f"plugins.{verb}", {"plugin": plugin["key"]}, f"{ask} {name}?{note}", f"{doing} {name}", f"{name} {done}"
    )


def _not_ready(plugin: PluginInfo, done: str) -> str:
    return f"{safe(plugin['key'])} is {safe(plugin['status'])}: only a plugin that is ready is {done}; d enables it"
