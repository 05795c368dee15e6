"""Tables, times and foreign text for people. Pure."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence

_PLAIN = re.compile(r"[ -~]*")
_PLAIN_LINES = re.compile(r"[ -~\n\t]*")
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_UNITS = ((86_400, "d"), (3600, "h"), (60, "m"))
_COLOURS: Mapping[str, str] = {
    "ready": "32",
    "running": "32",
    "succeeded": "32",
    "starting": "33",
    "stopping": "33",
    "backoff": "33",
    "queued": "33",
    "upgrade_pending": "33",
    "error": "31",
    "failed": "31",
    "timed_out": "31",
    "interrupted": "31",
    "disabled": "2",
    "stopped": "2",
    "uninstalled": "2",
}
_LAST = 12
"""The last column is cut down to that before others are."""
_CROSS, _EMPTY = ("×", "x"), ("○", "o")
_SHAPES = {
    **dict.fromkeys(("error", "backoff"), _CROSS),
    **dict.fromkeys(("stopped", "disabled", "uninstalled", "installed"), _EMPTY),
}
"""Beside them what ASCII has."""


def escaped(text: object, *, lines: bool = False) -> str:
    """Text from elsewhere without what drives a terminal; `lines` keeps line ends and tabs."""
    plain = str(text)
    if (_PLAIN_LINES if lines else _PLAIN).fullmatch(plain):
        return plain
    return "".join(c if c.isprintable() or (lines and c in "\n\t") else _escape(c) for c in plain)


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii") if ord(char) < 0xD800 else f"\\U{ord(char):08x}"


def cell(value: object) -> str:
    """A value in a table: `-` for none."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return escaped(value)


def table(heads: Sequence[str], rows: Sequence[Sequence[object]], *, width: int | None, colour: bool) -> str:
    """Aligned columns; where the terminal is too narrow the last one is cut first, then whichever is the widest."""
    cells = [list(heads), *([cell(value) for value in row] for row in rows)]
    widths = _fitting([max(_columns(row[i]) for row in cells) for i in range(len(heads))], width)
    lines = []
    for row in cells:
        shown = row if width is None else [_cut(text, widths[i]) for i, text in enumerate(row)]
        padded = [text + " " * (widths[i] - _columns(text)) for i, text in enumerate(shown)]
        lines.append("  ".join(paint(text, colour=colour) for text in padded).rstrip())
    return "\n".join(lines)


def _fitting(widths: list[int], width: int | None) -> list[int]:
    """Column widths that the terminal has room for, as far as that can be. The first column says what a row is about,
    so it may be twice as wide as the others."""
    if width is None:
        return widths
    widths, room = list(widths), max(width, 4 * len(widths)) - 2 * (len(widths) - 1)
    widths[-1] = max(min(widths[-1], room - sum(widths[:-1])), min(widths[-1], _LAST))
    while sum(widths) > room:
        widest = max(range(len(widths)), key=lambda i: widths[i] if i else widths[i] / 2)
        widths[widest] -= 1
    return widths


def shortened(text: str, columns: int) -> str:
    """At most so many columns of a terminal."""
    return _cut(text, max(columns, 1))


def _cut(text: str, columns: int) -> str:
    if _columns(text) <= columns:
        return text
    while text and _columns(text) >= columns:
        text = text[: min(len(text) - 1, columns - 1)]
    return f"{text}…"


def bullet(state: str, *, colour: bool, plain: bool = False) -> str:
    """A mark before a name, as systemctl has it: full while it runs, empty while it does not, a cross on failure."""
    shape = _SHAPES.get(state, ("●", "*"))[plain]
    code = _COLOURS.get(state) if colour else None
    return f"\x1b[{code}m{shape}\x1b[0m" if code else shape


def counted(count: int, thing: str) -> str:
    """As in `1 job`, `3 jobs`."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def fields(pairs: Mapping[str, object], *, colour: bool = False, width: int | None = None) -> str:
    """`name: value` lines with the names right-aligned, as systemctl does; broken between words at `width` columns."""
    longest = max(map(len, pairs), default=0)
    lines = []
    for name, value in pairs.items():
        first, *more = wrapped(cell(value), width and width - longest - 2)
        lines += [f"{name:>{longest}}: {paint(first, colour=colour)}", *(" " * (longest + 2) + line for line in more)]
    return "\n".join(lines)


def wrapped(text: str, width: int | None) -> list[str]:
    """Broken between words; what has no place to break, such as a path, stays whole, to be copied."""
    if width is None or len(text) <= width:
        return [text]
    from textwrap import wrap

    return wrap(text, max(width, 20), subsequent_indent="  ", break_on_hyphens=False, break_long_words=False)


def paint(text: str, *, colour: bool) -> str:
    """A known state in its colour."""
    code = _COLOURS.get(text.strip()) if colour else None
    return f"\x1b[{code}m{text}\x1b[0m" if code else text


def duration(seconds: float | None) -> str:
    """As in `45s`, `3m`, `2h 5m`, `4d 3h`."""
    if seconds is None:
        return "-"
    left = int(seconds)
    if left < 60:
        return f"{seconds:.1f}s" if 0 < seconds < 10 else f"{left}s"
    parts: list[tuple[int, str]] = []
    for size, unit in _UNITS:
        if left >= size or (parts and len(parts) < 2):
            parts.append((left // size, unit))
            left %= size
    return " ".join(f"{count}{unit}" for count, unit in parts[:2] if count)


def when(instant_ms: int | None, now_ms: int) -> str:
    """As in `3m ago` or `in 2h`."""
    if instant_ms is None:
        return "-"
    seconds = (instant_ms - now_ms) / 1000
    if abs(seconds) < 1:
        return "now"
    text = duration(int(abs(seconds)))
    return f"in {text}" if seconds > 0 else f"{text} ago"


def clock(instant_ms: int) -> str:
    """Local date and time, to the second."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(instant_ms / 1000))


def parse_span(text: str) -> int | None:
    """`10m`, `2h30m`, `1d` in seconds; None if it is no span."""
    match = _DURATION.fullmatch(text)
    if not text or not match:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def parse_instant(text: str, now_ms: int) -> int:
    """`10m`, `2h30m`, `1d` before now, or an ISO 8601 date and time (local unless it has an offset).

    Raises:
        ValueError: it is neither.
    """
    if (span_s := parse_span(text)) is not None:
        return now_ms - span_s * 1000
    from datetime import datetime

    return int(datetime.fromisoformat(text).timestamp() * 1000)


def user(uid: int) -> str:
    """By name, where this machine knows it."""
    import pwd

    try:
        return escaped(pwd.getpwuid(uid).pw_name)
    except (KeyError, OverflowError):
        return f"uid {uid}"


def now_ms() -> int:
    return int(time.time() * 1000)


def _columns(text: str) -> int:
    if text.isascii():
        return len(text)
    import unicodedata

    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) != 0 for c in text)
