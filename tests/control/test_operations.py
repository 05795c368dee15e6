"""Installs over the socket: progress, cancel before and after the commit point, gone callers, the daemon's stop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from supervisor.lifecycle.operation import Operation
from supervisor.lifecycle.sources import Source
from supervisor.lifecycle.staging import Look, Staged
from tests.control.world import ControlWorld, Wire, open_control_world


class Fetch:
    """Takes the place of the package store's staging: a phase that lasts until `go_on`."""

    def __init__(self, world: ControlWorld) -> None:
        self._packages = world.lifecycle_world.packages
        self._staged = self._packages.staged
        self._packages.staged = self.staged  # type: ignore[method-assign]
        self.begun, self.go_on = trio.Event(), trio.Event()
        self.stored, self.store = trio.Event(), trio.Event()
        self.store.set()
        self._commit = self._packages.commit
        self._packages.commit = self.commit  # type: ignore[method-assign]

    @asynccontextmanager
    async def staged(self, source: Source, operation: Operation, look: Look) -> AsyncIterator[Staged]:
        with operation.phase("fetch"):
            operation.report(done=1, total=2)
            operation.report(line="Collecting acme")
            self.begun.set()
            await self.go_on.wait()
        async with self._staged(source, operation, look) as staged:
            yield staged

    async def commit(self, staged: Staged) -> Any:
        package = await self._commit(staged)
        self.stored.set()
        await self.store.wait()
        return package


@pytest.fixture
def fetch(world: ControlWorld) -> Fetch:
    return Fetch(world)


@pytest.fixture
def source(tmp_path: Path) -> str:
    (tmp_path / "acme.new").mkdir()
    return str(tmp_path / "acme.new")


async def dial(world: ControlWorld, stack: AsyncExitStack) -> Wire:
    wire = await world.dial()
    await stack.enter_async_context(wire.stream)
    return await wire.hello()


def keys(world: ControlWorld) -> list[str]:
    return [plugin.key for plugin in world.lifecycle_world.registry.all()]


async def progress(wire: Wire, id_: int) -> tuple[list[dict[str, Any]], Any]:
    """What was told of request `id_`, and its answer."""
    told = []
    while (message := await wire.message())[:2] != [1, id_]:
        assert message[:2] == [2, "rpc.progress"]
        assert message[2][0].pop("request") == id_
        told.append(message[2][0])
    return told, message


async def test_progress_comes_before_the_answer(wire: Wire, fetch: Fetch, source: str) -> None:
    id_ = await wire.ask("plugins.install", source=source, **{"$progress": True})
    await fetch.begun.wait()
    fetch.go_on.set()
    told, (_, _, error, result) = await progress(wire, id_)
    assert (error, result["key"]) == (None, "acme.new")
    assert told[:2] == [{"phase": "fetch", "done": 1, "total": 2}, {"phase": "fetch", "line": "Collecting acme"}]
    assert "unpack" in [each["phase"] for each in told]


async def test_who_has_not_asked_for_it_hears_nothing(wire: Wire, fetch: Fetch, source: str) -> None:
    fetch.go_on.set()
    id_ = await wire.ask("plugins.install", source=source)
    assert (await wire.message())[:2] == [1, id_]


async def test_cancel_before_the_commit_point(world: ControlWorld, wire: Wire, fetch: Fetch, source: str) -> None:
    id_ = await wire.ask("plugins.install", source=source)
    await fetch.begun.wait()
    await wire.send([2, "rpc.cancel", [id_]], [2, "rpc.cancel", [id_]])
    error, _ = await wire.answer(id_)
    assert (error["name"], error["data"]) == ("CANCELLED", {"phase": "fetch"})
    assert "nothing was changed" in error["message"]
    assert keys(world) == []
    # Exactly one answer: the next message is to the next request.
    ping = await wire.ask("daemon.ping")
    assert (await wire.message())[:2] == [1, ping]
    assert await wire.call("plugins.list") == []


async def test_cancel_right_behind_the_request(world: ControlWorld, wire: Wire, fetch: Fetch, source: str) -> None:
    await wire.send([0, 50, "plugins.install", [{"source": source}]], [2, "rpc.cancel", [50]])
    error, _ = await wire.answer(50)
    assert error["name"] == "CANCELLED"
    assert not fetch.begun.is_set()
    assert keys(world) == []


