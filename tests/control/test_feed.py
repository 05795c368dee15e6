"""Subscriptions: from where the client left off, no gap, no double; credit; overflow; the end."""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from supervisor.control.feed import Feed, Send
from supervisor.core.event import PluginEmitted
from supervisor.core.lifecycle import Status
from supervisor.store.event_filters import Filters
from supervisor.store.journal import Journal, Page
from supervisor.wire.budget import Budget, Share
from tests.control.world import ControlWorld, Wire, open_control_world

ROUNDS = 30


def a_feed(
    world: ControlWorld,
    send: Send,
    *,
    filters: Filters | None = None,
    after_seq: int | None = None,
    share: Share | None = None,
) -> Feed:
    return Feed(
        1,
        bus=world.lifecycle_world.bus,
        journal=world.journal,
        send=send,
        filters=filters or Filters(),
        after_seq=after_seq,
        credit=None,
        owner="somebody",
        share=share,
    )


async def seqs(wire: Wire, until: int) -> list[int]:
    """The events' numbers, up to `until`."""
    found = [(await wire.event())["event"]["seq"]]
    while found[-1] < until:
        found.append((await wire.event())["event"]["seq"])
    return found


async def test_what_is_told(world: ControlWorld, wire: Wire) -> None:
    plugin = await world.plugin(status=Status.READY)
    answer = await wire.call("events.subscribe")
    assert answer == {"subscription": 1, "last_seq": world.lifecycle_world.bus.last_seq}
    await wire.call("plugins.disable", plugin=plugin.key, reason="tea")
    told = [(await wire.event()) for _ in range(3)]
    assert [it["subscription"] for it in told] == [1, 1, 1]
    assert [it["event"]["type"] for it in told] == [
        "plugin.status_changed",
        "plugin.worker_stopped",
        "plugin.disabled",
    ]
    last = told[-1]["event"]
    assert (last["plugin"], last["plugin_id"], last["data"]) == (plugin.key, plugin.id, {"reason": "tea"})


async def test_who_did_not_subscribe_is_told_nothing(world: ControlWorld, wire: Wire) -> None:
    plugin = await world.plugin()
    await world.emit(plugin, 3)
    await wire.send([0, 70, "daemon.ping", []])
    assert (await wire.message())[:2] == [1, 70]


async def test_only_what_was_asked_for(world: ControlWorld, wire: Wire) -> None:
    one, two = await world.plugin("acme.one"), await world.plugin("acme.two")
    await wire.call("events.subscribe", types=["plugin.en*", "plugin.loaded"], plugins=[two.key])
    for plugin in (one, two):
        await wire.call("plugins.load", plugin=plugin.id)
    assert [(await wire.event())["event"]["type"] for _ in range(2)] == ["plugin.loaded", "plugin.enabled"]
    replayed = await wire.call("events.subscribe", types=["plugin.enabled"], after_seq=0)
    told = [await wire.event() for _ in range(2)]
    assert [(it["subscription"], it["event"]["plugin"]) for it in told] == [
        (replayed["subscription"], one.key),
        (replayed["subscription"], two.key),
    ]
    assert (await wire.refused("events.subscribe", plugins=["nobody"]))["name"] == "NOT_FOUND"


@pytest.mark.parametrize("seed", range(ROUNDS))
async def test_replay_runs_into_the_present_without_gap_or_double(world: ControlWorld, seed: int) -> None:
    chance = random.Random(seed)
    plugin = await world.plugin()
    await world.emit(plugin, 450)
    total = 450 + 300
    first = (await world.journal.list(0))[0].seq

    async def publish() -> None:
        left = 300
        while left:
            batch = min(left, chance.randint(1, 40))
            await world.emit(plugin, batch)
            left -= batch
            for _ in range(chance.randint(0, 5)):
                await trio.lowlevel.checkpoint()

    last = world.lifecycle_world.bus.last_seq - 450 + total

    async def subscribe(after: int) -> None:
        wire = await (await world.dial()).hello()
        async with wire.stream:
            for _ in range(chance.randint(0, 30)):
                await trio.lowlevel.checkpoint()
            await wire.call("events.subscribe", after_seq=after)
            assert await seqs(wire, last) == list(range(after + 1, last + 1))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(subscribe, chance.randint(first - 1, first + 400))
        nursery.start_soon(publish)


