"""What the keys of `pluginctl top` do, and when its screen is drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import Input

from client.cli import top_actions
from client.cli.top_board import PANES, Board
from client.cli.top_dialogs import Help, JobChoice, Question
from client.cli.top_text import safe

if TYPE_CHECKING:
    from textual.events import Resize

    from client.cli.top_actions import Action
    from client.cli.top_feed import Feed
    from supervisor.wire.results import PluginInfo


class News(Message):
    """A thread has something that the operator waits for."""


class TopScreen(Board):
    """Draws what the feed has found every `interval_s` seconds at most, and at once what a key changes."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)"),
        Binding("down,j", "move(1)"),
        Binding("pageup", "page(-1)"),
        Binding("pagedown,space", "page(1)"),
        Binding("home,g", "move(-100000)"),
        Binding("end,G", "move(100000)"),
        Binding("tab", "turn(1)"),
        Binding("shift+tab", "turn(-1)"),
        *(Binding(str(number), f"choose({number - 1})") for number in range(1, 5)),
        Binding("z", "zoom"),
        Binding("r", "change('restart')"),
        Binding("s", "change('start_or_stop')"),
        Binding("d", "change('enable_or_disable')"),
        Binding("x", "choose_job"),
        Binding("slash", "filter"),
        Binding("escape", "clear"),
        Binding("o", "order"),
        Binding("O", "reverse"),
        Binding("p", "pause"),
        Binding("question_mark,h,f1", "help"),
        Binding("q", "app.quit"),
        Binding("ctrl+z", "app.suspend_process"),
    ]

    def __init__(self, feed: Feed, *, interval_s: float, clock: Callable[[], int]) -> None:
        super().__init__(feed, clock)
        self._interval_s = interval_s

    def on_mount(self) -> None:
        self.query_one("#filter", Input).cursor_blink = False
        self.feed.on_news = lambda: self.post_message(News())
        self.feed.start()
        self.pane().focus()
        self.call_after_refresh(self.draw)
        self.set_interval(self._interval_s, self.tick)

    def on_unmount(self) -> None:
        self.feed.close()

    def on_resize(self, event: Resize) -> None:
        # The panes have their new sizes after this message.
        self.call_after_refresh(self.draw)

    def on_news(self, news: News) -> None:
        if self.feed.jobs is not None:
            self._offer_jobs()
        self.tick()

    def tick(self) -> None:
        if self.feed.failure is not None:
            raise self.feed.failure
        if self._paused:
            self._draw_notice()
        else:
            self.draw()

    # What the keys do

    def action_move(self, by: int) -> None:
        self.pane().move(by)
        if self._pane == 0 and self._rows:
            self._chosen = self._rows[self.pane().cursor]["key"]
            self._settle()
            self.pane(3).fill(self._title(3), [], grey=self.feed.trouble is not None)

    def action_page(self, by: int) -> None:
        self.action_move(by * self.pane().room)

    def action_turn(self, by: int) -> None:
        self._turn_to((self._pane + by) % len(PANES))

    def action_choose(self, number: int) -> None:
        self._turn_to(number)

    def action_zoom(self) -> None:
        self._zoomed = not self._zoomed
        self._turn_to(self._pane)

    def action_change(self, name: str) -> None:
        if (plugin := self._plugin()) is None:
            return
        found: Action | str = getattr(top_actions, name)(plugin)
        if isinstance(found, str):
            self._say(found)
        else:
            self.app.push_screen(Question(found.question), lambda yes: self.feed.do(found) if yes else None)

    def action_choose_job(self) -> None:
        if (plugin := self._plugin()) is not None:
            self.feed.ask_jobs(plugin["key"])

    def action_filter(self) -> None:
        box = self.query_one("#filter", Input)
        box.display = True
        box.value = self.view.filter
        box.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        self.view = replace(self.view, filter=event.value)
        self.draw()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self._turn_to(0)

    def action_clear(self) -> None:
        self.query_one("#filter", Input).value = ""
        self.view = replace(self.view, filter="")
        self.feed.notice = ("", "")
        self._turn_to(self._pane)

    def action_order(self) -> None:
        self.view = self.view.reordered()
        self.draw()

    def action_reverse(self) -> None:
        self.view = replace(self.view, reverse=not self.view.reverse)
        self.draw()

    def action_pause(self) -> None:
        self._paused = not self._paused
        self.draw()

    def action_help(self) -> None:
        self.app.push_screen(Help())

    # Helpers of those

    def _plugin(self) -> PluginInfo | None:
        return next((plugin for plugin in self._rows if plugin["key"] == self._chosen), None)

    def _say(self, text: str) -> None:
        self.feed.notice = (text, "bad")
        self._draw_notice()

    def _offer_jobs(self) -> None:
        (plugin, jobs), self.feed.jobs = self.feed.jobs or ("", ()), None
        if not jobs:
            self._say(f"{safe(plugin)} has no jobs")
        elif plugin == self._chosen and self.app.screen is self:  # else the operator has gone on meanwhile
            self.app.push_screen(
                JobChoice(plugin, jobs), lambda job: self.feed.do(top_actions.run(job)) if job else None
            )
