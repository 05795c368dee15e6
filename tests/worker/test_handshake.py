"""What a worker is told at the handshake, and what becomes of a configuration that it takes or refuses."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from supervisor.channel import Channel
from supervisor.core.errors import FailedPrecondition, InvalidParams, SupervisorError
from supervisor.core.plugin import Plugin, PluginId
from supervisor.core.secrets import MASK
from supervisor.wire.limits import WORKER
from supervisor.wire.message import Request
from supervisor.worker.crash import Crash, Reason
from supervisor.worker.discretion import Discretion
from supervisor.worker.handshake import shake_hands
from supervisor.worker.host import GivenConfig
from tests.worker.fakes import HANDSHAKE, FakeHost, make_plugin

GIVEN = GivenConfig(config={"token": "s3cret"}, secrets=frozenset({"s3cret"}), revision=3, is_new=True)


class Host(FakeHost):
    def __init__(self, given: GivenConfig | SupervisorError) -> None:
        super().__init__()
        self.given = given
        self.taken: list[int] = []

    async def config(self, plugin: Plugin) -> GivenConfig:
        if isinstance(self.given, SupervisorError):
            raise self.given
        return self.given

    async def config_taken(self, plugin_id: PluginId, revision: int) -> None:
        self.taken.append(revision)


async def shaken(host: Host, answer: Any) -> tuple[Crash | None, list[Request]]:
    heard: list[Request] = []

    async def serve(request: Request) -> Any:
        heard.append(request)
        await trio.lowlevel.checkpoint()
        if isinstance(answer, Exception):
            raise answer
        return answer

    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        far = Channel(theirs, WORKER, on_request=serve, on_unexpected=lambda *_: "")
        near = Channel(ours, WORKER, on_unexpected=lambda *_: "")
        await nursery.start(far.run)
        await nursery.start(near.run)
        crash = await shake_hands(near, make_plugin(), host, Discretion(), data_dir="/d")
        nursery.cancel_scope.cancel()
    return crash, heard


async def test_a_new_configuration_that_is_taken_is_noted(autojump_clock: Any) -> None:
    host = Host(GIVEN)
    crash, [request] = await shaken(host, HANDSHAKE)
    assert (crash, host.taken) == (None, [3])
    assert isinstance(request.params, list)
    assert request.params[0]["config"] == {"token": "s3cret"}


async def test_one_that_was_taken_before_is_not_noted_again(autojump_clock: Any) -> None:
    host = Host(GivenConfig(config={}, revision=3))
    assert (await shaken(host, HANDSHAKE))[0] is None
    assert host.taken == []


@pytest.mark.parametrize("answer", [{"api_version": 9}, "rubbish", InvalidParams("no")])
async def test_one_that_is_not_taken_is_not_noted(autojump_clock: Any, answer: Any) -> None:
    host = Host(GIVEN)
    assert (await shaken(host, answer))[0] is not None
    assert host.taken == []


@pytest.mark.parametrize("before", [0, 9_995])
async def test_a_refusal_says_no_secret_nor_half_of_one(autojump_clock: Any, before: int) -> None:
    crash, _ = await shaken(Host(GIVEN), InvalidParams("x" * before + "s3cret is wrong"))
    assert crash is not None
    assert crash.reason is Reason.HANDSHAKE_REFUSED
    assert "s3" not in crash.cause
    assert before or crash.cause == f"refused initialize: INVALID_PARAMS: {MASK} is wrong"


async def test_what_cannot_be_read_is_why_it_does_not_start(autojump_clock: Any) -> None:
    host = Host(FailedPrecondition("token: $file:/run/token: No such file or directory"))
    crash, heard = await shaken(host, HANDSHAKE)
    assert crash is not None
    assert (crash.reason, heard) == (Reason.CANNOT_START, [])
    assert crash.cause == (
        "was not started: its configuration cannot be given to it: token: $file:/run/token: No such file or directory"
    )
