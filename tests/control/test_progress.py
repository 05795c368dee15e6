"""What is told of an install on its way: in order, bounded for who does not read, and never after the answer."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from supervisor.control.progress import ProgressFeed, wants_progress
from supervisor.core.errors import CallCancelled, InvalidParams, SupervisorError
from supervisor.lifecycle.operation import Operation


class Reader:
    """A listener that reads, or for a while does not."""

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []
        self.reads = trio.Event()
        self.reads.set()

    def notify_nowait(self, method: str, params: list[Any]) -> bool:
        assert method == "rpc.progress"
        if self.reads.is_set():
            self.heard.append({name: value for name, value in params[0].items() if name != "request"})
            assert params[0]["request"] == 7
        return self.reads.is_set()

    async def wait_room(self) -> None:
        await self.reads.wait()


async def test_all_of_it_in_order_before_the_answer(autojump_clock: MockClock) -> None:
    reader = Reader()
    feed = ProgressFeed(7, reader)
    operation = Operation(feed.tell)

    async def work() -> str:
        with operation.phase("fetch"):
            operation.report(done=0, total=10)
            await trio.sleep(1)
            for done in range(11):
                operation.report(done=done, total=10)
            operation.report(line="one")
            operation.report(line="two")
        operation.enter("store")
        return "answer"

    assert await feed.during(work()) == "answer"
    assert reader.heard == [
        {"phase": "fetch", "done": 0, "total": 10},
        {"phase": "fetch", "done": 10, "total": 10},
        {"phase": "fetch", "line": "one"},
        {"phase": "fetch", "line": "two"},
        {"phase": "store"},
    ]
    assert trio.current_time() == 1


async def test_nothing_after_the_end(autojump_clock: MockClock) -> None:
    reader = Reader()
    feed = ProgressFeed(7, reader)
    operation = Operation(feed.tell)

    async def work() -> None:
        operation.enter("check")
        raise CallCancelled("enough")

    with pytest.raises(CallCancelled, match="enough"):
        await feed.during(work())
    operation.enter("store")  # a change goes on though its caller is gone
    assert reader.heard == [{"phase": "check"}]


async def test_who_does_not_read_costs_little_and_misses_what_is_old(autojump_clock: MockClock) -> None:
    reader = Reader()
    reader.reads = trio.Event()
    feed = ProgressFeed(7, reader)
    operation = Operation(feed.tell)

    async def work() -> None:
        for phase in ("fetch", "environment"):
            with operation.phase(phase):
                for number in range(1000):
                    operation.report(line=f"{phase} {number}")
                    if number % 100 == 0:
                        await trio.sleep(1)
        reader.reads.set()
        await trio.sleep(1)

    await feed.during(work())
    assert len(reader.heard) == 64
    newest = {told["phase"]: told["line"] for told in reader.heard}
    assert newest == {"fetch": "fetch 999", "environment": "environment 999"}


async def test_who_has_not_read_when_it_ends_is_not_waited_for(autojump_clock: MockClock) -> None:
    reader = Reader()
    reader.reads = trio.Event()
    feed = ProgressFeed(7, reader)
    operation = Operation(feed.tell)

    async def work() -> str:
        operation.enter("store")
        await trio.sleep(3)
        return "answer"

    assert await feed.during(work()) == "answer"
    assert (trio.current_time(), reader.heard) == (3, [])


@pytest.mark.parametrize(
    ("params", "wanted"), [([], False), ([{"$progress": True}], True), ([{"$progress": False}], False)]
)
def test_who_wants_it(params: list[Any], wanted: bool) -> None:
    assert wants_progress(params) is wanted


@pytest.mark.parametrize("value", [None, 1, "yes"])
def test_what_is_no_answer_to_that(value: object) -> None:
    with pytest.raises(InvalidParams, match="true or false"):
        wants_progress([{"$progress": value}])


async def test_a_failure_is_its_own(autojump_clock: MockClock) -> None:
    async def work() -> None:
        await trio.sleep(1)
        raise SupervisorError("as it is, and in no group")

    with pytest.raises(SupervisorError, match="in no group"):
        await ProgressFeed(7, Reader()).during(work())
