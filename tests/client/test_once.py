"""`once()`: a change is made once, and asked for until its outcome is known; of both clients."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from client.errors import (
    Conflict,
    ConnectionLost,
    DaemonNotRunning,
    FailedPrecondition,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
)
from tests.client.either import KINDS, connected
from tests.client.fake_daemon import HANG_UP, FakeDaemon, Operating, Turns
from tests.client.samples import plugin

pytestmark = pytest.mark.parametrize("kind", KINDS)


def ids(daemon: FakeDaemon, method: str) -> list[str | None]:
    return [params.get("$request_id") for name, params in daemon.requests if name == method]


def still_under_way(params: dict[str, Any]) -> Conflict:
    return Conflict("has begun and not ended", request_id=params["$request_id"])


async def test_a_lost_answer_is_asked_for_again_under_the_same_id(daemon: FakeDaemon, kind: str) -> None:
    daemon.answers["plugins.load"] = Turns([HANG_UP, still_under_way, HANG_UP, still_under_way, plugin()])
    async with connected(kind, daemon) as ask:
        assert await ask(lambda client: client.once().plugins.load("a")) == plugin()
        assert await ask(lambda client: client.plugins.list()) == [plugin()]
    used = ids(daemon, "plugins.load")
    assert len(used) == 5
    assert len(set(used)) == 1
    assert used[0] is not None
    assert ids(daemon, "plugins.list") == [None]


async def test_ids_are_fresh_unless_given_and_only_where_asked_for(daemon: FakeDaemon, kind: str) -> None:
    async with connected(kind, daemon) as ask:
        for _ in range(2):
            await ask(lambda client: client.once().plugins.load("a"))
        await ask(lambda client: client.once("mine").plugins.load("a"))
        await ask(lambda client: client.plugins.load("a"))
        await ask(lambda client: client.once("mine").plugins.call("a", "m"))
        await ask(lambda client: client.once("mine").call("plugins.stop", plugin="a"))
    first, second, given, none = ids(daemon, "plugins.load")
    assert len({first, second, given}) == 3
    assert (given, none) == ("mine", None)
    assert ids(daemon, "plugins.call") == [None]
    assert ids(daemon, "plugins.stop") == ["mine"]


async def test_it_goes_on_over_a_restart(daemon: FakeDaemon, kind: str) -> None:
    daemon.answers["plugins.load"] = Turns([HANG_UP, plugin()])
    async with connected(kind, daemon) as ask, trio.open_nursery() as nursery:

        async def restart() -> None:
            await trio.to_thread.run_sync(daemon.wait_asked, "plugins.load")
            await trio.to_thread.run_sync(daemon.stop)
            await trio.to_thread.run_sync(daemon.start)

        nursery.start_soon(restart)
        assert await ask(lambda client: client.once().plugins.load("a")) == plugin()
    assert len(daemon.asked("plugins.load")) == 2


@pytest.mark.parametrize("answer", [FailedPrecondition("cut short", request_id="mine"), NotFound("no plugin")])
async def test_what_was_answered_is_raised(daemon: FakeDaemon, kind: str, answer: Exception) -> None:
    daemon.answers["plugins.load"] = Turns([HANG_UP, answer])
    async with connected(kind, daemon) as ask:
        with pytest.raises(type(answer), match=str(answer)):
            await ask(lambda client: client.once("mine").plugins.load("a"))


async def test_a_daemon_that_stays_away_leaves_the_id_to_ask_again(daemon: FakeDaemon, kind: str) -> None:
    daemon.answers["plugins.load"] = Turns([HANG_UP, plugin()])
    async with connected(kind, daemon, reconnect_s=0.3) as ask, trio.open_nursery() as nursery:

        async def stop() -> None:
            await trio.to_thread.run_sync(daemon.wait_asked, "plugins.load")
            await trio.to_thread.run_sync(daemon.stop)

        nursery.start_soon(stop)
        with pytest.raises(ConnectionLost, match=r"ask again under the same id: once\('mine'\)") as caught:
            await ask(lambda client: client.once("mine").plugins.load("a"))
        assert caught.value.data == {"socket": daemon.path, "method": "plugins.load", "request_id": "mine"}
        with pytest.raises(DaemonNotRunning):
            await ask(lambda client: client.once().plugins.load("a"))
        await trio.to_thread.run_sync(daemon.start)
        assert await ask(lambda client: client.once("mine").plugins.load("a")) == plugin()
    assert ids(daemon, "plugins.load") == ["mine", "mine"]


async def test_an_install_tells_its_progress_at_each_try(daemon: FakeDaemon, kind: str) -> None:
    heard: list[Any] = []
    told = [{"phase": "fetch", "done": 1, "total": 2}]
    daemon.answers["plugins.install"] = Turns([HANG_UP, still_under_way, Operating(told, plugin())])
    async with connected(kind, daemon) as ask:
        assert await ask(lambda client: client.once().plugins.install("/w", on_progress=heard.append)) == plugin()
    assert [progress["phase"] for progress in heard] == ["fetch"]
    assert len(set(ids(daemon, "plugins.install"))) == 1


@pytest.mark.parametrize("refusal", [ResourceExhausted("too many connections"), PermissionDenied("not any more")])
async def test_a_connection_refused_after_a_lost_answer_leaves_the_outcome_unknown(
    daemon: FakeDaemon, kind: str, refusal: Exception
) -> None:
    hello = daemon.answers["rpc.hello"]
    daemon.answers["plugins.load"] = Turns([HANG_UP, plugin()])
    daemon.answers["rpc.hello"] = Turns([hello, refusal, refusal, hello])
    async with connected(kind, daemon) as ask:
        if isinstance(refusal, ResourceExhausted):
            # It may pass: waited out.
            assert await ask(lambda client: client.once("mine").plugins.load("a")) == plugin()
            return
        with pytest.raises(ConnectionLost, match=r"not any more.*once\('mine'\)") as caught:
            await ask(lambda client: client.once("mine").plugins.load("a"))
        assert caught.value.data["request_id"] == "mine"
