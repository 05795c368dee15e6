"""pluginctl upgrade, approve, reject, rollback, versions: which version of a plugin runs."""

from __future__ import annotations

from client.cli.command import PLUGIN, YES, Argument, Command, Options, UsageError, output, span
from client.cli.install import show_wishes, watched
from client.cli.output import Context, Declined
from client.cli.render import escaped, now_ms, table, when
from client.cli.source import FETCHING, SOURCE_HELP, ask_about_word, came_from, fetching, looked_for, source_for_daemon
from client.cli.wait import WAITING, ask, goes_on, under_way
from client.errors import ApprovalRequired, FailedPrecondition

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from typing import Any

    from client.link import OnProgress
    from supervisor.wire.results import PluginDetails, PluginInfo

_ORIGIN = ("source", "index_url", "find_links")
_WAITS = 3
"""The exit code of what waits for an operator, as of what is refused."""


def _upgrade(context: Context, options: Options) -> int:
    if options.source is not None and options.version is not None:
        raise UsageError("SOURCE and --version cannot stand together: --version is one that is kept here already")
    if options.version is not None and any(fetching(options).values()):
        raise UsageError("--version is one that is kept here already: leave --index-url, --find-links and --hash out")
    if options.version is not None and options.editable:
        raise UsageError("--version and --editable cannot stand together: what is kept here does not run in place")
    before = context.client.plugins.get(options.plugin)
    _refuse_uninstalled(before)
    if options.source is not None and not options.editable:
        ask_about_word(context, options.source, fetching(options), yes=options.yes)
    what = _what(before, options)
    with looked_for(what.get("source") or ""):
        info = _with_consent(context, options, what, before)
    if info["status"] == "upgrade_pending":
        return _decide(context, info)
    context.show(info, f"{escaped(info['key'])}: {_upgraded(before, info)}. {_then(info)}")
    return 0


def _with_consent(context: Context, options: Options, what: dict[str, Any], before: PluginDetails) -> PluginInfo:
    """Agreed is what was shown, and no more: the source may ask for something else when it is looked at again."""
    agreed: list[str] = []
    while True:
        try:
            return _ask_for(context, options, what, agreed)
        except ApprovalRequired as wanted:
            wishes = wanted.details.get("added")
            if not isinstance(wishes, list) or set(wishes) <= set(agreed):
                raise
            _consent(context, f"{options.plugin}{_origin(context, what, before)}", wishes)
            agreed = sorted({*agreed, *wishes})


def _origin(context: Context, what: dict[str, Any], before: PluginDetails) -> str:
    """Of the version that is asked for, as in ` from /srv/weather`."""
    if "version" in what:
        return f" {what['version']}, which is kept here"
    own: dict[str, Any] = {} if "source" in what else {name: before.get(name) for name in _ORIGIN}
    whole = {**own, **{name: value for name, value in what.items() if value}}
    how = {"index_url": whole.get("index_url"), "find_links": whole.get("find_links") or []}
    return f" from {came_from(context, whole['source'], how)}"


def _refuse_uninstalled(plugin: PluginDetails) -> None:
    key = plugin["key"]
    if plugin["status"] == "uninstalled":
        raise FailedPrecondition(
            f"{key} is uninstalled, and only what is installed can be upgraded: `pluginctl install SOURCE` installs it "
            "and takes up the data that it left",
            plugin=key,
            status=plugin["status"],
        )


def _then(info: PluginInfo) -> str:
    """What the version in place does now; an error is of the one before."""
    if info["status"] != "error":
        return escaped(info["summary"])
    key = escaped(info["key"])
    return f"It is in place, and has not been started, since {key} is in error: `pluginctl enable {key}` starts it"


