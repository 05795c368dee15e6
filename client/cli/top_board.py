"""What the screen of `pluginctl top` looks like: its panes, what is drawn in them, and where they stand."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import Input

from client.cli.top_model import Seen, View, alerts, arranged, head_line, job_table, plugin_table, span
from client.cli.top_pane import Lines, Pane
from client.cli.top_text import Line, Span, plain, safe, spread

if TYPE_CHECKING:
    from client.cli.top_feed import Feed, Tail
    from supervisor.wire.results import PluginInfo

KEYS: Line = (("r restart  s stop/start  d disable/enable  x run  / find  o sort  ? help  q quit", "strong"),)
PANES = ("plugins", "jobs", "events", "log")
_WIDE, _HIGH = 100, 30
"""From so many columns and lines on, all panes are shown at once."""
_NOTICE_LINES, _ALERT_LINES = 3, 3
_SETTLED_S = 0.25
"""A plugin's log is asked for once the cursor has rested on it for that long."""


class Board(Screen[None]):
    """Draws what the feed has found, as the operator wants to see it."""

    DEFAULT_CSS = """
    Board { background: ansi_default; color: ansi_default; layout: vertical; }
    Board #middle { height: 1fr; background: ansi_default; }
    Board #filter {
        height: 1; border: none; padding: 0; display: none; background: ansi_default; color: ansi_default;
    }
    """

    def __init__(self, feed: Feed, clock: Callable[[], int]) -> None:
        super().__init__()
        self.feed = feed
        self.view = View()
        self._clock = clock
        self._rows: list[PluginInfo] = []
        """The plugins as they are shown."""
        self._chosen: str | None = None
        """Key of the plugin under the cursor."""
        self._pane = 0
        self._lower = 1
        """Which pane stands below the plugins where there is no room for all."""
        self._zoomed = False
        self._paused = False
        self._settling: Timer | None = None

    def compose(self) -> ComposeResult:
        yield Lines(id="head")
        yield Lines(id="alerts")
        yield Pane(id="plugins", cursor=True)
        with Horizontal(id="middle"):
            yield Pane(id="jobs")
            yield Pane(id="events", follows=True)
        yield Pane(id="log", follows=True)
        yield Lines(id="notice")
        yield Input(id="filter", placeholder="show only what contains …", select_on_focus=False)
        yield Lines(id="keys")

    # What is drawn

    def draw(self) -> None:
        if (seen := self.feed.seen) is None or not self.is_mounted:
            return
        now, grey = self._clock(), self.feed.trouble is not None
        self._choose_row(seen)
        self._draw_head(seen, now, grey=grey)
        self._draw_notice()
        self._arrange()
        width = self.pane().size.width
        plugins, jobs = self.query_one("#plugins", Pane), self.query_one("#jobs", Pane)
        heads, rows = plugin_table(self._rows, plugins.size.width or width)
        plugins.fill(self._plugins_title(seen), rows, heads=heads, grey=grey)
        heads, rows = job_table(seen, self.view, now, (jobs.size.width or width) - 1)
        jobs.fill(self._title(1), rows, heads=heads, grey=grey)
        self._fill_tail(2, self.feed.events, grey=grey)
        log = self.feed.log
        self._fill_tail(3, log if log is not None and log.plugin == self._chosen else None, grey=grey)

    def _choose_row(self, seen: Seen) -> None:
        """Keep the cursor on its plugin, wherever that stands now."""
        self._rows = arranged(seen.plugins, self.view)
        keys, pane = [plugin["key"] for plugin in self._rows], self.query_one("#plugins", Pane)
        if self._chosen in keys:
            pane.cursor = keys.index(self._chosen)
            return
        pane.cursor = max(0, min(pane.cursor, len(keys) - 1))
        before, self._chosen = self._chosen, keys[pane.cursor] if keys else None
        if self._chosen != before:
            self._settle()

    def _draw_head(self, seen: Seen, now: int, *, grey: bool) -> None:
        trouble, head, lines = self.feed.trouble, self.query_one("#head", Lines), alerts(seen, now)
        right: Span = ("PAUSED", "busy") if self._paused else ("● connected", "good")
        if trouble is not None:
            lost = span(time.monotonic() - trouble.since)
            right = ("○ no answer", "bad")
            lines.insert(0, ((f"no answer for {lost}, trying on: {safe(trouble.message)}", "bad"),))
        head.show([spread(head_line(seen, now), right, head.size.width)])
        shown = self.query_one("#alerts", Lines)
        height = min(len(lines), _ALERT_LINES if self._is_wide else 1)
        if len(lines) > height > 0:
            lines[height - 1] = spread(lines[height - 1], (f"and {len(lines) - height} more", "faint"), self.size.width)
        _resize(shown, height)
        shown.show(lines)

    def _draw_notice(self) -> None:
        text, style = self.feed.notice
        shown = self.query_one("#notice", Lines)
        lines = textwrap.wrap(text, max(20, self.size.width - 1))[:_NOTICE_LINES]
        _resize(shown, max(1, len(lines)))
        shown.show([((line, style),) for line in lines])
        self.query_one("#keys", Lines).show([KEYS])

    def _fill_tail(self, number: int, tail: Tail | None, *, grey: bool) -> None:
        lines = tail.lines() if tail is not None else []
        if self.view.filter and number == 2:
            lines = [line for line in lines if self.view.shows(plain(line))]
        self.pane(number).fill(self._title(number), lines, grey=grey)

    def _plugins_title(self, seen: Seen) -> str:
        number = f"{len(self._rows)} of {len(seen.plugins)}" if self.view.filter else str(len(seen.plugins))
        order = f", by {self.view.order}{', turned round' if self.view.reverse else ''}"
        matching = f" with {safe(self.view.filter)!r}" if self.view.filter else ""
        return f"1 plugins: {number}{matching}{order}"

    def _title(self, number: int) -> str:
        titles = {1: "2 jobs", 2: "3 events", 3: f"4 log of {safe(self._chosen)}" if self._chosen else "4 log"}
        if self._is_wide or self._zoomed:
            return titles[number]
        others = ", ".join(title.split(" of ")[0] for other, title in titles.items() if other != number)
        return f"{titles[number]}  (Tab: {others})"

    # Where it is drawn

    @property
    def _is_wide(self) -> bool:
        return self.size.width >= _WIDE and self.size.height >= _HIGH

    def pane(self, number: int | None = None) -> Pane:
        """By number; the one that keys act on without."""
        return self.query_one(f"#{PANES[self._pane if number is None else number]}", Pane)

    def _arrange(self) -> None:
        shown = {self._pane} if self._zoomed else {0, 1, 2, 3} if self._is_wide else {0, self._lower}
        for number in range(len(PANES)):
            self.pane(number).display = number in shown
        self.query_one("#middle").display = bool(shown & {1, 2})
        most = int(self.size.height * (0.4 if self._is_wide else 0.5))
        self.pane(0).styles.height = "1fr" if self._zoomed else max(5, min(len(self._rows) + 2, most))

    def _turn_to(self, number: int) -> None:
        self.query_one("#filter").display = False
        self._pane = number
        self._lower = number or self._lower
        self._arrange()
        self.pane().focus()
        self.call_after_refresh(self.draw)

    def _settle(self) -> None:
        if self._settling is not None:
            self._settling.stop()
        self._settling = self.set_timer(_SETTLED_S, lambda: self.feed.follow(self._chosen))


def _resize(lines: Lines, height: int) -> None:
    if lines.styles.height is None or lines.styles.height.value != height:
        lines.styles.height = height
