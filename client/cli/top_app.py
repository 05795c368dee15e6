"""Shows the screen of `pluginctl top` on the terminal, or draws it once as an image. The only door to textual."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from textual.app import App

from client.cli.top_feed import Feed
from client.cli.top_screen import TopScreen

if TYPE_CHECKING:
    from textual.pilot import Pilot
    from textual.screen import Screen

    from client.cli.top_feed import MakeClient
    from client.cli.top_model import Seen

_IMAGE_SIZE = (100, 30)
_IMAGE_AFTER_S = 3.0
"""Until then the numbers that are looked at once a second have come, and a log."""
_WEB_FONT = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


class TopApp(App[BaseException | None]):
    """Its result is a mistake of ours, if there was one."""

    ENABLE_COMMAND_PALETTE = False
    ESCAPE_TO_MINIMIZE = False
    TITLE = "pluginctl top"

    def __init__(self, feed: Feed, *, interval_s: float, clock: Callable[[], int]) -> None:
        # The terminal's own colours and background: they fit it, and cost fewer bytes than painting.
        super().__init__(ansi_color=True)
        self._first_screen = TopScreen(feed, interval_s=interval_s, clock=clock)

    def get_default_screen(self) -> Screen[None]:
        return self._first_screen


def show(make_client: MakeClient, first: Seen, *, interval_s: float, clock: Callable[[], int]) -> None:
    """Until the operator quits."""
    _raise(_app(make_client, first, interval_s, clock).run(mouse=False))


def image(make_client: MakeClient, first: Seen, *, interval_s: float, clock: Callable[[], int]) -> str:
    """The screen as SVG, after a few seconds."""
    app, drawn = _app(make_client, first, interval_s, clock), [""]

    async def draw(pilot: Pilot[object]) -> None:
        await asyncio.sleep(_IMAGE_AFTER_S)
        drawn[0] = app.export_screenshot(simplify=True)
        app.exit()

    _raise(app.run(headless=True, size=_IMAGE_SIZE, auto_pilot=draw))
    # Without it, nothing is fetched from anywhere when the image is looked at.
    return _WEB_FONT.sub("", drawn[0])


def _app(make_client: MakeClient, first: Seen, interval_s: float, clock: Callable[[], int]) -> TopApp:
    feed = Feed(make_client, interval_s=interval_s, clock=clock, first=first)
    return TopApp(feed, interval_s=interval_s, clock=clock)


def _raise(failure: BaseException | None) -> None:
    if failure is not None:
        raise failure
