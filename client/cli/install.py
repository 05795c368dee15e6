"""pluginctl install: show what a plugin wants to be allowed, install it, and load it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from client.cli.command import YES, Argument, Command, Options
from client.cli.output import Context
from client.cli.progress import Display
from client.cli.render import escaped
from client.cli.source import FETCHING, SOURCE_HELP, fetching, source_for_daemon
from client.errors import ApprovalRequired, CallCancelled, Interrupted, SupervisorError

if TYPE_CHECKING:
    from client.link import OnProgress
    from supervisor.wire.results import PluginInfo


def _install(context: Context, options: Options) -> None:
    source, how = source_for_daemon(options.source), fetching(options)

    def install(agreed: list[str] | None) -> PluginInfo:
        def act(on_progress: OnProgress | None) -> PluginInfo:
            plugins = context.client.plugins
            return plugins.install(source, options.editable, **how, capabilities=agreed, on_progress=on_progress)

        return watched(context, act, "installed and not loaded", verbose=options.verbose)

    info = install(None) if options.yes else _with_consent(context, source, install)
    if options.load:
        info = _load(context, info)
    done = "installed and loaded" if options.load else "installed"
    context.show(info, f"{escaped(info['key'])} {escaped(info['version'])}: {done}. {escaped(info['summary'])}")


def _with_consent(context: Context, source: str, install: Callable[[list[str]], PluginInfo]) -> PluginInfo:
    """Ask for nothing first: what a plugin wants is then told, and nobody is asked about one that cannot be installed.

    Raises:
        Declined: the answer was no.
        UsageError: there is nobody to ask.
    """
    agreed: list[str] = []
    while True:
        try:
            return install(agreed)
        except ApprovalRequired as wanted:
            wishes = wanted.details.get("capabilities")
            if not isinstance(wishes, list) or set(wishes) <= set(agreed):
                raise
            name = " ".join(escaped(wanted.details.get(part, "")) for part in ("plugin", "version"))
            show_wishes(context, f"{name} from {escaped(source)} wants to be allowed:", wishes)
            context.confirm("Install it, and allow this?", yes=False)
            agreed = sorted({*agreed, *wishes})


def _load(context: Context, info: PluginInfo) -> PluginInfo:
    key = info["key"]
    try:
        return context.client.plugins.load(key)
    except SupervisorError as error:
        error.message = f"{key} {info['version']} is installed, but could not be loaded: {error.message}"
        error.details = {"plugin": key, **error.details}
        raise
    except KeyboardInterrupt:
        context.note(f"{escaped(key)} is installed, and plugind goes on loading it: `pluginctl status {escaped(key)}`")
        raise


def show_wishes(context: Context, head: str, wishes: Sequence[object]) -> None:
    context.note(head)
    for wish in wishes:
        context.note(f"  {escaped(wish)}")


def watched(
    context: Context, act: Callable[[OnProgress | None], PluginInfo], done: str, *, verbose: bool
) -> PluginInfo:
    """Show its progress; after Ctrl-C say what became of it. `done` is what it is when that came too late."""
    try:
        with Display(context, verbose=verbose) as display:
            return act(display.on_progress)
    except Interrupted as stop:
        context.note(_what_became(stop, done))
        raise


def _what_became(stop: Interrupted, done: str) -> str:
    error = stop.error
    if error is None:
        info = stop.result
        return f"too late to cancel: {escaped(info['key'])} {escaped(info['version'])} is {done}"
    if isinstance(error, CallCancelled):
        return "cancelled: nothing has changed"
    if error.code in {"UNAVAILABLE", "DEADLINE_EXCEEDED"}:
        return f"cancelled, and what became of it is not known: {escaped(error.message)}; `pluginctl list` shows it"
    return f"it had failed before it could be cancelled: {escaped(error.message)}"


INSTALL = Command(
    _install,
    "Install a plugin and load it; a script says --yes to the capabilities that it wants.",
    "install ./weather",
    Argument("source", metavar="SOURCE", help=SOURCE_HELP),
    Argument("--editable", action="store_true", help="run the directory in place and restart on change, to develop it"),
    Argument("--no-load", dest="load", action="store_false", help="install only"),
    *FETCHING,
    YES,
)
