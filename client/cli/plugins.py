"""pluginctl plugins: commands on plugins, and questions about them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from client.cli.command import (
    PHASES,
    PLUGIN,
    PSS,
    STATUSES,
    Argument,
    Command,
    Commands,
    Options,
    UsageError,
    seconds,
    whole,
)
from client.cli.metrics import METRICS
from client.cli.output import Context
from client.cli.plain import to_json
from client.cli.render import cell, duration, escaped, fields, table
from client.cli.status import STATUS
from client.cli.wait import goes_on, patience
from client.errors import DeadlineExceeded
from supervisor.core.cause import short_cause

if TYPE_CHECKING:
    from collections.abc import Callable

    from client.sync_client import Client
    from supervisor.wire.results import PluginInfo

_HEADS = ("KEY", "VERSION", "STATUS", "PHASE", "PID", "RESTARTS", "UPTIME", "WHAT")
_NARROW = 110
_LEFT_OUT = ("VERSION", "PID")
"""On a terminal with fewer columns than that, to leave room for what is wrong."""


def plugin_table(context: Context, plugins: list[PluginInfo]) -> str:
    """A line a plugin; the last column says what is wrong, or what comes next."""
    if not plugins:
        return "no plugins; `pluginctl install SOURCE` installs one, `pluginctl new NAME` writes one"
    rows = [
        (
            p["key"],
            p["version"],
            p["status"],
            p["phase"],
            p["pid"],
            p["restarts"],
            duration(p["uptime_s"]),
            _what(p),
        )
        for p in plugins
    ]
    shown = [i for i, head in enumerate(_HEADS) if (context.width or _NARROW) >= _NARROW or head not in _LEFT_OUT]
    heads = [_HEADS[i] for i in shown]
    return table(heads, [[row[i] for i in shown] for row in rows], width=context.width, colour=context.colour)


def _what(p: PluginInfo) -> str:
    if p["last_error"] and not p["waiting_for"]:
        return short_cause(p["last_error"])
    return " ".join((p["disable_reason"] or (p["summary"] if p["phase"] != "running" else "")).split())


def _list(context: Context, options: Options) -> None:
    plugins = context.client.plugins.list(options.status, options.all)
    context.show(plugins, plugin_table(context, plugins))


def _get(context: Context, options: Options) -> None:
    details = context.client.plugins.get(options.plugin, pss=options.pss)
    pairs: dict[str, object] = {
        name: value if isinstance(value, str | int | float | None) else to_json(value)
        for name, value in details.items()
    }
    context.show(details, fields(pairs, colour=context.colour))


def _command(
    act: Callable[[Client, Options], PluginInfo], done: str, *, stops: bool = False
) -> Callable[[Context, Options], None]:
    """A command that answers with the plugin as it is afterwards; `stops`: it waits for the worker to end."""

    def run(context: Context, options: Options) -> None:
        with goes_on(context, "plugind goes on with it", options.plugin):
            if stops:
                with patience(context, options.plugin):
                    info = act(context.client, options)
            else:
                info = act(context.client, options)
        context.show(info, f"{escaped(info['key'])}: {done}. {escaped(info['summary'])}")

    return run


def _wait(context: Context, options: Options) -> None:
    phase = options.phase or (None if options.status else "running")
    info = context.client.wait_for(options.plugin, status=options.status, phase=phase, timeout_s=options.timeout)
    context.show(info, f"{escaped(info['key'])}: {cell(info['status'])}, {cell(info['phase'])}")


def _health(context: Context, options: Options) -> int:
    health = context.client.plugins.health(options.plugin)
    answered = f" after {health['answer_ms']:.1f} ms" if health["answer_ms"] is not None else ""
    state = "healthy" if health["healthy"] else "not healthy"
    message = f": {escaped(health['message'])}" if health["message"] else ""
    context.show(health, f"{escaped(options.plugin)} is {state} ({cell(health['phase'])}){answered}{message}")
    return 0 if health["healthy"] else 1


def _can_transition(context: Context, options: Options) -> int:
    answer = context.client.plugins.can_transition(options.plugin, options.to)
    verdict = "may" if answer["allowed"] else "may not"
    text = f"{options.plugin} is {answer['status']} and {verdict} become {answer['to']}"
    context.show(answer, escaped(text))
    return 0 if answer["allowed"] else 1


def _call(context: Context, options: Options) -> None:
    try:
        params: Any = None if options.params is None else json.loads(options.params)
    except RecursionError:
        raise UsageError("PARAMS is nested too deeply: the protocol takes 16 levels") from None
    except ValueError as error:
        raise UsageError(f'PARAMS must be JSON, such as \'{{"city": "Rome"}}\': {error}') from None
    try:
        answer = context.client.plugins.call(options.plugin, options.method, params, options.timeout)
    except DeadlineExceeded as error:
        error.message = f"method {options.method} of {options.plugin}: {error.message}"
        raise
    context.show(answer["result"], to_json(answer["result"], indent=2))


def _state_list(context: Context, options: Options) -> None:
    page = context.client.plugins.state_list(options.plugin, options.prefix, options.after, options.limit)
    rows = [(entry["key"], entry["revision"], to_json(entry["value"])) for entry in page["entries"]]
    text = table(("KEY", "REVISION", "VALUE"), rows, width=context.width, colour=False) if rows else "nothing is stored"
    context.show(page, text)
    if page["next"] is not None and not context.json:
        context.note(f"there is more: --after {escaped(page['next'])}")


_TIMEOUT = Argument("--timeout", type=seconds, metavar="S", default=None, help="give up after S seconds")
COMMANDS: Commands = {
    "list": Command(
        _list,
        "All plugins, in install order.",
        "list --json",
        Argument("--status", choices=STATUSES, metavar="STATUS", help="only those of this status"),
        Argument("-a", "--all", action="store_true", help="uninstalled ones too"),
    ),
    "status": STATUS,
    "get": Command(_get, "Everything about one plugin.", "plugins get acme.weather", PLUGIN, PSS),
    "load": Command(
        _command(lambda c, o: c.plugins.load(o.plugin), "loaded"),
        "Make an installed, disabled or failed plugin ready and start its worker.",
        "load acme.weather",
        PLUGIN,
    ),
    "enable": Command(
        _command(lambda c, o: c.plugins.enable(o.plugin), "enabled"),
        "Make a disabled or failed plugin ready again, or one whose upgrade is approved.",
        "enable acme.weather",
        PLUGIN,
    ),
    "disable": Command(
        _command(lambda c, o: c.plugins.disable(o.plugin, o.reason), "disabled", stops=True),
        "Drain and stop the worker and keep it stopped.",
        'disable acme.weather --reason "until Monday"',
        PLUGIN,
        Argument("--reason", help="why, for whoever asks later"),
    ),
    "mark-error": Command(
        _command(lambda c, o: c.plugins.mark_error(o.plugin, o.error), "marked as failed"),
        "Put a plugin into status error and stop its worker.",
        'plugins mark-error acme.weather "bad data since noon"',
        PLUGIN,
        Argument("error", metavar="ERROR", help="what is wrong"),
    ),
    "mark-upgrade-pending": Command(
        _command(lambda c, o: c.plugins.mark_upgrade_pending(o.plugin), "upgrade pending"),
        "Stop the worker of a ready plugin until its upgrade is decided.",
        "plugins mark-upgrade-pending acme.weather",
        PLUGIN,
    ),
    "start": Command(
        _command(lambda c, o: c.plugins.start(o.plugin), "worker started"),
        "Start the worker of a ready plugin that was stopped.",
        "start acme.weather",
        PLUGIN,
    ),
    "stop": Command(
        _command(lambda c, o: c.plugins.stop(o.plugin), "worker stopped", stops=True),
        "Stop the worker of a ready plugin until start, restart or the next boot.",
        "stop acme.weather",
        PLUGIN,
    ),
    "restart": Command(
        _command(lambda c, o: c.plugins.restart(o.plugin), "worker restarted", stops=True),
        "Stop the worker of a ready plugin and start it again.",
        "restart acme.weather",
        PLUGIN,
    ),
    "wait": Command(
        _wait,
        "Wait until a plugin has a status or a phase; without either, until it runs.",
        "wait acme.weather --phase running --timeout 30",
        PLUGIN,
        Argument("--status", choices=STATUSES, metavar="STATUS", help=", ".join(STATUSES)),
        Argument("--phase", choices=PHASES, metavar="PHASE", help=", ".join(PHASES)),
        Argument("--timeout", type=seconds, metavar="S", default=30.0, help="give up after S seconds (30)"),
    ),
    "health": Command(_health, "Ask a worker now how it is.", "health acme.weather", PLUGIN),
    "can-transition": Command(
        _can_transition,
        "Whether a plugin's status may change to another; exit code 1 when it may not.",
        "plugins can-transition acme.weather disabled",
        PLUGIN,
        Argument("to", choices=STATUSES, metavar="STATUS"),
    ),
    "call": Command(
        _call,
        "Call a method of a plugin and print its result as JSON.",
        """call acme.weather forecast '{"city": "Rome"}'""",
        PLUGIN,
        Argument("method", metavar="METHOD"),
        Argument("params", metavar="PARAMS", nargs="?", help="JSON: a map of named params, or an array"),
        _TIMEOUT,
    ),
    "metrics": METRICS,
    "state-list": Command(
        _state_list,
        "What a plugin stored, in key order.",
        "state list acme.weather --prefix cache/",
        PLUGIN,
        Argument("--prefix", default="", help="only keys that begin so"),
        Argument("--after", metavar="KEY", help="go on after this key"),
        Argument("-n", "--limit", type=whole(1, 1000), metavar="N", default=100, help="at most so many (100)"),
    ),
}
