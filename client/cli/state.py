"""pluginctl state: what a plugin stored."""

from __future__ import annotations

from client.cli.command import PLUGIN, Argument, Command, Commands, Options, output, whole
from client.cli.output import Context
from client.cli.plain import to_json
from client.cli.render import escaped, table


def _list(context: Context, options: Options) -> None:
    page = context.client.plugins.state_list(options.plugin, options.prefix, options.after, options.limit)
    entries = page["entries"]
    rows = [(entry["key"], entry["revision"], to_json(entry["value"])) for entry in entries]
    text = table(("KEY", "REVISION", "VALUE"), rows, width=context.width, colour=False) if rows else "nothing is stored"
    if context.output == "name":
        context.show_list(entries, "key", text)
    else:
        context.show(page, text)
    if page["next"] is not None:
        context.note(f"there is more: --after {escaped(page['next'])}")


def _get(context: Context, options: Options) -> None:
    entry = context.client.plugins.state_get(options.plugin, options.name)
    context.show(entry, to_json(entry["value"], indent=2))


COMMANDS: Commands = {
    "state-list": Command(
        _list,
        "What a plugin stored, in key order.",
        "state list acme.weather --prefix cache/",
        PLUGIN,
        Argument("--prefix", default="", help="only keys that begin so"),
        Argument("--after", metavar="NAME", help="go on after this key"),
        Argument("-n", "--limit", type=whole(1, 1000), metavar="N", default=100, help="at most so many (100)"),
        output("wide", "json", "name"),
    ),
    "state-get": Command(
        _get,
        "One value that a plugin stored, as JSON; with --json also its revision.",
        "state get acme.weather count",
        PLUGIN,
        Argument("name", metavar="NAME", help="its key, one of `state list KEY`"),
    ),
}
