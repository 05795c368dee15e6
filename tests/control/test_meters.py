"""What connections count: subscriptions that there are, and those that were too slow."""

from __future__ import annotations

from pathlib import Path

import trio

from supervisor.control.meters import Meters
from tests.control.world import ControlWorld, open_control_world


def meters(world: ControlWorld) -> Meters:
    return world.server._service.meters


async def wait_subscriptions(world: ControlWorld, count: int) -> None:
    while meters(world).subscriptions != count:  # noqa: ASYNC110  the server hears of it in its own time
        await trio.sleep(0.001)


async def test_subscriptions_are_counted_until_they_end_and_none_twice(tmp_path: Path) -> None:
    with trio.fail_after(10):
        async with open_control_world(tmp_path) as world:
            first, second = await (await world.dial()).hello(), await (await world.dial()).hello()
            for wire in (first, first, second):
                await wire.call("events.subscribe")
            await first.refused("events.subscribe", after_seq=10_000)
            assert meters(world).subscriptions == 3
            await first.call("events.unsubscribe", subscription=1)
            await wait_subscriptions(world, 2)
            await first.stream.aclose()
            await wait_subscriptions(world, 1)
            await second.stream.aclose()
            await wait_subscriptions(world, 0)
            assert meters(world).overflows == 0


async def test_who_is_too_slow_is_counted(tmp_path: Path) -> None:
    with trio.fail_after(10):
        async with open_control_world(tmp_path) as world:
            plugin = await world.plugin()
            wire = await (await world.dial()).hello()
            await wire.call("events.subscribe", credit=1)
            await world.emit(plugin, 1100)
            await wire.call("events.credit", subscription=1, n=2000)
            while not (await wire.event()).get("end"):
                pass
            await wait_subscriptions(world, 0)
            assert meters(world).overflows == 1
            await wire.stream.aclose()


async def test_requests_are_measured_from_the_first(tmp_path: Path) -> None:
    with trio.fail_after(10):
        async with open_control_world(tmp_path) as world:
            wire = await (await world.dial()).hello()
            await wire.call("daemon.ping")
            await wire.refused("no.such")
            seen = {one.method: one.codes for one in meters(world).latency.look()}
            await wire.stream.aclose()
            assert seen == {"rpc.hello": {"OK": 1}, "daemon.ping": {"OK": 1}, "unknown": {"METHOD_NOT_FOUND": 1}}
