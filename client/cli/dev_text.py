"""What `pluginctl dev` prints: log lines, events and its own words in one stream. Pure."""

from __future__ import annotations

import time

from client.cli.plain import to_json
from client.cli.render import escaped

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor.wire.results import EventInfo, LogLine

_BOLD, _DIM, _RED, _GREEN, _YELLOW, _CYAN = "1", "2", "31", "32", "33", "36"
_LEVELS = {"debug": _DIM, "warning": _YELLOW, "error": _RED, "critical": _RED}
_BAD = ("failed", "crashed", "error", "timed_out", "interrupted")
_GOOD = ("succeeded", "enabled", "loaded")
_HIDDEN = ("run_id", "due_ms", "stderr_tail", "capabilities", "trigger", "attempt")
"""What only programs want."""
_LONGEST = 200


def own_line(text: str, *, colour: bool, bad: bool = False) -> str:
    """Of the command itself; `text` may have several lines."""
    first, *more = text.splitlines()
    lines = [f"== {first}", *(f"   {line}".rstrip() for line in more)]
    return painted("\n".join(lines), f"{_BOLD};{_RED if bad else _GREEN}", colour=colour)


def log_text(line: LogLine, *, colour: bool) -> str:
    source = line["level"] if line["stream"] == "log" else line["stream"]
    fields = "".join(f" {escaped(name)}={escaped(value)}" for name, value in line["fields"].items())
    code = _LEVELS.get(line["level"], "") if line["stream"] != "plugind" else _DIM
    text = f"{escaped(source):<9} {escaped(line['message'])}{fields}{' [cut]' * line['truncated']}"
    return f"{_clock(line['time_ms'])} {painted(text, code, colour=colour)}"


def event_text(event: EventInfo, *, colour: bool) -> str:
    kind = event["type"]
    code = _RED if kind.endswith(_BAD) else _GREEN if kind.endswith(_GOOD) else _CYAN
    text = f"event     {escaped(kind)}{_data(event['data'])}"
    return f"{_clock(event['at_ms'])} {painted(text, code, colour=colour)}"


def _data(data: Mapping[str, object]) -> str:
    shown = {name: value for name, value in data.items() if value is not None and name not in _HIDDEN}
    return "".join(f" {escaped(name)}={_value(value)}" for name, value in shown.items())


def _value(value: object) -> str:
    text = value if isinstance(value, str) and value.isprintable() and " " not in value else to_json(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def painted(text: str, code: str, *, colour: bool) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if colour and code else text


def _clock(at_ms: int) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at_ms / 1000))
