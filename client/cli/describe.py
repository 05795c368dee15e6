"""pluginctl describe: what the socket offers, in words; with --json its JSON Schemas."""

from __future__ import annotations

from collections.abc import Mapping

from client.cli.command import Argument, Command, Commands, Options
from client.cli.meant import nearest
from client.cli.output import Context
from client.cli.render import duration, escaped, fields, table, wrapped
from client.cli.schema_text import properties, type_text
from client.errors import NotFound, SupervisorError

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from typing import Any

    from supervisor.wire.results import Description, ErrorDescription, MethodDescription

_PARTS = ("methods", "events", "errors", "notifications")


def _describe(context: Context, options: Options) -> None:
    description = context.client.describe()
    word = options.method or "methods"
    if options.method is None and context.json:
        context.show(description, "")
    elif word in _PARTS:
        _show_part(context, description, word)
    elif word in {"limits", "roles"}:
        found: Any = description.get(word, {})
        context.show(found, _facts_text(context, found))
    else:
        _show_one(context, description, word)


def _facts_text(context: Context, found: Any) -> str:
    if isinstance(found, Mapping):
        return fields(found, width=context.width)
    return "\n".join(map(escaped, found))


def _show_part(context: Context, description: Description, part: str) -> None:
    entries: Mapping[str, Any] = _part(description, part)
    rows = [(name, *_columns(part, entry), entry.get("summary", "")) for name, entry in entries.items()]
    heads = {"methods": ("METHOD", "ROLE"), "errors": ("ERROR", "TRY AGAIN")}.get(part, (part[:-1].upper(),))
    text = table((*heads, "WHAT"), rows, width=context.width, colour=False) if rows else f"no {part}"
    context.show(entries, text)


def _columns(part: str, entry: Mapping[str, Any]) -> tuple[object, ...]:
    if part == "methods":
        return (entry["role"],)
    return (entry["retryable"],) if part == "errors" else ()


def _part(description: Description, part: str) -> Mapping[str, Any]:
    """Of this name; empty if an older daemon does not tell it so."""
    found: Any = description.get(part, {})
    return found if isinstance(found, Mapping) else {}


def _show_one(context: Context, description: Description, name: str) -> None:
    for part in _PARTS:
        if (entry := _part(description, part).get(name)) is not None:
            context.show(entry, "\n".join(_TEXTS[part](name, entry, context.width)))
            return
    known = [each for part in _PARTS for each in _part(description, part)]
    hint = nearest(name, known, "; `pluginctl describe` lists them")
    if _is_plugin(context, name):
        hint = f"; `pluginctl status {name}` tells of the plugin"
    raise NotFound(f"plugind has no method {name!r}{hint}", method=name)


def _is_plugin(context: Context, name: str) -> bool:
    try:
        context.client.plugins.get(name)
    except SupervisorError:
        return False  # then there is nothing to add to what is wrong
    return True


def _method_text(name: str, method: MethodDescription, width: int | None) -> list[str]:
    lines = [escaped(name), "", *_paragraphs(method.get("description") or method["summary"], width), ""]
    after = "it goes on to its end" if method.get("survives_disconnect") else "it is given up"
    deadline = "none" if method["deadline_ms"] is None else duration(method["deadline_ms"] / 1000)
    facts = {
        "role": f"{method['role']} or above",
        "time limit": f"{deadline}, unless the caller sets one ($deadline_ms)",
        "asked twice": "does no harm" if method.get("repeatable") else "only under one $request_id",
        "caller gone": after,
        "progress": "told to who asks for it ($progress)" if method.get("progress") else None,
        "errors": _errors(method),
    }
    lines.append(fields({name: fact for name, fact in facts.items() if fact}, width=width))
    lines += ["", *_typed("params", method["params"], width), "", *_typed("result", method["result"], width)]
    return lines


def _errors(method: MethodDescription) -> str:
    """Those that are the same everywhere; the message says the rest."""
    params = properties(method["params"], method["params"])
    names = ["INVALID_PARAMS"] if params else []
    names += ["NOT_FOUND"] if {"plugin", "job", "run"} & params.keys() else []
    names += ["PERMISSION_DENIED"]
    return f"{', '.join(names)}, and others by what happens: `pluginctl describe errors`"


def _typed(title: str, schema: Mapping[str, Any], width: int | None) -> list[str]:
    held = properties(schema, schema)
    kind = "" if title == "params" else f" {escaped(type_text(schema, schema))}"
    if not held:
        return [f"{title}:{kind or ' none'}"]
    return [f"{title}:{kind}", *(f"  {line}" for line in fields(held, width=width and width - 2).splitlines())]


def _paragraphs(text: str, width: int | None) -> list[str]:
    """Filled anew, since its lines are as long as they were in its source."""
    lines: list[str] = []
    for paragraph in text.split("\n\n"):
        lines += [*([""] if lines else []), *_unindented(" ".join(paragraph.split()), width)]
    return lines


def _unindented(text: str, width: int | None) -> list[str]:
    return [line.strip() for line in wrapped(escaped(text), width)]


def _event_text(name: str, event: Mapping[str, Any], width: int | None) -> list[str]:
    schema = event.get("data") or event.get("params") or {}
    return [escaped(name), "", *_paragraphs(event["summary"], width), "", *_typed("data", schema, width)]


def _error_text(name: str, error: ErrorDescription, width: int | None) -> list[str]:
    facts = {"number": error["code"], "try again": "may help" if error["retryable"] else "does not help"}
    return [escaped(name), "", *_paragraphs(error["summary"], width), "", fields(facts, width=width)]


_TEXTS: Mapping[str, Any] = {
    "methods": _method_text,
    "events": _event_text,
    "notifications": _event_text,
    "errors": _error_text,
}
COMMANDS: Commands = {
    "describe": Command(
        _describe,
        "What the socket offers: its methods, or one with its role, params, result and errors; --json for the schemas.",
        "describe plugins.call",
        Argument(
            "method",
            metavar="WHAT",
            nargs="?",
            help="a method, an event, an error; or events, errors, notifications, roles, limits",
        ),
    ),
}