@pytest.mark.parametrize("seed", range(ROUNDS))
async def test_a_subscription_says_where_it_begins(world: ControlWorld, seed: int) -> None:
    plugin = await world.plugin()
    chance = random.Random(seed)

    async def publish() -> None:
        while True:
            await world.emit(plugin, 1)
            for _ in range(chance.randint(0, 2)):
                await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(publish)
        for after_seq in (None, 0, None):
            wire = await (await world.dial()).hello()
            async with wire.stream:
                answer = await wire.call("events.subscribe", after_seq=after_seq)
                assert (await wire.event())["event"]["seq"] == answer["last_seq"] + 1
        nursery.cancel_scope.cancel()


async def test_the_answer_comes_before_the_first_event(world: ControlWorld, wire: Wire) -> None:
    """Whoever asks for a place in the past gets its number first, however soon there is something to tell."""
    plugin = await world.plugin()
    for round_ in range(ROUNDS):
        last = (await world.emit(plugin, 3))[-1].seq
        await wire.ask("events.subscribe", after_seq=last - 3)
        kinds = [(await wire.message())[0] for _ in range(4)]
        assert kinds == [1, 2, 2, 2]
        await wire.call("events.unsubscribe", subscription=round_ + 1)


async def test_resume_over_a_restart(tmp_path: Path) -> None:
    with trio.fail_after(10):
        async with open_control_world(tmp_path) as world:
            plugin = await world.plugin()
            last = (await world.emit(plugin, 5))[-1].seq
        async with open_control_world(tmp_path) as world:
            await world.emit(world.lifecycle_world.registry.get(plugin.id), 5)
            wire = await (await world.dial()).hello()
            async with wire.stream:
                await wire.call("events.subscribe", after_seq=last - 2)
                assert await seqs(wire, last + 5) == list(range(last - 1, last + 6))


async def test_resume_is_refused_where_it_would_leave_a_gap(world: ControlWorld, wire: Wire) -> None:
    plugin = await world.plugin()
    last = (await world.emit(plugin, 20))[-1].seq
    for wrong in (last + 1, -1):
        error = await wire.refused("events.subscribe", after_seq=wrong)
        assert (error["name"], error["data"]["last_seq"]) == ("FAILED_PRECONDITION", last)
    await world.journal.trim(max_events=5, max_age=timedelta(days=1))
    assert (await wire.refused("events.subscribe", after_seq=last - 6))["data"]["first_seq"] == last - 4
    await wire.call("events.subscribe", after_seq=last - 5)
    assert await seqs(wire, last) == list(range(last - 4, last + 1))
    await world.journal.trim(max_events=0, max_age=timedelta(days=1))
    assert (await wire.refused("events.subscribe", after_seq=last - 1))["name"] == "FAILED_PRECONDITION"
    await wire.call("events.subscribe", after_seq=last)
    # Refused ones are no subscriptions.
    assert (await wire.call("events.subscribe"))["subscription"] > 2


async def quiet(wire: Wire) -> bool:
    """Whether nothing more comes before the answer to a ping."""
    await trio.testing.wait_all_tasks_blocked(0.01)
    await wire.send([0, 900, "daemon.ping", []])
    return bool((await wire.message())[:2] == [1, 900])


