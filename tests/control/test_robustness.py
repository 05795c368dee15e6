"""Clients that break off, do not read, send garbage or hold everything up: they harm themselves alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgpack
import pytest
import trio

from supervisor.control import server
from supervisor.control.access import Caller
from supervisor.control.roles import make_rules
from supervisor.store.journal import Journal
from supervisor.wire.control import Role
from supervisor.wire.limits import KIB, MIB
from tests.control.world import ControlWorld, Wire, open_control_world

UID = 54_321
CONVERSATION = b"".join(
    msgpack.packb(message)
    for message in (
        [0, 1, "rpc.hello", [{"client": "test"}]],
        [0, 2, "plugins.wait", ["acme.one", "uninstalled"]],
        [2, "rpc.cancel", [2]],
        [0, 3, "plugins.get", ["acme.one"]],
        [0, 4, "daemon.ping", []],
    )
)


def as_user(monkeypatch: pytest.MonkeyPatch, uid: int, role: Role) -> None:
    monkeypatch.setattr(server.Gate, "identify", lambda self, sock: Caller(1, uid, uid, role))
    monkeypatch.setattr(server.Gate, "renewed", lambda self, caller: caller)


def asked(id_: int, size: int) -> bytes:
    return bytes(msgpack.packb([0, id_, "plugins.call", {"plugin": "acme.none", "method": "m", "params": "x" * size}]))


async def all_held(world: ControlWorld, size: int) -> int:
    """Bytes that the newest connection holds, once the last `size` of an unfinished frame have come in."""
    *_, share = world.server._connections.values()
    while share._unfinished < size:
        await trio.lowlevel.checkpoint()
    return share._held


async def until_alone(world: ControlWorld, wire: Wire, most: int = 1) -> None:
    """`wire`, and nobody else, is left."""
    while world.server.connections > most:
        await wire.call("daemon.ping")


async def talk(world: ControlWorld, data: bytes) -> list[Any]:
    """All that is answered until the other end hangs up, which it does at the end of ours."""
    wire = await world.dial()
    async with wire.stream:
        await wire.stream.send_all(data)
        await wire.stream.send_eof()
        return await wire.rest()


@pytest.mark.parametrize("wrong", [b"\xc1", b"\x00", b"\xff", b"\xdd"])
async def test_one_wrong_byte_anywhere(world: ControlWorld, wire: Wire, wrong: bytes) -> None:
    await world.plugin()
    for place in range(len(CONVERSATION)):
        answers = await talk(world, CONVERSATION[:place] + wrong + CONVERSATION[place + 1 :])
        ids = [message[1] for message in answers if message[0] == 1]
        assert len(ids) == len(set(ids)), "one answer each"
        errors = [message for message in answers if message[:2] == [2, "rpc.error"]]
        assert len(errors) <= 1
        assert errors == answers[len(answers) - len(errors) :], "and nothing after the last word"
        assert not [message for message in answers if "INTERNAL" in str(message)]
    await until_alone(world, wire)


async def test_cut_at_every_byte_and_gone(world: ControlWorld, wire: Wire) -> None:
    await world.plugin()
    for place in range(len(CONVERSATION)):
        gone = await world.dial()
        await gone.stream.send_all(CONVERSATION[:place])
        await gone.stream.aclose()
    await until_alone(world, wire)
    assert world.server.statistics().held_bytes == 0


async def test_cancels_of_what_was_answered_or_never_asked(wire: Wire) -> None:
    await wire.send(
        [0, 7, "daemon.ping", []], [2, "rpc.cancel", [7]], [2, "rpc.cancel", [99]], [2, "rpc.cancel", ["x"]]
    )
    assert (await wire.answer(7))[1]["pong"] is True
    await wire.send([0, 7, "daemon.ping", []])
    assert (await wire.answer(7))[1]["pong"] is True


async def test_an_id_that_is_in_use(world: ControlWorld) -> None:
    plugin = await world.plugin()
    twice = msgpack.packb([0, 5, "plugins.wait", [plugin.key, "uninstalled"]])
    wire = await world.dial()
    async with wire.stream:
        await wire.stream.send_all(twice + twice)
        assert [message[:2] for message in await wire.rest()] == [[2, "rpc.error"]]


async def test_who_asks_for_pages_and_does_not_read_has_few_made(
    world: ControlWorld, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = await world.plugin()
    await world.emit(plugin, 100, "x" * 14_000)
    made, page = [], Journal.page

    async def counted(self: Journal, *args: Any, **named: Any) -> Any:
        made.append(args)
        return await page(self, *args, **named)

    monkeypatch.setattr(Journal, "page", counted)
    other = await (await world.dial()).hello()
    ids = [await wire.ask("events.list", limit=1000) for _ in range(30)]
    for _ in range(20):
        await other.call("daemon.ping")
    assert len(made) <= 3, "what nobody takes is not made"
    for id_ in ids:
        error, found = await wire.answer(id_)
        assert error is None
        assert len(found["events"]) > 50
    assert len(made) == 30
    await other.stream.aclose()


async def test_what_all_together_hold_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_MOST_HELD", 1 * MIB)
    monkeypatch.setattr(server, "_MOST_HELD_OF_A_UID", 600 * KIB)
    begun = msgpack.packb([0, 1, "plugins.call", ["x" * 800 * KIB]])[: 200 * KIB]
    with trio.fail_after(20):
        async with open_control_world(tmp_path) as world:
            as_user(monkeypatch, 1000, Role.OPERATOR)
            first = await world.dial()
            await first.stream.send_all(begun)
            while world.server.statistics().held_bytes < 400 * KIB:
                await trio.lowlevel.checkpoint()
            second = await (await world.dial()).hello()
            await second.stream.send_all(begun)
            last = await second.message()
            assert last[2][0]["name"] == "RESOURCE_EXHAUSTED"
            as_user(monkeypatch, 1001, Role.OPERATOR)
            other = await (await world.dial()).hello()
            await other.stream.send_all(begun)
            while world.server.statistics().held_bytes < 800 * KIB:
                await trio.lowlevel.checkpoint()
            as_user(monkeypatch, 1002, Role.OPERATOR)
            third = await (await world.dial()).hello()
            # A frame of 8 kB that takes half a megabyte.
            heavy = {"plugin": "acme.none", "method": "m", "params": [[]] * 8000}
            refused = await third.refused("plugins.call", **heavy)
            assert (refused["name"], refused["retryable"]) == ("RESOURCE_EXHAUSTED", True)
            assert (await third.call("daemon.ping"))["pong"] is True, "what is small is answered always"
            as_user(monkeypatch, 0, Role.ADMIN)
            admin = await (await world.dial()).hello()
            assert (await admin.refused("plugins.call", **heavy))["name"] == "NOT_FOUND"
            for wire in (first, other):
                await wire.stream.aclose()
            while world.server.statistics().held_bytes:
                await trio.lowlevel.checkpoint()
            assert (await third.refused("plugins.call", **heavy))["name"] == "NOT_FOUND"
            for wire in (second, third, admin):
                await wire.stream.aclose()


async def test_who_is_no_admin_any_more_is_counted(world: ControlWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """And who has become one is not, on connections that are open already."""
    admins = make_rules({Role.ADMIN: [str(UID)]}, lambda _: None, lambda _: None)
    observers = make_rules({Role.OBSERVER: [str(UID)]}, lambda _: None, lambda _: None)
    monkeypatch.setattr(server.Gate, "identify", lambda self, sock: Caller(1, UID, UID, Role.ADMIN))
    world.gate.rules = admins
    wire = await (await world.dial()).hello()
    await wire.stream.send_all(b"".join(asked(20_000 + id_, 50 * KIB) for id_ in range(4)))
    for id_ in range(4):
        assert (await wire.answer(20_000 + id_))[0]["name"] == "NOT_FOUND"
    await wire.stream.send_all(asked(1, 800 * KIB)[: 200 * KIB])
    held = await all_held(world, 200 * KIB)
    assert world.server.statistics().held_bytes == 0
    world.gate.rules = observers
    world.server.look_again()
    assert world.server.statistics().held_bytes == held
    world.gate.rules = admins
    world.server.look_again()
    assert world.server.statistics().held_bytes == 0
    world.gate.rules = observers
    world.server.look_again()
    await wire.stream.aclose()
    while world.server.statistics().held_bytes:
        await trio.lowlevel.checkpoint()


async def test_who_comes_in_vain_all_the_time_is_not_even_looked_at(
    world: ControlWorld, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_IN_VAIN_S", 10.0)
    with monkeypatch.context() as patched:
        patched.setattr(server, "uid_of", lambda sock: UID)
        patched.setattr(server.Gate, "identify", lambda self, sock: Caller(1, UID, UID, Role.OBSERVER))
        patched.setattr(server.Gate, "renewed", lambda self, caller: caller)
        # One that has something to say may come again.
        for _ in range(2):
            useful = await (await world.dial()).hello()
            await useful.stream.aclose()
        await until_alone(world, wire)
        in_vain = await world.dial()
        while world.server.connections < 2:
            await trio.lowlevel.checkpoint()
        await in_vain.stream.aclose()
        await until_alone(world, wire)
        looked: list[object] = []
        patched.setattr(server.Gate, "identify", lambda self, sock: looked.append(sock))
        late = await world.dial()
        [told] = await late.rest()
        await late.stream.aclose()
    assert told[2][0]["name"] == "RESOURCE_EXHAUSTED"
    assert told[2][0]["retryable"] is True
    assert "connects too often" in told[2][0]["message"]
    assert looked == []
    assert world.server.statistics().refused == {"rate": 1}
    admin = await (await world.dial()).hello()
    await admin.stream.aclose()


async def test_the_one_idle_longest_goes_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with trio.fail_after(20):
        async with open_control_world(tmp_path, most_of_a_master=3) as world:
            plugin = await world.plugin()
            subscribed, waiting, idle = [await (await world.dial()).hello() for _ in range(3)]
            await subscribed.call("events.subscribe")
            asked = await waiting.ask("plugins.wait", plugin=plugin.key, phase="running")
            newest = await (await world.dial()).hello()
            [told] = await idle.rest()
            assert told[2][0]["name"] == "RESOURCE_EXHAUSTED"
            assert "others needed its place" in told[2][0]["message"]
            assert world.server.statistics().shed == 1
            await newest.call("plugins.enable", plugin=plugin.key)
            assert (await waiting.answer(asked))[1]["phase"] == "running"
            assert (await subscribed.event())["event"]["type"] == "plugin.status_changed"
            for wire in (subscribed, waiting, idle, newest):
                await wire.stream.aclose()


async def test_where_all_are_busy_even_a_master_is_refused(tmp_path: Path) -> None:
    with trio.fail_after(20):
        async with open_control_world(tmp_path, most_of_a_master=2) as world:
            busy = [await (await world.dial()).hello() for _ in range(2)]
            for wire in busy:
                await wire.call("events.subscribe")
            late = await world.dial()
            [told] = await late.rest()
            assert told[2][0]["name"] == "RESOURCE_EXHAUSTED"
            assert world.server.statistics().refused == {"uid": 1}
            for wire in (*busy, late):
                await wire.stream.aclose()


async def test_who_cannot_be_identified_keeps_nobody_out(
    world: ControlWorld, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: server.Gate, sock: object) -> Caller:
        raise RuntimeError("unthought of")

    with monkeypatch.context() as patched:
        patched.setattr(server.Gate, "identify", fails)
        unknown = await world.dial()
        assert await unknown.rest() == []
        await unknown.stream.aclose()
    known = await (await world.dial()).hello()
    assert (await wire.call("daemon.ping"))["pong"] is True
    await known.stream.aclose()
