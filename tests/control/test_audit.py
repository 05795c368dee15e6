"""Every change is in the audit: begun before it is made, ended before it is answered, whatever happens between."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from supervisor.clock import SystemClock
from supervisor.control.access import Caller
from supervisor.control.audit import AuditTrail
from supervisor.control.detached import Detached
from supervisor.control.names import name_of
from supervisor.core.errors import FailedPrecondition, InvalidTransition, ResourceExhausted, SupervisorError
from supervisor.core.lifecycle import Status
from supervisor.store.audit import AuditFilter, AuditLog
from supervisor.store.database import Database
from supervisor.store.requests import RequestLog
from supervisor.wire.control import Role
from supervisor.wire.message import Request
from tests.control.world import ControlWorld, Wire

CALLER = Caller(uid=7, gid=7, pid=8, role=Role.OPERATOR, exe="/usr/bin/x", client="tool 2")


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    with trio.fail_after(20):
        database = await Database.open(tmp_path / "d.db", clock=SystemClock(), publish=lambda _: None)
        yield database
        await database.aclose()


@pytest.fixture
def log(database: Database) -> AuditLog:
    return AuditLog(database)


def request(method: str = "plugins.load", **params: Any) -> Request:
    return Request(1, method, [{"plugin": "acme.one", **params}])


async def entries(log: AuditLog) -> list[tuple[str, str | None]]:
    return [(entry["method"], entry["result"]) for entry in await log.list(AuditFilter())]


async def make(database: Database, log: AuditLog, asked: Request, work: Any) -> Any:
    """Return what it comes to, or the error."""
    async with trio.open_nursery() as nursery:
        try:
            return await Detached(nursery, RequestLog(database), AuditTrail(log)).run(CALLER, asked, work)
        except SupervisorError as error:
            return error


async def test_it_has_begun_before_the_change_and_ended_before_the_answer(database: Database, log: AuditLog) -> None:
    seen = []

    async def work() -> str:
        seen.append(await entries(log))
        return "done"

    async with trio.open_nursery() as nursery:
        detached = Detached(nursery, RequestLog(database), AuditTrail(log))
        for number in range(20):
            # What the change writes itself comes behind what the audit has written.
            assert await detached.run(CALLER, request(f"m{number}"), lambda: after(database, work)) == "done"
            assert (await entries(log))[0] == (f"m{number}", "ok")
            assert seen[-1][0] == (f"m{number}", None)


async def after(database: Database, work: Any) -> Any:
    await database.transact(lambda _: None)
    return await work()


async def test_what_is_told_of_it(database: Database, log: AuditLog) -> None:
    long = "x" * 1000

    async def work() -> None:
        await trio.lowlevel.checkpoint()
        raise InvalidTransition(f"https://me:hunter2@host/ is {long}")

    asked = Request(1, "plugins.install", [{"source": "https://me:hunter2@h/p", "$request_id": "r"}])
    assert isinstance(await make(database, log, asked, work), InvalidTransition)
    [entry] = await log.list(AuditFilter())
    assert 0 <= entry.pop("duration_ms") < 20_000
    assert abs(entry.pop("at_ms") - log.now_ms()) < 60_000
    message = entry.pop("message")
    assert message.startswith("https://***@host/ is xxx")
    assert 500 < len(message) < 550
    assert entry == {
        "seq": 1,
        "uid": 7,
        "pid": 8,
        "exe": "/usr/bin/x",
        "client": "tool 2",
        "role": "operator",
        "method": "plugins.install",
        "target": "https://***@h/p",
        "result": "INVALID_TRANSITION",
        "request_id": "r",
    }


@pytest.mark.parametrize(
    ("asked", "outcome", "target", "message"),
    [
        (
            Request(1, "plugins.install", [{"source": "https://me:word@x/y.whl"}]),
            {"key": "acme.one"},
            "acme.one",
            "from https://***@x/y.whl",
        ),
        (Request(1, "jobs.cancel", [{"run": "4f1c"}]), {"job": "acme.one/beat"}, "acme.one/beat", "from 4f1c"),
        (request(), {"key": "acme.other"}, "acme.one", None),
    ],
)
async def test_what_it_turned_out_to_be_about(
    database: Database, log: AuditLog, asked: Request, outcome: Any, target: str, message: str | None
) -> None:
    async def work() -> Any:
        await trio.lowlevel.checkpoint()
        return outcome

    assert await make(database, log, asked, work) == outcome
    (entry,) = await log.list(AuditFilter(targets=["acme.one"]))
    assert (entry["target"], entry["message"]) == (target, message)


async def test_what_is_asked_again_is_there_once(database: Database, log: AuditLog) -> None:
    async def work() -> None:
        await trio.lowlevel.checkpoint()
        raise FailedPrecondition("never")

    for params in ({}, {}, {"plugin": "acme.two"}):
        assert isinstance(await make(database, log, request(**{"$request_id": "r", **params}), work), SupervisorError)
    # The last one asked for something else under that id: refused, and nothing was begun.
    assert await entries(log) == [("plugins.load", "INVALID_PARAMS"), ("plugins.load", "FAILED_PRECONDITION")]


async def test_what_the_daemons_end_cuts_short_is_found_open(database: Database, log: AuditLog) -> None:
    async with trio.open_nursery() as nursery:
        begun = trio.Event()

        async def work() -> None:
            begun.set()
            await trio.sleep_forever()

        detached = Detached(nursery, RequestLog(database), AuditTrail(log))
        nursery.start_soon(detached.run, CALLER, request(), work)
        await begun.wait()
        nursery.cancel_scope.cancel()
    assert await entries(log) == [("plugins.load", None)]
    assert await log.close_open() == 1
    assert await entries(log) == [("plugins.load", "cut_short")]


async def test_stopping_the_daemon_ends_well_though_nothing_is_waited_for(database: Database, log: AuditLog) -> None:
    async with trio.open_nursery() as nursery:

        async def stop() -> str:
            nursery.cancel_scope.cancel()
            return "ok"

        detached = Detached(nursery, RequestLog(database), AuditTrail(log))
        nursery.start_soon(detached.run, CALLER, request("daemon.stop"), stop)
    assert await entries(log) == [("daemon.stop", "ok")]


@pytest.mark.parametrize("failing", [["begin"], ["end"], ["begin", "end"]], ids="-".join)
async def test_a_full_disk_keeps_no_change_from_being_made(
    database: Database, log: AuditLog, monkeypatch: pytest.MonkeyPatch, failing: list[str]
) -> None:
    warned: list[tuple[str, dict[str, Any]]] = []

    class Recorder:
        def info(self, event: str, **fields: Any) -> None:
            pass

        def warning(self, event: str, **fields: Any) -> None:
            warned.append((event, fields))

    async def full(*_: object) -> None:
        await trio.lowlevel.checkpoint()
        raise ResourceExhausted("the disk is full")

    async def work() -> str:
        await trio.lowlevel.checkpoint()
        return "done"

    monkeypatch.setattr("supervisor.control.audit.get_logger", Recorder)
    for name in failing:
        monkeypatch.setattr(log, name, full)
    assert await make(database, log, request(), work) == "done"
    assert warned == [("audit.not_written", {"method": "plugins.load", "why": "the disk is full"})] * len(failing)
    left = {"begin": [("plugins.load", "ok")], "end": [("plugins.load", None)]}
    assert await entries(log) == (left[failing[0]] if len(failing) == 1 else [])


# Over the socket.


async def listed(wire: Wire, **only: Any) -> list[tuple[str, str | None, str]]:
    return [(e["method"], e["target"], e["result"]) for e in await wire.call("audit.list", **only)]


async def test_who_has_changed_what_is_listed(world: ControlWorld, wire: Wire) -> None:
    plugin = await world.plugin()
    await wire.call("plugins.enable", plugin=plugin.key)
    error = await wire.refused("plugins.load", plugin=plugin.id)
    await wire.refused("plugins.load", plugin="acme.nosuch")
    await wire.call("plugins.list")
    await wire.refused("plugins.call", plugin=plugin.key, method="m")
    assert error["name"] == "INVALID_TRANSITION"
    assert await listed(wire) == [
        ("plugins.load", "acme.nosuch", "NOT_FOUND"),
        ("plugins.load", plugin.id, "INVALID_TRANSITION"),
        ("plugins.enable", plugin.key, "ok"),
    ]
    # By key or by id it is the same plugin.
    for name in (plugin.key, plugin.id):
        assert [result for _, _, result in await listed(wire, target=name)] == ["INVALID_TRANSITION", "ok"]
    assert await listed(wire, target="acme.nosuch", methods=["plugins.*"]) == [
        ("plugins.load", "acme.nosuch", "NOT_FOUND")
    ]
    newest, older = await wire.call("audit.list", limit=2)
    assert await listed(wire, before=older["seq"]) == [("plugins.enable", plugin.key, "ok")]
    assert (newest["uid"], newest["user"]) == (os.getuid(), name_of(os.getuid()))
    assert (newest["pid"], newest["exe"]) == (os.getpid(), os.readlink("/proc/self/exe"))
    assert (newest["role"], newest["client"]) == ("admin", "test")
    assert newest["message"].startswith("there is no plugin")


@pytest.mark.parametrize(
    "params", [{"limit": 0}, {"limit": 1001}, {"methods": ["x"] * 101}, {"methods": ["x" * 201]}], ids=str
)
async def test_what_cannot_be_asked(wire: Wire, params: dict[str, Any]) -> None:
    assert (await wire.refused("audit.list", **params))["name"] == "INVALID_PARAMS"


async def test_what_is_under_way_is_told_as_that(world: ControlWorld, wire: Wire) -> None:
    plugin = await world.plugin(status=Status.READY)
    script = world.lifecycle_world.workers.scripts[plugin.key]
    script.stops_after_s = 0.3
    asked = await wire.ask("plugins.disable", plugin=plugin.key)
    while not (open_ones := await listed(wire, result="under_way")):  # noqa: ASYNC110  it is another task's
        await trio.sleep(0.005)
    assert open_ones == [("plugins.disable", plugin.key, "under_way")]
    assert (await wire.answer(asked))[0] is None
    assert await listed(wire, result="under_way") == []


async def test_what_a_client_calls_itself_is_cut(world: ControlWorld) -> None:
    wire = await world.dial()
    async with wire.stream:
        await wire.call("rpc.hello", client="\x1b[31m\n" + "n" * 200, version="1")
        await wire.refused("plugins.load", plugin="acme.nosuch")
        [entry] = await wire.call("audit.list")
    assert entry["client"] == "[31m" + "n" * 96