async def test_credit(world: ControlWorld, wire: Wire) -> None:
    plugin = await world.plugin()
    first = world.lifecycle_world.bus.last_seq + 1
    number = (await wire.call("events.subscribe", credit=3))["subscription"]
    await world.emit(plugin, 10)
    assert await seqs(wire, first + 2) == [first, first + 1, first + 2]
    assert await quiet(wire)
    await wire.call("events.credit", subscription=number, n=2)
    assert await seqs(wire, first + 4) == [first + 3, first + 4]
    assert await quiet(wire)
    assert (await wire.refused("events.credit", subscription=number, n=0))["name"] == "INVALID_PARAMS"
    assert (await wire.refused("events.credit", subscription=99, n=1))["name"] == "NOT_FOUND"
    replay = (await wire.call("events.subscribe", after_seq=first, credit=0))["subscription"]
    assert await quiet(wire)
    await wire.call("events.credit", subscription=replay, n=1)
    told = await wire.event()
    assert (told["subscription"], told["event"]["seq"]) == (replay, first + 1)


async def test_unsubscribe_is_the_end(world: ControlWorld, wire: Wire) -> None:
    plugin = await world.plugin()
    number = (await wire.call("events.subscribe"))["subscription"]
    await wire.call("events.unsubscribe", subscription=number)
    await world.emit(plugin, 3)
    assert await quiet(wire)
    assert (await wire.refused("events.unsubscribe", subscription=number))["name"] == "NOT_FOUND"


async def test_a_connection_holds_so_many(world: ControlWorld, wire: Wire) -> None:
    for _ in range(64):
        await wire.call("events.subscribe")
    assert (await wire.refused("events.subscribe"))["name"] == "RESOURCE_EXHAUSTED"
    await wire.call("events.unsubscribe", subscription=1)
    await wire.call("events.subscribe")


async def test_who_is_too_slow_is_ended_alone_and_can_resume(world: ControlWorld, wire: Wire) -> None:
    plugin = await world.plugin()
    slow = await (await world.dial()).hello()
    first = world.lifecycle_world.bus.last_seq + 1
    last = first + 3999
    quick_seqs: list[int] = []
    quick_at = trio.Event()

    async def read_quickly() -> None:
        while not quick_seqs or quick_seqs[-1] < last:
            quick_seqs.append((await wire.event())["event"]["seq"])
            if quick_seqs[-1] % 100 == (first - 1) % 100:
                quick_at.set()

    async with slow.stream:
        await slow.call("events.subscribe")
        await wire.call("events.subscribe")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_quickly)
            for _ in range(40):
                quick_at = trio.Event()
                await world.emit(plugin, 100, "x" * 2000)
                await quick_at.wait()
        assert quick_seqs == list(range(first, last + 1))
        got: list[int] = []
        while "event" in (item := await slow.event()):
            got.append(item["event"]["seq"])
        assert item == {"subscription": 1, "end": True, "reason": "overflow", "last_seq": got[-1]}
        assert got == list(range(first, got[-1] + 1))
        assert len(got) < 4000
        await slow.call("events.subscribe", after_seq=got[-1])
        assert await seqs(slow, last) == list(range(got[-1] + 1, last + 1))
        assert (await slow.refused("events.unsubscribe", subscription=1))["name"] == "NOT_FOUND"


