"""pluginctl plugins: what changes which packages there are."""

from __future__ import annotations

from client.cli.command import PLUGIN, YES, Argument, Command, Commands, Options
from client.cli.install import INSTALL
from client.cli.output import Context
from client.cli.render import escaped
from client.cli.upgrade import APPROVE, REJECT, ROLLBACK, UPGRADE, VERSIONS
from client.cli.wait import goes_on, patience
from client.errors import FailedPrecondition


def _unload(context: Context, options: Options) -> None:
    if options.remove_data:
        question = f"Remove {options.plugin} with its configuration, state and history, for good?"
        context.confirm(escaped(question), yes=options.yes)
    going_on = goes_on(context, "plugind goes on uninstalling it", options.plugin)
    with going_on, patience(context, options.plugin):
        done = context.client.plugins.unload(options.plugin, options.remove_data)
    kept = "its data is gone too" if options.remove_data else "its configuration, state and history are kept"
    context.show(done, f"{escaped(options.plugin)}: uninstalled; {kept}")


def _purge(context: Context, options: Options) -> None:
    _must_be_uninstalled(context, options.plugin)
    question = f"Delete the configuration, state and history of {options.plugin}, for good?"
    context.confirm(escaped(question), yes=options.yes)
    # Again: somebody may have installed it while the question stood.
    _must_be_uninstalled(context, options.plugin)
    done = context.client.plugins.unload(options.plugin, remove_data=True)
    context.show(done, f"{escaped(options.plugin)}: its data is gone")


def _must_be_uninstalled(context: Context, plugin: str) -> None:
    info = context.client.plugins.get(plugin)
    if info["status"] != "uninstalled":
        key, status = info["key"], info["status"]
        raise FailedPrecondition(
            f"{key} is {status}: purge deletes what an uninstalled plugin has left; "
            f"`pluginctl uninstall {key} --purge` removes it with its data",
            plugin=key,
            status=status,
        )


COMMANDS: Commands = {
    "install": INSTALL,
    "upgrade": UPGRADE,
    "approve": APPROVE,
    "reject": REJECT,
    "rollback": ROLLBACK,
    "versions": VERSIONS,
    "unload": Command(
        _unload,
        "Uninstall a plugin: stop its worker and remove its files.",
        "uninstall acme.weather",
        PLUGIN,
        Argument(
            "--purge",
            "--remove-data",
            dest="remove_data",
            action="store_true",
            help="remove configuration, state and history too",
        ),
        YES,
    ),
    "purge": Command(
        _purge,
        "Delete what an uninstalled plugin has left: configuration, state and history.",
        "purge acme.weather",
        PLUGIN,
        YES,
    ),
}
