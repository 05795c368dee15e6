"""logs.follow and logs.read over a real socket: what was there, what comes, credit, gaps, ends."""

from __future__ import annotations

import resource
from typing import Any

import pytest
import trio
import trio.testing

from supervisor.core.plugin import Plugin
from supervisor.worker.logfile import Entry, LogFile
from tests.control.world import LOG_BYTES, LOG_FILES, ControlWorld, Wire


def entry(n: int, **changes: Any) -> Entry:
    return Entry(**{"time_ms": n, "stream": "stdout", "level": "info", "message": f"line {n}", **changes})


@pytest.fixture
async def plugin(world: ControlWorld) -> Plugin:
    return await world.plugin()


@pytest.fixture
def log(world: ControlWorld, plugin: Plugin) -> LogFile:
    return world.logs.of(plugin.key)


async def told(wire: Wire) -> dict[str, Any]:
    """The next rpc.log's param."""
    message = await wire.message()
    assert message[:2] == [2, "rpc.log"], message
    found: dict[str, Any] = message[2][0]
    return found


async def times(wire: Wire, until: int) -> list[int]:
    """The lines' times, up to `until`."""
    found: list[int] = []
    while not found or found[-1] < until:
        item = await told(wire)
        assert "skipped_bytes" not in item
        found += [line["time_ms"] for line in item["lines"]]
    return found


async def quiet(wire: Wire) -> bool:
    """Whether nothing more comes before the answer to a ping."""
    await trio.testing.wait_all_tasks_blocked(0.02)
    await wire.send([0, 900, "daemon.ping", []])
    return bool((await wire.message())[:2] == [1, 900])


async def test_what_is_told(wire: Wire, plugin: Plugin, log: LogFile) -> None:
    answer = await wire.call("logs.follow", plugin=plugin.key)
    assert answer == {"subscription": 1, "place": "0"}
    assert await quiet(wire)
    log.write([entry(5, stream="log", level="error", run_id="r", fields={"k": [1]})])
    item = await told(wire)
    line = {"time_ms": 5, "stream": "log", "level": "error", "message": "line 5", "run_id": "r", "truncated": False}
    assert item == {"subscription": 1, "lines": [{**line, "fields": {"k": [1]}}], "place": item["place"]}
    log.write([entry(6)])
    assert await times(wire, 6) == [6]
    again = await wire.call("logs.follow", plugin=plugin.id, after=item["place"])
    assert (again["subscription"], again["place"]) == (2, item["place"])
    assert await times(wire, 6) == [6]


async def test_backlog_first_then_live_with_the_same_filters(wire: Wire, plugin: Plugin, log: LogFile) -> None:
    log.write([entry(n, level="error" if n % 2 else "info", stream="stderr") for n in range(20)])
    await wire.call("logs.follow", plugin=plugin.key, tail=3, level="warning", stream="stderr")
    assert await times(wire, 19) == [15, 17, 19]
    log.write([entry(20, level="error"), entry(21, stream="stderr"), entry(22, stream="stderr", level="critical")])
    assert await times(wire, 22) == [22]
    await wire.call("logs.follow", plugin=plugin.key, since_ms=18)
    assert await times(wire, 22) == [18, 19, 20, 21, 22]
    assert (await wire.refused("logs.follow", plugin="nobody"))["name"] == "NOT_FOUND"


@pytest.mark.parametrize("ahead", [1, 2, 7, 30])
async def test_backlog_runs_into_the_present_over_rotations(world: ControlWorld, plugin: Plugin, ahead: int) -> None:
    """The writer waits for its followers where it is `ahead` lines before the slower one."""
    log, last = world.logs.of(plugin.key), 600
    log.write([entry(n) for n in range(100)])
    seen, news = {20: 99, 50: 99}, trio.Event()

    async def follow(tail: int) -> None:
        nonlocal news
        wire = await (await world.dial()).hello()
        async with wire.stream:
            await wire.call("logs.follow", plugin=plugin.key, tail=tail)
            found: list[int] = []
            while seen[tail] < last - 1:
                found += await times(wire, 0)
                seen[tail] = found[-1]
                news.set()
                news = trio.Event()
            assert found == list(range(found[0], last))
            assert found[0] <= 100 + ahead

    async with trio.open_nursery() as nursery:
        for tail in seen:
            nursery.start_soon(follow, tail)
        for n in range(100, last):
            log.write([entry(n)])
            while n - min(seen.values()) >= ahead:
                await news.wait()