def pages_read(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> list[Page]:
    """Of replays, as they come."""
    pages: list[Page] = []
    read = journal.after

    async def counted(*args: Any, **named: Any) -> Page:
        pages.append(await read(*args, **named))
        return pages[-1]

    monkeypatch.setattr(journal, "after", counted)
    return pages


async def test_no_page_is_read_before_there_is_credit(
    world: ControlWorld, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = await world.plugin()
    first = (await world.emit(plugin, 10))[0].seq
    pages = pages_read(world.journal, monkeypatch)
    number = (await wire.call("events.subscribe", after_seq=first - 1, credit=0))["subscription"]
    assert await quiet(wire)
    assert pages == []
    await wire.call("events.credit", subscription=number, n=2)
    assert await seqs(wire, first + 1) == [first, first + 1]
    assert await quiet(wire)
    assert [len(page.events) for page in pages] == [2]


async def test_one_connection_has_one_page_of_a_replay_read(
    world: ControlWorld, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who subscribes often and does not read has us hold what one asks for, and that little."""
    plugin = await world.plugin()
    first = (await world.emit(plugin, 300, "x" * 20_000))[0].seq
    pages = pages_read(world.journal, monkeypatch)
    for _ in range(64):
        await wire.ask("events.subscribe", after_seq=first - 1)
    held = 0
    while not pages or held != len(pages):
        held = len(pages)
        await trio.testing.wait_all_tasks_blocked(0.05)
    assert 1 < len(pages) < 40
    assert all(page.size <= 128 * 1024 for page in pages)
    told = [message[2][0]["subscription"] for message in [await wire.message() for _ in range(2000)] if message[0] == 2]
    assert len(set(told)) > 30


async def test_a_page_that_was_not_taken_counts_in_what_is_held(world: ControlWorld) -> None:
    plugin = await world.plugin()
    first = (await world.emit(plugin, 10, "x" * 20_000))[0].seq
    budget, go_on, began = Budget(10_000_000, 10_000_000), trio.Event(), trio.Event()

    async def send(_: dict[str, Any]) -> None:
        began.set()
        await go_on.wait()

    feed = a_feed(world, send, after_seq=first - 1, share=Share(budget, 7))
    async with trio.open_nursery() as nursery:
        await nursery.start(feed.run)
        await began.wait()
        assert 100_000 < budget.held_bytes <= 128 * 1024
        go_on.set()
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert budget.held_bytes == 0
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("after", [False, True])
async def test_who_gives_no_credit_is_ended_too_and_takes_it_up_where_he_was(
    world: ControlWorld, wire: Wire, after: bool
) -> None:
    plugin = await world.plugin()
    last = (await world.emit(plugin, 1))[-1].seq
    params = {"after_seq": last - 1, "credit": 3} if after else {"credit": 2}
    number = (await wire.call("events.subscribe", **params))["subscription"]
    if after:
        assert await seqs(wire, last) == [last]
    await world.emit(plugin, 1000)
    assert await seqs(wire, last + 2) == [last + 1, last + 2]
    assert await quiet(wire)
    await world.emit(plugin, 30)
    assert await wire.event() == {"subscription": number, "end": True, "reason": "overflow", "last_seq": last + 2}
    assert (await wire.refused("events.credit", subscription=number, n=1))["name"] == "NOT_FOUND"
    await wire.call("events.subscribe", after_seq=last + 2)
    assert await seqs(wire, last + 1030) == list(range(last + 3, last + 1031))


async def test_what_is_not_asked_for_overflows_nobody(world: ControlWorld, wire: Wire) -> None:
    plugin = await world.plugin()
    number = (await wire.call("events.subscribe", types=["*.rare", "plugin.*"], credit=0))["subscription"]
    for _ in range(3):
        await world.emit(plugin, 1000)
    rare = PluginEmitted(plugin_id=plugin.id, plugin_key=plugin.key, name="rare", payload=None)
    [told] = await world.lifecycle_world.registry.record(rare)
    assert await quiet(wire)
    await wire.call("events.credit", subscription=number, n=1)
    assert (await wire.event())["event"]["seq"] == told.seq


@pytest.mark.parametrize(
    ("most", "types", "told"),
    [
        (10, [f"*{n}" for n in range(100)], "may have 1000 types in all, and with these there are 1100"),
        (1, ["t" * 200] * 100, "may have 20000 characters of types in all, and with these there are 40000"),
    ],
)
async def test_the_types_of_all_subscriptions_are_bounded(
    world: ControlWorld, wire: Wire, most: int, types: list[str], told: str
) -> None:
    for _ in range(most):
        await wire.call("events.subscribe", types=types)
    error = await wire.refused("events.subscribe", types=types)
    assert error["name"] == "RESOURCE_EXHAUSTED"
    assert told in error["message"]
    await wire.call("events.unsubscribe", subscription=1)
    await wire.call("events.subscribe", types=types)


async def test_who_is_slower_than_the_trimming_is_ended(world: ControlWorld, wire: Wire) -> None:
    plugin = await world.plugin()
    first = (await world.emit(plugin, 10))[0].seq
    number = (await wire.call("events.subscribe", after_seq=first - 1, credit=1))["subscription"]
    assert await seqs(wire, first) == [first]
    await world.journal.trim(max_events=5)
    await wire.call("events.credit", subscription=number, n=5)
    assert await wire.event() == {"subscription": number, "end": True, "reason": "overflow", "last_seq": first}


@pytest.mark.parametrize(
    "filters", [{"types": ["t"] * 101}, {"types": ["t" * 201]}, {"jobs": ["a/b"] * 101}, {"types": ["plugin.[^e]*"]}]
)
async def test_filters_are_bounded(world: ControlWorld, wire: Wire, filters: dict[str, Any]) -> None:
    for method in ("events.subscribe", "events.list"):
        assert (await wire.refused(method, **filters))["name"] == "INVALID_PARAMS"


async def test_events_of_a_job(world: ControlWorld, wire: Wire) -> None:
    one, two = await world.plugin("acme.one"), await world.plugin("acme.two")
    before = world.lifecycle_world.bus.last_seq
    await world.run_started(one, "tidy")
    live = (await wire.call("events.subscribe", jobs=["id-of-acme.one/tidy"]))["subscription"]
    await world.emit(one, 1)
    for plugin, job in ((one, "other"), (two, "tidy"), (one, "tidy")):
        await world.run_started(plugin, job)
    last = world.lifecycle_world.bus.last_seq
    told = await wire.event()
    assert (told["subscription"], told["event"]["seq"], told["event"]["data"]["job"]) == (live, last, "tidy")
    replay = await wire.call("events.subscribe", jobs=["acme.one/tidy", "acme.two/tidy"], after_seq=before)
    told = [await wire.event() for _ in range(3)]
    assert {it["subscription"] for it in told} == {replay["subscription"]}
    assert [(it["event"]["plugin"], it["event"]["seq"]) for it in told] == [
        (one.key, before + 1),
        (two.key, last - 1),
        (one.key, last),
    ]
    error = await wire.refused("events.subscribe", jobs=["acme.one/tidy", "nothing"])
    assert (error["name"], error["data"]) == ("NOT_FOUND", {"job": "nothing"})


async def test_who_waits_for_what_is_rare_can_go_on_from_where_he_was_ended(world: ControlWorld) -> None:
    """The place that is told is not that of the last event he got, which may have been trimmed away long ago."""
    plugin = await world.plugin()
    filters, sent = Filters(types=["emitted.rare"]), list[dict[str, Any]]()
    began, go_on = trio.Event(), trio.Event()

    async def send(item: dict[str, Any]) -> None:
        sent.append(item)
        if "event" in item:
            began.set()
            await go_on.wait()

    feed = a_feed(world, send, filters=filters)
    async with trio.open_nursery() as nursery:
        await nursery.start(feed.run)
        passed = (await world.emit(plugin, 50))[-1].seq
        rare = PluginEmitted(plugin_id=plugin.id, plugin_key=plugin.key, name="rare", payload=None)
        [told] = await world.lifecycle_world.registry.record(rare)
        await began.wait()
        assert told.seq == passed + 1
        passed = (await world.emit(plugin, 1200))[-1].seq
        for _ in range(3):
            await world.lifecycle_world.registry.record(*[rare] * 400)  # more than a subscription keeps
        go_on.set()
    assert [sent[0]["event"]["seq"], sent[1]["reason"]] == [told.seq, "overflow"]
    assert told.seq + 1200 == passed == sent[1]["last_seq"]
    assert len(sent) == 2