def _what(before: PluginDetails, options: Options) -> dict[str, Any]:
    """Which version is meant; without a word, what the plugin's own source has now."""
    if options.version is not None:
        return {"version": options.version}
    key, editable = before["key"], options.editable
    if options.source is not None:
        source = source_for_daemon(options.source, editable=editable)
        return {"source": source, "editable": editable, **fetching(options)}
    if before["editable"]:
        if editable:
            return {"source": before["source"], "editable": True, **fetching(options)}
        raise FailedPrecondition(
            f"{key} runs in place: a change of its files restarts it; `pluginctl upgrade {key} --editable` takes over "
            "a manifest that asks for more capabilities"
        )
    if editable:
        raise UsageError(f"{key} does not run in place so far: name the directory that it is to run in, too")
    if not before["source"]:
        raise UsageError(f"where {key} came from is not known: name SOURCE, or --version for one that is kept here")
    return fetching(options)  # plugind knows the source, and which index it came from


def _ask_for(context: Context, options: Options, what: dict[str, Any], agreed: list[str]) -> PluginInfo:
    def act(on_progress: OnProgress | None) -> PluginInfo:
        plugins = context.client.plugins
        how = {
            "approve": options.yes,
            "capabilities": agreed,
            "probation_s": options.probation,
            "on_progress": on_progress,
        }
        return plugins.upgrade(options.plugin, **what, **how)

    return watched(context, act, "in place", verbose=options.verbose)


def _upgraded(before: PluginInfo, after: PluginInfo) -> str:
    old, new = escaped(before["version"]), escaped(after["version"])
    return f"upgraded from {old} to {new}" if old != new else f"{new} was exchanged for another build of it"


def _decide(context: Context, info: PluginInfo) -> int:
    """The new version waits for its capabilities to be approved: ask, or say that it waits."""
    details = context.client.plugins.get(info["key"])
    try:
        done = _approve_shown(context, details)
    except Declined:
        raise Declined(_waiting(details)) from None
    except UsageError:
        context.show(details, f"{escaped(info['key'])}: {escaped(info['summary'])}")
        context.note(_waiting(details))
        return _WAITS
    _show_approved(context, *done)
    return 0


def _waiting(details: PluginDetails) -> str:
    key = escaped(details["key"])
    return (
        f"{key} {escaped(details['staged_version'])} waits for approval: `pluginctl approve {key}` allows what it asks "
        f"for and runs it, `pluginctl reject {key}` runs {escaped(details['version'])} again"
    )


def _approve(context: Context, options: Options) -> None:
    details = context.client.plugins.get(options.plugin)
    if details["staged_version"] is None:
        # Nothing to look at: plugind does it, or says why not.
        _show_approved(context, *_do_approve(context, options.plugin, options.version, options))
        return
    if options.version not in {None, details["staged_version"]}:
        raise FailedPrecondition(
            f"{details['key']} {options.version} does not wait for approval: it is {details['staged_version']} that "
            "does; nothing was done",
            plugin=details["key"],
        )
    _show_approved(context, *_approve_shown(context, details, options))


def _approve_shown(context: Context, details: PluginDetails, options: Options | None = None) -> tuple[PluginInfo, bool]:
    """Approve the version that was shown, and no other that came meanwhile."""
    version = details["staged_version"]
    origin = _origin_of_waiting(context, details["key"])
    yes = options is not None and options.yes
    _consent(context, f"{details['key']} {version}{origin}", details["pending_capabilities"], yes=yes)
    return _do_approve(context, details["key"], version, options)


def _do_approve(context: Context, plugin: str, version: str | None, options: Options | None) -> tuple[PluginInfo, bool]:
    """Without options as long as it takes."""
    with goes_on(context, "plugind goes on with the approval", plugin):
        if options is None:
            return context.client.plugins.approve(plugin, version), True
        return ask(context, options, plugin, lambda client: client.plugins.approve(plugin, version))


def _origin_of_waiting(context: Context, plugin: str) -> str:
    """As in ` from /srv/weather`; nothing if it is decided already."""
    waiting = [v["source"] for v in context.client.plugins.versions(plugin) if v["state"] == "staged"]
    return f" from {waiting[0]}" if waiting and waiting[0] else ""


