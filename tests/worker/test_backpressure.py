"""Channel over memory streams and real sockets: peers that flood, and peers that do not read, cost only themselves."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgpack
import pytest
import trio
import trio.testing

from supervisor.channel import Channel
from supervisor.core.errors import (
    DeadlineExceeded,
    RemoteProtocolError,
    ResourceExhausted,
    SupervisorError,
    Unavailable,
)
from supervisor.wire.limits import CALLS_PER_WORKER, MIB, WORKER, Limits
from supervisor.wire.message import Notification, Request

Clock = trio.testing.MockClock
Pair = Callable[[], tuple[trio.abc.Stream, trio.abc.Stream]]
ROOM = 2 * MIB
"""More than the outbox keeps: who comes after it waits."""


def stuck_pair() -> tuple[trio.abc.Stream, trio.abc.Stream]:
    """As sockets whose buffers are full: nothing is taken until the far end reads."""
    return trio.testing.lockstep_stream_pair()


def socket_pair() -> tuple[trio.abc.Stream, trio.abc.Stream]:
    near, far = socket.socketpair()
    return (
        trio.SocketStream(trio.socket.from_stdlib_socket(near)),
        trio.SocketStream(trio.socket.from_stdlib_socket(far)),
    )


class Gate:
    """Requests are served once `open` is set."""

    def __init__(self) -> None:
        self.open = trio.Event()
        self.held = 0
        self.most_held = 0
        self.heard = 0

    async def serve(self, request: Request) -> Any:
        size = len(request.params[0]) if request.params else 0
        self.held += size
        self.most_held = max(self.most_held, self.held)
        try:
            await self.open.wait()
        finally:
            self.held -= size
        return size

    def hear(self, _: Notification) -> None:
        self.heard += 1


@asynccontextmanager
async def worker_side(
    pair: Pair, gate: Gate, limits: Limits = WORKER
) -> AsyncIterator[tuple[Channel, trio.abc.Stream, list[SupervisorError | None]]]:
    """A channel to a worker whose end is held by hand; how the channel ended is in the list."""
    near, far = pair()
    ends: list[SupervisorError | None] = []
    channel = Channel(
        near,
        limits,
        on_request=gate.serve,
        on_notification=gate.hear,
        on_unexpected=lambda _, error: pytest.fail(repr(error)),
    )

    async def run() -> None:
        error: SupervisorError | None = None
        try:
            await channel.run()
        except SupervisorError as caught:
            error = caught
        ends.append(error)
        channel.close(error or Unavailable("the worker hung up"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        yield channel, far, ends
        nursery.cancel_scope.cancel()
    await channel.aclose()
    await trio.aclose_forcefully(far)


async def outcome(work: Callable[[], Awaitable[Any]]) -> Any:
    try:
        return await work()
    except SupervisorError as error:
        return error


async def read_until(stream: trio.abc.Stream, wanted: Callable[[list[Any]], bool]) -> list[Any]:
    """Messages, until there are those that were wanted."""
    unpacker, found = msgpack.Unpacker(max_buffer_size=2**31), []
    while not wanted(found):
        unpacker.feed(await stream.receive_some())
        found += unpacker
    return found


async def settled() -> None:
    await trio.testing.wait_all_tasks_blocked()


# Requests of the worker.


@pytest.mark.parametrize("pair", [trio.testing.memory_stream_pair, socket_pair])
async def test_a_flood_of_large_requests_is_read_no_further_than_8_mib(pair: Pair) -> None:
    gate = Gate()
    answers: list[Any] = []
    with trio.fail_after(20):
        async with worker_side(pair, gate) as (channel, far, _), trio.open_nursery() as nursery:

            async def flood() -> None:
                for id_ in range(40):
                    await far.send_all(msgpack.packb([0, id_, "state.set", [b"x" * MIB]]))

            async def take() -> None:
                answers.extend(await read_until(far, lambda found: len(found) == 40))

            nursery.start_soon(flood)
            while not channel.statistics().held_back:
                await trio.testing.wait_all_tasks_blocked(0.001)
            await settled()
            now = channel.statistics()
            assert 8 * MIB < now.request_bytes_in < 10 * MIB
            assert (now.requests_in, gate.held) == (8, 8 * MIB)
            nursery.start_soon(take)
            gate.open.set()
    assert sorted(answer[1] for answer in answers) == list(range(40))
    assert all(answer[2:] == [None, MIB] for answer in answers)
    assert gate.most_held <= 9 * MIB


async def test_it_is_read_again_as_soon_as_enough_is_answered(autojump_clock: Clock) -> None:
    gate, limits = Gate(), WORKER._replace(max_request_bytes_in=1000)
    async with worker_side(trio.testing.memory_stream_pair, gate, limits) as (channel, far, _):
        await far.send_all(msgpack.packb([0, 0, "m", [b"x" * 1000]]))
        await settled()
        await far.send_all(msgpack.packb([2, "log", []]))
        await settled()
        assert (channel.statistics().held_back, gate.heard) == (True, 0)
        gate.open.set()
        await settled()
        assert (channel.statistics().held_back, gate.heard) == (False, 1)


async def test_a_frame_that_we_did_not_read_is_not_held_against_the_worker(autojump_clock: Clock) -> None:
    gate, limits = Gate(), WORKER._replace(max_request_bytes_in=1000)
    frame = msgpack.packb([2, "log", []])
    async with worker_side(trio.testing.memory_stream_pair, gate, limits) as (_, far, ends):
        await far.send_all(msgpack.packb([0, 0, "m", [b"x" * 1000]]) + frame[:3])
        await trio.sleep(100)
        gate.open.set()
        await trio.sleep(9.9)
        assert ends == []
        await far.send_all(frame[3:])
        await settled()
        assert (gate.heard, ends) == (1, [])


async def test_small_requests_are_bounded_by_their_number(autojump_clock: Clock) -> None:
    gate = Gate()
    async with worker_side(trio.testing.memory_stream_pair, gate) as (channel, far, _):
        await far.send_all(b"".join(msgpack.packb([0, id_, "m", []]) for id_ in range(1000)))
        await settled()
        assert channel.statistics().requests_in == WORKER.max_requests_in
        answers = await read_until(far, lambda found: len(found) == 1000 - WORKER.max_requests_in)
        assert {answer[2]["name"] for answer in answers} == {"RESOURCE_EXHAUSTED"}


async def test_a_worker_that_asks_and_does_not_read_the_answers_is_not_read_either() -> None:
    """Its refusals fill the outbox, and then its requests stay where they are: memory does not grow."""
    gate, sent = Gate(), 0
    with trio.fail_after(20):
        async with worker_side(socket_pair, gate) as (channel, far, _):
            with trio.move_on_after(1.5):
                while True:
                    frames = b"".join(msgpack.packb([0, sent + n, "m", []]) for n in range(1000))
                    await far.send_all(frames)
                    sent += 1000
            assert channel.statistics().unsent_bytes < 2 * MIB
            assert channel.statistics().stalled_s > 0
            assert sent < 100_000


# Notifications of the worker.


async def test_a_flood_of_notifications_keeps_nobody_waiting() -> None:
    """They are handled in portions: another plugin's call takes its turns between them."""
    flooded, quiet, total = Gate(), Gate(), 200_000
    quiet.open.set()
    waits: list[float] = []
    portion = msgpack.packb([2, "log", []]) * 10_000
    with trio.fail_after(60):
        async with (
            worker_side(socket_pair, flooded) as (_, far, _),
            worker_side(socket_pair, quiet) as (_, asker, _),
            trio.open_nursery() as nursery,
        ):

            async def flood() -> None:
                for _ in range(total // 10_000):
                    await far.send_all(portion)

            nursery.start_soon(flood)
            while flooded.heard < total:
                began = trio.current_time()
                await asker.send_all(msgpack.packb([0, 1, "m", [b"x"]]))
                await read_until(asker, bool)
                waits.append(trio.current_time() - began)
    waits.sort()
    assert len(waits) > 100
    assert waits[len(waits) // 2] < 0.05
    assert waits[-1] < 1


# A worker that does not read.


async def test_its_callers_get_their_deadline_and_nothing_is_cancelled_that_was_not_asked(
    autojump_clock: Clock,
) -> None:
    async with worker_side(stuck_pair, Gate()) as (channel, far, _):
        results: list[Any] = []

        async def call(method: str, size: int, timeout_s: float) -> None:
            results.append(await outcome(lambda: channel.call(method, [b"x" * size], timeout_s=timeout_s)))

        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call, "asked", ROOM, 5)
            await settled()
            nursery.start_soon(call, "waits", 10, 3)
            await settled()
            assert channel.statistics().requests_out == 2
        assert [type(result) for result in results] == [DeadlineExceeded] * 2
        assert "waits was not answered within 3 s" in str(results[0])
        assert trio.current_time() - began == pytest.approx(5)
        now = channel.statistics()
        assert (now.requests_out, now.unanswered_cancels) == (0, 1)
        # Now it reads: what was asked and its cancel, and no trace of who only waited.
        found = await read_until(far, lambda found: len(found) == 2)
        assert [message[:3] for message in found] == [[0, 0, "asked"], [2, "rpc.cancel", [0]]]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call, "later", 10, 3)
            ((_, id_, method, _),) = await read_until(far, bool)
            assert (id_, method) == (1, "later")
            await far.send_all(msgpack.packb([1, 0, None, "late"]) + msgpack.packb([1, 1, None, "there"]))
        assert results[2] == "there"
        assert channel.statistics().unanswered_cancels == 0


