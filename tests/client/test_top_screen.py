"""What `pluginctl top` draws, and what its keys do: textual's own screen before a fake daemon."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from client.cli.top_dialogs import Help, JobChoice, Question
from client.cli.top_feed import KEPT, LogTail
from client.cli.top_screen import TopScreen
from client.cli.top_text import plain
from client.errors import FailedPrecondition, InvalidTransition
from client.sync_client import Client
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


def test_a_key_too_many_in_front_of_the_screen(daemon: FakeDaemon) -> None:
    async def type_ahead(screen: Watched) -> None:
        await choose_weather(screen)
        for key, shown in (("question_mark", "Changes are asked about once"), ("x", "Which job"), ("r", "y yes")):
            await screen.press(key)
            await screen.wait(shown)
            dialog = screen.top.app.screen
            assert isinstance(dialog, Question | JobChoice | Help)
            # As two keys in one packet: the second is handled before the screen has gone.
            dialog.end(None)
            dialog.end(None)
            await screen.wait("1 plugins: 6", gone=shown)

    watch(daemon, type_ahead)


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
        daemon.answers["plugins.list"] = [plugin(key="acme.new")]
        await screen.until_asked(daemon, "plugins.list", 5)
        assert [p["key"] for p in screen.top.feed.seen.plugins] == ["acme.new"]  # type: ignore[union-attr]
        assert "acme.weather" in screen.text
        assert "acme.new" not in screen.text
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
        daemon.events += [{**daemon.events[0], "seq": there + 1 + n, "data": {"text": "w" * 500}} for n in range(500)]
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
        await screen.until(lambda: feed._last_seq == len(daemon.events), lambda: feed._last_seq, within_s=10)
        await screen.until(lambda: len(log.lines()) == KEPT, lambda: len(log.lines()), within_s=10)
        assert len(feed.events.lines()) == KEPT
        for tail in (feed.events, log):
            assert max(len(text) for line in tail.lines() for text, _ in line) < 1000

    watch(daemon, flood)


def test_a_mistake_of_ours_ends_the_screen_and_is_not_hidden(daemon: FakeDaemon) -> None:
    async def break_it(screen: Watched) -> None:
        daemon.answers["jobs.next"] = {}
        await screen.until(lambda: screen.app.failure is not None, lambda: screen.text)
        assert isinstance(screen.app.failure, KeyError)
        assert screen.app.return_code == 1

    with pytest.raises(KeyError):  # so does run_test with every mistake of the screen
        watch(daemon, break_it)


def test_quit_and_help(daemon: FakeDaemon) -> None:
    async def quit_(screen: Watched) -> None:
        await screen.press("question_mark")
        await screen.wait("restart the worker of the plugin")
        await screen.press("q")
        await screen.wait("acme.db", gone="restart the worker of the plugin")
        await screen.press("q")
        await screen.until(lambda: not screen.app.is_running, lambda: screen.text)

    assert watch(daemon, quit_).return_code == 0


@pytest.mark.parametrize("key", ["question_mark", "r", "x", "slash", "tab"])
def test_ctrl_c_quits_from_everywhere(daemon: FakeDaemon, key: str) -> None:
    shown = {"question_mark": "Tab, Shift-Tab", "r": "y yes", "x": "Enter run it", "slash": "", "tab": "▶ 2 jobs"}

    async def quit_(screen: Watched) -> None:
        await screen.press(key)
        await screen.wait(shown[key])
        await screen.pilot.press("ctrl+c")
        await screen.until(lambda: not screen.app.is_running, lambda: screen.text)

    assert watch(daemon, quit_).return_code == 0


def test_each_event_is_shown_once_and_those_of_another_journal_alone(
    daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def look(screen: Watched) -> None:
        def told() -> list[str]:
            return [plain(line) for line in screen.top.feed.events.lines()]

        def happened() -> list[str]:
            return [line for line in told() if not line.startswith("--")]

        async def refuse_to_resume(why: str) -> None:
            daemon.answers["events.subscribe"] = FailedPrecondition(why)
            daemon.drop_connections()
            await screen.until(lambda: f"-- {why}" in told(), told)

        await screen.until(lambda: len(happened()) == 4, told)
        await refuse_to_resume("trimmed away")
        daemon.emit("plugin.loaded", "acme.new")
        del daemon.answers["events.subscribe"]  # and all is listed again
        await screen.until(lambda: any("acme.new" in line for line in told()), told)
        assert len(happened()) == len(set(happened())) == 4 + 1
        await refuse_to_resume("ahead of the end")
        daemon.events.clear()
        daemon.emit("plugin.purged", "acme.first")
        del daemon.answers["events.subscribe"]
        await screen.until(lambda: any("acme.first" in line for line in told()), told)
        assert len(happened()) == 1

    monkeypatch.setattr("client.cli.top_feed._RETRY_S", 0.05)
    watch(daemon, look)


def test_only_the_log_that_is_shown_is_followed(daemon: FakeDaemon) -> None:
    async def wander(screen: Watched) -> None:
        feed = screen.top.feed

        def is_settled() -> bool:
            """There are connections for questions, for events (those that were, those that come), and one log."""
            return feed.log is not None and feed.log.plugin == screen.top._chosen and daemon.connected == 4

        await screen.until(is_settled, lambda: daemon.connected)
        threads = threading.active_count()
        for _ in range(3):
            await screen.press("down")
            await screen.until(is_settled, lambda: daemon.connected)
        await screen.until(lambda: threading.active_count() == threads, threading.enumerate)
        daemon.answers["plugins.list"] = []
        await screen.wait("1 plugins: 0")
        await screen.until(lambda: feed.log is None and daemon.connected == 3, lambda: daemon.connected)

    watch(daemon, wander)


def test_a_log_that_is_closed_while_it_opens(daemon: FakeDaemon) -> None:
    asked, go_on = threading.Event(), threading.Event()
    daemon.log.clear()

    def make_client() -> Client:
        asked.set()
        assert go_on.wait(5)
        return Client(daemon.path, timeout_s=5, reconnect_s=0)

    tail = LogTail("acme.weather", make_client)
    thread = threading.Thread(target=tail.run, daemon=True)
    thread.start()
    assert asked.wait(5)
    tail.close()
    go_on.set()
    thread.join(5)
    assert not thread.is_alive()


def test_jobs_are_offered_only_where_they_were_asked_for(daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, jobs, taken = threading.Event(), daemon.answers["jobs.list"], []
    offer = TopScreen._offer_jobs

    def take(self: TopScreen) -> None:
        offer(self)
        taken.append(self.app.screen)

    def answer(params: object) -> object:
        assert go_on.wait(5)
        return jobs

    async def ask(screen: Watched) -> None:
        daemon.answers["jobs.list"] = answer
        await screen.press("x", "question_mark")
        await screen.wait("restart the worker of the plugin")
        go_on.set()
        await screen.until(lambda: taken, lambda: daemon.requests)
        assert [type(each) for each in screen.app.screen_stack] == [TopScreen, Help]
        await screen.press("escape", "x")
        await screen.wait("Which job of acme.db")

    monkeypatch.setattr(TopScreen, "_offer_jobs", take)
    watch(daemon, ask)


def test_only_what_changed_is_drawn(daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    from client.cli.top_pane import Lines

    drawn: list[int] = []
    refresh: Callable[..., Lines] = Lines.refresh
    redraw, draws = TopScreen.draw, 0

    def draw(self: TopScreen) -> None:
        nonlocal draws
        draws += 1
        redraw(self)

    def count(self: Lines, *regions: object, **options: bool) -> Lines:
        drawn.append(len(regions))
        return refresh(self, *regions, **options)

    async def look(screen: Watched) -> None:
        await choose_weather(screen)
        monkeypatch.setattr(Lines, "refresh", count)
        monkeypatch.setattr(TopScreen, "draw", draw)
        await screen.until(lambda: draws > 5, lambda: draws)
        assert drawn == []
        plugins = daemon.answers["plugins.list"]
        daemon.answers["plugins.list"] = [plugins[0], {**plugins[1], "restarts": 77}, *plugins[2:]]
        await screen.wait("77")
        assert drawn == [1]

    watch(daemon, look)
