"""Workers' subscriptions: replay, then live, in order, nothing missed or doubled; who does not read is ended."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
import trio
import trio.lowlevel

from supervisor.core.errors import NotFound
from supervisor.core.event import PluginEmitted, PluginFailed, WorkerCrashed
from supervisor.core.plugin import Plugin
from supervisor.wire.codec import encode
from supervisor.wire.message import Request
from tests.daemon.host_world import FakeWorker, HostWorld


async def emit(world: HostWorld, plugin: Plugin, *names: str, payload: Any = None) -> list[int]:
    events = [PluginEmitted(plugin_id=plugin.id, plugin_key=plugin.key, name=n, payload=payload) for n in names]
    return [recorded.seq for recorded in await world.world.registry.record(*events)]


def seqs(told: list[dict[str, Any]]) -> list[int]:
    return [item["event"]["seq"] for item in told]


async def test_from_now_on_and_no_more_after_unsubscribing(autojump_clock: Any, host_world: HostWorld) -> None:
    plugin = await host_world.plugin()
    async with host_world.life(plugin) as worker:
        await emit(host_world, plugin, "before")
        answer = await worker.ask("events.subscribe")
        after = await emit(host_world, plugin, "a", "b")
        told = await worker.events(2)
        assert seqs(told) == after == [answer["last_seq"] + 1, answer["last_seq"] + 2]
        assert told[0] == {
            "subscription": answer["subscription"],
            "event": {
                "seq": after[0],
                "at_ms": told[0]["event"]["at_ms"],
                "type": "emitted.a",
                "plugin_id": plugin.id,
                "plugin": plugin.key,
                "data": {"name": "a", "payload": None},
            },
        }
        await worker.ask("events.unsubscribe", subscription=answer["subscription"])
        await emit(host_world, plugin, "c")
        await worker.ask("state.get", key="k")
        assert len(worker.heard) == 2
        with pytest.raises(NotFound):
            await worker.ask("events.unsubscribe", subscription=answer["subscription"])


async def test_replay_then_live_while_events_keep_coming(autojump_clock: Any, host_world: HostWorld) -> None:
    plugin = await host_world.plugin()
    await emit(host_world, plugin, *["old"] * 500)
    async with host_world.life(plugin) as worker, trio.open_nursery() as nursery:

        async def go_on() -> None:
            for _ in range(100):
                await emit(host_world, plugin, "new", "new")
                await trio.lowlevel.checkpoint()

        nursery.start_soon(go_on)
        answer = await worker.ask("events.subscribe", after_seq=100)
        assert answer["last_seq"] == 100
        told = await worker.events(603)
    assert seqs(told) == list(range(101, 704))  # three more are of the installation and the configuration


async def test_filters(autojump_clock: Any, host_world: HostWorld) -> None:
    one, two = await host_world.plugin("acme.one"), await host_world.plugin("acme.two")
    async with host_world.life(one) as worker:
        await worker.ask("events.subscribe", types=["emitted.a*", "plugin.*"], plugins=["acme.two"])
        await emit(host_world, one, "a")
        await emit(host_world, two, "b")
        wanted = await emit(host_world, two, "ab")
        assert seqs(await worker.events(1)) == wanted


async def test_the_answer_comes_before_the_first_event(autojump_clock: Any, host_world: HostWorld) -> None:
    """Also when there is much to replay, and nobody reads at first."""
    plugin = await host_world.plugin()
    await emit(host_world, plugin, *["old"] * 100, payload="x" * 30_000)
    async with host_world.wire(plugin) as stream:
        for n in range(16):
            await stream.send_all(encode(Request(n, "events.subscribe", [{"after_seq": 0}]), max_bytes=1000))
        await trio.sleep(1)
        unpacker, known, told = msgpack.Unpacker(), set(), 0
        while told < 16 * 100:
            unpacker.feed(await stream.receive_some(100_000))
            for message in unpacker:
                if message[0] == 1:
                    known.add(message[3]["subscription"])
                else:
                    assert message[1] == "event"
                    assert message[2][0]["subscription"] in known
                    told += 1


async def test_a_worker_that_does_not_read_is_ended_and_slows_nobody(
    autojump_clock: Any, host_world: HostWorld
) -> None:
    plugin, other = await host_world.plugin(), await host_world.plugin("acme.two")
    async with host_world.wire(plugin) as deaf, host_world.life(other) as worker:
        await deaf.send_all(encode(Request(0, "events.subscribe", [{}]), max_bytes=1000))
        await worker.ask("events.subscribe")
        began = trio.current_time()
        for n in range(60):
            await emit(host_world, plugin, *["e"] * 50, payload="x" * 1000)
            await worker.events(50 * (n + 1))
        assert trio.current_time() == began
        last = await resume_after_overflow(deaf)
    # What it was told until then is the beginning of it all; it may go on from there.
    async with host_world.life(plugin) as worker:
        await worker.ask("events.subscribe", after_seq=last)
        rest = await worker.events(host_world.world.bus.last_seq - last)
        assert seqs(rest) == list(range(last + 1, host_world.world.bus.last_seq + 1))


async def resume_after_overflow(stream: trio.abc.Stream) -> int:
    """Read everything up to the end of the subscription; returns its `last_seq`."""
    unpacker, told = msgpack.Unpacker(), list[int]()
    while True:
        unpacker.feed(await stream.receive_some(100_000))
        for message in unpacker:
            if message[0] != 2:
                first = message[3]["last_seq"]
                continue
            [item] = message[2]
            if "end" in item:
                assert item == {"subscription": 1, "end": True, "reason": "overflow", "last_seq": told[-1]}
                assert told == list(range(first + 1, first + 1 + len(told)))
                return told[-1]
            told.append(item["event"]["seq"])


async def test_what_others_printed_is_not_shown(autojump_clock: Any, host_world: HostWorld) -> None:
    one, two = await host_world.plugin("acme.one"), await host_world.plugin("acme.two")
    words = "exited with code 3\nTraceback (most recent call last):\nValueError: password hunter2"
    async with host_world.life(one) as worker:
        await worker.ask("events.subscribe")
        for plugin in (one, two):
            await host_world.world.registry.record(
                WorkerCrashed(
                    plugin_id=plugin.id,
                    plugin_key=plugin.key,
                    cause="exited with code 3",
                    pid=1,
                    exit_code=3,
                    signal=None,
                    stderr_tail=words,
                    crashes=1,
                    restart_in_s=None,
                ),
                PluginFailed(plugin_id=plugin.id, plugin_key=plugin.key, error=f"the worker of 'acme' {words}"),
            )
        own_crash, own_error, crash, error = [item["event"]["data"] for item in await worker.events(4)]
    assert own_crash["stderr_tail"] == words
    assert own_error["error"].endswith("hunter2")
    assert (crash["stderr_tail"], crash["cause"]) == ("", "exited with code 3")
    assert error["error"] == "exited with code 3"


async def test_subscriptions_end_with_the_life(autojump_clock: Any, host_world: HostWorld) -> None:
    plugin = await host_world.plugin()

    async def subscribe(worker: FakeWorker) -> None:
        await worker.ask("events.subscribe")

    for _ in range(3):
        async with host_world.life(plugin) as worker:
            for _ in range(16):
                await subscribe(worker)
        assert len(host_world.world.bus._subscriptions) == 0