async def test_credit(wire: Wire, plugin: Plugin, log: LogFile) -> None:
    log.write([entry(n) for n in range(10)])
    number = (await wire.call("logs.follow", plugin=plugin.key, tail=10, credit=3))["subscription"]
    assert await times(wire, 2) == [0, 1, 2]
    assert await quiet(wire)
    await wire.call("logs.credit", subscription=number, n=2)
    assert await times(wire, 4) == [3, 4]
    assert await quiet(wire)
    assert (await wire.refused("logs.credit", subscription=number, n=0))["name"] == "INVALID_PARAMS"
    assert (await wire.refused("logs.credit", subscription=99, n=1))["name"] == "NOT_FOUND"


async def test_unfollow_is_the_end(wire: Wire, plugin: Plugin, log: LogFile) -> None:
    number = (await wire.call("logs.follow", plugin=plugin.key))["subscription"]
    await wire.call("logs.unfollow", subscription=number)
    log.write([entry(1)])
    assert await quiet(wire)
    assert (await wire.refused("logs.unfollow", subscription=number))["name"] == "NOT_FOUND"


async def test_each_kind_of_subscription_has_its_own_methods(wire: Wire, plugin: Plugin) -> None:
    followed = (await wire.call("logs.follow", plugin=plugin.key))["subscription"]
    subscribed = (await wire.call("events.subscribe"))["subscription"]
    for method, number, more in (
        ("events.unsubscribe", followed, {}),
        ("events.credit", followed, {"n": 1}),
        ("logs.unfollow", subscribed, {}),
        ("logs.credit", subscribed, {"n": 1}),
    ):
        assert (await wire.refused(method, subscription=number, **more))["name"] == "NOT_FOUND"
    await wire.call("logs.unfollow", subscription=followed)
    await wire.call("events.unsubscribe", subscription=subscribed)


async def test_a_connection_holds_so_many_of_both_kinds(wire: Wire, plugin: Plugin) -> None:
    for _ in range(32):
        await wire.call("events.subscribe")
        await wire.call("logs.follow", plugin=plugin.key)
    for method, params in (("logs.follow", {"plugin": plugin.key}), ("events.subscribe", {})):
        assert (await wire.refused(method, **params))["name"] == "RESOURCE_EXHAUSTED"
    await wire.call("logs.unfollow", subscription=2)
    assert (await wire.refused("logs.follow", plugin=plugin.key, after="rubbish"))["name"] == "INVALID_PARAMS"
    await wire.call("logs.follow", plugin=plugin.key)


async def test_who_is_slow_gets_a_gap_and_costs_nothing(world: ControlWorld, plugin: Plugin, log: LogFile) -> None:
    slow, quick = await (await world.dial()).hello(), await (await world.dial()).hello()
    async with slow.stream, quick.stream:
        await slow.call("logs.follow", plugin=plugin.key, credit=1)
        await quick.call("logs.follow", plugin=plugin.key)
        await trio.testing.wait_all_tasks_blocked(0.01)
        for start in range(0, 2000, 50):
            log.write([entry(n) for n in range(start, start + 50)])
            assert (await times(quick, start + 49))[-1] == start + 49
        assert await times(slow, 0) == [0]
        await slow.call("logs.credit", subscription=1, n=10**6)
        item = await told(slow)
        first = item["lines"][0]["time_ms"]
        kept = LOG_BYTES * LOG_FILES // len(entry(1999).to_json())
        assert 2000 - kept <= first < 2000 - kept // 2
        skipped = sum(len(entry(n).to_json()) + 1 for n in range(1, first))
        assert item["skipped_bytes"] == skipped
        found = [line["time_ms"] for line in item["lines"]]
        if found[-1] != 1999:
            found += await times(slow, 1999)
        assert found == list(range(first, 2000))