async def test_a_caller_without_a_deadline_that_goes_away_while_it_waits_for_room(autojump_clock: Clock) -> None:
    gone: list[str] = []
    async with worker_side(stuck_pair, Gate()) as (channel, far, _):
        await channel.notify("n", [b"x" * ROOM])
        with trio.move_on_after(1):
            await channel.call("m", [], timeout_s=None, on_settled=lambda: gone.append("settled"))
        assert (gone, channel.statistics().requests_out) == (["settled"], 0)
        await read_until(far, bool)
        with trio.move_on_after(1) as silence:
            await far.receive_some()
        assert silence.cancelled_caught


async def test_when_too_many_wait_the_next_is_refused_at_once(autojump_clock: Clock) -> None:
    async with worker_side(stuck_pair, Gate()) as (channel, _, ends):
        results: list[Any] = []

        async def call() -> None:
            results.append(await outcome(lambda: channel.call("m", [], timeout_s=30)))

        async with trio.open_nursery() as nursery:
            await channel.notify("n", [b"x" * ROOM])
            for _ in range(WORKER.max_requests_out):
                nursery.start_soon(call)
            await settled()
            assert channel.statistics().requests_out == CALLS_PER_WORKER + 8
            began = trio.current_time()
            refused = await outcome(lambda: channel.call("m", [], timeout_s=30))
            assert isinstance(refused, ResourceExhausted)
            assert "0 calls are in flight, 72 wait to be sent and 0 are given up" in str(refused)
            assert trio.current_time() == began
        assert {type(result) for result in results} == {DeadlineExceeded}
        assert (channel.statistics().requests_out, ends) == (0, [])


