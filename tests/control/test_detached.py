"""Request ids: what was refused for now may be asked again; one id is for one request."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from supervisor.clock import SystemClock
from supervisor.control.access import Caller
from supervisor.control.audit import AuditTrail
from supervisor.control.detached import Detached
from supervisor.core.errors import (
    Conflict,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidParams,
    PluginCrashed,
    ResourceExhausted,
    SupervisorError,
    Unavailable,
)
from supervisor.store.audit import AuditLog
from supervisor.store.database import Database
from supervisor.store.requests import RequestLog
from supervisor.wire.control import Role
from supervisor.wire.message import Request

CALLER = Caller(uid=0, gid=0, pid=1, role=Role.ADMIN)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = await Database.open(tmp_path / "d.db", clock=SystemClock(), publish=lambda _: None, inline=True)
    yield database
    await database.aclose()


@pytest.fixture
def requests(database: Database) -> RequestLog:
    return RequestLog(database)


@pytest.fixture
async def detached(database: Database, requests: RequestLog) -> AsyncIterator[Detached]:
    async with trio.open_nursery() as nursery:
        yield Detached(nursery, requests, AuditTrail(AuditLog(database)))


class Work:
    """Fails with each of `failures`, then answers with its number."""

    def __init__(self, *failures: SupervisorError) -> None:
        self.failures = list(failures)
        self.times = 0

    async def __call__(self) -> Any:
        await trio.lowlevel.checkpoint()
        self.times += 1
        if self.failures:
            raise self.failures.pop(0)
        return self.times


def request(**params: Any) -> Request:
    return Request(1, "plugins.load", [{"plugin": "acme.one", "$request_id": "r-1", **params}])


async def test_what_was_refused_for_now_is_tried_again(detached: Detached) -> None:
    work = Work(Unavailable("not yet"), ResourceExhausted("full"), Conflict("somebody else is at it"))
    for refusal in (Unavailable, ResourceExhausted, Conflict):
        with pytest.raises(refusal):
            await detached.run(CALLER, request(), work)
    assert await detached.run(CALLER, request(), work) == 4
    assert await detached.run(CALLER, request(), work) == 4
    assert work.times == 4


@pytest.mark.parametrize("kind", [PluginCrashed, DeadlineExceeded])
async def test_what_broke_on_the_way_is_not_made_again(detached: Detached, kind: type[SupervisorError]) -> None:
    work = Work(kind("who knows how far it came"))
    for _ in range(2):
        with pytest.raises(kind, match="how far"):
            await detached.run(CALLER, request(), work)
    assert work.times == 1


async def test_what_was_refused_for_good_is_not(detached: Detached) -> None:
    work = Work(FailedPrecondition("never"))
    for _ in range(2):
        with pytest.raises(FailedPrecondition, match="never"):
            await detached.run(CALLER, request(), work)
    assert work.times == 1


async def test_a_full_disk_that_forgets_nothing(
    detached: Detached, requests: RequestLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object) -> None:
        await trio.lowlevel.checkpoint()
        raise ResourceExhausted("the disk is full")

    monkeypatch.setattr(requests, "forget", full)
    work = Work(Unavailable("not yet"))
    with pytest.raises(Unavailable, match="not yet"):
        await detached.run(CALLER, request(), work)
    assert await detached.run(CALLER, request(), work) == 2
    assert await detached.run(CALLER, request(), work) == 2


async def test_one_id_is_for_one_request(detached: Detached) -> None:
    work = Work()
    first = request(reason=b"\xff", deep={"b": 1, "a": [2.5, None]}, **{"$deadline_ms": 1000})
    again = Request(2, "plugins.load", [dict(reversed(first.params[0].items())) | {"$deadline_ms": 2000}])
    assert await detached.run(CALLER, first, work) == await detached.run(CALLER, again, work) == 1
    for other in ({"plugin": "acme.two"}, {"reason": "ff"}, {"deep": None}):
        changed = Request(3, "plugins.load", [first.params[0] | other])
        with pytest.raises(InvalidParams, match="other params"):
            await detached.run(CALLER, changed, work)
    assert work.times == 1


async def test_what_a_caller_names_is_cut_in_the_log(monkeypatch: pytest.MonkeyPatch, detached: Detached) -> None:
    lines: list[dict[str, Any]] = []

    class Recorder:
        def info(self, event: str, **fields: Any) -> None:
            lines.append(fields)

    monkeypatch.setattr("supervisor.control.audit.get_logger", Recorder)
    await detached.run(CALLER, request(plugin="x" * 900_000), Work())
    assert lines[0]["target"] == f"{'x' * 200}… (900000 characters)"
