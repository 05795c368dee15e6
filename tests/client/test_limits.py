"""Time limits hold, whatever the daemon does, or does not; of both clients and their streams."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from client import AsyncClient, Client
from client.backoff import FIRST_S, Backoff
from client.errors import DeadlineExceeded, InvalidParams
from tests.client.either import KINDS, connected
from tests.client.fake_daemon import NEVER, FakeDaemon, Turns

LIMIT_S = 0.1
SOON_S = 3.0
"""Far less than any limit that is not given here."""


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[str]:
    """The socket of a daemon that accepts, and says nothing."""
    path = str(tmp_path / "silent.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(10)
        yield path


def follow(client: Client) -> None:
    with client.events():
        pytest.fail("must not come here")


@pytest.mark.parametrize(
    "ask",
    [
        lambda path: Client(path, timeout_s=LIMIT_S).daemon.ping(),
        lambda path: Client(path, timeout_s=LIMIT_S).plugins.load("a"),
        lambda path: Client(path, timeout_s=LIMIT_S).hello(),
        lambda path: follow(Client(path, timeout_s=LIMIT_S)),
        lambda path: Client(path).within(LIMIT_S).plugins.load("a"),
        lambda path: Client(path).wait_for("a", timeout_s=LIMIT_S),
    ],
)
def test_a_silent_daemon(silent: str, ask: Callable[[str], Any]) -> None:
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        ask(silent)
    assert LIMIT_S <= time.monotonic() - began < SOON_S


@pytest.mark.parametrize(
    ("timeout_s", "ask"),
    [
        (LIMIT_S, lambda client: client.daemon.ping()),
        (LIMIT_S, lambda client: client.plugins.load("a")),
        (LIMIT_S, lambda client: client.hello()),
        (LIMIT_S, lambda client: client.events().__aenter__()),
        (60.0, lambda client: client.wait_for("a", timeout_s=LIMIT_S)),
    ],
)
async def test_a_silent_daemon_on_trio(daemon: FakeDaemon, timeout_s: float, ask: Callable[[AsyncClient], Any]) -> None:
    """It was there, and has come back like that."""
    with trio.fail_after(SOON_S):
        async with AsyncClient.connect(daemon.path, timeout_s=timeout_s) as client:
            daemon.answers["rpc.hello"] = NEVER
            await trio.to_thread.run_sync(daemon.stop)
            await trio.to_thread.run_sync(daemon.start)
            with pytest.raises(DeadlineExceeded):
                await ask(client)


async def test_a_silent_daemon_is_not_connected_to(silent: str) -> None:
    with trio.fail_after(SOON_S), pytest.raises(DeadlineExceeded, match=r"within 0\.1 s"):
        async with AsyncClient.connect(silent, timeout_s=LIMIT_S):
            pytest.fail("must not come here")


async def test_a_subscription_that_is_not_answered_on_trio(daemon: FakeDaemon) -> None:
    daemon.answers["events.subscribe"] = NEVER
    with trio.fail_after(SOON_S), pytest.raises(DeadlineExceeded):
        async with AsyncClient.connect(daemon.path, timeout_s=LIMIT_S) as client, client.events():
            pytest.fail("must not come here")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_wait_is_over_when_it_is_though_the_daemon_hangs(daemon: FakeDaemon, kind: str) -> None:
    daemon.answers["plugins.wait"] = NEVER
    async with connected(kind, daemon) as ask:
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            await ask(lambda client: client.wait_for("a", timeout_s=LIMIT_S))
        assert LIMIT_S <= time.monotonic() - began < SOON_S


def test_a_stream_whose_credit_is_not_answered(daemon: FakeDaemon) -> None:
    daemon.answers["events.credit"] = NEVER
    with Client(daemon.path).events() as stream:
        for _ in range(300):
            daemon.emit()
        assert [stream.receive(SOON_S)["seq"] for _ in range(256)] == list(range(1, 257))
        with pytest.raises(DeadlineExceeded):
            stream.receive(LIMIT_S)
    assert daemon.connections == 1  # nobody has waited for that answer


def test_an_error_in_the_answer_to_credit_is_raised(daemon: FakeDaemon) -> None:
    daemon.answers["events.credit"] = InvalidParams("no such credit")
    with Client(daemon.path).events() as stream:
        for _ in range(300):
            daemon.emit()
        with pytest.raises(InvalidParams, match="no such credit"):
            list(stream)


def test_a_stream_outlives_a_daemon_that_comes_back_silent(daemon: FakeDaemon) -> None:
    """The limit of what answers at once is not the one of who waits for an event."""
    hello = daemon.answers["rpc.hello"]
    with Client(daemon.path, timeout_s=LIMIT_S).events() as stream:
        daemon.stop()
        daemon.answers["rpc.hello"] = Turns([NEVER, hello])
        daemon.start()
        daemon.emit()
        assert next(stream)["seq"] == 1


async def test_a_stream_outlives_a_daemon_that_comes_back_silent_on_trio(daemon: FakeDaemon) -> None:
    hello = daemon.answers["rpc.hello"]
    async with AsyncClient.connect(daemon.path, timeout_s=LIMIT_S) as client, client.events() as stream:
        with trio.fail_after(SOON_S):
            await trio.to_thread.run_sync(daemon.stop)
            daemon.answers["rpc.hello"] = Turns([NEVER, hello])
            await trio.to_thread.run_sync(daemon.start)
            daemon.emit()
            assert (await stream.receive())["seq"] == 1


def test_no_number_is_refused_and_infinity_is_no_limit(daemon: FakeDaemon) -> None:
    daemon.emit()
    for_ever, nan = float("inf"), float("nan")
    with Client(daemon.path, timeout_s=for_ever, reconnect_s=for_ever) as client:
        assert client.within(1e12).daemon.ping()["pong"]
        assert client.wait_for("acme.weather", timeout_s=for_ever)
        with client.events(after=0, reconnect_for_s=for_ever) as stream:
            assert stream.receive(1e12)["seq"] == 1
            with pytest.raises(InvalidParams, match="timeout_s is a number of seconds"):
                stream.receive(nan)
        with pytest.raises(InvalidParams, match="reconnect_for_s is a number of seconds"):
            client.events(reconnect_for_s=nan)
    assert "$deadline_ms" not in dict(daemon.requests)["daemon.ping"]


def test_each_loss_of_a_stream_has_a_patience_of_its_own(daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    now, pauses = 1000.0, []
    clock = SimpleNamespace(monotonic=lambda: now, sleep=pauses.append)
    with Client(daemon.path).events(reconnect_for_s=10) as stream:
        monkeypatch.setattr("client.sync_stream.time", clock)
        for seq in range(1, 6):
            daemon.drop_connections()
            daemon.emit()
            assert next(stream)["seq"] == seq
            now += 100
    assert len(pauses) == 5
    assert max(pauses) <= FIRST_S * 1.26


async def test_each_loss_of_a_stream_has_a_patience_of_its_own_on_trio(
    daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    class Noted(Backoff):
        def next_s(self) -> float:
            pauses.append(super().next_s())
            return 0.0

    monkeypatch.setattr("client.async_stream.Backoff", Noted)
    async with AsyncClient.connect(daemon.path) as client, client.events(reconnect_for_s=10) as stream:
        for seq in range(1, 6):
            daemon.drop_connections()
            daemon.emit()
            assert (await stream.receive())["seq"] == seq
            assert stream._lost_at is None
    assert len(pauses) == 5
    assert max(pauses) <= FIRST_S * 1.26


async def test_calls_at_once_make_one_connection_anew(daemon: FakeDaemon) -> None:
    async with AsyncClient.connect(daemon.path) as client:
        daemon.drop_connections()
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(client.plugins.load, "acme.weather")
    assert daemon.connections == 2