async def test_who_never_reads_keeps_nobody_waiting_and_is_let_go(
    world: ControlWorld, plugin: Plugin, log: LogFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("supervisor.control.connection._WRITE_TIMEOUT_S", 0.5)
    deaf, quick = await (await world.dial()).hello(), await (await world.dial()).hello()
    async with deaf.stream, quick.stream:
        for _ in range(10):
            await deaf.call("logs.follow", plugin=plugin.key)
        await quick.call("logs.follow", plugin=plugin.key)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        number = 0
        with trio.move_on_after(1.0):
            while True:
                log.write([entry(number, message="x" * 5000)])
                assert (await times(quick, number)) == [number]
                number += 1
        assert number > 20
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000
        with trio.fail_after(5):
            messages = await deaf.rest()
        assert all(message[1] == "rpc.log" for message in messages)


async def test_the_end_of_the_data_is_the_end(world: ControlWorld, wire: Wire, plugin: Plugin, log: LogFile) -> None:
    log.write([entry(n) for n in range(500)])
    for credit in (None, 0):
        await wire.call("logs.follow", plugin=plugin.key, credit=credit)
    # Softly: the log stays, and who follows stays with it.
    await wire.call("plugins.unload", plugin=plugin.key)
    assert await quiet(wire)
    files = world.logs.retire(plugin.key)
    assert [file.name for file in files] == ["acme.one.log", "acme.one.log.1", "acme.one.log.2"]
    for file in files:
        file.unlink(missing_ok=True)
    ends = [await told(wire), await told(wire)]
    assert sorted(end["subscription"] for end in ends) == [1, 2]
    assert [(end["end"], end["reason"]) for end in ends] == [(True, "removed")] * 2
    assert (await wire.refused("logs.unfollow", subscription=1))["name"] == "NOT_FOUND"
    log.write([entry(1)])
    assert not list(world.path.parent.glob("acme.one.log*"))


async def test_a_worker_that_comes_and_goes(world: ControlWorld, wire: Wire, plugin: Plugin, log: LogFile) -> None:
    await wire.call("logs.follow", plugin=plugin.key)
    for n in range(5):
        log.write([entry(n)])
        log.close()
        assert await times(wire, n) == [n]


async def test_a_follower_who_cannot_be_served_is_told_why(
    wire: Wire, plugin: Plugin, log: LogFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    await wire.call("logs.follow", plugin=plugin.key)

    def full(*_: Any, **__: Any) -> int:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr("supervisor.worker.logfile.os.dup", full)
        log.write([entry(1)])
        end = await told(wire)
    assert (end["end"], end["reason"]) == (True, "the log cannot be read: Too many open files")
    await wire.call("logs.follow", plugin=plugin.key, after=end["place"])
    assert await times(wire, 1) == [1]


async def test_what_is_read(wire: Wire, plugin: Plugin, log: LogFile) -> None:
    log.write([entry(n, level="error" if n % 2 else "info", stream="stderr") for n in range(50)])
    read = [line["time_ms"] for line in await wire.call("logs.read", plugin=plugin.key, tail=3)]
    assert read == [47, 48, 49]
    lines = await wire.call(
        "logs.read", plugin=plugin.key, since_ms=10, until_ms=20, level="error", stream="stderr", tail=4
    )
    assert [line["time_ms"] for line in lines] == [13, 15, 17, 19]
    log.write([entry(n, message="\0" * 30_000) for n in range(50, 52)])
    assert len(await wire.call("logs.read", plugin=plugin.key, tail=10_000)) > 1
