"""What `pluginctl top` draws, and what its keys do: textual's own screen before a fake daemon."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from client.cli.top_feed import KEPT
from client.errors import InvalidTransition
from tests.client.fake_daemon import NEVER, FakeDaemon
from tests.client.samples import line, plugin
from tests.client.top_samples import GOLDEN, NOW, Watched, make_daemon, watch


@pytest.fixture(autouse=True)
def in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with make_daemon(str(tmp_path / "control.sock")) as fake:
        yield fake


def compare(name: str, text: str) -> None:
    """With the golden file; PLUGIND_TEST_WRITE_GOLDEN=1 writes it anew, to be looked at before it is kept."""
    golden = GOLDEN / f"{name}.txt"
    if os.environ.get("PLUGIND_TEST_WRITE_GOLDEN"):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


async def choose_weather(screen: Watched) -> None:
    await screen.press("4", "1", "down", "down", "down")
    await screen.wait("4 log of acme.weather", "very long")


@pytest.mark.parametrize("size", [(120, 40), (200, 50)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_the_screen(daemon: FakeDaemon, size: tuple[int, int]) -> None:
    async def look(screen: Watched) -> None:
        await choose_weather(screen)
        text = await screen.wait("emitted.beat")
        compare(f"top_{size[0]}x{size[1]}", text)
        assert all(char.isprintable() or char == "\n" for char in text)
        assert "starting [bold]up[/bold]" in text
        assert "\\x1b[2J" in text

    watch(daemon, look, size)


def test_the_panes_of_a_small_terminal(daemon: FakeDaemon) -> None:
    async def look(screen: Watched) -> None:
        await choose_weather(screen)
        compare("top_80x24", screen.text)
        await screen.press("tab")
        compare("top_jobs", await screen.wait("▶ 2 jobs", "vacuum"))
        await screen.press("tab")
        compare("top_events", await screen.wait("▶ 3 events", "emitted.beat"))

    watch(daemon, look)


def test_any_size(daemon: FakeDaemon) -> None:
    async def look(screen: Watched) -> None:
        for size in ((1, 1), (80, 24)):
            await screen.pilot.resize_terminal(*size)
            await screen.press("tab", "z", "question_mark", "escape", "z", "1")
        await screen.wait("▶ 1 plugins: 6", "acme.weather", "q quit")

    watch(daemon, look, (20, 6))


CHANGES = [
    ("r", "acme.weather", "Restart the worker of acme.weather? 2 in flight", "plugins.restart", "was restarted"),
    ("s", "acme.weather", "Stop the worker of acme.weather?", "plugins.stop", "was stopped"),
    ("d", "acme.weather", "Disable acme.weather?", "plugins.disable", "is disabled"),
    ("d", "acme.off", "Enable acme.off?", "plugins.enable", "is enabled"),
]


def test_a_change_asks_once(daemon: FakeDaemon) -> None:
    async def change(screen: Watched) -> None:
        for key, chosen, question, method, done in CHANGES:
            screen.top._chosen = chosen
            for no in ("n", "escape", "q") if key == "r" else "n":
                await screen.press(key)
                await screen.wait(question.split("?")[0], "y yes")
                await screen.press(no)
                await screen.wait("acme.flaky", gone="y yes")
            assert daemon.asked(method) == []
            await screen.press(key, "y")
            await screen.wait(f"{chosen} {done}", gone="y yes")
            assert [asked["plugin"] for asked in daemon.asked(method)] == [chosen]

    watch(daemon, change)


def test_what_cannot_be_is_said_without_asking(daemon: FakeDaemon) -> None:
    async def change(screen: Watched) -> None:
        await screen.press("slash", *"E.off", "enter")
        await screen.wait("1 of 6")
        await screen.press("r")
        await screen.wait("acme.off is disabled: only a plugin that is ready is restarted")
        await screen.press("escape", "slash", *"zeta", "enter", "d")
        await screen.wait("`pluginctl approve zeta`")

    watch(daemon, change)
    assert not [name for name, _ in daemon.requests if name in {"plugins.restart", "plugins.enable"}]


def test_the_daemons_error_is_shown(daemon: FakeDaemon) -> None:
    daemon.answers["plugins.restart"] = InvalidTransition("acme.db is gone\x1b[2J")

    async def change(screen: Watched) -> None:
        await screen.press("r", "y")
        await screen.wait("acme.db is gone\\x1b[2J")

    watch(daemon, change)


def test_a_slow_change_holds_up_nothing(daemon: FakeDaemon) -> None:
    daemon.answers["plugins.restart"] = NEVER

    async def change(screen: Watched) -> None:
        await screen.press("r", "y")
        await screen.wait("restarting acme.db …")
        daemon.answers["plugins.list"] = [plugin(key="acme.new")]
        await screen.wait("acme.new", gone="acme.flaky")

    watch(daemon, change)


def test_running_a_job(daemon: FakeDaemon) -> None:
    async def choose(screen: Watched) -> None:
        await choose_weather(screen)
        await screen.press("x")
        await screen.wait("Which job of acme.weather", "refresh  (*/5 * * * *)", "report  (by hand, 1 under way)")
        await screen.press("down", "enter")
        await screen.wait("a run of acme.weather/report was started")
        daemon.answers["jobs.list"] = []
        await screen.press("x")
        await screen.wait("acme.weather has no jobs")

    watch(daemon, choose)
    assert [asked["job"] for asked in daemon.asked("jobs.run")] == ["acme.weather/report"]


def test_filter_order_and_pause(daemon: FakeDaemon) -> None:
    async def use(screen: Watched) -> None:
        await screen.press("o", "o", "o")
        text = await screen.wait("by memory")
        assert text.index("acme.db") < text.index("acme.weather") < text.index("acme.off")
        await screen.press("O")
        text = await screen.wait("by memory, turned round")
        assert text.index("acme.off") < text.index("acme.weather") < text.index("acme.db")
        await screen.press("3", "slash", *"DISABLED")
        await screen.wait("1 plugins: 1 of 6 with 'DISABLED'", "plugin.disabled", gone="emitted.beat")
        await screen.press("escape")
        await screen.wait("1 plugins: 6", "emitted.beat")
        await screen.press("p")
        await screen.wait("PAUSED")
        asked = len(daemon.asked("plugins.list"))
        daemon.answers["plugins.list"] = [plugin(key="acme.new")]
        daemon.wait_asked("plugins.list", asked + 3)
        await screen.wait("acme.weather", gone="acme.new")
        await screen.press("p")
        await screen.wait("acme.new", gone="acme.flaky")

    watch(daemon, use)


def test_the_log_follows_until_one_scrolls_back(daemon: FakeDaemon) -> None:
    async def scroll(screen: Watched) -> None:
        await screen.press("4")
        daemon.write_log(*(line(f"line {n:03}", NOW) for n in range(100)))
        await screen.wait("line 099")
        await screen.press("pageup")
        await screen.wait("scrolled back", "line 080", gone="line 099")
        daemon.write_log(line("line 100", NOW))
        await screen.press("end")
        await screen.wait("line 100", gone="scrolled back")
        daemon.write_log(line("line 101", NOW))
        await screen.wait("line 101")

    watch(daemon, scroll)


def test_the_daemon_goes_and_comes_back(daemon: FakeDaemon) -> None:
    async def restart(screen: Watched) -> None:
        await screen.wait("● connected")
        daemon.stop()
        await screen.wait("○ no answer", "trying on: plugind is not running")
        assert all(
            segment.style is None or not segment.style.color
            for y in range(3, 9)
            for segment in screen.top.pane(0).render_line(y)
        )
        await screen.press("r", "y")
        await screen.wait("plugind is not running: nobody answers")
        daemon.answers["plugins.list"] = [plugin(key="acme.new")]
        daemon.answers["daemon.info"] = {**daemon.answers["daemon.info"], "version": "9.9"}
        daemon.answers["daemon.status"] = {**daemon.answers["daemon.status"], "uptime_s": 1.0}
        daemon.start()
        await screen.wait("● connected", "plugind 9.9  up 1s", "acme.new")
        daemon.emit("plugin.loaded", "acme.new")
        await screen.press("3")
        await screen.wait("plugin.loaded acme.new")

    watch(daemon, restart)


def test_a_flood_is_bounded_and_holds_up_no_key(daemon: FakeDaemon) -> None:
    def burst() -> None:
        there = len(daemon.events)
        daemon.events += [{**daemon.events[0], "seq": there + 1 + n, "data": {"text": "w" * 500}} for n in range(2000)]
        daemon.write_log(*(line("v" * 5000, NOW) for _ in range(200)))
        daemon.emit("plugin.enabled")

    async def flood(screen: Watched) -> None:
        await choose_weather(screen)
        feed, log = screen.top.feed, screen.top.feed.log
        assert log is not None
        for _ in range(4):
            burst()
            began = time.monotonic()
            await screen.press("tab", "down", "up")
            assert time.monotonic() - began < 2.0
        await screen.until(lambda: feed._last_seq == len(daemon.events), lambda: feed._last_seq, within_s=20)
        await screen.until(lambda: len(log.lines()) == KEPT, lambda: len(log.lines()), within_s=20)
        assert len(feed.events.lines()) == KEPT
        for tail in (feed.events, log):
            assert max(len(text) for line in tail.lines() for text, _ in line) < 1000

    watch(daemon, flood)


def test_a_mistake_of_ours_ends_the_screen_and_is_not_hidden(daemon: FakeDaemon) -> None:
    async def break_it(screen: Watched) -> None:
        daemon.answers["jobs.next"] = {}
        await screen.until(lambda: screen.app.return_value is not None, lambda: screen.text)

    assert isinstance(watch(daemon, break_it).return_value, KeyError)


def test_quit_and_help(daemon: FakeDaemon) -> None:
    async def quit_(screen: Watched) -> None:
        await screen.press("question_mark")
        await screen.wait("restart the worker of the plugin")
        await screen.press("q")
        await screen.wait("acme.db", gone="restart the worker of the plugin")
        await screen.press("q")

    app = watch(daemon, quit_)
    assert app.return_code == 0
    assert app.return_value is None


def test_only_what_changed_is_drawn(daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    from client.cli.top_pane import Lines

    drawn: list[int] = []
    refresh: Callable[..., Lines] = Lines.refresh

    def count(self: Lines, *regions: object, **options: bool) -> Lines:
        drawn.append(len(regions))
        return refresh(self, *regions, **options)

    async def look(screen: Watched) -> None:
        await choose_weather(screen)
        asked = len(daemon.asked("plugins.list"))
        monkeypatch.setattr(Lines, "refresh", count)
        daemon.wait_asked("plugins.list", asked + 5)
        await screen.pilot.pause(0.1)
        assert drawn == []
        plugins = daemon.answers["plugins.list"]
        daemon.answers["plugins.list"] = [plugins[0], {**plugins[1], "restarts": 77}, *plugins[2:]]
        await screen.wait("77")
        assert drawn == [1]

    watch(daemon, look)