def _consent(context: Context, name: str, wishes: list[Any], *, yes: bool = False) -> None:
    if wishes:
        show_wishes(context, f"{escaped(name)} wants to be allowed, beside what was approved before:", wishes)
    else:
        context.note(f"{escaped(name)} wants nothing that was not approved before")
    question = f"Allow this, and run {escaped(name)}?" if wishes else f"Run {escaped(name)}?"
    context.confirm(question, yes=yes, about={"plugin": context.about, "what": name, "capabilities": wishes})


def _show_approved(context: Context, info: PluginInfo, done: bool) -> None:
    key, version = escaped(info["key"]), escaped(info["version"])
    context.show(info, f"{key} {version}: approved. {escaped(info['summary'])}" if done else under_way(info))


def _reject(context: Context, options: Options) -> None:
    plugin = options.plugin
    with goes_on(context, "plugind goes on rejecting it", plugin):
        info, done = ask(context, options, plugin, lambda client: client.plugins.reject(plugin))
    text = f"{escaped(info['key'])}: rejected; {escaped(info['version'])} is in place again. {escaped(info['summary'])}"
    context.show(info, text if done else under_way(info))


def _rollback(context: Context, options: Options) -> None:
    plugin, before = options.plugin, context.client.plugins.get(options.plugin)
    with goes_on(context, "plugind goes on rolling it back", plugin):
        info, done = ask(context, options, plugin, lambda client: client.plugins.rollback(plugin, options.version))
    way = f"from {escaped(before['version'])} to {escaped(info['version'])}"
    context.show(info, f"{escaped(info['key'])}: rolled back {way}. {_then(info)}" if done else under_way(info))


def _versions(context: Context, options: Options) -> None:
    versions, now = context.client.plugins.versions(options.plugin), now_ms()
    rows = [
        (
            v["version"],
            v["state"],
            when(v["stored_at_ms"], now),
            when(v["activated_at_ms"], now) if v["activated_at_ms"] is not None else "never",
            v["digest"][:12],
            v["source"],
        )
        for v in versions
    ]
    heads = ("VERSION", "STATE", "STORED", "ACTIVATED", "DIGEST", "SOURCE")
    text = table(heads, rows, width=context.width, colour=context.colour) if rows else "no version is kept"
    context.show_list(versions, "version", text)


_VERSION = Argument(
    "--version",
    metavar="V",
    help="this version, one of `pluginctl versions KEY`; of two builds of one, V-DIGEST or DIGEST as it begins there",
)
UPGRADE = Command(
    _upgrade,
    "Exchange a plugin's version, by default for what its own source has now; it works wholly or not at all.",
    "upgrade acme.weather ./weather --probation 60s",
    PLUGIN,
    Argument("source", metavar="SOURCE", nargs="?", help=SOURCE_HELP),
    _VERSION,
    Argument(
        "--editable",
        action="store_true",
        help="run the directory SOURCE in place, or take over what the one that runs in place asks for now",
    ),
    Argument(
        "--probation", type=span, metavar="SPAN", help="go back by itself if it is given up within this span (60s, 10m)"
    ),
    *FETCHING,
    YES,
)
APPROVE = Command(
    _approve,
    "Allow what the waiting version asks for, and run it.",
    "approve acme.weather",
    PLUGIN,
    Argument("--version", metavar="V", help="only if it is this version that waits"),
    YES,
    *WAITING,
)
REJECT = Command(_reject, "Drop the waiting version and run the one before.", "reject acme.weather", PLUGIN, *WAITING)
ROLLBACK = Command(
    _rollback,
    "Run the version before again; nothing is fetched.",
    "rollback acme.weather",
    PLUGIN,
    _VERSION,
    *WAITING,
)
VERSIONS = Command(
    _versions,
    "The versions of a plugin that are kept, newest first.",
    "versions acme.weather",
    PLUGIN,
    output("wide", "json", "name"),
)
