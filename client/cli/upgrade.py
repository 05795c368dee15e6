"""pluginctl upgrade, approve, reject, rollback, versions: which version of a plugin runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from client.cli.command import PLUGIN, YES, Argument, Command, Options, UsageError, span
from client.cli.install import show_wishes, watched
from client.cli.output import Context, Declined
from client.cli.render import escaped, now_ms, table, when
from client.cli.source import FETCHING, SOURCE_HELP, fetching, source_for_daemon
from client.errors import ApprovalRequired, FailedPrecondition

if TYPE_CHECKING:
    from client.link import OnProgress
    from supervisor.wire.results import PluginDetails, PluginInfo

_WAITS = 3
"""The exit code of what waits for an operator, as of what is refused."""


def _upgrade(context: Context, options: Options) -> int:
    if options.source is not None and options.version is not None:
        raise UsageError("SOURCE and --version cannot stand together: --version is one that is kept here already")
    before = context.client.plugins.get(options.plugin)
    what = _what(before, options)
    try:
        info = _ask_for(context, options, what, approve=options.yes)
    except ApprovalRequired as wanted:
        _consent(context, options.plugin, wanted.details.get("added") or wanted.details.get("capabilities") or [])
        info = _ask_for(context, options, what, approve=True)
    if info["status"] == "upgrade_pending":
        return _decide(context, info)
    context.show(info, f"{escaped(info['key'])}: {_upgraded(before, info)}. {escaped(info['summary'])}")
    return 0


def _what(before: PluginDetails, options: Options) -> dict[str, Any]:
    """Which version is meant; without a word, what the plugin's own source has now."""
    if options.version is not None:
        return {"version": options.version}
    if options.source is not None:
        return {"source": source_for_daemon(options.source), **fetching(options)}
    key = before["key"]
    if before["editable"]:
        raise FailedPrecondition(f"{key} runs in place: a change of its files restarts it, and is all there is to do")
    if not before["source"]:
        raise UsageError(f"where {key} came from is not known: name SOURCE, or --version for one that is kept here")
    return {"source": before["source"], **fetching(options)}


def _ask_for(context: Context, options: Options, what: dict[str, Any], *, approve: bool) -> PluginInfo:
    def act(on_progress: OnProgress | None) -> PluginInfo:
        plugins = context.client.plugins
        how = {"approve": approve, "probation_s": options.probation, "on_progress": on_progress}
        return plugins.upgrade(options.plugin, **what, **how)

    return watched(context, act, "in place", verbose=options.verbose)


def _upgraded(before: PluginInfo, after: PluginInfo) -> str:
    old, new = escaped(before["version"]), escaped(after["version"])
    return f"upgraded from {old} to {new}" if old != new else f"{new} was exchanged for another build of it"


def _decide(context: Context, info: PluginInfo) -> int:
    """The new version waits for its capabilities to be approved: ask, or say that it waits."""
    details = context.client.plugins.get(info["key"])
    try:
        done = _approve_shown(context, details, yes=False)
    except Declined:
        raise Declined(_waiting(details)) from None
    except UsageError:
        context.show(details, f"{escaped(info['key'])}: {escaped(info['summary'])}")
        context.note(_waiting(details))
        return _WAITS
    _show_approved(context, done)
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
        _show_approved(context, context.client.plugins.approve(options.plugin, options.version))
        return
    if options.version not in {None, details["staged_version"]}:
        raise FailedPrecondition(
            f"{details['key']} {options.version} does not wait for approval: it is {details['staged_version']} that "
            "does; nothing was done",
            plugin=details["key"],
        )
    _show_approved(context, _approve_shown(context, details, yes=options.yes))


def _approve_shown(context: Context, details: PluginDetails, *, yes: bool) -> PluginInfo:
    """Approve the version that was shown, and no other that came meanwhile."""
    version = details["staged_version"]
    _consent(context, f"{details['key']} {version}", details["pending_capabilities"], yes=yes)
    return context.client.plugins.approve(details["key"], version)


def _consent(context: Context, name: str, wishes: list[Any], *, yes: bool = False) -> None:
    if wishes:
        show_wishes(context, f"{escaped(name)} wants to be allowed, beside what was approved before:", wishes)
    else:
        context.note(f"{escaped(name)} wants nothing that was not approved before")
    context.confirm("Allow this, and run it?" if wishes else "Run it?", yes=yes)


def _show_approved(context: Context, info: PluginInfo) -> None:
    context.show(info, f"{escaped(info['key'])} {escaped(info['version'])}: approved. {escaped(info['summary'])}")


def _reject(context: Context, options: Options) -> None:
    info = context.client.plugins.reject(options.plugin)
    text = f"{escaped(info['key'])}: rejected; {escaped(info['version'])} is in place again. {escaped(info['summary'])}"
    context.show(info, text)


def _rollback(context: Context, options: Options) -> None:
    before = context.client.plugins.get(options.plugin)
    info = context.client.plugins.rollback(options.plugin, options.version)
    way = f"from {escaped(before['version'])} to {escaped(info['version'])}"
    context.show(info, f"{escaped(info['key'])}: rolled back {way}. {escaped(info['summary'])}")


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
    context.show(versions, text)


_VERSION = Argument("--version", metavar="V", help="this version, one of `pluginctl versions KEY`")
UPGRADE = Command(
    _upgrade,
    "Exchange a plugin's version, by default for what its own source has now; it works wholly or not at all.",
    "upgrade acme.weather ./weather --probation 60s",
    PLUGIN,
    Argument("source", metavar="SOURCE", nargs="?", help=SOURCE_HELP),
    _VERSION,
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
)
REJECT = Command(_reject, "Drop the waiting version and run the one before.", "reject acme.weather", PLUGIN)
ROLLBACK = Command(
    _rollback,
    "Run the version before again; nothing is fetched.",
    "rollback acme.weather",
    PLUGIN,
    _VERSION,
)
VERSIONS = Command(_versions, "The versions of a plugin that are kept, newest first.", "versions acme.weather", PLUGIN)
