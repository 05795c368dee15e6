"""Shows the screen of `pluginctl top` on the terminal, or draws it once as an image. The only door to textual."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING

from textual.app import App
from textual.binding import Binding, BindingType

from client.cli.top_feed import Feed
from client.cli.top_screen import TopScreen
from client.cli.top_signals import Signals
from client.errors import InternalError

if TYPE_CHECKING:
    from typing import ClassVar

    from textual.pilot import Pilot
    from textual.screen import Screen

    from client.cli.top_feed import MakeClient
    from client.cli.top_model import Seen

_IMAGE_SIZE = (100, 30)
_IMAGE_AFTER_S = 3.0
"""Until then the numbers that are looked at once a second have come, and a log."""
_TERMINAL_S = 1.0
"""So often it is seen whether there still is a terminal."""
_HUNG_UP = 129
"""Exit code: as after SIGHUP."""
_WEB_FONT = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


class TopApp(App[None]):
    """`failure` is a mistake of ours that has ended it, if there was one."""

    ENABLE_COMMAND_PALETTE = False
    ESCAPE_TO_MINIMIZE = False
    TITLE = "pluginctl top"
    # Before whatever is in front of the screen: nobody is to look for the way out.
    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+c", "quit", priority=True)]

    def __init__(self, feed: Feed, *, interval_s: float, clock: Callable[[], int]) -> None:
        # The terminal's own colours and background: they fit it, and cost fewer bytes than painting.
        super().__init__(ansi_color=True)
        self._first_screen = TopScreen(feed, interval_s=interval_s, clock=clock)
        self.failure: Exception | None = None
        self.failed = asyncio.Event()
        self._exit_code: int | None = None
        self._is_ready = False

    def get_default_screen(self) -> Screen[None]:
        return self._first_screen

    def on_ready(self) -> None:
        self._is_ready = True
        self._leave()
        if not self.is_headless:
            self.set_interval(_TERMINAL_S, self._see_terminal)

    def end(self, exit_code: int) -> None:
        """From anywhere, a signal's handler too."""
        self._exit_code = exit_code
        if (loop := self._loop) is not None:
            loop.call_soon_threadsafe(self._leave)

    async def action_quit(self) -> None:
        self.end(0)

    def _leave(self) -> None:
        # A screen that is left before it is whole fails for want of what it is made of.
        if self._is_ready and self._exit_code is not None:
            self.exit(return_code=self._exit_code)

    def _see_terminal(self) -> None:
        # Who ignores SIGHUP would else read the end of what was the terminal for ever.
        if not os.isatty(sys.__stdin__.fileno() if sys.__stdin__ else -1):
            self.end(_HUNG_UP)

    def _handle_exception(self, error: Exception) -> None:
        self.failure = self.failure or error
        self.failed.set()
        super()._handle_exception(error)
        self._exit_renderables.clear()  # pages of source and of variables: one line is told instead


def show(make_client: MakeClient, first: Seen, *, interval_s: float, clock: Callable[[], int]) -> int:
    """Until the operator quits, or a signal comes; the exit code.

    Raises:
        InternalError: a mistake of ours has ended it.
    """
    app = _app(make_client, first, interval_s, clock)
    with Signals(app.end).handled():
        # A terminal that does not know its size has 80x24 everywhere in textual only if that is said.
        app.run(mouse=False, size=shutil.get_terminal_size())
    _raise(app)
    return app.return_code or 0


def image(make_client: MakeClient, first: Seen, *, interval_s: float, clock: Callable[[], int]) -> str:
    """The screen as SVG, after a few seconds.

    Raises:
        InternalError: a mistake of ours has ended it.
    """
    app, drawn = _app(make_client, first, interval_s, clock), [""]

    async def draw(pilot: Pilot[object]) -> None:
        try:
            async with asyncio.timeout(_IMAGE_AFTER_S):
                await app.failed.wait()
        except TimeoutError:
            drawn[0] = app.export_screenshot(simplify=True)
            app.exit()

    app.run(headless=True, size=_IMAGE_SIZE, auto_pilot=draw)
    _raise(app)
    # Without it, nothing is fetched from anywhere when the image is looked at.
    return _WEB_FONT.sub("", drawn[0])


def _app(make_client: MakeClient, first: Seen, interval_s: float, clock: Callable[[], int]) -> TopApp:
    feed = Feed(make_client, interval_s=interval_s, clock=clock, first=first)
    return TopApp(feed, interval_s=interval_s, clock=clock)


def _raise(app: TopApp) -> None:
    if (error := app.failure) is not None:
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{os.path.basename(place.filename)}, line {place.lineno}"
        raise InternalError(
            f"the screen was ended by a mistake of its own, please report it: {error!r} ({where})"
        ) from error
    if app.return_code is None:
        raise InternalError("the screen was ended by a mistake of its own, please report it: it never began")
