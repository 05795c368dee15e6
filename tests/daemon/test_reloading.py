"""Settings read anew: what is in force at once, what waits for a restart, and that a mistake changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from supervisor.control.access import Caller, Gate
from supervisor.daemon import reloading
from supervisor.daemon.reloading import LIVE, LiveSettings, reloaded
from supervisor.daemon.settings import NAMES, Settings, SettingsError, load_settings
from supervisor.wire.control import Role


class File:
    def __init__(self, path: Path) -> None:
        self._path = path
        self.write("")

    def write(self, text: str) -> None:
        self._path.write_text(text)

    def load(self) -> Settings:
        return load_settings({"config": str(self._path)}, {"HOME": "/nonexistent"}, 1000)


@pytest.fixture
def file(tmp_path: Path) -> File:
    return File(tmp_path / "plugind.toml")


@pytest.fixture(autouse=True)
def configured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """How the log was to be; the tests' own stays as it is."""
    asked: list[tuple[str, str]] = []
    monkeypatch.setattr(reloading, "configure", lambda *how: asked.append(how))
    return asked


def test_every_live_setting_is_one() -> None:
    assert set(NAMES) > LIVE


@pytest.mark.parametrize(
    ("text", "binds", "warned"),
    [
        ("", True, False),
        ('admins = ["*"]', False, False),
        ('operators = ["1001"]\nsocket_group = "0"', True, False),
        ('operators = ["1001"]', True, True),
    ],
)
async def test_roles_for_people_who_cannot_connect(file: File, text: str, binds: bool, warned: bool) -> None:
    file.write(text)
    live = LiveSettings(file.load(), file.load, binds=binds)
    await live.watch_over(Gate(0))
    assert ["until socket_group names a group" in warning for warning in live.warnings].count(True) == warned


def test_what_needs_a_restart_stays_as_it_was(file: File) -> None:
    file.write('index_url = "https://me:one@index.example/simple"\ndrain_s = 3')
    before = file.load()
    file.write('index_url = "https://me:two@index.example/simple"\ndrain_s = 4\nrun_limit = 2\nadmins = ["x"]')
    found = reloaded(before, file.load())
    assert (found.changed, found.need_restart) == (["drain_s", "admins"], ["run_limit", "index_url"])
    assert (found.settings.drain_s, found.settings.admins) == (4, ("x",))
    assert (found.settings.run_limit, found.settings.index_url) == (64, before.index_url)
    # It is still waited for at the next time.
    again = reloaded(found.settings, file.load())
    assert (again.changed, again.need_restart) == ([], ["run_limit", "index_url"])
    file.write("")
    assert reloaded(before, file.load()).need_restart == ["index_url"]


async def test_rules_are_in_force_at_once(file: File, configured: list[tuple[str, str]]) -> None:
    gate, seen = Gate(1000), list[Settings]()
    inside = Caller(pid=1, uid=5, gid=6, role=None, groups=frozenset({6, 7}))
    file.write('observers = ["5"]\nadmins = ["no-such-user-here"]')
    live = LiveSettings(file.load(), file.load, binds=False)
    with trio.fail_after(10):
        await live.watch_over(gate)
        assert gate.renewed(inside).role is Role.OBSERVER
        assert ["no-such-user-here" in warning for warning in live.warnings] == [True]
        file.write('operators = ["@7"]\nlog_level = "error"\ntimezone = "Europe/Berlin"')
        assert await live.reload(seen.append) == {
            "changed": ["log_level", "observers", "operators", "admins"],
            "need_restart": ["timezone"],
            "warnings": [],
        }
    assert gate.renewed(inside).role is Role.OPERATOR
    assert seen == [live.settings]
    assert configured == [("auto", "error")]
    assert (live.settings.timezone, live.settings.log_level) == ("UTC", "error")


async def test_with_a_mistake_nothing_changes(file: File, configured: list[tuple[str, str]]) -> None:
    gate = Gate(1000)
    live = LiveSettings(file.load(), file.load)
    before = live.settings
    file.write('log_level = "debug"\nadmins = ["a b"]\ndrain_s = -1')
    with trio.fail_after(10):
        await live.watch_over(gate)
        rules = gate.rules
        with pytest.raises(SettingsError) as caught:
            await live.reload(lambda _: pytest.fail("it was put in force"))
    assert len(caught.value.details["problems"]) == 2
    assert (live.settings, gate.rules, configured) == (before, rules, [])


async def test_two_at_once_come_one_after_the_other(file: File) -> None:
    """Or the older answer could be the one that stays."""
    order: list[str] = []

    def reread() -> Settings:
        order.append("read")
        return file.load()

    live = LiveSettings(file.load(), reread)

    async def reload() -> None:
        await live.reload(lambda _: order.append("in force"))

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(reload)
    assert order == ["read", "in force"] * 3


async def test_settings_are_read_in_a_thread(file: File) -> None:
    """A directory of users somewhere in the network may take long to answer, and nobody is to wait for that."""
    threads: list[bool] = []

    def reread() -> Settings:
        threads.append(trio.lowlevel.in_trio_run())
        return file.load()

    with trio.fail_after(10):
        await LiveSettings(file.load(), reread).reload(lambda _: None)
    assert threads == [False]
