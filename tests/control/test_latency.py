"""What is noted of requests: the method, how it was answered, and for how long the answer was made."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from supervisor.channel import Abortable, Immediate
from supervisor.control.latency import Latency, OnRequest
from supervisor.control.parts import Answer
from supervisor.core.errors import NotFound
from supervisor.wire.message import Request

PING = Request(1, "daemon.ping", [])


async def do(work: Answer | Abortable) -> Any:
    if isinstance(work, Immediate):
        return work.result
    return await (work.work if isinstance(work, Abortable) else work)


def codes(latency: Latency) -> dict[str, dict[str, int]]:
    found = {one.method: one.codes for one in latency.look()}
    assert all(sum(one.codes.values()) == one.took_s.buckets[-1][1] for one in latency.look())
    return found


async def test_answers_at_hand_and_later_ones_are_passed_on_and_counted() -> None:
    latency = Latency()

    async def later() -> str:
        await trio.lowlevel.checkpoint()
        return "later"

    assert await do(latency.timing(lambda _: Immediate("now"))(PING)) == "now"
    assert await do(latency.timing(lambda _: later())(PING)) == "later"
    aborted: list[bool] = []
    answer = latency.timing(lambda _: Abortable(later(), lambda: aborted.append(True)))(PING)
    assert isinstance(answer, Abortable)
    answer.abort()
    assert (await do(answer), aborted) == ("later", [True])
    assert codes(latency) == {"daemon.ping": {"OK": 3}}


def raising(error: Exception) -> OnRequest:
    def on_request(_: Request) -> Answer:
        raise error

    return on_request


def raising_later(error: Exception) -> OnRequest:
    async def fail() -> None:
        await trio.lowlevel.checkpoint()
        raise error

    return lambda _: fail()


@pytest.mark.parametrize("make", [raising, raising_later])
@pytest.mark.parametrize(("error", "code"), [(NotFound("no"), "NOT_FOUND"), (ValueError("a mistake"), "INTERNAL")])
async def test_errors_are_raised_on_and_counted_by_their_name(make: Any, error: Exception, code: str) -> None:
    latency = Latency()
    with pytest.raises(type(error)):
        await do(latency.timing(make(error))(PING))
    assert codes(latency) == {"daemon.ping": {code: 1}}


async def test_who_gives_up_is_counted_as_cancelled(autojump_clock: trio.testing.MockClock) -> None:
    latency = Latency()

    async def wait(_: Request) -> None:
        await trio.sleep_forever()

    with trio.move_on_after(5):
        await do(latency.timing(wait)(PING))
    assert codes(latency) == {"daemon.ping": {"CANCELLED": 1}}


async def test_methods_there_are_not_are_one() -> None:
    latency = Latency()
    for number in range(50):
        await do(latency.timing(lambda _: Immediate(None))(Request(1, f"no.{number}", [])))
    assert codes(latency) == {"unknown": {"OK": 50}}


async def test_the_time_is_that_of_the_answer() -> None:
    latency = Latency()

    async def wait(_: Request) -> None:
        await trio.sleep(0.03)

    with trio.fail_after(5):
        await do(latency.timing(wait)(PING))
    [one] = latency.look()
    assert one.took_s.sum >= 0.03
    assert dict(one.took_s.buckets)[0.025] == 0
