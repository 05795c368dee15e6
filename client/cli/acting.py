"""pluginctl enable, disable, start, stop, restart and their like: what changes a plugin's status or worker."""

from __future__ import annotations

from client.cli.command import PLUGIN, PLUGINS, YES, Argument, Command, Commands, Options
from client.cli.output import Context
from client.cli.render import escaped
from client.cli.several import agree, chosen, for_each, is_one
from client.cli.wait import GOES_ON, WAITING, ask, goes_on, patience
from client.errors import InvalidTransition

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from client.sync_client import Client
    from supervisor.wire.results import PluginInfo

    Act = Callable[[Client, str, Options], PluginInfo]


def _command(act: Act, done: str, *, stops: bool = False) -> Callable[[Context, Options], int]:
    """A command on plugins, each of which is answered as it is afterwards; `stops`: it waits for the worker to end."""

    def run(context: Context, options: Options) -> int:
        def one(plugin: str) -> Mapping[str, Any]:
            info, instead[plugin] = _carry_out_unless(context, options, plugin, act, stops=stops)
            instead[info["key"]] = instead[plugin]
            return info

        def text(info: Mapping[str, Any]) -> str:
            outcome = instead[info["key"]] or done
            return f"{escaped(info['key'])}: {outcome}. {escaped(info['summary'])}"

        instead: dict[str, str | None] = {}
        words = options.plugins
        if is_one(words):
            context.about = words[0]
            info = one(words[0])
            context.show(info, text(info))
            return 0
        plugins = chosen(context, words)
        agree(context, context.command, words, plugins, yes=options.yes)
        return for_each(context, plugins, one, text)

    return run


def _carry_out_unless(
    context: Context, options: Options, plugin: str, act: Act, *, stops: bool
) -> tuple[PluginInfo, str | None]:
    """As it is afterwards, and what else than done it is."""
    try:
        info, is_done = _carry_out(context, options, plugin, act, stops=stops)
    except InvalidTransition as error:
        if not _is_so_already(error, options):
            raise
        return context.client.plugins.get(plugin), f"{context.command}d already"
    return info, None if is_done else GOES_ON


def _is_so_already(error: InvalidTransition, options: Options) -> bool:
    """Of enable and disable, as systemctl has it. A reason that would get lost is refused."""
    status, to = error.details.get("status"), error.details.get("to")
    if error.details.get("command") not in {"enable", "disable"} or not isinstance(to, list):
        return False
    return status in to and getattr(options, "reason", None) is None


def _carry_out(context: Context, options: Options, plugin: str, act: Act, *, stops: bool) -> tuple[PluginInfo, bool]:
    with goes_on(context, GOES_ON, plugin):
        if stops and options.wait:
            with patience(context, plugin):
                return ask(context, options, plugin, lambda client: act(client, plugin, options))
        return ask(context, options, plugin, lambda client: act(client, plugin, options))


def _enable(client: Client, plugin: str, options: Options) -> PluginInfo:
    if not options.now or (info := client.plugins.get(plugin))["status"] != "ready":
        return client.plugins.enable(plugin)
    # Enabled it is already; whoever says --now wants it to run as well.
    return client.plugins.start(plugin) if info["held"] else info


def _mark_error(context: Context, options: Options) -> None:
    with goes_on(context, GOES_ON, options.plugin):
        info = context.client.plugins.mark_error(options.plugin, options.error)
    context.show(info, f"{escaped(info['key'])}: marked as failed. {escaped(info['summary'])}")


_COMMON = (PLUGINS, *WAITING, YES)
COMMANDS: Commands = {
    "load": Command(
        _command(lambda client, plugin, _: client.plugins.load(plugin), "loaded"),
        "Make installed, disabled or failed plugins ready and start their workers.",
        "load acme.weather",
        *_COMMON,
    ),
    "enable": Command(
        _command(_enable, "enabled"),
        "Make disabled or failed plugins ready again, or those whose upgrade is approved.",
        "enable acme.weather",
        *_COMMON,
        Argument("--now", action="store_true", help="start one too that is enabled, and was stopped by `stop`"),
    ),
    "disable": Command(
        _command(lambda client, plugin, o: client.plugins.disable(plugin, o.reason), "disabled", stops=True),
        "Drain and stop workers and keep them stopped.",
        'disable acme.weather --reason "until Monday"',
        *_COMMON,
        Argument("--reason", help="why, for whoever asks later"),
        Argument("--now", action="store_true", help="at once, as it always does"),
    ),
    "start": Command(
        _command(lambda client, plugin, _: client.plugins.start(plugin), "worker started"),
        "Start the workers of ready plugins that were stopped.",
        "start acme.weather",
        *_COMMON,
    ),
    "stop": Command(
        _command(lambda client, plugin, _: client.plugins.stop(plugin), "worker stopped", stops=True),
        "Stop the workers of ready plugins until start, restart or the next boot.",
        "stop acme.weather",
        *_COMMON,
    ),
    "restart": Command(
        _command(lambda client, plugin, _: client.plugins.restart(plugin), "worker restarted", stops=True),
        "Stop the workers of ready plugins and start them again.",
        "restart 'acme.*' --yes",
        *_COMMON,
    ),
    "mark-error": Command(
        _mark_error,
        "Put a plugin into status error and stop its worker.",
        'plugins mark-error acme.weather "bad data since noon"',
        PLUGIN,
        Argument("error", metavar="ERROR", help="what is wrong"),
    ),
    "mark-upgrade-pending": Command(
        _command(lambda client, plugin, _: client.plugins.mark_upgrade_pending(plugin), "upgrade pending"),
        "Stop the workers of ready plugins until their upgrades are decided.",
        "plugins mark-upgrade-pending acme.weather",
        *_COMMON,
    ),
}
