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
    context.client.hello()  # before anybody is asked anything
    _agree(context, source, yes=options.yes)
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


def _agree(context: Context, source: str, *, yes: bool) -> None:
    """Show what it would be allowed, and ask; nobody is asked about a package that cannot be installed.

    Raises:
        Declined: the answer was no.
        InvalidParams: the package has problems. With `--yes`, or nothing to ask, that is left to the daemon.
    """
    plugin = _plugin_table(source)
    if plugin is None:
        return
    name = f"{escaped(plugin.get('key', source))} {escaped(plugin.get('version', ''))}".strip()
    wishes = plugin.get("capabilities")
    if not (isinstance(wishes, list) and wishes):
        return
    if not yes:
        from client.cli.develop import checked

        checked(source)
    context.note(f"{name} from {escaped(source)} wants to be allowed:")
    for wish in wishes:
        context.note(f"  {escaped(wish)}")
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
    "Install a plugin from a directory and load it; a script says --yes to the capabilities that it wants.",
    "install ./weather",
    Argument("source", metavar="SOURCE", help="the plugin's directory, the one with plugin.toml"),
    Argument("--no-load", dest="load", action="store_false", help="install only"),
    YES,
)
