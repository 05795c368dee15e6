"""pluginctl install: show what a plugin wants to be allowed, install it, and load it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from client.cli.command import YES, Argument, Command, Options
from client.cli.output import Context
from client.cli.render import escaped
from supervisor.core.errors import SupervisorError


def _install(context: Context, options: Options) -> None:
    source = os.path.abspath(options.source)
    _show_wishes(context, source, yes=options.yes)
    info = context.client.plugins.install(source)
    if options.load:
        try:
            info = context.client.plugins.load(info["key"])
        except SupervisorError as error:
            error.message = f"{info['key']} {info['version']} is installed, but could not be loaded: {error.message}"
            error.details = {"plugin": info["key"], **error.details}
            raise
    done = "installed and loaded" if options.load else "installed"
    context.show(info, f"{escaped(info['key'])} {escaped(info['version'])}: {done}. {escaped(info['summary'])}")


def _show_wishes(context: Context, source: str, *, yes: bool) -> None:
    """What it would be allowed; a manifest that cannot be read is left to the daemon, which says what is wrong."""
    plugin = _plugin_table(source)
    if plugin is None:
        return
    name = f"{escaped(plugin.get('key', source))} {escaped(plugin.get('version', ''))}".strip()
    wishes = plugin.get("capabilities")
    if isinstance(wishes, list) and wishes:
        context.note(f"{name} from {escaped(source)} wants to be allowed:")
        for wish in wishes:
            context.note(f"  {escaped(wish)}")
    else:
        context.note(f"{name} from {escaped(source)} wants nothing to be allowed")
    context.confirm("Install it, and allow this?", yes=yes)


def _plugin_table(source: str) -> Mapping[str, Any] | None:
    import tomllib

    try:
        with open(os.path.join(source, "plugin.toml"), "rb") as file:
            plugin = tomllib.load(file).get("plugin")
    except (OSError, ValueError):
        return None
    return plugin if isinstance(plugin, dict) else None


INSTALL = Command(
    _install,
    "Install a plugin from a directory and load it.",
    "install ./weather",
    Argument("source", metavar="SOURCE", help="the plugin's directory, the one with plugin.toml"),
    Argument("--no-load", dest="load", action="store_false", help="install only"),
    YES,
)
