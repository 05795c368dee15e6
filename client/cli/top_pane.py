"""A pane of `pluginctl top`: a title, heads, and lines with a cursor or an end that is followed.

Only lines that changed are drawn again, so that little goes over a slow link.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.segment import Segment
from rich.style import Style
from textual.events import Resize
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from client.cli.top_text import Line, fitted, plain

STYLES: Mapping[str, Style] = {
    "": Style(),
    "good": Style(color="green"),
    "busy": Style(color="yellow"),
    "bad": Style(color="red", bold=True),
    "faint": Style(dim=True),
    "strong": Style(bold=True),
}
_CHOSEN = Style(reverse=True)


def strip(line: Line, width: int, *, chosen: bool = False, grey: bool = False) -> Strip:
    """Exactly `width` columns."""
    if chosen:
        return Strip([Segment(fitted(plain(line), width), _CHOSEN)], width)
    segments = [Segment(text, STYLES["faint"] if grey else STYLES[style]) for text, style in line]
    return Strip(segments).adjust_cell_length(width, STYLES[""])


class Lines(Widget):
    """Lines from the top; those that do not fit are not seen."""

    ALLOW_SELECT = False
    DEFAULT_CSS = "Lines { background: ansi_default; color: ansi_default; height: 1; }"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._drawn: list[Strip] = []

    def show(self, lines: Sequence[Line], *, grey: bool = False) -> None:
        # Of the screen: a widget that had no line until now has no width yet either.
        width = self.size.width or self.screen.size.width
        self._put([strip(line, width, grey=grey) for line in lines])

    def _put(self, strips: list[Strip]) -> None:
        """Have drawn what is not there yet."""
        before, self._drawn = self._drawn, strips
        width = self.size.width
        changed = [
            Region(0, y, width, 1)
            for y in range(max(len(before), len(strips)))
            if y >= len(before) or y >= len(strips) or before[y] != strips[y]
        ]
        if changed:
            self.refresh(*changed)

    def render_line(self, y: int) -> Strip:
        return self._drawn[y] if y < len(self._drawn) else Strip.blank(self.size.width)


class Pane(Lines, can_focus=True):
    """Beside `Lines` a title and heads. With `cursor` there is one on a line; with `follows` the end is shown until one
    scrolls away from it."""

    DEFAULT_CSS = "Pane { height: 1fr; width: 1fr; min-height: 3; }"

    def __init__(self, *, id: str, cursor: bool = False, follows: bool = False) -> None:
        super().__init__(id=id)
        self._has_cursor = cursor
        self._follows = follows
        self._title: str = ""
        self._heads: Sequence[Line] = ()
        self._rows: Sequence[Line] = ()
        self._grey = False
        self._top = 0
        self.cursor = 0
        self.following = follows

    def fill(self, title: str, rows: Sequence[Line], *, heads: Line | None = None, grey: bool = False) -> None:
        self._title, self._rows, self._heads, self._grey = title, rows, (heads,) if heads else (), grey
        self.draw()

    @property
    def room(self) -> int:
        """Rows that fit."""
        return max(1, self.size.height - 1 - len(self._heads))

    def move(self, by: int) -> None:
        """The cursor, or what is shown, by so many lines."""
        last = len(self._rows) - 1
        if self._has_cursor:
            self.cursor = max(0, min(last, self.cursor + by))
        else:
            end = max(0, len(self._rows) - self.room)
            self._top = max(0, min(end, self._top + by))
            self.following = self._follows and self._top == end
        self.draw()

    def draw(self) -> None:
        end = max(0, len(self._rows) - self.room)
        if self._has_cursor:
            self._top = min(max(self._top, self.cursor - self.room + 1), self.cursor)
        self._top = end if self.following else min(self._top, end)
        width = self.size.width
        strips = [self._title_strip(width)]
        strips += [strip(line, width, grey=self._grey) for line in self._heads]
        for number, line in enumerate(self._rows[self._top : self._top + self.room], self._top):
            chosen = self._has_cursor and number == self.cursor
            strips.append(strip(line, width, chosen=chosen, grey=self._grey))
        self._put(strips)

    def _title_strip(self, width: int) -> Strip:
        mark = "▶" if self.has_focus else "─"
        more = "" if self.following == self._follows else "  (scrolled back: End follows again)"
        text = fitted(f"{mark} {self._title}{more} ", min(width, len(self._title) + len(more) + 3))
        return strip(((text, "strong"), ("─" * width, "faint")), width)

    def on_resize(self, event: Resize) -> None:
        self.draw()

    def on_focus(self) -> None:
        self.draw()

    def on_blur(self) -> None:
        self.draw()
