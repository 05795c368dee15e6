"""pluginctl config: read, change, check and restore a plugin's configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from client.cli.command import PLUGIN, Argument, Command, Commands, Options, UsageError, whole
from client.cli.config_values import read_file, read_settings, removed
from client.cli.output import Context
from client.cli.plain import to_json
from client.cli.render import counted, escaped, now_ms, table, user, when
from client.errors import NotFound

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from typing import Any

    from supervisor.wire.results import ConfigInfo, ConfigVerdict

_WRONG = 1
"""The exit code of `config test` when the configuration does not hold."""


def _get(context: Context, options: Options) -> None:
    info = context.client.plugins.config_get(options.plugin)
    if options.name is not None:
        value = _value(info["config"], options.plugin, options.name)
        context.show(value, to_json(value, indent=2))
        return
    rows = [(name, to_json(value)) for name, value in flattened(info["config"])]
    text = table(("NAME", "VALUE"), rows, width=context.width, colour=False) if rows else "nothing is set"
    context.show(info, f"{text}\n\n{_state(info)}" if info["revision"] else text)


def _value(config: Mapping[str, Any], plugin: str, name: str) -> Any:
    found: Any = config
    for part in name.split("."):
        if not isinstance(found, Mapping) or part not in found:
            raise NotFound(f"the configuration of {plugin} has no {name!r}: it is not set", plugin=plugin, name=name)
        found = found[part]
    return found


def flattened(config: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values; tables are taken apart, lists are not."""
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from flattened(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _state(info: ConfigInfo) -> str:
    """As in `revision 3, set 5m ago by root; a worker has taken it`."""
    who = f" by {user(info['uid'])}" if info["uid"] is not None else ""
    return f"revision {info['revision']}, set {when(info['set_at_ms'], now_ms())}{who}; {_taken(info)}"


def _taken(info: ConfigInfo) -> str:
    return "a worker has taken it" if info["good"] else "no worker has taken it yet"


def _set(context: Context, options: Options) -> None:
    plugins = context.client.plugins
    config, merge = _given(options)
    context.hint = _about_quotes(config) if merge and not options.string else ""
    info = plugins.config_set(options.plugin, config, merge=merge, expected_revision=options.revision)
    _show_set(context, options.plugin, info)


def _unset(context: Context, options: Options) -> None:
    plugins = context.client.plugins
    there = plugins.config_get(options.plugin)
    for name in options.names:
        _value(there["config"], options.plugin, name)
    info = plugins.config_set(options.plugin, removed(options.names), merge=True, expected_revision=there["revision"])
    _show_set(context, options.plugin, info)


def _given(options: Options) -> tuple[dict[str, Any], bool]:
    """The configuration that the words name, and whether it is laid over what is there.

    Raises:
        UsageError: they name none, or two.
    """
    if options.file is not None:
        if options.settings:
            raise UsageError("--file is the whole configuration: name=value cannot stand beside it")
        return read_file(options.file), False
    if not options.settings:
        raise UsageError("name what to set, as in `city=Rome` or `db.port=5432`, or --file FILE for the whole")
    return read_settings(options.settings, as_text=options.string), True


def _about_quotes(config: Mapping[str, Any]) -> str:
    """For what was meant as text and read as something else. It repeats no value: that may be a secret."""
    odd = [name for name, value in flattened(config) if value is None or isinstance(value, bool | int | float)]
    if not odd:
        return ""
    return f"to set {odd[0]} to a text, quote it twice, as in {odd[0]}='\"…\"', or say --string"


def show_verdict(context: Context, plugin: str, verdict: ConfigVerdict) -> None:
    """What was found, on stdout."""
    context.show(verdict, verdict_text(plugin, verdict))


def verdict_text(plugin: str, verdict: ConfigVerdict) -> str:
    by = "its schema and its worker" if verdict["asked_worker"] else "its schema; its worker was not asked"
    if verdict["ok"]:
        return f"{escaped(plugin)}: the configuration is well, by {by}"
    problems = verdict["problems"]
    lines = [f"  {escaped(p['path'])}: {escaped(p['message'])}".replace("  : ", "  ") for p in problems]
    return "\n".join([f"{escaped(plugin)}: the configuration has {counted(len(problems), 'problem')}:", *lines])


def _test(context: Context, options: Options) -> int:
    config, merge = _given(options) if options.settings or options.file is not None else (None, False)
    verdict = context.client.plugins.config_test(options.plugin, config, merge)
    show_verdict(context, options.plugin, verdict)
    if not verdict["ok"] and merge and config and not options.string and (hint := _about_quotes(config)):
        context.note(f"hint: {hint}")
    return 0 if verdict["ok"] else _WRONG


def _edit(context: Context, options: Options) -> None:
    from client.cli.config_edit import edit

    info = edit(context, options.plugin)
    if info is None:
        context.say("nothing was changed")
    else:
        _show_set(context, options.plugin, info)


def _history(context: Context, options: Options) -> None:
    revisions, now = context.client.plugins.config_history(options.plugin), now_ms()
    rows = [
        (
            r["revision"],
            "current" if r["current"] else None,
            r["good"],
            when(r["set_at_ms"], now),
            None if r["uid"] is None else user(r["uid"]),
            ", ".join(r["names"]),
        )
        for r in revisions
    ]
    heads = ("REVISION", "STATE", "GOOD", "SET", "USER", "NAMES")
    text = table(heads, rows, width=context.width, colour=False) if rows else "no configuration was ever set"
    context.show(revisions, text)


def _restore(context: Context, options: Options) -> None:
    info = context.client.plugins.config_restore(options.plugin, options.revision)
    _show_set(context, options.plugin, info)


def _show_set(context: Context, plugin: str, info: ConfigInfo) -> None:
    for note in info.get("notes", ()):
        context.note(escaped(note))
    if info.get("changed") is False:
        context.show(info, f"{escaped(plugin)}: nothing changed (revision {info['revision']})")
        return
    then = "its worker was restarted with it" if info["restarted"] else _taken(info)
    context.show(info, f"{escaped(plugin)}: the configuration is set (revision {info['revision']}); {then}")


_SETTINGS = Argument(
    "settings",
    metavar="NAME=VALUE",
    nargs="*",
    help="a dotted name and JSON, or a plain word; NAME=@FILE takes a file's text, NAME=- stdin's: what is secret "
    "should not stand here. Wherever it comes from, $$ at the beginning of a value stands for one $, and "
    "$file:/PATH and $credential:NAME are references",
)
_STRING = Argument("--string", action="store_true", help="every VALUE is a text as it stands, numbers too")
_FILE = Argument("--file", metavar="FILE", help="the whole configuration from a TOML or JSON file; - is JSON on stdin")
_REVISION = Argument(
    "--revision", type=whole(0, 2**62), metavar="N", help="refuse if somebody has set another one than N"
)
COMMANDS: Commands = {
    "config-get": Command(
        _get,
        "A plugin's configuration; secrets read ********.",
        "config get acme.weather city",
        PLUGIN,
        Argument("name", metavar="NAME", nargs="?", help="only this value; dotted inside tables"),
    ),
    "config-set": Command(
        _set,
        "Set values, or with --file the whole; checked by schema and worker first, then given to the worker.",
        "config set acme.weather city=Rome db.port=5432 token=-",
        PLUGIN,
        _SETTINGS,
        _STRING,
        _FILE,
        _REVISION,
    ),
    "config-unset": Command(
        _unset,
        "Take values away.",
        "config unset acme.weather city",
        PLUGIN,
        Argument("names", metavar="NAME", nargs="+", help="dotted inside tables"),
    ),
    "config-test": Command(
        _test,
        "Check values, a file, or what is stored, and change nothing; exit code 1 when it does not hold.",
        "config test acme.weather city=Rome",
        PLUGIN,
        _SETTINGS,
        _STRING,
        _FILE,
    ),
    "config-edit": Command(
        _edit,
        "Edit the configuration in $EDITOR; what is wrong can be put right.",
        "config edit acme.weather",
        PLUGIN,
    ),
    "config-history": Command(
        _history, "The configurations that were, without their values.", "config history acme.weather", PLUGIN
    ),
    "config-restore": Command(
        _restore,
        "Set an earlier configuration again: the newest other one that a worker has taken, or REVISION.",
        "config restore acme.weather 3",
        PLUGIN,
        Argument("revision", type=whole(1, 2**62), metavar="REVISION", nargs="?", help="one of `config history KEY`"),
    ),
}
