"""A tz database that cannot be read for a while: nothing is taken off, and nothing is lost."""

from __future__ import annotations

import errno
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import trio

from supervisor.jobs import cron_zones
from supervisor.jobs.cron import forget_zones, parse_schedule
from supervisor.jobs.cron_zones import ZoneUnreadable, new_fingerprint, zone_fingerprint
from supervisor.log import Logger
from tests.jobs.world import NOON, OpenWorld, World, job

Reading = Callable[[bool], None]
MINUTE = timedelta(minutes=1)


@pytest.fixture
def readable(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Whether files of zones can be read: `readable(False)`."""
    can, from_file = True, cron_zones._file

    def file(name: str) -> bytes | None:
        if not can:
            raise OSError(errno.EMFILE, "Too many open files")
        return from_file(name)

    def set_to(now: bool) -> None:
        nonlocal can
        can = now

    forget_zones()
    monkeypatch.setattr(cron_zones, "_file", file)
    yield set_to
    forget_zones()


def test_an_unreadable_zone_is_not_an_unknown_one(readable: Reading) -> None:
    known = zone_fingerprint("Europe/Berlin")
    readable(False)
    with pytest.raises(ZoneUnreadable, match=r"the rules of 'Asia/Tokyo' cannot be read \(Too many open files\)"):
        parse_schedule("@daily", zone="Asia/Tokyo")
    assert zone_fingerprint("Europe/Berlin") == known
    with pytest.raises(ZoneUnreadable):
        new_fingerprint("Europe/Berlin")
    readable(True)
    assert new_fingerprint("Europe/Berlin") == known


async def test_a_look_at_zones_that_cannot_be_read_changes_nothing(
    autojump_clock: Any, world: World, readable: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.install_ready("acme.weather", job("five"), job("berlin", "*/7 * * * *", timezone="Europe/Berlin"))
    await trio.sleep(60)
    told: list[tuple[str, Any]] = []
    monkeypatch.setattr(Logger, "error", lambda _, event, **fields: told.append((event, fields.get("zone"))))
    stored = await world.jobs.zones()
    readable(False)
    world.coordinator.reload()
    await trio.sleep(599)
    assert set(told) == {("jobs.zone_unreadable", "UTC"), ("jobs.zone_unreadable", "Europe/Berlin")}
    assert len(told) == 2 * 10  # again each minute
    readable(True)
    await trio.sleep(61)
    told.clear()
    await trio.sleep(1000)
    assert told == []
    assert await world.jobs.zones() == stored
    assert world.workers.times("five") == [NOON + n * 5 * MINUTE for n in range(1, 6)]
    assert world.workers.times("berlin") == [NOON + n * 7 * MINUTE for n in range(1, 5)]


async def test_a_due_job_whose_zone_cannot_be_read_is_put_off(
    autojump_clock: Any, world: World, readable: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rules fell out of memory. Others run, and so does it, with its own due time."""
    await world.install_ready("acme.weather", job("tokyo", timezone="Asia/Tokyo"))
    await world.install_ready("acme.other", job("every", None, every="5m"))
    await trio.sleep(290)
    told: list[tuple[str, Any]] = []
    monkeypatch.setattr(Logger, "error", lambda _, event, **fields: told.append((event, fields.get("job"))))
    readable(False)
    cron_zones._zone.cache_clear()
    await trio.sleep(35)
    readable(True)
    await trio.sleep(30)
    assert {event for event, _ in told} == {"job.put_off"}
    assert ("job.put_off", "acme.weather/tokyo") in told
    [run] = await world.history(job_id=(await world.job("acme.weather/tokyo")).id)
    assert (str(run.state), run.due_ms / 1000) == ("succeeded", (NOON + 5 * MINUTE).timestamp())
    await trio.sleep(300)
    assert world.workers.times("tokyo")[1:] == [NOON + 10 * MINUTE]


async def test_a_start_while_zones_cannot_be_read(
    autojump_clock: Any, open_world: OpenWorld, readable: Reading
) -> None:
    """The daemon starts, nothing is taken off, and once they can be read all is as it was."""
    async with open_world() as world, trio.open_nursery() as nursery:
        await world.serve(nursery)
        await world.install_ready("acme.weather", job("berlin", timezone="Europe/Berlin"))
        await trio.sleep(60)
        nursery.cancel_scope.cancel()
    forget_zones()
    readable(False)
    async with open_world(start=NOON + 2 * MINUTE) as world, trio.open_nursery() as nursery:
        await world.serve(nursery)
        await trio.sleep(190)
        readable(True)
        await trio.sleep(20)
        assert await world.states() == ["succeeded"]
        assert (await world.jobs.zones())["Europe/Berlin"] == zone_fingerprint("Europe/Berlin")
        nursery.cancel_scope.cancel()


async def test_a_plugin_that_comes_while_its_zone_cannot_be_read_is_declared_later(
    autojump_clock: Any, world: World, readable: Reading
) -> None:
    readable(False)
    await world.install_ready("acme.weather", job("berlin", timezone="Europe/Berlin"))
    await trio.sleep(10)
    assert await world.jobs.zones() == {}
    readable(True)
    await trio.sleep(300)
    assert world.workers.times("berlin") == [NOON + 5 * MINUTE]
