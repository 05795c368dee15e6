"""One look a second at each worker whose limits nobody else enforces, and one wakeup for all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from supervisor.worker.crash import Crash, Reason
from supervisor.worker.limits import MIB
from supervisor.worker.procfs import ProcessStat
from supervisor.worker.watch import Adopted, Watch

MANY = 40


def process(rss_mb: int) -> ProcessStat:
    return ProcessStat(
        pid=2**22 + 1,  # beyond the kernel's largest
        name="x",
        state="S",
        ppid=1,
        pgid=1,
        sid=1,
        start_ticks=1,
        cpu_ticks=0,
        threads=1,
        rss_bytes=rss_mb * MIB,
    )


class Wakeups(trio.abc.Instrument):
    def __init__(self) -> None:
        self.count = 0

    def before_io_wait(self, timeout: float) -> None:
        self.count += timeout > 0


class Told:
    def __init__(self) -> None:
        self.events: list[str] = []

    def error(self, event: str, **_: object) -> None:
        self.events.append(event)


class Children:
    def __init__(self) -> None:
        self.lists = 0

    def adopted(self) -> Sequence[ProcessStat]:
        self.lists += 1
        return [process(0)]


async def watched_for_ever(watch: Watch, look: Callable[[Adopted], Sequence[ProcessStat]]) -> None:
    crash = await watch.wait_breach({"memory_mb": 1}, look, lambda _: None)
    pytest.fail(crash.cause)


async def test_however_many_wait_we_wake_once_a_second(autojump_clock: MockClock) -> None:
    children, wakeups = Children(), Wakeups()
    watch = Watch(children.adopted)
    looked_at: list[float] = []

    def look(adopted: Adopted) -> Sequence[ProcessStat]:
        looked_at.append(trio.current_time())
        return adopted()

    async with trio.open_nursery() as nursery:
        for _ in range(MANY):
            nursery.start_soon(watched_for_ever, watch, look)
            await trio.sleep(0.99 / MANY)
        trio.lowlevel.add_instrument(wakeups)
        await trio.sleep_until(10.5)
        trio.lowlevel.remove_instrument(wakeups)
        nursery.cancel_scope.cancel()
    assert looked_at == [float(second) for second in range(1, 11) for _ in range(MANY)]
    assert children.lists == 10
    assert wakeups.count <= 2 * 11  # The clock that jumps waits a moment before each jump.


async def test_between_two_looks_everybody_else_gets_a_turn(autojump_clock: MockClock) -> None:
    watch = Watch(Children().adopted)
    turns = 0
    seen: list[int] = []

    def look(_: Adopted) -> Sequence[ProcessStat]:
        seen.append(turns)
        return []

    async with trio.open_nursery() as nursery:
        for _ in range(MANY):
            nursery.start_soon(watched_for_ever, watch, look)
        await trio.sleep_until(1)
        while len(seen) < MANY:
            turns += 1
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    # Whoever runs beside them comes before or after a look, as the scheduler likes, and never waits for more than two.
    assert max(Counter(seen).values()) <= 2


async def test_a_look_that_fails_harms_no_other(autojump_clock: MockClock) -> None:
    watch = Watch(Children().adopted)
    looks = 0

    def look(_: Adopted) -> Sequence[ProcessStat]:
        nonlocal looks
        looks += 1
        return [process(5)] if looks == 7 else []

    def broken(_: Adopted) -> Sequence[ProcessStat]:
        raise ValueError("a bug")

    async def bugged() -> None:
        with pytest.raises(ValueError, match="a bug"):
            await watched_for_ever(watch, broken)
        ended.append(trio.current_time())

    ended: list[float] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bugged)
        crash = await watch.wait_breach({"memory_mb": 4}, look, lambda _: None)
    assert (crash, trio.current_time(), ended) == (
        Crash(Reason.OUT_OF_MEMORY, "used 5 MB of memory, more than its limit of 4 MB"),
        7.0,
        [1.0],
    )


async def test_without_descriptors_we_look_again_and_say_so_once(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def adopted() -> Sequence[ProcessStat]:
        if trio.current_time() < 4:
            raise OSError(24, "Too many open files")
        return [process(5)]

    watch = Watch(adopted)
    crashes: list[Crash] = []

    async def wait() -> None:
        crashes.append(await watch.wait_breach({"memory_mb": 4}, lambda listed: listed(), lambda _: None))

    told = Told()
    monkeypatch.setattr("supervisor.worker.watch.log", told)
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(wait)
    assert (len(crashes), trio.current_time()) == (2, 4.0)
    assert told.events == ["limits.not_looked_at"] * 2


async def test_one_that_is_given_up_holds_nobody_up(autojump_clock: MockClock) -> None:
    watch = Watch(Children().adopted)
    looks: list[float] = []

    def look(_: Adopted) -> Sequence[ProcessStat]:
        looks.append(trio.current_time())
        return []

    with trio.move_on_after(3.5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watched_for_ever, watch, look)
            with trio.move_on_at(2):
                await watched_for_ever(watch, lambda _: [])
            await trio.sleep_forever()
    assert looks == [1.0, 2.0, 3.0]


async def test_with_nothing_to_watch_nobody_looks(autojump_clock: MockClock) -> None:
    children = Children()
    wait = partial(Watch(children.adopted).wait_breach, {}, lambda listed: listed(), lambda _: None)
    with trio.move_on_after(1000):
        pytest.fail((await wait()).cause)
    assert children.lists == 0