@pytest.mark.parametrize("pair", [stuck_pair, socket_pair])
async def test_what_is_unsent_and_since_when(pair: Pair) -> None:
    with trio.fail_after(20):
        async with worker_side(pair, Gate()) as (channel, far, _):
            assert (channel.statistics().unsent_bytes, channel.statistics().stalled_s) == (0, 0)
            began = trio.current_time()
            await channel.notify("n", [b"x" * ROOM])
            waiting = channel.statistics().unsent_bytes
            assert ROOM / 2 < waiting <= ROOM + 100
            await trio.sleep(0.3)  # Time is what is measured here.
            assert channel.statistics().stalled_s >= 0.29
            assert channel.statistics().stalled_s <= trio.current_time() - began
            stalled_s = channel.statistics().stalled_s
            got = 0
            while got < 512 * 1024:
                got += len(await far.receive_some())
            await settled()
            assert 0 < channel.statistics().unsent_bytes < waiting
            assert channel.statistics().stalled_s < stalled_s
            while got < len(msgpack.packb([2, "n", [b"x" * ROOM]])):
                got += len(await far.receive_some())
            await settled()
            assert (channel.statistics().unsent_bytes, channel.statistics().stalled_s) == (0, 0)


async def test_the_outbox_is_bounded_whatever_is_called(autojump_clock: Clock) -> None:
    async with worker_side(stuck_pair, Gate()) as (channel, _, _), trio.open_nursery() as nursery:
        for _ in range(60):
            nursery.start_soon(outcome, lambda: channel.call("m", [b"x" * MIB], timeout_s=5))
        await settled()
        assert channel.statistics().unsent_bytes <= 2 * MIB
        assert channel.statistics().requests_out == 60


