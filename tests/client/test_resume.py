"""Reads go on by themselves over lost connections and restarts of the daemon; of both clients."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import trio

from client import Client
from client.calling import Contact
from client.errors import (
    ConnectionLost,
    DaemonNotRunning,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    SupervisorError,
    Unavailable,
)
from supervisor.wire.limits import SERVER
from supervisor.wire.message import Failure
from supervisor.wire.peer import Peer
from tests.client.either import KINDS, connected, eventually
from tests.client.fake_daemon import HANG_UP, FakeDaemon, Turns
from tests.client.samples import plugin

pytestmark = pytest.mark.parametrize("kind", KINDS)


async def test_a_read_is_asked_again_until_it_is_answered(daemon: FakeDaemon, kind: str) -> None:
    daemon.answers["plugins.list"] = Turns([HANG_UP, HANG_UP, HANG_UP, [plugin()]])
    async with connected(kind, daemon) as ask:
        assert await ask(lambda client: client.plugins.list()) == [plugin()]
    assert len(daemon.asked("plugins.list")) == 4


async def test_a_read_waits_for_a_daemon_that_is_being_restarted(daemon: FakeDaemon, kind: str) -> None:
    async with connected(kind, daemon) as ask, trio.open_nursery() as nursery:
        await trio.to_thread.run_sync(daemon.stop)

        async def come_back() -> None:
            await trio.sleep(0.2)
            await trio.to_thread.run_sync(daemon.start)

        nursery.start_soon(come_back)
        assert await ask(lambda client: client.plugins.list()) == [plugin()]
    assert daemon.connections == 2


async def test_a_stopping_daemon_is_asked_again(daemon: FakeDaemon, kind: str) -> None:
    stopping = Unavailable("the daemon is stopping", stopping=True)
    daemon.answers["plugins.wait"] = Turns([stopping, HANG_UP, plugin()])
    daemon.answers["plugins.health"] = Turns([Unavailable("its worker is not running")])
    async with connected(kind, daemon) as ask:
        assert await ask(lambda client: client.plugins.wait("a", phase="running")) == plugin()
        with pytest.raises(Unavailable, match="its worker"):
            await ask(lambda client: client.plugins.health("a"))


async def test_a_daemon_that_stays_away_is_said_to_be_so_in_time(daemon: FakeDaemon, kind: str) -> None:
    async with connected(kind, daemon, reconnect_s=0.2) as ask:
        await trio.to_thread.run_sync(daemon.stop)
        began = time.monotonic()
        with pytest.raises(DaemonNotRunning, match="systemctl start plugind"):
            await ask(lambda client: client.daemon.ping())
        assert time.monotonic() - began >= 0.15
        with pytest.raises(DaemonNotRunning):
            await ask(lambda client: client.daemon.ping())  # at once: its time is over


async def test_a_daemon_that_hangs_up_each_time_is_given_up(daemon: FakeDaemon, kind: str) -> None:
    daemon.answers["plugins.list"] = HANG_UP
    async with connected(kind, daemon, reconnect_s=0.3) as ask:
        with pytest.raises(ConnectionLost, match=r"was lost before plugins\.list was answered") as caught:
            await ask(lambda client: client.plugins.list())
        assert caught.value.data == {"socket": daemon.path, "method": "plugins.list"}
    assert 3 <= len(daemon.asked("plugins.list")) <= 6


async def test_a_change_is_not_held_back_until_the_daemon_is_there(daemon: FakeDaemon, kind: str) -> None:
    async with connected(kind, daemon, reconnect_s=60.0) as ask:
        await trio.to_thread.run_sync(daemon.stop)
        with pytest.raises(DaemonNotRunning):
            await ask(lambda client: client.plugins.load("a"))
        await trio.to_thread.run_sync(daemon.start)
        assert await ask(lambda client: client.plugins.load("a")) == plugin()
    assert len(daemon.asked("plugins.load")) == 1


async def test_a_connection_that_was_closed_for_want_of_room_is_made_again(daemon: FakeDaemon, kind: str) -> None:
    async with connected(kind, daemon) as ask:
        for _ in range(3):
            await trio.to_thread.run_sync(daemon.shed_connections)
            await trio.to_thread.run_sync(eventually, lambda: daemon.connected == 0)
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert await ask(lambda client: client.plugins.load("a")) == plugin()
    assert len(daemon.asked("plugins.load")) == 3


@pytest.mark.parametrize("refusal", [ResourceExhausted("too many connections"), PermissionDenied("a plugin may not")])
async def test_a_refused_connection_says_why(tmp_path: Path, kind: str, refusal: SupervisorError) -> None:
    """Though it is closed before hello could be said."""
    path = str(tmp_path / "full.sock")
    frame = Peer(SERVER).notify("rpc.error", [Failure.from_error(refusal).to_map()])
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def refuse() -> None:
            for _ in range(20):
                peer, _ = listener.accept()
                with peer:
                    peer.sendall(frame)

        refusing = threading.Thread(target=refuse)
        refusing.start()
        for _ in range(20):
            with pytest.raises(type(refusal), match=refusal.message):
                await _ping(kind, path)
        refusing.join(5)


async def _ping(kind: str, path: str) -> None:
    if kind == "blocking":
        with Client(path) as client:
            await trio.to_thread.run_sync(client.daemon.ping)
        return
    async with connected(kind, FakeDaemon(path)) as ask:
        await ask(lambda client: client.daemon.ping())


@pytest.mark.parametrize("method", ["daemon.ping", "plugins.get"])
async def test_a_daemon_that_answers_is_not_lost(daemon: FakeDaemon, kind: str, method: str) -> None:
    """Whatever became of another call, such as one that had no answer in time."""
    daemon.answers["plugins.get"] = NotFound("no plugin")
    contacts: list[Contact] = []

    def lose(client: Any) -> Any:
        contact = client._pool.contact if kind == "blocking" else client._link.contact
        contact.lost(1.0)
        contacts.append(contact)
        return client.call(method, **({"plugin": "a"} if method == "plugins.get" else {}))

    async with connected(kind, daemon) as ask:
        try:
            await ask(lose)
        except NotFound:
            assert method == "plugins.get"
        assert [contact.lost_at for contact in contacts] == [None]
    assert daemon.connections == 1
