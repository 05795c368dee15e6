"""Lines of styled text for `pluginctl top`: made safe, cut to columns of the terminal, set in tables. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size

from client.cli.render import escaped

Span = tuple[str, str]
"""A text that is safe to show, and how: good, busy, bad, faint, strong, or nothing."""
Line = tuple[Span, ...]

MOST_CHARACTERS = 400
"""Of a text from elsewhere: a message may have a megabyte, and no screen is wider."""
UNLIMITED = 10_000
"""Columns, where nothing is to be cut."""
_ROOMY = 100
"""From so many columns on, those of a table stand two apart, else one."""


@dataclass(frozen=True, slots=True)
class Column:
    """Of a table. The one with the highest `spare` goes first where there is no room; 0 never goes."""

    head: str
    width: int
    right: bool = False
    spare: int = 0


def safe(value: object) -> str:
    """A text from elsewhere in one line that drives no terminal, not longer than any screen is wide."""
    text = str(value)
    return escaped(text) if len(text) <= MOST_CHARACTERS else f"{escaped(text[:MOST_CHARACTERS])}…"


def fitted(text: str, columns: int, *, right: bool = False) -> str:
    """Exactly so many columns of the terminal: cut, or padded on the left or `right`-aligned."""
    length = cell_len(text)
    if length > columns:
        return set_cell_size(set_cell_size(text, columns - 1).rstrip() + "…", columns) if columns > 0 else ""
    pad = " " * (columns - length)
    return pad + text if right else text + pad


def plain(line: Line) -> str:
    return "".join(text for text, _ in line).rstrip()


def table(
    columns: Sequence[Column], rows: Sequence[Sequence[Span]], width: int, *, first_share: float = 0.4
) -> tuple[Line, list[Line]]:
    """The line of heads, and a line a row. The first column is as wide as it must be, at most `first_share` of all;
    the last one has what is left."""
    first = max([cell_len(columns[0].head), *(cell_len(row[0][0]) for row in rows)])
    gap = 2 if width >= _ROOMY else 1
    kept = _kept(columns, min(first, max(int(width * first_share), columns[0].width)), width, gap)
    heads = tuple((column.head, "strong") for column in columns)
    return _set(columns, kept, heads, gap), [_set(columns, kept, row, gap) for row in rows]


def _kept(columns: Sequence[Column], first: int, width: int, gap: int) -> dict[int, int]:
    """Number of the column -> its width."""
    widths = {number: first if number == 0 else column.width for number, column in enumerate(columns)}
    last = len(columns) - 1
    while sum(widths.values()) + gap * (len(widths) - 1) > width:
        number = max(widths, key=lambda n: columns[n].spare)
        if columns[number].spare == 0:
            break
        del widths[number]
    if last in widths:
        others = sum(size for number, size in widths.items() if number != last)
        widths[last] = max(1, width - others - gap * (len(widths) - 1))
    return widths


def _set(columns: Sequence[Column], kept: dict[int, int], cells: Sequence[Span], gap: int) -> Line:
    spans: list[Span] = []
    for number, size in kept.items():
        if spans:
            spans.append((" " * gap, ""))
        text, style = cells[number]
        spans.append((fitted(text, size, right=columns[number].right), style))
    return tuple(spans)


def spread(left: Line, right: Span, width: int) -> Line:
    """`left` cut to what `right` leaves of it, and that at the right end."""
    room = max(0, width - cell_len(right[0]) - 1)
    spans: list[Span] = []
    for text, style in left:
        cut = fitted(text, min(cell_len(text), room))
        room -= cell_len(cut)
        spans.append((cut, style))
    return (*spans, (" " * (room + 1), ""), right)
