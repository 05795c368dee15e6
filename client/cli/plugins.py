"""pluginctl plugins: questions about plugins, and calls of their methods."""

from __future__ import annotations

import json
import re
import sys

from client.cli.command import PHASES, PLUGIN, PSS, STATUSES, Argument, Command, Commands, Options, UsageError, span
from client.cli.output import Context
from client.cli.plain import to_json
from client.cli.render import cell, escaped, fields
from client.errors import DeadlineExceeded

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from typing import Any

_BARE_MAP = re.compile(r"\{\s*[\w.-]+\s*:")
"""What a shell leaves of JSON that was not quoted."""


def _get(context: Context, options: Options) -> None:
    details = context.client.plugins.get(options.plugin, pss=options.pss)
    pairs: dict[str, object] = {
        name: value if isinstance(value, str | int | float | None) else to_json(value)
        for name, value in details.items()
    }
    context.show(details, fields(pairs, colour=context.colour))


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
    params = None if options.params is None else _params(options)
    try:
        answer = context.client.plugins.call(options.plugin, options.method, params, options.timeout)
    except DeadlineExceeded as error:
        error.message = f"method {options.method} of {options.plugin}: {error.message}"
        raise
    context.show(answer["result"], to_json(answer["result"], indent=2))


def _params(options: Options) -> Any:
    text = sys.stdin.read() if options.params == "-" else options.params
    try:
        return json.loads(text)
    except RecursionError:
        raise UsageError("PARAMS is nested too deeply: the protocol takes 16 levels") from None
    except ValueError as error:
        raise UsageError(f"PARAMS must be JSON, such as '{_meant(text)}'{_why(text)}: {error}") from None


def _meant(text: str) -> str:
    """What `text` would be as JSON, where that can be guessed; else an example."""
    name, equals, value = text.partition("=")
    if equals and name.isidentifier():
        return json.dumps({name: value})
    return '{"city": "Rome"}'


def _why(text: str) -> str:
    return " (in single quotes, or the shell takes the others away)" if _BARE_MAP.match(text) else ""


COMMANDS: Commands = {
    "get": Command(_get, "Everything about one plugin.", "plugins get acme.weather", PLUGIN, PSS),
    "wait": Command(
        _wait,
        "Wait until a plugin has a status or a phase; without either, until it runs.",
        "wait acme.weather --phase running --timeout 30",
        PLUGIN,
        Argument("--status", choices=STATUSES, metavar="STATUS", help=", ".join(STATUSES)),
        Argument("--phase", choices=PHASES, metavar="PHASE", help=", ".join(PHASES)),
        Argument("--timeout", type=span, metavar="SPAN", default=30.0, help="give up after so long (30s)"),
    ),
    "health": Command(_health, "Ask a worker now how it is.", "health acme.weather", PLUGIN),
    "can-transition": Command(
        _can_transition,
        "Whether a plugin's status may change to another; exit code 1 when it may not.",
        "plugins can-transition acme.weather disabled",
        PLUGIN,
        Argument("to", choices=STATUSES, metavar="STATUS", help=", ".join(STATUSES)),
    ),
    "call": Command(
        _call,
        "Call a method of a plugin and print its result as JSON.",
        """call acme.weather forecast '{"city": "Rome"}'""",
        PLUGIN,
        Argument("method", metavar="METHOD", help="one of those that `status KEY` tells"),
        Argument("params", metavar="PARAMS", nargs="?", help="JSON: a map of named params, or an array; - is stdin"),
        Argument("--timeout", type=span, metavar="SPAN", default=None, help="give up after so long (500s, 5m)"),
    ),
}