async def test_a_worker_that_does_not_read_affects_only_its_own_callers() -> None:
    deaf, good = Gate(), Gate()
    good.open.set()
    with trio.fail_after(20):
        async with (
            worker_side(socket_pair, deaf) as (channel, _, _),
            worker_side(socket_pair, good) as (_, asker, _),
            trio.open_nursery() as nursery,
        ):
            for _ in range(CALLS_PER_WORKER):
                nursery.start_soon(outcome, lambda: channel.call("m", [b"x" * MIB], timeout_s=1))
            await settled()
            for id_ in range(200):
                began = trio.current_time()
                await asker.send_all(msgpack.packb([0, id_, "m", [b"x"]]))
                await read_until(asker, bool)
                assert trio.current_time() - began < 0.5


# Answers.


@pytest.mark.parametrize(
    ("data", "violation"),
    [
        ([[1, 5, None, "x"]], "request id 5 was answered and never asked"),
        ([[1, 0, None, "x"], [1, 0, None, "y"]], "request id 0 was answered twice"),
        ([[0, 7, "m", []], [0, 7, "m", []]], "request id 7 is in use already"),
        ([[3, "m", []]], "a frame is no message but an array of 3 that begins with 3"),
        ([{"id": 1}], "a frame is no message but a map"),
    ],
)
async def test_a_violation_is_named_to_the_worker_and_to_its_callers(
    autojump_clock: Clock, data: list[Any], violation: str
) -> None:
    async with worker_side(trio.testing.memory_stream_pair, Gate()) as (channel, far, ends):
        results: list[Any] = []

        async def call() -> None:
            results.append(await outcome(lambda: channel.call("m", [], timeout_s=None)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            nursery.start_soon(call)
            await settled()
            await far.send_all(b"".join(map(msgpack.packb, data)))
        found = await read_until(far, lambda found: len(found) > 2)
        assert found[-1][:2] == [2, "rpc.error"]
        assert violation in found[-1][2][0]["message"]
        (end,) = ends
        assert isinstance(end, RemoteProtocolError)
        assert violation in end.message
        assert results[-1] is end


async def test_a_late_answer_is_no_violation(autojump_clock: Clock) -> None:
    settled_at: list[float] = []
    async with worker_side(trio.testing.memory_stream_pair, Gate()) as (channel, far, ends):
        with pytest.raises(DeadlineExceeded):
            await channel.call("m", [], timeout_s=1, on_settled=lambda: settled_at.append(trio.current_time()))
        assert settled_at == []
        began = trio.current_time()
        await trio.sleep(2)
        await far.send_all(msgpack.packb([1, 0, None, "late"]))
        await settled()
        assert settled_at == [pytest.approx(began + 2)]
        assert ends == []
