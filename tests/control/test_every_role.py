"""Every method for every role, by real uids and groups over a real socket; however the rules give the role."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from supervisor.control.access import Gate
from supervisor.control.peers import PluginTree
from supervisor.control.roles import NO_RULES, make_rules
from supervisor.wire.control import REQUESTS, Role
from tests.control.visitors import stranger, visiting
from tests.control.world import ControlWorld, Wire, open_control_world

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to connect as others")

UID, GID, OTHER = 4_001, 4_002, 4_003
WAYS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "user": (str(UID), {"gid": OTHER}),
    "primary group": (f"@{GID}", {"gid": GID}),
    "supplementary group": (f"@{GID}", {"gid": OTHER, "groups": [OTHER, GID]}),
    "everybody": ("*", {"gid": OTHER}),
}
"""How the rules name it -> the entry, and what it is."""


@pytest.fixture
def directory() -> Iterator[Path]:
    """One that others can reach, which those of pytest are not."""
    found = Path(tempfile.mkdtemp(prefix="plugind-roles-"))
    found.chmod(0o711)
    yield found
    shutil.rmtree(found)


@asynccontextmanager
async def connection_of(
    directory: Path, rules: Mapping[Role, list[str]], who: dict[str, Any]
) -> AsyncIterator[tuple[Wire, ControlWorld]]:
    with trio.fail_after(30), stranger() as daemon:
        made = make_rules(rules, lambda _: None, lambda _: None)
        gate = Gate(0, made, PluginTree(daemon, 0, None))
        async with open_control_world(directory, gate=gate) as world:
            world.path.chmod(0o666)
            with visiting(world.path, uid=UID, **who) as visitor:
                stream = trio.SocketStream(trio.socket.from_stdlib_socket(visitor.connection.dup()))
                async with stream:
                    yield Wire(stream), world


async def answers(wire: Wire) -> dict[str, Any]:
    """Method -> the name of the error that it is answered with; None: with a result. Without params."""
    found = {}
    for method in sorted(REQUESTS):
        if method != "rpc.hello":
            error, _ = await wire.answer(await wire.ask(method))
            found[method] = error and error["name"]
    return found


CASES = [
    (None, "user"),
    (Role.OBSERVER, "everybody"),
    (Role.OPERATOR, "primary group"),
    (Role.ADMIN, "supplementary group"),
]


@pytest.mark.parametrize(("role", "way"), CASES, ids=lambda value: str(value))
async def test_every_method(directory: Path, role: Role | None, way: str) -> None:
    entry, who = WAYS[way]
    async with connection_of(directory, {role: [entry]} if role else {}, who) as (wire, _):
        hello = await wire.call("rpc.hello", client="t")
        assert (hello["role"], hello["uid"]) == (role.name.lower() if role else "none", UID)
        found = await answers(wire)
    denied = {method for method, error in found.items() if error == "PERMISSION_DENIED"}
    assert denied == {method for method in found if role is None or role < REQUESTS[method].ROLE}


@pytest.mark.parametrize("role", Role, ids=str)
@pytest.mark.parametrize("way", WAYS)
async def test_every_way_to_a_role(directory: Path, way: str, role: Role) -> None:
    entry, who = WAYS[way]
    async with connection_of(directory, {role: [entry]}, who) as (wire, world):
        gate = world.gate
        assert (await wire.call("rpc.hello", client="t"))["role"] == role.name.lower()
        # Who loses it loses it at once, and the other way round.
        rules, gate.rules = gate.rules, NO_RULES
        assert (await wire.refused("daemon.ping"))["name"] == "PERMISSION_DENIED"
        gate.rules = rules
        assert (await wire.call("daemon.ping"))["pong"]


async def test_who_loses_every_role_hears_no_more(directory: Path) -> None:
    entry, who = WAYS["user"]
    async with connection_of(directory, {Role.OBSERVER: [entry]}, who) as (wire, world):
        await wire.call("rpc.hello", client="t")
        await wire.call("events.subscribe")
        world.gate.rules = make_rules({Role.OPERATOR: [entry]}, lambda _: None, lambda _: None)
        world.server.look_again()
        await world.plugin()
        assert (await wire.event())["event"]["type"] == "plugin.installed"
        world.gate.rules = NO_RULES
        world.server.look_again()
        *_, last = await wire.rest()
        assert (last[1], last[2][0]["name"]) == ("rpc.error", "PERMISSION_DENIED")


@pytest.mark.parametrize("entry", [str(OTHER), f"@{UID}", "4002", "@4004"])
async def test_rules_for_others_give_nothing(directory: Path, entry: str) -> None:
    async with connection_of(directory, {Role.ADMIN: [entry]}, {"gid": GID, "groups": [OTHER]}) as (wire, _):
        assert await wire.refused("daemon.ping") == (
            f"PERMISSION_DENIED: daemon.ping needs the role observer, and uid {UID} has no role here; "
            f"it is given to {entry}"
        )
        hello = await wire.call("rpc.hello", client="t")
        assert hello["role"] == "none"
        error = await wire.refused("plugins.list")
        assert error["data"] == {"uid": UID, "role": "none", "required": "observer", "granted_to": [entry]}
