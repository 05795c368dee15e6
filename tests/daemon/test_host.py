"""What a worker may emit: nothing that could not be sent on to every subscriber."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from supervisor.core.errors import InvalidParams
from supervisor.daemon.host import StoreHost
from supervisor.store.processes import ProcessBook
from supervisor.store.state import StateStore
from supervisor.wire import worker
from supervisor.wire.codec import encode
from supervisor.wire.limits import SERVER
from supervisor.wire.message import Notification, Response
from tests.fakes import LifecycleWorld, open_lifecycle_world


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


def host_of(world: LifecycleWorld) -> StoreHost:
    return StoreHost(world.registry, StateStore(world.database), ProcessBook(world.database))


@pytest.mark.parametrize("payload", [None, {"count": 3}, nested(12), "x" * 65_000])
async def test_what_is_emitted_can_be_sent_on(tmp_path: Path, payload: Any) -> None:
    async with open_lifecycle_world(tmp_path / "host.db") as world:
        plugin = await world.registry.install(
            world.packages.manifest_of("acme.one"), package_dir="x", approved=frozenset(), uid=0
        )
        answer = await host_of(world).serve(plugin, worker.EventsEmit(name="beat", payload=payload))
        event = world.events[-1]
        assert answer == {"seq": event.seq}
        assert (event.type, event.data) == ("emitted.beat", {"name": "beat", "payload": payload})
        for message in (
            Notification("rpc.event", [{"subscription": 1, "event": event.to_wire()}]),
            Response(1, None, {"events": [event.to_wire()] * 10, "last_seq": 1}),
        ):
            encode(message, max_bytes=SERVER.max_frame_out_bytes, max_depth=SERVER.max_depth)


@pytest.mark.parametrize(
    ("name", "payload", "told"),
    [
        ("beat", nested(13), "nested deeper than 12"),
        ("beat", "x" * 66_000, "longer than the limit"),
        ("be at", None, "letters"),
        ("", None, "letters"),
        ("x" * 101, None, "letters"),
    ],
)
async def test_what_could_not_is_refused(tmp_path: Path, name: str, payload: Any, told: str) -> None:
    async with open_lifecycle_world(tmp_path / "host.db") as world:
        plugin = await world.registry.install(
            world.packages.manifest_of("acme.one"), package_dir="x", approved=frozenset(), uid=0
        )
        world.events.clear()
        with pytest.raises(InvalidParams, match=told):
            await host_of(world).serve(plugin, worker.EventsEmit(name=name, payload=payload))
        assert world.events == []
