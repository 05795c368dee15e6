"""@on_event: order, filters, failures, a queue that overflows, and plugind that ends a subscription."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import trio

from supervisor.sdk import AsyncContext, Context, Plugin, PluginError, RunContext
from supervisor.sdk.events import QUEUE
from supervisor.sdk.testing import Harness


@pytest.fixture
def plugin() -> Plugin:
    return Plugin()


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_in_order_one_at_a_time(plugin: Plugin, kind: str) -> None:
    seen: list[int] = []
    inside = threading.Lock()

    def handle(event: dict[str, Any]) -> None:
        assert inside.acquire(blocking=False)
        seen.append(event["data"]["n"])
        assert set(event) == {"seq", "at_ms", "type", "plugin_id", "plugin", "data"}
        inside.release()

    @plugin.on_event("plugin.*")
    def plain(ctx: Context, event: dict[str, Any]) -> None:
        handle(event)
        ctx.state.set("seen", len(seen))

    @plugin.on_event("plugin.*")
    async def waiting(ctx: AsyncContext, event: dict[str, Any]) -> None:
        handle(event)
        await ctx.state.set("seen", len(seen))

    del plugin.event_handlers[kind == "sync"]
    with Harness(plugin) as h:
        for n in range(2000):
            h.publish("plugin.enabled", {"n": n})
        h.wait_until(lambda: h.state.get("seen") == 2000)
    assert seen == list(range(2000))


def test_types_and_plugins(plugin: Plugin) -> None:
    seen: list[tuple[str, str]] = []

    @plugin.on_event("plugin.*", "emitted.x", plugins=["acme.db"])
    def some(ctx: Context, event: dict[str, Any]) -> None:
        seen.append((event["type"], event["plugin"]))

    @plugin.on_event()
    def every(ctx: Context, event: dict[str, Any]) -> None:
        if event["type"] == "last":
            ctx.emit("last")

    with Harness(plugin) as h:
        h.publish("plugin.enabled", plugin="acme.db")
        h.publish("plugin.enabled", plugin="acme.web")
        h.publish("job.run_started", plugin="acme.db")
        h.publish("emitted.x", plugin="acme.db")
        h.publish("last")
        # Each handler has a thread of its own; what comes beyond that until the end is seen below.
        h.wait_until(lambda: h.events and len(seen) >= 2)
    assert seen == [("plugin.enabled", "acme.db"), ("emitted.x", "acme.db")]


def test_its_own_events_and_what_happens_while_it_starts(plugin: Plugin) -> None:
    @plugin.on_start
    def start(ctx: Context) -> None:
        ctx.emit("before")

    @plugin.on_event("emitted.*")
    def mine(ctx: Context, event: dict[str, Any]) -> None:
        ctx.state.set(event["type"], event["data"])

    @plugin.job("j")
    def job(ctx: RunContext) -> None:
        ctx.emit("after", 1)

    with Harness(plugin) as h:
        h.run_job("j")
        h.wait_until(lambda: h.state)
        assert h.state == {"emitted.after": 1}


def test_one_that_raises_is_logged_and_the_next_follows(plugin: Plugin, capfd: pytest.CaptureFixture[str]) -> None:
    @plugin.on_event("a")
    def fails(ctx: Context, event: dict[str, Any]) -> None:
        if event["data"] == 1:
            raise ValueError("one")
        if event["data"] == 2:
            raise PluginError("two")
        ctx.emit("fine")

    with Harness(plugin) as h:
        for n in (1, 2, 3):
            h.publish("a", n)
        h.wait_until(lambda: h.events)
        assert [(line.level, line.message) for line in h.logs] == [
            ("error", "the handler of a (event 1) failed: ValueError: one"),
            ("error", "the handler of a (event 2) failed: two"),
        ]
    assert "ValueError: one" in capfd.readouterr().err


@pytest.mark.parametrize("turn", range(3))
def test_a_slow_handler_misses_nothing(plugin: Plugin, turn: int) -> None:
    """Its queue overflows; the journal tells the rest, each event once."""
    go = threading.Event()
    seen: list[int] = []

    @plugin.on_event("n")
    def slow(ctx: Context, event: dict[str, Any]) -> None:
        assert go.wait(10)
        seen.append(event["data"])
        ctx.state.set("seen", len(seen))

    count = QUEUE * 3
    with Harness(plugin) as h:
        for n in range(count):
            h.publish("n", n)
        assert h.health() == {"status": "ok"}
        h._outgoing.put(go.set)  # Behind all the events.
        h.wait_until(lambda: h.state.get("seen") == count)
        assert any("the subscription to n ended (overflow)" in line.message for line in h.logs)
    assert seen == list(range(count))


def test_plugind_ends_a_subscription(plugin: Plugin) -> None:
    @plugin.on_event("n")
    async def handle(ctx: AsyncContext, event: dict[str, Any]) -> None:
        await ctx.emit("got", event["data"])

    with Harness(plugin) as h:
        h.publish("n", 1)
        h.wait_until(lambda: h.events)
        (number,) = h._subscriptions
        del h._subscriptions[number]
        h.publish("n", 2)
        h._outgoing.put(lambda: end(h, number, 1))
        h.wait_until(lambda: len(h.events) == 2)
        assert h.events == [("got", 1), ("got", 2)]


def end(host: Harness, number: int, last_seq: int) -> None:
    host._connection.notify(
        "event", [{"subscription": number, "end": True, "reason": "overflow", "last_seq": last_seq}]
    )


def test_the_drain_waits_for_the_handler_and_takes_no_more(plugin: Plugin) -> None:
    @plugin.on_event("n")
    async def handle(ctx: AsyncContext, event: dict[str, Any]) -> None:
        await ctx.emit("begun", event["data"])
        await trio.sleep(0.1)
        await ctx.state.set("ended", event["data"])

    with Harness(plugin) as h:
        h.publish("n", 1)
        h.publish("n", 2)
        h.wait_until(lambda: h.events)
    assert h.events == [("begun", 1)]
    assert h.state == {"ended": 1}


def test_a_refused_subscription_fails_the_start(plugin: Plugin, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin.on_event("n")(lambda ctx, event: None)

    def refuse(self: Harness, id_: int, request: Any) -> None:
        raise PluginError("no more subscriptions")

    monkeypatch.setattr(Harness, "_serve", refuse)
    with pytest.raises(PluginError, match="no more subscriptions"), Harness(plugin):
        pytest.fail("it did start")
