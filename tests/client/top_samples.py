"""A daemon whose answers do not depend on the time, and the screen of `pluginctl top` before it, as text."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from unittest import mock

from textual.pilot import Pilot

from client.cli.top_app import TopApp
from client.cli.top_feed import Feed, look
from client.cli.top_screen import TopScreen
from client.sync_client import Client
from tests.client.fake_daemon import FakeDaemon
from tests.client.samples import answers, job, line, plugin, run

NOW = 1_700_000_000_000
"""2023-11-14 22:13:20 UTC."""
GOLDEN = Path(__file__).parent / "golden"


def usage(cpu: float | None, rss_mb: float) -> dict[str, Any]:
    return {
        "cpu_percent": cpu,
        "rss_bytes": int(rss_mb * 1024 * 1024),
        "pss_bytes": None,
        "threads": 3,
        "processes": 1,
        "open_files": 9,
    }


def plugins() -> list[dict[str, Any]]:
    down = {"pid": None, "uptime_s": None, "usage": None}
    return [
        plugin(key="acme.weather", usage=usage(12.34, 45.6), calls=12_345, calls_in_flight=2, uptime_s=93_784.2),
        plugin(key="acme.db", usage=usage(0.0, 1300), calls=7, restarts=0, uptime_s=59.9),
        plugin(
            key="acme.flaky",
            phase="backoff",
            restarts=112,
            calls=0,
            crashes=4,
            next_restart_in_s=7.6,
            last_error="the worker of 'acme.flaky' (pid 12) exited with code 1\nTraceback (most recent call last):\n"
            '  File "main.py", line 1, in <module>\nValueError: [red]no[/red] \x1b[31mcolour',
            **down,
        ),
        plugin(key="acme.off", status="disabled", phase="stopped", disable_reason="on holiday", calls=3, **down),
        plugin(key="天気予報.東京", status="error", phase="stopped", last_error="\u202edrowssap " + "x" * 5000, **down),
        plugin(key="zeta", status="upgrade_pending", phase="stopped", staged_version="2.0", calls=0, **down),
    ]


def next_time(name: str, in_s: float) -> dict[str, Any]:
    fire_ms = NOW + int(in_s * 1000)
    return {"job": name, "due_ms": fire_ms, "fire_ms": fire_ms, "at": "2023-11-14T22:14:00+00:00"}


def make_daemon(path: str) -> FakeDaemon:
    progress = {"run": "r2", "fraction": 0.25, "message": "asking [b]the database", "at_ms": NOW}
    fake = FakeDaemon(
        path,
        {
            **answers(),
            "daemon.status": {
                **answers()["daemon.status"],
                "uptime_s": 273_900.0,
                "runs_in_flight": 2,
                "jobs_held_since_ms": NOW - 61_000,
            },
            "plugins.list": plugins(),
            "jobs.list": [job(), job(job="acme.weather/report", key="report", schedule=None, running=1)],
            "jobs.runs": [
                run(id="r2", job="acme.db/vacuum", state="running", started_ms=NOW - 125_000, progress=progress),
                run(id="r3", state="queued", started_ms=None, created_ms=NOW - 3000, waiting_for="a place"),
            ],
            "jobs.next": {
                "next": [
                    next_time("acme.weather/refresh", 4),
                    next_time("acme.db/vacuum", 60),
                    next_time("acme.weather/refresh", 304),
                ]
            },
        },
    )
    fake.emit("plugin.worker_started", pid=12, restarts=111)
    fake.emit("plugin.worker_crashed", cause="exited with code 1", reason="exited", restart_in_s=7.6, strays=[])
    fake.emit("plugin.disabled", "acme.off", reason="on\nholiday")
    fake.emit("emitted.beat", "acme.db", name="beat", payload={"text": "\x1b]0;owned\x07" + "y" * 1000})
    lines = [
        line("starting [bold]up[/bold]", NOW - 5000),
        line("bell \x07 and \x1b[2J clear", NOW - 4000, stream="stderr"),
        line("counted", NOW - 3000, stream="log", level="warning", fields={"count": 3, "why": "a\rb"}),
        line("very long " + "z" * 100_000, NOW - 2000),
    ]
    fake.write_log(*lines)
    return fake


def make_app(daemon: FakeDaemon, interval_s: float = 0.03) -> TopApp:
    def make_client() -> Client:
        return Client(daemon.path, timeout_s=5, reconnect_s=0)

    def clock() -> int:
        return NOW

    with make_client() as client:
        feed = Feed(make_client, interval_s=interval_s, clock=clock, first=look(client, clock))
    return TopApp(feed, interval_s=interval_s, clock=clock)


def screen_text(app: TopApp) -> str:
    """What is on the terminal, without colours."""
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in strips) + "\n"


class Watched:
    """The screen while it is shown."""

    def __init__(self, app: TopApp, pilot: Pilot[Any]) -> None:
        self.app = app
        self.pilot = pilot

    @property
    def text(self) -> str:
        return screen_text(self.app)

    @property
    def top(self) -> TopScreen:
        screen = self.app.screen_stack[0]
        assert isinstance(screen, TopScreen)
        return screen

    async def press(self, *keys: str) -> None:
        for key in keys:
            await self.pilot.press(key)
            await self.pilot.pause(0)

    async def wait(self, *shown: str, gone: str | None = None, within_s: float = 5.0) -> str:
        """Until all of this stands on the screen, and `gone` does not."""
        await self.until(
            lambda: all(text in self.text for text in shown) and (gone is None or gone not in self.text),
            lambda: f"waited for {shown}, not {gone!r}, on:\n{self.text}",
            within_s,
        )
        return self.text

    async def until(self, holds: Callable[[], bool], what: Callable[[], object], within_s: float = 5.0) -> None:
        end = time.monotonic() + within_s
        while not holds():
            assert time.monotonic() < end, what()
            await self.pilot.pause(0.01)

    async def until_asked(self, daemon: FakeDaemon, method: str, more: int) -> None:
        """So many times more. `daemon.wait_asked` would hold up the screen."""
        end = len(daemon.asked(method)) + more
        await self.until(lambda: len(daemon.asked(method)) >= end, lambda: daemon.requests)


async def _no_idling(*_: float) -> None:
    """For textual's wait after each key until the process does nothing, for up to a second: here it always does
    something, and every test waits for what it wants to see."""
    await asyncio.sleep(0)


def watch(
    daemon: FakeDaemon,
    act: Callable[[Watched], Awaitable[None]],
    size: tuple[int, int] = (80, 24),
    *,
    interval_s: float = 0.03,
) -> TopApp:
    """Show the screen to `act`; textual runs on asyncio."""
    app = make_app(daemon, interval_s)

    async def show() -> None:
        async with app.run_test(size=size) as pilot:
            screen = Watched(app, pilot)
            await screen.until(lambda: screen.top._plugin() is not None, lambda: "nothing was drawn")
            await act(screen)

    with mock.patch("textual.app.wait_for_idle", _no_idling), mock.patch("textual.pilot.wait_for_idle", _no_idling):
        asyncio.run(show())
    return app
