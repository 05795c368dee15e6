"""AsyncClient against a fake daemon; what is pure is tested with the blocking client."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import trio

from client import AsyncClient
from client.errors import (
    ConnectionLost,
    DaemonNotRunning,
    DeadlineExceeded,
    LocalProtocolError,
    NotFound,
    Unavailable,
)
from client.sync_stream import BACK, LOST
from supervisor.core.errors import CLASSES
from tests.client.fake_daemon import HANG_UP, NEVER, FakeDaemon, Turns
from tests.client.samples import line, plugin


async def test_typed_methods_answer_and_hello_is_said_first(daemon: FakeDaemon) -> None:
    async with AsyncClient.connect(daemon.path) as client:
        assert (await client.plugins.list())[0]["key"] == "acme.weather"
        assert (await client.call("jobs.get", job="acme.weather/refresh"))["key"] == "refresh"
        assert (await client.hello())["role"] == "admin"
        assert (await client.describe())["protocol"] == 1
    assert [method for method, _ in daemon.requests] == ["rpc.hello", "plugins.list", "jobs.get", "rpc.describe"]


@pytest.mark.parametrize("code", CLASSES)
async def test_errors_by_class_with_their_details_unwrapped(daemon: FakeDaemon, code: str) -> None:
    daemon.answers["plugins.load"] = CLASSES[code]("no", a=1)
    with pytest.raises(CLASSES[code]) as caught:
        async with AsyncClient.connect(daemon.path) as client:
            await client.plugins.load("acme.weather")
    assert type(caught.value) is CLASSES[code]
    assert (caught.value.message, caught.value.details) == ("no", {"a": 1})


async def test_a_time_limit_ends_the_call_and_not_the_connection(daemon: FakeDaemon) -> None:
    daemon.answers["plugins.list"] = Turns([NEVER, [plugin()]])
    async with AsyncClient.connect(daemon.path, timeout_s=0.1) as client:
        with pytest.raises(DeadlineExceeded):
            await client.plugins.list()
        assert await client.plugins.list() == [plugin()]
    assert daemon.connections == 1


async def test_calls_are_in_flight_at_once(daemon: FakeDaemon) -> None:
    daemon.answers["plugins.load"] = NEVER
    async with AsyncClient.connect(daemon.path) as client, trio.open_nursery() as nursery:
        nursery.start_soon(client.plugins.load, "acme.weather")
        with trio.fail_after(5):
            assert (await client.daemon.ping())["pong"]
        nursery.cancel_scope.cancel()


async def test_a_change_is_never_repeated(daemon: FakeDaemon) -> None:
    daemon.answers["plugins.load"] = Turns([HANG_UP, plugin()])
    async with AsyncClient.connect(daemon.path) as client:
        with trio.fail_after(10):
            with pytest.raises(ConnectionLost, match="unknown"):
                await client.plugins.load("acme.weather")
            assert len(daemon.asked("plugins.load")) == 1
            assert await client.plugins.load("acme.weather") == plugin()


async def test_cannot_connect() -> None:
    with pytest.raises(DaemonNotRunning, match="systemctl start plugind"):
        async with AsyncClient.connect("/nonexistent/control.sock"):
            pytest.fail("must not come here")


async def test_wait_for_goes_on_over_a_restart(daemon: FakeDaemon) -> None:
    daemon.answers["plugins.wait"] = Turns([HANG_UP, HANG_UP, HANG_UP, plugin(), NotFound("no plugin")])
    async with AsyncClient.connect(daemon.path) as client:
        with trio.fail_after(10):
            assert await client.wait_for("acme.weather", timeout_s=5) == plugin()
            with pytest.raises(NotFound):
                await client.wait_for("acme.weather")


async def test_a_stream_resumes_without_gap_or_double(daemon: FakeDaemon) -> None:
    seen = []
    daemon.emit()
    async with AsyncClient.connect(daemon.path) as client, client.events() as stream:
        with trio.fail_after(20):
            daemon.drop_connections()
            daemon.emit()
            for i in range(6):
                daemon.emit()
                seen.append((await stream.receive())["seq"])
                if i % 2:
                    daemon.drop_connections()
                if i == 2:
                    await trio.to_thread.run_sync(daemon.stop)
                    daemon.emit()
                    await trio.to_thread.run_sync(daemon.start)
            async for event in stream:
                seen.append(event["seq"])
                if len(seen) == 8:
                    break
    assert seen == [2, 3, 4, 5, 6, 7, 8, 9]
    assert stream.last_seq == 9


async def test_a_stream_overflows_gets_credit_and_may_be_cancelled(daemon: FakeDaemon) -> None:
    async with AsyncClient.connect(daemon.path) as client, client.events(types=["plugin.*"]) as stream:
        with trio.fail_after(20):
            with trio.move_on_after(0.05):
                await stream.receive()
            for _ in range(700):
                daemon.emit()
            assert [(await stream.receive())["seq"] for _ in range(700)] == list(range(1, 701))
            daemon.end_subscriptions("overflow")
            daemon.emit()
            assert (await stream.receive())["seq"] == 701
    assert daemon.asked("events.credit")


async def test_a_log_resumes_without_gap_or_double(daemon: FakeDaemon) -> None:
    notices: list[str] = []
    daemon.write_log(*(line(f"{n}", time_ms=n) for n in range(10)))
    seen = []
    async with (
        AsyncClient.connect(daemon.path) as client,
        client.logs("acme.weather", since_ms=8, level="info", on_notice=notices.append) as stream,
    ):
        with trio.fail_after(20):
            daemon.drop_connections()
            for n in range(10, 16):
                daemon.write_log(line(f"{n}"))
                seen.append((await stream.receive())["message"])
                if n % 2:
                    daemon.drop_connections()
            await trio.to_thread.run_sync(daemon.stop)
            daemon.write_log(*(line(f"{n}") for n in range(16, 700)))
            await trio.to_thread.run_sync(daemon.start)
            async for told in stream:
                seen.append(told["message"])
                if told["message"] == "699":
                    break
    assert seen == [str(n) for n in range(8, 700)]
    assert set(notices) == {LOST, BACK}
    assert daemon.asked("logs.credit")


async def test_a_stream_gives_up_after_the_time_it_was_given(daemon: FakeDaemon) -> None:
    async with AsyncClient.connect(daemon.path) as client, client.events(reconnect_for_s=0.1) as stream:
        await trio.to_thread.run_sync(daemon.stop)
        with trio.fail_after(10), pytest.raises(Unavailable):
            await stream.receive()


async def test_it_is_not_for_use_over_a_fork(daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    async with AsyncClient.connect(daemon.path) as client:
        monkeypatch.setattr("client.async_link.os", SimpleNamespace(getpid=lambda: 1))
        with pytest.raises(LocalProtocolError, match="this one is a fork: make a client here"):
            await client.daemon.ping()
    assert daemon.asked("daemon.ping") == []
