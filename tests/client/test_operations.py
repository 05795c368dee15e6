"""Installs and upgrades of both clients: progress as it comes, and what becomes of one that is given up."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from client import protocol
from client.async_client import AsyncClient
from client.errors import ApprovalRequired, CallCancelled, ConnectionLost, DeadlineExceeded, Interrupted
from client.link import Link
from client.sync_client import Client
from tests.client import samples
from tests.client.fake_daemon import HANG_UP, NEVER, FakeDaemon, Operating

PROGRESS = [{"phase": "fetch", "done": i, "total": 3} for i in range(3)] + [{"phase": "environment", "line": "pip"}]
CANCELLED = CallCancelled("cancelled by its caller in phase fetch; nothing was changed", phase="fetch")


def told(heard: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in progress.items() if name != "request"} for progress in heard]


@contextmanager
def interrupt_when_asked(daemon: FakeDaemon, method: str) -> Iterator[None]:
    """Ctrl-C, as soon as the daemon is at it."""

    def interrupt() -> None:
        daemon.wait_asked(method)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        yield
    finally:
        thread.join(5)


def test_progress_in_the_blocking_client(daemon: FakeDaemon) -> None:
    daemon.answers["plugins.install"] = Operating(PROGRESS, samples.plugin())
    heard: list[Any] = []
    with Client(daemon.path) as client:
        assert client.plugins.install("/w", on_progress=heard.append)["key"] == "acme.weather"
        assert told(heard) == PROGRESS
        assert client.plugins.install("/w")["key"] == "acme.weather"
        assert client.daemon.ping()["pong"]
    assert len(heard) == len(PROGRESS)
    assert [params.get("$progress") for name, params in daemon.requests if name == "plugins.install"] == [True, None]


async def test_progress_in_the_trio_client(daemon: FakeDaemon) -> None:
    daemon.answers["plugins.install"] = Operating(PROGRESS, samples.plugin())
    daemon.answers["plugins.upgrade"] = Operating(PROGRESS[:1], samples.plugin(version="2"))
    heard: list[list[Any]] = [[], []]
    async with AsyncClient.connect(daemon.path) as client, trio.open_nursery() as nursery:

        async def install() -> None:
            await client.plugins.install("/w", on_progress=heard[0].append)

        async def upgrade() -> None:
            await client.plugins.upgrade("acme.weather", "/w", on_progress=heard[1].append)

        nursery.start_soon(install)
        nursery.start_soon(upgrade)
    assert [told(each) for each in heard] == [PROGRESS, PROGRESS[:1]]


def test_ctrl_c_tells_the_daemon_and_waits_for_its_answer(daemon: FakeDaemon) -> None:
    daemon.answers["plugins.install"] = Operating([], None, CANCELLED)
    with Client(daemon.path) as client:
        with pytest.raises(Interrupted) as stopped, interrupt_when_asked(daemon, "plugins.install"):
            client.plugins.install("/w")
        assert isinstance(stopped.value.error, CallCancelled)
        assert stopped.value.error.details == {"phase": "fetch"}
        assert client.daemon.ping()["pong"]
    assert daemon.connections == 1
    daemon.wait_asked("rpc.cancel")


def test_ctrl_c_that_comes_too_late(daemon: FakeDaemon) -> None:
    daemon.answers["plugins.upgrade"] = Operating([], None, samples.plugin(version="2"))
    with Client(daemon.path) as client:
        with pytest.raises(Interrupted) as stopped, interrupt_when_asked(daemon, "plugins.upgrade"):
            client.plugins.upgrade("acme.weather", "/w")
        assert (stopped.value.error, stopped.value.result["version"]) == (None, "2")


@pytest.mark.parametrize("seconds", [0.05])
def test_an_answer_that_does_not_come_is_not_waited_for_for_ever(
    daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    monkeypatch.setattr(protocol, "CANCEL_WAIT_S", seconds)
    daemon.answers["plugins.install"] = Operating([], None, NEVER)
    with Client(daemon.path) as client:
        with pytest.raises(Interrupted) as stopped, interrupt_when_asked(daemon, "plugins.install"):
            client.plugins.install("/w")
        assert isinstance(stopped.value.error, DeadlineExceeded)
        assert client.daemon.ping()["pong"]
    assert daemon.connections == 2


@pytest.mark.parametrize("raised", [ValueError("enough"), ApprovalRequired("of my own")])
def test_what_on_progress_raises_cancels_it(daemon: FakeDaemon, raised: Exception) -> None:
    daemon.answers["plugins.install"] = Operating(PROGRESS, None, CANCELLED)

    def refuse(_: Any) -> None:
        raise raised

    with Client(daemon.path) as client:
        with pytest.raises(type(raised), match=str(raised)):
            client.plugins.install("/w", on_progress=refuse)
        daemon.wait_asked("rpc.cancel")
        assert client.daemon.ping()["pong"]
    assert daemon.connections == 1


@pytest.mark.parametrize("raised", [ValueError("enough"), ApprovalRequired("of my own")])
async def test_what_on_progress_raises_cancels_it_on_trio(daemon: FakeDaemon, raised: Exception) -> None:
    daemon.answers["plugins.install"] = Operating(PROGRESS, None, CANCELLED)

    def refuse(_: Any) -> None:
        raise raised

    async with AsyncClient.connect(daemon.path) as client:
        with trio.fail_after(5), pytest.raises(type(raised), match=str(raised)):
            await client.plugins.install("/w", on_progress=refuse)
        daemon.wait_asked("rpc.cancel")
        assert (await client.daemon.ping())["pong"]


async def test_a_cancelled_call_waits_for_the_answer(daemon: FakeDaemon) -> None:
    daemon.answers["plugins.install"] = Operating(PROGRESS[:1], None, CANCELLED)
    async with AsyncClient.connect(daemon.path) as client:
        with trio.fail_after(5), trio.CancelScope() as scope:
            await client.plugins.install("/w", on_progress=lambda _: scope.cancel())
        assert scope.cancelled_caught
        # Not only told: it has answered.
        assert daemon.asked("rpc.cancel") == [{}]
        assert (await client.daemon.ping())["pong"]


async def test_a_cancelled_call_has_not_returned_before_the_answer(daemon: FakeDaemon) -> None:
    release = threading.Event()
    daemon.answers["plugins.install"] = Operating(PROGRESS[:1], None, CANCELLED, release)
    returned = trio.Event()
    async with AsyncClient.connect(daemon.path) as client, trio.open_nursery() as nursery:

        async def install() -> None:
            with trio.CancelScope() as scope:
                await client.plugins.install("/w", on_progress=lambda _: scope.cancel())
            returned.set()

        with trio.fail_after(10):
            nursery.start_soon(install)
            await trio.to_thread.run_sync(daemon.wait_asked, "rpc.cancel")
            await wait_all_tasks_blocked(0.05)
            assert not returned.is_set()
            release.set()
            await returned.wait()


def test_ctrl_c_in_the_middle_of_the_request_says_nothing_more() -> None:
    """Whatever came after half a frame would be taken for its other half."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        link = Link(ours, "/s")
        begun = theirs.dup()

        def interrupt() -> None:
            begun.recv(1, socket.MSG_PEEK)  # it is being sent, and nobody reads it
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with begun, pytest.raises(Interrupted) as stopped:
            link.operate("plugins.install", [{"source": "x" * 1_000_000}], None, None)
        thread.join(5)
        assert isinstance(stopped.value.error, ConnectionLost)
        assert "whether it was carried out is unknown" in stopped.value.error.message
        assert not link.answered
        link.close()
        sent = b"".join(iter(lambda: theirs.recv(1 << 20), b""))
        assert 0 < len(sent) < 1_000_000
        assert b"rpc.cancel" not in sent


async def test_a_cancelled_call_does_not_wait_for_ever(daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "CANCEL_WAIT_S", 0.05)
    daemon.answers["plugins.install"] = Operating(PROGRESS[:1], None, NEVER)
    async with AsyncClient.connect(daemon.path) as client:
        with trio.fail_after(5), trio.CancelScope() as scope:
            await client.plugins.install("/w", on_progress=lambda _: scope.cancel())
        assert scope.cancelled_caught


async def test_a_lost_connection_is_no_cancel_and_is_not_repeated(daemon: FakeDaemon) -> None:
    daemon.answers["plugins.install"] = HANG_UP
    with Client(daemon.path) as client, pytest.raises(ConnectionLost, match="whether it was carried out is unknown"):
        client.plugins.install("/w")
    async with AsyncClient.connect(daemon.path) as other:
        with pytest.raises(ConnectionLost, match="whether it was carried out is unknown"):
            await other.plugins.install("/w")
    assert len(daemon.asked("plugins.install")) == 2