async def test_cancel_after_the_commit_point(world: ControlWorld, wire: Wire, fetch: Fetch, source: str) -> None:
    fetch.go_on.set()
    fetch.store = trio.Event()
    id_ = await wire.ask("plugins.install", source=source)
    await fetch.stored.wait()
    await wire.send([2, "rpc.cancel", [id_]])
    await wire.call("daemon.ping")  # it has been read
    fetch.store.set()
    error, result = await wire.answer(id_)
    assert (error, result["status"]) == (None, "installed")
    assert keys(world) == ["acme.new"]


async def test_a_caller_who_goes_away_aborts_nothing(world: ControlWorld, fetch: Fetch, source: str) -> None:
    wire = await (await world.dial()).hello()
    await wire.ask("plugins.install", source=source, **{"$progress": True})
    await fetch.begun.wait()
    await wire.stream.aclose()
    while world.server.connections:  # noqa: ASYNC110  nobody tells
        await trio.sleep(0.001)
    with world.lifecycle_world.bus.subscribe() as events:
        fetch.go_on.set()
        while (await events.__anext__()).type != "plugin.installed":
            pass
    assert keys(world) == ["acme.new"]


async def test_a_deadline_ends_the_waiting_only(world: ControlWorld, wire: Wire, fetch: Fetch, source: str) -> None:
    id_ = await wire.ask("plugins.install", source=source, **{"$progress": True, "$deadline_ms": 100})
    _, (_, _, error, _) = await progress(wire, id_)
    assert error["name"] == "DEADLINE_EXCEEDED"
    fetch.go_on.set()
    # Nothing more is told of it.
    while keys(world) == []:
        ping = await wire.ask("daemon.ping")
        assert (await wire.message())[:2] == [1, ping]


@pytest.fixture
def audit(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []

    class Recorder:
        def info(self, event: str, **fields: Any) -> None:
            if event == "request.changed":
                lines.append(fields)

    monkeypatch.setattr("supervisor.control.audit.get_logger", Recorder)
    return lines


async def test_the_audit_line_of_a_cancelled_one_says_so(
    wire: Wire, fetch: Fetch, source: str, audit: list[dict[str, Any]]
) -> None:
    id_ = await wire.ask("plugins.install", source=source)
    await fetch.begun.wait()
    await wire.send([2, "rpc.cancel", [id_]])
    await wire.answer(id_)
    assert [(line["method"], line["target"], line["result"], line["aborted"]) for line in audit] == [
        ("plugins.install", source, "CANCELLED", True)
    ]


async def test_the_stop_of_the_daemon_waits_for_no_fetch(tmp_path: Path, source: str) -> None:
    asked: dict[str, Any] = {"source": source, "$request_id": "r-1"}
    async with AsyncExitStack() as stack:
        stack.enter_context(trio.fail_after(5))
        async with open_control_world(tmp_path) as world:
            fetch = Fetch(world)
            gone, wire = await dial(world, stack), await dial(world, stack)
            await gone.ask("plugins.install", source=source)
            await fetch.begun.wait()
            await gone.stream.aclose()
            id_ = await wire.ask("plugins.install", **asked)
            await wire.call("daemon.ping")
            world.drain()
            error, _ = await wire.answer(id_)
            assert (error["name"], error["retryable"]) == ("UNAVAILABLE", True)
            assert "nothing was changed" in error["message"]
            assert keys(world) == []
        # As soon as it is back the same request is taken up, since it was refused for then only.
        async with open_control_world(tmp_path) as world:
            wire = await dial(world, stack)
            assert (await wire.call("plugins.install", **asked))["key"] == "acme.new"


async def test_what_is_past_its_commit_point_is_finished_at_the_stop(tmp_path: Path, source: str) -> None:
    async with AsyncExitStack() as stack:
        stack.enter_context(trio.fail_after(5))
        async with open_control_world(tmp_path) as world:
            fetch = Fetch(world)
            fetch.go_on.set()
            fetch.store = trio.Event()
            wire = await dial(world, stack)
            id_ = await wire.ask("plugins.install", source=source)
            await fetch.stored.wait()
            world.drain()
            fetch.store.set()
            error, result = await wire.answer(id_)
            assert (error, result["key"]) == (None, "acme.new")


async def test_what_the_end_of_the_drain_cuts_is_in_the_audit_log(
    tmp_path: Path, source: str, audit: list[dict[str, Any]]
) -> None:
    async with AsyncExitStack() as stack:
        stack.enter_context(trio.fail_after(5))
        async with open_control_world(tmp_path) as world:
            fetch = Fetch(world)
            fetch.go_on.set()
            fetch.store = trio.Event()  # and never goes on
            wire = await dial(world, stack)
            await wire.ask("plugins.install", source=source)
            await fetch.stored.wait()
    assert [(line["method"], line["result"]) for line in audit] == [("plugins.install", "cut_short")]
