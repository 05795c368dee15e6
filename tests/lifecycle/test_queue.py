"""Who may run pip, and who waits for his turn."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from supervisor.core.errors import CallCancelled, DeadlineExceeded
from supervisor.lifecycle.operation import Operation
from supervisor.lifecycle.queue import WAITING, Queue
from tests.lifecycle.environments import Watched


async def test_one_after_the_other_and_waiting_takes_nothing_of_the_time(autojump_clock: Any) -> None:
    queue, began = Queue(2), trio.current_time()
    at, watched = [], Watched()

    async def work() -> None:
        async with queue.phase(watched.operation(phase_timeout_s=10), "fetch"):
            at.append(trio.current_time() - began)
            await trio.sleep(9)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(work)
    assert at == [0, 0, 9, 9, 18]
    assert watched.lines == [WAITING] * 3


async def test_who_waits_may_be_aborted_and_who_is_late_makes_room(autojump_clock: Any) -> None:
    queue, waiting = Queue(1), Operation()
    ended: list[type[BaseException]] = []

    async def hold(operation: Operation) -> None:
        with pytest.raises((CallCancelled, DeadlineExceeded)) as caught:
            async with queue.phase(operation, "environment"):
                await trio.sleep_forever()
        ended.append(caught.type)

    with trio.fail_after(100):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hold, Operation(phase_timeout_s=20))
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(hold, waiting)
            await trio.testing.wait_all_tasks_blocked()
            assert waiting.abort()
        assert ended == [CallCancelled, DeadlineExceeded]
        async with queue.phase(Operation(), "fetch"):
            pass
