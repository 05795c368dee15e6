"""Channel over a memory stream: calls, answers, deadlines, cancel, and peers that misbehave."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgpack
import pytest
import trio
import trio.testing

from supervisor.channel import Channel, Immediate
from supervisor.core.errors import (
    DeadlineExceeded,
    InternalError,
    InvalidParams,
    NotFound,
    RemoteProtocolError,
    ResourceExhausted,
    SupervisorError,
    Unavailable,
)
from supervisor.wire.budget import Budget, Share
from supervisor.wire.limits import Limits
from supervisor.wire.message import Notification, Request

Clock = trio.testing.MockClock
LIMITS = Limits(max_frame_in_bytes=100_000, max_frame_out_bytes=100_000, max_requests_in=8, max_requests_out=8)


class Service:
    """What both ends of these tests serve."""

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.unexpected: list[str] = []

    def on_request(self, request: Request) -> Any:
        if request.method == "now":
            return Immediate(request.params)
        if request.method == "refuse":
            raise NotFound("not here", plugin="x")
        return self._later(request)

    async def _later(self, request: Request) -> Any:
        match request.method:
            case "echo":
                return request.params
            case "fail":
                raise InvalidParams("bad", param="p")
            case "bug":
                raise ZeroDivisionError("secret")
            case "big":
                return "x" * 200_000
            case "odd":
                return {1: 2}
        try:
            await trio.sleep(request.params[0])
        except trio.Cancelled:
            self.log.append("cancelled")
            raise
        return "slept"

    def on_notification(self, notification: Notification) -> None:
        self.log.append(notification.params)

    def on_unexpected(self, _: Request, error: Exception) -> str:
        self.unexpected.append(repr(error))
        return "L1"

    def channel(self, stream: trio.abc.Stream, limits: Limits = LIMITS, **options: Any) -> Channel:
        return Channel(
            stream,
            limits,
            on_request=self.on_request,
            on_notification=self.on_notification,
            on_unexpected=self.on_unexpected,
            **options,
        )


@asynccontextmanager
async def joined(limits: Limits = LIMITS, **options: Any) -> AsyncIterator[tuple[Channel, Service]]:
    """A channel that asks, and the service at its other end."""
    near, far = trio.testing.memory_stream_pair()
    service = Service()
    caller, server = Service().channel(near), service.channel(far, limits, **options)
    async with trio.open_nursery() as nursery:
        await nursery.start(caller.run)
        await nursery.start(server.run)
        yield caller, service
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def alone(
    limits: Limits = LIMITS,
    **options: Any,
) -> AsyncIterator[tuple[Channel, trio.testing.MemoryStream, list[BaseException | None], Service]]:
    """A channel whose other end is held by hand; how its `run` ended is in the list."""
    near, far = trio.testing.memory_stream_pair()
    service, ends = Service(), []
    channel = service.channel(near, limits, **options)

    async def run(*, task_status: trio.TaskStatus[None]) -> None:
        try:
            await channel.run(task_status=task_status)
        except SupervisorError as error:
            ends.append(error)
            channel.close(error)
        else:
            ends.append(None)
            channel.close(Unavailable("the peer hung up"))

    async with trio.open_nursery() as nursery:
        await nursery.start(run)
        yield channel, far, ends, service
        nursery.cancel_scope.cancel()


async def read_messages(stream: Any, count: int) -> list[Any]:
    unpacker, out = msgpack.Unpacker(), []
    while len(out) < count:
        unpacker.feed(await stream.receive_some())
        out += unpacker
    return out


@pytest.mark.parametrize("method", ["echo", "now"])
async def test_call_and_answer(autojump_clock: Clock, method: str) -> None:
    async with joined() as (caller, _):
        assert await caller.call(method, [1, {"a": b"\0"}], timeout_s=5) == [1, {"a": b"\0"}]


async def test_many_calls_at_once_and_out_of_order(autojump_clock: Clock) -> None:
    async with joined() as (caller, _):
        ended: list[int] = []

        async def call(s: int) -> None:
            await caller.call("sleep", [s], timeout_s=None)
            ended.append(s)

        started = trio.current_time()
        async with trio.open_nursery() as nursery:
            for s in (4, 1, 3, 2):
                nursery.start_soon(call, s)
        assert ended == [1, 2, 3, 4]
        assert trio.current_time() - started == pytest.approx(4)


@pytest.mark.parametrize(
    ("method", "class_", "message", "details"),
    [("refuse", NotFound, "not here", {"plugin": "x"}), ("fail", InvalidParams, "bad", {"param": "p"})],
)
async def test_error_answers(
    autojump_clock: Clock, method: str, class_: type[SupervisorError], message: str, details: Any
) -> None:
    async with joined() as (caller, _):
        with pytest.raises(class_, match=message) as caught:
            await caller.call(method, [], timeout_s=5)
        assert caught.value.details == details


async def test_a_bug_is_told_by_its_log_id_only(autojump_clock: Clock) -> None:
    async with joined() as (caller, service):
        with pytest.raises(InternalError, match="bug failed inside; log id L1") as caught:
            await caller.call("bug", [], timeout_s=5)
        assert "secret" not in caught.value.message
        assert service.unexpected == ["ZeroDivisionError('secret')"]


@pytest.mark.parametrize("method", ["big", "odd"])
async def test_a_result_that_cannot_be_sent(autojump_clock: Clock, method: str) -> None:
    async with joined() as (caller, _):
        with pytest.raises(ResourceExhausted, match=f"the result of {method} cannot be sent"):
            await caller.call(method, [], timeout_s=5)
        assert await caller.call("echo", [], timeout_s=5) == []


async def test_a_deadline_tells_the_peer(autojump_clock: Clock) -> None:
    async with joined() as (caller, service):
        started = trio.current_time()
        with pytest.raises(DeadlineExceeded, match="sleep was not answered within 2 s"):
            await caller.call("sleep", [100], timeout_s=2)
        assert trio.current_time() - started == pytest.approx(2)
        await trio.testing.wait_all_tasks_blocked()
        assert service.log == ["cancelled"]
        assert caller.statistics().unanswered_cancels == 0
        assert await caller.call("echo", [1], timeout_s=1) == [1]


async def test_a_caller_that_goes_away_tells_the_peer(autojump_clock: Clock) -> None:
    async with joined() as (caller, service):
        with trio.move_on_after(1):
            await caller.call("sleep", [100], timeout_s=None)
        await trio.testing.wait_all_tasks_blocked()
        assert service.log == ["cancelled"]


async def test_cancel_of_a_served_request_is_answered(autojump_clock: Clock) -> None:
    async with alone() as (_, far, _, service):
        await far.send_all(msgpack.packb([0, 3, "sleep", [100]]))
        await trio.testing.wait_all_tasks_blocked()
        await far.send_all(msgpack.packb([2, "rpc.cancel", [3]]))
        ((kind, id_, error, _),) = await read_messages(far, 1)
        assert (kind, id_, error["name"]) == (1, 3, "CANCELLED")
        assert service.log == ["cancelled"]


async def test_cancel_right_behind_its_request(autojump_clock: Clock) -> None:
    async with alone() as (_, far, _, _):
        await far.send_all(msgpack.packb([0, 3, "sleep", [100]]) + msgpack.packb([2, "rpc.cancel", [3]]))
        with trio.fail_after(1):
            ((_, id_, error, _),) = await read_messages(far, 1)
        assert (id_, error["name"]) == (3, "CANCELLED")


async def test_notifications_come_in_order(autojump_clock: Clock) -> None:
    async with joined() as (caller, service):
        for n in range(50):
            await caller.notify("n", [n])
        await caller.call("echo", [], timeout_s=5)
        assert service.log == [[n] for n in range(50)]


async def test_close_fails_calls_in_flight_and_later_ones(autojump_clock: Clock) -> None:
    async with alone() as (channel, far, ends, _):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(expect, Unavailable, lambda: channel.call("a", [], timeout_s=None))
            nursery.start_soon(expect, Unavailable, lambda: channel.call("b", [], timeout_s=None))
            await trio.testing.wait_all_tasks_blocked()
            await far.aclose()
        assert ends == [None]
        await expect(Unavailable, lambda: channel.call("c", [], timeout_s=None))
        await expect(Unavailable, lambda: channel.notify("n", []))


async def test_the_peers_requests_end_with_it(autojump_clock: Clock) -> None:
    async with alone() as (_, far, ends, service):
        await far.send_all(msgpack.packb([0, 3, "sleep", [100]]))
        await trio.testing.wait_all_tasks_blocked()
        await far.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert (ends, service.log) == ([None], ["cancelled"])


async def test_an_unfinished_frame(autojump_clock: Clock) -> None:
    async with alone() as (_, far, ends, _):
        started = trio.current_time()
        await far.send_all(msgpack.packb([2, "n", []]) + b"\x9f")
        for _ in range(3):
            await trio.sleep(3)
            await far.send_all(b"\xc0")
        ((kind, method, (error,)),) = await read_messages(far, 1)
        assert (kind, method, error["name"]) == (2, "rpc.error", "PARSE")
        assert trio.current_time() - started == pytest.approx(10)
        assert "unfinished for 10 s" in error["message"]
        await trio.testing.wait_all_tasks_blocked()
        assert isinstance(ends[0], RemoteProtocolError)


@pytest.mark.parametrize("data", [b"\xc1", msgpack.packb({"a": 1}), b"GET / HTTP/1.1\r\n\r\n", b"\xdd\xff\xff\xff\xff"])
async def test_garbage_gets_one_error(autojump_clock: Clock, data: bytes) -> None:
    async with alone() as (_, far, ends, _):
        await far.send_all(data)
        ((kind, method, (error,)),) = await read_messages(far, 1)
        assert (kind, method, error["name"]) == (2, "rpc.error", "PARSE")
        await trio.testing.wait_all_tasks_blocked()
        assert isinstance(ends[0], RemoteProtocolError)


async def test_one_request_too_many_is_refused_and_the_rest_go_on(autojump_clock: Clock) -> None:
    async with alone() as (_, far, _, _):
        for id_ in range(9):
            await far.send_all(msgpack.packb([0, id_, "sleep", [5]]))
        answers = await read_messages(far, 9)
        assert [(a[1], a[2]["name"]) for a in answers if a[2]] == [(8, "RESOURCE_EXHAUSTED")]
        assert sorted(a[1] for a in answers if a[3] == "slept") == list(range(8))


class Stuck:
    """A stream that takes nothing."""

    async def send_all(self, _: bytes) -> None:
        await trio.sleep_forever()

    async def receive_some(self, _: int | None = None) -> bytes:
        await trio.sleep_forever()
        return b""

    async def wait_send_all_might_not_block(self) -> None:
        await trio.sleep_forever()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def test_a_peer_that_does_not_read(autojump_clock: Clock) -> None:
    channel = Service().channel(Stuck(), write_timeout_s=7)  # type: ignore[arg-type]
    started = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect, Unavailable, channel.run)
        await channel.notify("n", [])
    assert trio.current_time() - started == pytest.approx(7)


async def test_who_waits_for_room_is_let_go_when_it_is_closed(autojump_clock: Clock) -> None:
    limits = Limits(max_frame_in_bytes=100, max_frame_out_bytes=4 << 20)
    channel = Service().channel(Stuck(), limits, write_timeout_s=7)  # type: ignore[arg-type]

    async def run() -> None:
        await expect(Unavailable, channel.run)
        channel.close(Unavailable("stuck"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await channel.notify("n", [b"x" * 10])
        await trio.testing.wait_all_tasks_blocked()
        await channel.notify("n", [b"x" * (2 << 20)])
        nursery.start_soon(expect, Unavailable, lambda: channel.call("m", [], timeout_s=None))
        nursery.start_soon(expect, Unavailable, lambda: channel.notify("n", []))
    assert channel.statistics().requests_out == 0


async def test_answers_that_wait_to_be_sent_count_in_the_share(autojump_clock: Clock) -> None:
    far, near = trio.testing.lockstep_stream_pair()
    budget = Budget(10 << 20, 11 << 19)
    limits = Limits(max_frame_in_bytes=1000, max_frame_out_bytes=2 << 20, max_requests_in=64)

    async def later(request: Request) -> str:
        await trio.sleep(request.id)
        if request.method == "fail":
            raise NotFound("no", why="y" * (1 << 20))
        return "x" * request.params[0]

    channel = Channel(near, limits, on_request=later, on_unexpected=lambda *_: "", share=Share(budget, 1))
    async with trio.open_nursery() as nursery:
        await nursery.start(channel.run)
        for id_ in range(19):
            await far.send_all(msgpack.packb([0, id_, *(("fail", []) if id_ == 1 else ("m", [1 << 20]))]))
        await far.send_all(msgpack.packb([0, 19, "m", [3 << 20]]))
        await trio.sleep(30)
        assert 5 << 20 < budget.held_bytes < 11 << 19, "no more than it may"
        assert channel.statistics().requests_in == 19
        answers = {message[1]: message[2] for message in await read_messages(far, 20)}
        refused = {id_ for id_, error in answers.items() if error and error["name"] == "RESOURCE_EXHAUSTED"}
        assert refused == set(range(5, 20)), "what came first had room"
        assert answers[1]["name"] == "NOT_FOUND"
        assert answers[2] is None
        await trio.testing.wait_all_tasks_blocked()
        assert budget.held_bytes == 0
        await far.send_all(msgpack.packb([0, 0, "m", [1 << 20]]))
        assert (await read_messages(far, 1))[0][2] is None
        nursery.cancel_scope.cancel()


async def test_both_directions_break_at_once(autojump_clock: Clock) -> None:
    class Broken(Stuck):
        async def send_all(self, _: bytes) -> None:
            await trio.sleep(1)
            raise trio.BrokenResourceError("send")

        async def receive_some(self, _: int | None = None) -> bytes:
            await trio.sleep(1)
            raise trio.BrokenResourceError("receive")

    channel = Service().channel(Broken())  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect, Unavailable, channel.run)
        await channel.notify("n", [])


async def test_strings_before_hello_maps_after(autojump_clock: Clock) -> None:
    async with alone(plain_errors=True) as (channel, far, _, _):
        await far.send_all(msgpack.packb([0, 1, "refuse", []]))
        assert (await read_messages(far, 1))[0][2] == "NOT_FOUND: not here"
        channel.speak_maps()
        await far.send_all(msgpack.packb([0, 2, "refuse", []]))
        assert (await read_messages(far, 1))[0][2]["code"] == 7


async def expect(class_: type[SupervisorError], work: Callable[[], Any]) -> None:
    with pytest.raises(class_):
        await work()
