"""Which connection a call goes to, and what becomes of one that was never sent."""

from __future__ import annotations

from typing import Any

import pytest
import trio.testing

from supervisor.channel import Channel
from supervisor.core.errors import PluginCrashed, Unavailable
from supervisor.report import report_failure
from supervisor.wire.limits import WORKER
from supervisor.wire.message import Request
from supervisor.worker.calling import call_worker
from supervisor.worker.discretion import Discretion


def unexpected(request: Request, error: Exception) -> str:
    return report_failure("test", error, method=request.method)


def a_channel() -> Channel:
    return Channel(trio.testing.memory_stream_pair()[0], WORKER, on_unexpected=unexpected)


async def ask(channels: list[Channel]) -> tuple[Any, list[str]]:
    """The last one is that of now for ever."""
    settled: list[str] = []

    def now() -> tuple[Channel, Discretion]:
        return (channels.pop(0) if len(channels) > 1 else channels[0]), Discretion()

    with trio.move_on_after(1):
        return await call_worker(now, "m", {}, timeout_s=None, on_settled=lambda: settled.append("once")), settled
    return "asked", settled


async def test_what_was_never_sent_goes_to_the_next(autojump_clock: Any) -> None:
    closed, other = a_channel(), a_channel()
    closed.close(PluginCrashed("it ended"))
    answer, settled = await ask([closed, other])
    assert answer == "asked"
    assert (other.statistics().unanswered_cancels, settled) == (1, [])


async def test_where_there_is_no_next_nobody_is_asked(autojump_clock: Any) -> None:
    closed = a_channel()
    closed.close(PluginCrashed("it ended"))
    with pytest.raises(Unavailable, match="connection is closed"):
        await ask([closed])
    assert closed.statistics().requests_out == 0


async def test_what_was_sent_ends_with_the_worker(autojump_clock: Any) -> None:
    channel = a_channel()
    async with trio.open_nursery() as nursery:

        async def end() -> None:
            await trio.sleep(0.5)
            channel.close(PluginCrashed("it ended"))

        nursery.start_soon(end)
        with pytest.raises(PluginCrashed, match="it ended"):
            await ask([channel])
