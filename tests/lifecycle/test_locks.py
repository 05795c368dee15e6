"""Locks: in order of arrival, one per key, none left behind; activations are cut by those who want the worker down."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from supervisor.lifecycle.locks import PluginLock, PluginLocks

KEY = "acme.one"


async def test_one_after_the_other_in_order_of_arrival(autojump_clock: Any) -> None:
    locks, order = PluginLocks(), []

    async def command(number: int) -> None:
        await trio.sleep(number / 100)
        async with locks.hold(KEY):
            order.append((number, trio.current_time()))
            await trio.sleep(1)

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(command, number)
    assert [number for number, _ in order] == [0, 1, 2, 3, 4]
    assert [at - began for _, at in order] == pytest.approx([0, 1, 2, 3, 4])


async def test_keys_do_not_share_a_lock(autojump_clock: Any) -> None:
    locks = PluginLocks()
    with trio.fail_after(1):
        async with locks.hold("a"), locks.hold("b"):
            await trio.lowlevel.checkpoint()


async def test_a_lock_goes_with_its_last_user(autojump_clock: Any) -> None:
    locks = PluginLocks()
    async with trio.open_nursery() as nursery:
        async with locks.hold(KEY) as first:

            async def give_up_waiting() -> None:
                with trio.move_on_after(1):
                    await take_down(locks, [])

            async with trio.open_nursery() as waiting:
                waiting.start_soon(give_up_waiting)
                await trio.testing.wait_all_tasks_blocked()
                assert first.overtakers == ["disable"]
            assert first.overtakers == []

            async def wait_and_leave() -> None:
                async with locks.hold(KEY) as second:
                    assert second is first

            nursery.start_soon(wait_and_leave)
            await trio.testing.wait_all_tasks_blocked()
        await trio.testing.wait_all_tasks_blocked()
        assert locks._locks == {}
    with pytest.raises(ZeroDivisionError):
        async with locks.hold(KEY):
            raise ZeroDivisionError
    assert locks._locks == {}


async def activate(locks: PluginLocks, outcome: list[str]) -> None:
    async with locks.hold(KEY) as lock:
        with lock.activation():
            await trio.sleep(1000)
            outcome.append("up")
            return
        outcome.append(f"cut by {lock.overtaken_by}")


async def take_down(locks: PluginLocks, outcome: list[str], name: str = "disable") -> None:
    async with locks.hold(KEY, overtaking=name):
        outcome.append(name)


async def test_an_activation_is_cut_short(autojump_clock: Any) -> None:
    locks, outcome = PluginLocks(), []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(activate, locks, outcome)
        await trio.sleep(1)
        await take_down(locks, outcome)
    assert outcome == ["cut by disable", "disable"]
    assert trio.current_time() < 2


async def test_one_that_begins_while_somebody_waits_is_cut_at_once(autojump_clock: Any) -> None:
    locks, outcome = PluginLocks(), []
    async with trio.open_nursery() as nursery, locks.hold(KEY) as lock:
        nursery.start_soon(take_down, locks, outcome)
        await trio.testing.wait_all_tasks_blocked()
        with lock.activation():
            await trio.sleep(1000)
            outcome.append("up")
    assert (outcome, lock.overtaken_by) == (["disable"], "disable")


async def test_one_that_gave_up_waiting_cuts_nothing(autojump_clock: Any) -> None:
    locks, outcome = PluginLocks(), []
    async with locks.hold(KEY) as lock:
        async with trio.open_nursery() as waiting:
            waiting.start_soon(take_down, locks, outcome)
            await trio.testing.wait_all_tasks_blocked()
            waiting.cancel_scope.cancel()
        with lock.activation():
            await trio.sleep(10)
            outcome.append("up")
    assert outcome == ["up"]


async def test_the_cut_does_not_reach_past_the_activation(autojump_clock: Any) -> None:
    lock = PluginLock()
    lock.overtakers.append("unload")
    with lock.activation():
        await trio.sleep(1)
        raise AssertionError("it was to be cut")
    await trio.sleep(1)
    lock.overtakers.clear()
    lock.overtake()  # nobody activates: nothing to cut


async def test_cancelling_the_caller_is_no_overtaking(autojump_clock: Any) -> None:
    locks, outcome = PluginLocks(), []
    with trio.move_on_after(1) as patience:
        await activate(locks, outcome)
    assert (patience.cancelled_caught, outcome, locks._locks) == (True, [], {})


async def test_a_start_that_is_owed_waits_for_who_wants_it_stopped(autojump_clock: Any) -> None:
    locks, told = PluginLocks(), list[str]()

    async def overtaker(name: str, seconds: float) -> None:
        async with locks.hold(KEY, overtaking=name):
            told.append(name)
            await trio.sleep(seconds)

    async with trio.open_nursery() as nursery:
        async with locks.hold(KEY) as lock:
            nursery.start_soon(overtaker, "disable", 1)
            await trio.sleep(1)
            nursery.start_soon(overtaker, "unload", 1)
            await trio.sleep(1)
            lock.owe_start(lambda: told.append("started"))
        assert told == []
    # Whether the last of them has failed is for `start_again` to see.
    assert told == ["disable", "unload", "started"]


@pytest.mark.parametrize("forgiven", [True, False])
async def test_a_start_is_owed_where_who_wants_it_stopped_goes_away(autojump_clock: Any, forgiven: bool) -> None:
    locks, told = PluginLocks(), list[str]()

    async def overtaker() -> None:
        async with locks.hold(KEY, overtaking="disable"):
            told.append("disable")

    async with trio.open_nursery() as nursery:
        async with locks.hold(KEY) as lock:
            nursery.start_soon(overtaker)
            await trio.testing.wait_all_tasks_blocked()
            lock.owe_start(lambda: told.append("started"))
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await trio.testing.wait_all_tasks_blocked()
                assert told == []  # whoever holds the lock may be trying another worker
            if forgiven:
                lock.forgive_start()
        assert told == ([] if forgiven else ["started"])
