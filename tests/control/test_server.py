"""Who gets in, how many, and what happens to those inside when the daemon stops."""

from __future__ import annotations

import socket
from pathlib import Path

import msgpack
import pytest
import trio

from supervisor.control import server
from supervisor.control.access import Caller
from supervisor.core.lifecycle import Status
from supervisor.wire.control import Role
from tests.control.world import ControlWorld, Wire, open_control_world


def as_user(monkeypatch: pytest.MonkeyPatch, uid: int, role: Role = Role.OBSERVER) -> None:
    """Let everybody who connects from now on be `uid`."""
    monkeypatch.setattr(server.Gate, "identify", lambda self, sock: Caller(1, uid, uid, role))
    monkeypatch.setattr(server.Gate, "renewed", lambda self, caller: caller)


async def turned_away(wire: Wire) -> str:
    async with wire.stream:
        [message] = await wire.rest()
    assert message[:2] == [2, "rpc.error"]
    assert message[2][0]["name"] == "RESOURCE_EXHAUSTED"
    return str(message[2][0]["message"])


async def test_so_many_of_one_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with trio.fail_after(10):
        async with open_control_world(tmp_path, most_of_a_uid=2) as world:
            as_user(monkeypatch, 1000)
            first, second = [await (await world.dial()).hello() for _ in range(2)]
            assert "uid 1000 has 2 connections" in await turned_away(await world.dial())
            as_user(monkeypatch, 1001)
            other = await (await world.dial()).hello()
            as_user(monkeypatch, 0, Role.ADMIN)
            roots = [await (await world.dial()).hello() for _ in range(4)]
            await first.stream.aclose()
            as_user(monkeypatch, 1000)
            while world.server.connections > 6:
                await trio.lowlevel.checkpoint()
            again = await (await world.dial()).hello()
            for wire in (second, other, again, *roots):
                await wire.stream.aclose()


async def test_so_many_in_all_but_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with trio.fail_after(10):
        async with open_control_world(tmp_path, most=2) as world:
            as_user(monkeypatch, 0, Role.ADMIN)
            inside = [await (await world.dial()).hello() for _ in range(3)]
            for uid in (1000, 1001):
                as_user(monkeypatch, uid)
                inside.append(await (await world.dial()).hello())
            as_user(monkeypatch, 1002)
            assert "2 connections are open" in await turned_away(await world.dial())
            for wire in inside:
                await wire.stream.aclose()


async def test_a_connection_that_breaks_breaks_no_other(world: ControlWorld, wire: Wire) -> None:
    for _ in range(20):
        await (await world.dial()).stream.aclose()
    reset = await world.dial()
    await reset.ask("plugins.list")
    await reset.stream.aclose()
    assert (await wire.call("daemon.ping"))["pong"] is True


async def test_drain_answers_what_is_in_flight(world: ControlWorld, wire: Wire) -> None:
    plugin = await world.plugin()
    world.lifecycle_world.workers.script(plugin.key).up_after_s = 0.1
    idle = await (await world.dial()).hello()
    await wire.call("events.subscribe")
    waiting = await wire.ask("plugins.wait", plugin=plugin.key, status="uninstalled")
    enabling = await wire.ask("plugins.enable", plugin=plugin.key)
    await wire.call("daemon.ping")
    world.drain()
    assert (await wire.answer(waiting))[0]["name"] == "UNAVAILABLE"
    assert (await wire.answer(enabling))[1]["phase"] == "running"
    assert [m for m in await wire.rest() if m[0] == 1] == []
    assert await idle.rest() == []
    await idle.stream.aclose()
    with socket.socket(socket.AF_UNIX) as late:
        late.settimeout(0.05)
        late.connect(str(world.path))
        late.sendall(msgpack.packb([0, 1, "daemon.ping", []]))
        with pytest.raises(TimeoutError):
            late.recv(1)


@pytest.mark.parametrize("steps", range(12))
async def test_who_came_in_at_the_last_moment_is_drained_too(tmp_path: Path, steps: int) -> None:
    with trio.fail_after(10):
        async with open_control_world(tmp_path) as world:
            wire = await world.dial()
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            world.drain()
            began = trio.current_time()
        # It was not waited for: the end of the drain is a second away.
        assert trio.current_time() - began < 0.8
        await wire.stream.aclose()


async def test_statuses_are_read_by_anybody_inside(world: ControlWorld, wire: Wire) -> None:
    plugin = await world.plugin(status=Status.READY)
    [seen] = await wire.call("plugins.list", status="ready")
    assert (seen["key"], seen["phase"]) == (plugin.key, "running")
    assert await wire.call("plugins.list", status="error") == []
    allowed = await wire.call("plugins.can_transition", plugin=plugin.key, to="disabled")
    assert allowed == {"allowed": True, "status": "ready", "to": "disabled"}
