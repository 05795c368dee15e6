"""pluginctl install: show what a plugin wants to be allowed, install it, and load it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from client.cli.command import YES, Argument, Command, Options
from client.cli.failure import tell_interrupted
from client.cli.output import Context
from client.cli.progress import Display
from client.cli.render import escaped
from client.cli.source import FETCHING, SOURCE_HELP, ask_about_word, came_from, fetching, looked_for, source_for_daemon
from client.cli.wait import goes_on
from client.errors import ApprovalRequired, CallCancelled, Interrupted, SupervisorError

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from client.link import OnProgress
    from supervisor.wire.results import PluginInfo


def _install(context: Context, options: Options) -> None:
    source, how = source_for_daemon(options.source, editable=options.editable), fetching(options)
    ask_about_word(context, source, how, yes=options.yes)

    def install(agreed: list[str] | None) -> PluginInfo:
        def act(on_progress: OnProgress | None) -> PluginInfo:
            plugins = context.client.plugins
            return plugins.install(source, options.editable, **how, capabilities=agreed, on_progress=on_progress)

        return watched(context, act, "installed and not loaded", verbose=options.verbose)

    with looked_for(source):
        agree = partial(_with_consent, context, lambda: came_from(context, source, how), install)
        info = install(None) if options.yes else agree()
    if options.load:
        info = _load(context, info)
    done = "installed and loaded" if options.load else "installed"
    context.show(info, f"{escaped(info['key'])} {escaped(info['version'])}: {done}. {escaped(info['summary'])}")


def _with_consent(
    context: Context, origin: Callable[[], str], install: Callable[[list[str]], PluginInfo]
) -> PluginInfo:
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
            name += f" from {origin()}"
            show_wishes(context, f"{name} wants to be allowed:", wishes)
            context.confirm(f"Install {name}, and allow this?", yes=False, about=wanted.details)
            agreed = sorted({*agreed, *wishes})


def _load(context: Context, info: PluginInfo) -> PluginInfo:
    key = info["key"]
    try:
        with goes_on(context, f"{escaped(key)} is installed, and plugind goes on loading it", key):
            return context.client.plugins.load(key)
    except SupervisorError as error:
        error.message = f"{key} {info['version']} is installed, but could not be loaded: {error.message}"
        error.details = {"plugin": key, **error.details}
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
        tell_interrupted(context, _what_became(stop, done))
        raise
    except KeyboardInterrupt:  # once more, while that was being found out
        tell_interrupted(context, f"plugind was told to cancel; {_unknown()}")
        raise


def _what_became(stop: Interrupted, done: str) -> str:
    error = stop.error
    if error is None:
        info = stop.result
        return f"too late to cancel: {escaped(info['key'])} {escaped(info['version'])} is {done}"
    if isinstance(error, CallCancelled):
        return "cancelled: nothing has changed"
    if error.code in {"UNAVAILABLE", "DEADLINE_EXCEEDED"}:
        return f"plugind was told to cancel: {escaped(error.message)}; {_unknown()}"
    return f"it had failed before it could be cancelled: {escaped(error.message)}"


def _unknown() -> str:
    return "it goes on to its end if that came too late, and `pluginctl list` shows what became of it"


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
