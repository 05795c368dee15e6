"""Async handlers in the harness: requests, cancellation, mixing with threads, background tasks, a blocked loop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import trio

from supervisor.core.errors import (
    CallCancelled,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidParams,
    NotFound,
    PluginError,
    ResourceExhausted,
    Unavailable,
)
from supervisor.sdk import AsyncContext, AsyncRunContext, Context, Plugin, health
from supervisor.sdk.testing import Harness


@pytest.fixture
def plugin() -> Plugin:
    return Plugin()


def test_every_request(plugin: Plugin) -> None:
    whole = {"a": 1, "token": "t"}

    @plugin.job("all")
    async def job(ctx: AsyncRunContext) -> Any:
        await ctx.progress(0.5, "half")
        for n in range(1200):
            await ctx.state.set(f"n/{n:04}", n)
        assert await ctx.state.get("none", 5) == 5
        assert await ctx.state.delete("n/0000")
        assert not await ctx.state.delete("n/0000")
        await ctx.metric("size", 3, room="a")
        await ctx.count("seen", 2)
        await ctx.count("seen")
        ctx.log.info("here")
        assert (ctx.run_id, ctx.config, await ctx.get_config()) == ("r1", whole, whole)
        assert [one["key"] for one in await ctx.plugins()] == ["acme.db"]
        return {
            "seq": await ctx.emit("done", {"n": 1}),
            "sum": sum([value async for _, value in ctx.state.items("n/")]),
            "secret": await ctx.secret("token"),
            "rows": await ctx.call("acme.db", "query", {"sql": "x"}),
        }

    others = {"acme.db": {"query": lambda sql: [sql]}}
    with Harness(plugin, config={"a": 1}, secrets={"token": "t"}, plugins=others) as h:
        result = h.run_job("all", run_id="r1")
        assert result == {"seq": 1, "sum": sum(range(1200)), "secret": "t", "rows": ["x"]}
        assert h.progress == [("r1", 0.5, "half")]
        assert (h.metric("size", room="a"), h.metric("seen"), h.metric("none")) == (3, 3, None)
        assert [(line.message, line.run_id) for line in h.logs] == [("here", "r1")]
    assert h.exit_code == 0


def test_params_and_failures(plugin: Plugin, capfd: pytest.CaptureFixture[str]) -> None:
    @plugin.method("add")
    async def add(ctx: AsyncContext, a: int, b: int = 1) -> int:
        await trio.lowlevel.checkpoint()
        return a + b

    @plugin.method("bug")
    async def bug(ctx: AsyncContext) -> None:
        raise KeyError("city")

    @plugin.method("refuse")
    async def refuse(ctx: AsyncContext) -> None:
        async with trio.open_nursery():
            raise NotFound("no such city")

    @plugin.method("exit")
    async def leave(ctx: AsyncContext) -> None:
        raise SystemExit(3)

    @plugin.method("denied")
    async def denied(ctx: AsyncContext) -> None:
        await ctx.emit("x")

    @plugin.method("hidden")
    def hidden(ctx: Context) -> Any:
        return add(ctx, 1)  # type: ignore[arg-type]

    with Harness(plugin, capabilities=[]) as h:
        assert (h.call("add", 1), h.call("add", a=2, b=3)) == (2, 5)
        with pytest.raises(InvalidParams, match="missing a required argument: 'a'; it takes a, b"):
            h.call("add")
        with pytest.raises(PluginError, match=r"^KeyError: 'city'$"):
            h.call("bug")
        with pytest.raises(NotFound, match="no such city"):
            h.call("refuse")
        with pytest.raises(PluginError, match="SystemExit: 3"):
            h.call("exit")
        with pytest.raises(PluginError, match=r"PermissionDenied: events\.emit needs the capability"):
            h.call("denied")
        with pytest.raises(PluginError, match="returned a coroutine: declare the function itself with 'async def'"):
            h.call("hidden")
        assert h.health() == {"status": "ok"}
    assert "method 'bug' failed:\nTraceback" in capfd.readouterr().err


def test_they_run_in_one_loop_beside_threads(plugin: Plugin) -> None:
    both = threading.Barrier(2)

    @plugin.method("async")
    async def waits(ctx: AsyncContext) -> str:
        await trio.to_thread.run_sync(both.wait, 10)
        return threading.current_thread().name

    @plugin.method("sync")
    def meets(ctx: Context) -> str:
        both.wait(10)
        return threading.current_thread().name

    with Harness(plugin) as h:
        first, second = h.start_call("async"), h.start_call("sync")
        assert (first.result(), second.result()) == ("event loop", "handler-1")


def test_hooks(plugin: Plugin) -> None:
    @plugin.on_start
    async def start(ctx: AsyncContext) -> None:
        await ctx.state.set("started", True)

    @plugin.on_stop
    async def stop(ctx: AsyncContext) -> None:
        await ctx.state.set("stopped", True)

    @plugin.health
    async def well(ctx: AsyncContext) -> Any:
        return await ctx.state.get("complaint")

    with Harness(plugin) as h:
        assert h.state == {"started": True}
        assert h.health() == {"status": "ok"}
        h.state["complaint"] = "slow"
        assert h.health() == {"status": "degraded", "message": "slow"}
    assert h.state["stopped"] is True


def test_a_start_that_fails(plugin: Plugin) -> None:
    @plugin.on_start
    async def start(ctx: AsyncContext) -> None:
        raise ConnectionRefusedError("database")

    with pytest.raises(PluginError, match="ConnectionRefusedError: database"), Harness(plugin):
        pytest.fail("it did not start")


def test_a_health_hook_is_cancelled_when_nobody_waits(plugin: Plugin) -> None:
    ended = threading.Event()

    @plugin.health
    async def slow(ctx: AsyncContext) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    with Harness(plugin, timeout_s=0.2) as h:
        with pytest.raises(DeadlineExceeded):
            h.health()
        assert ended.wait(5)


@pytest.mark.parametrize("turn", range(5))
def test_cancel(plugin: Plugin, turn: int) -> None:
    """What it had asked of another plugin is given up with it; shielded cleanup runs, and may ask."""

    @plugin.job("slow")
    async def slow(ctx: AsyncRunContext) -> None:
        await ctx.emit("begun")
        try:
            await ctx.call("acme.db", "wait")
        finally:
            with trio.move_on_after(5, shield=True):
                await ctx.state.set("clean", True)

    go = threading.Event()
    with Harness(plugin, plugins={"acme.db": {"wait": lambda: go.wait(10)}}) as h:
        run = h.start_job("slow")
        h.wait_until(lambda: h.events)
        run.cancel()
        with pytest.raises(CallCancelled):
            run.result()
        assert h.state == {"clean": True}
        h.wait_until(lambda: not h._open)
        go.set()


def test_a_handler_may_finish_all_the_same(plugin: Plugin) -> None:
    @plugin.job("stubborn")
    async def stubborn(ctx: AsyncRunContext) -> str:
        try:
            await ctx.emit("begun")
            await trio.sleep_forever()
        except trio.Cancelled:
            return "done"
        return "never"

    with Harness(plugin) as h:
        run = h.start_job("stubborn")
        h.wait_until(lambda: h.events)
        run.cancel()
        assert run.result() == "done"


def test_a_run_that_takes_too_long(plugin: Plugin) -> None:
    ended = threading.Event()

    @plugin.job("slow")
    async def slow(ctx: AsyncRunContext) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    with Harness(plugin) as h:
        with pytest.raises(DeadlineExceeded):
            h.run_job("slow", timeout_s=0.05)
        assert ended.wait(5)
        assert h.health() == {"status": "ok"}


def test_every_request_gets_one_answer_whenever_it_is_cancelled(plugin: Plugin) -> None:
    """The peer at the other end fails on a second answer to one request."""

    @plugin.method("a")
    async def asks(ctx: AsyncContext) -> int:
        await ctx.state.set("k", 1)
        return 1

    @plugin.method("s")
    def asks_too(ctx: Context) -> int:
        ctx.state.set("k", 1)
        return 1

    with Harness(plugin) as h:
        for turn in range(300):
            started = [h.start_call(name) for name in ("a", "s", "a", "s")]
            for one in started[turn % 4 :]:
                one.cancel()
            for one in started:
                try:
                    assert one.result() == 1
                except CallCancelled:
                    assert one in started[turn % 4 :]
        assert h.call("a") == 1


def test_sixty_four_at_once(plugin: Plugin) -> None:
    go = trio.Event()

    @plugin.method("wait")
    async def wait(ctx: AsyncContext) -> None:
        await ctx.emit("here")
        await go.wait()

    @plugin.method("go")
    async def let_go(ctx: AsyncContext) -> None:
        go.set()

    with Harness(plugin) as h:
        waiting = [h.start_call("wait") for _ in range(64)]
        h.wait_until(lambda: len(h.events) == 64)
        assert h.health() == {"status": "ok"}
        with pytest.raises(ResourceExhausted, match="64 requests are in flight"):
            h.call("wait")
        waiting[0].cancel()
        with pytest.raises(CallCancelled):
            waiting[0].result()
        h.call("go")
        assert [one.result() for one in waiting[1:]] == [None] * 63


def test_more_requests_than_plugind_takes_wait_for_their_turn(plugin: Plugin) -> None:
    @plugin.job("many")
    async def many(ctx: AsyncRunContext) -> None:
        async with trio.open_nursery() as nursery:
            for n in range(500):
                nursery.start_soon(ctx.state.set, f"k{n}", n)

    with Harness(plugin) as h:
        h.run_job("many")
        assert len(h.state) == 500


def test_large_values_both_ways(plugin: Plugin) -> None:
    @plugin.method("echo")
    async def echo(ctx: AsyncContext, data: bytes) -> bytes:
        await ctx.state.set("data", data)
        return data

    with Harness(plugin) as h:
        started = [h.start_call("echo", data=bytes([n]) * (1 << 20)) for n in range(12)]
        assert [one.result(20)[0] for one in started] == list(range(12))


def test_drain(plugin: Plugin) -> None:
    """What ends in time ends well; the rest is cancelled near the end, and answered."""
    order: list[str] = []

    @plugin.method("quick")
    async def quick(ctx: AsyncContext) -> str:
        await ctx.emit("begun")
        await trio.sleep(0.1)
        order.append("quick")
        return "done"

    @plugin.method("slow")
    async def slow(ctx: AsyncContext) -> None:
        await ctx.emit("begun")
        try:
            await trio.sleep_forever()
        finally:
            order.append("slow")

    @plugin.method("shielded")
    async def shielded(ctx: AsyncContext) -> None:
        await ctx.emit("begun")
        with trio.CancelScope(shield=True):
            await trio.sleep(60)

    @plugin.background
    async def poll(ctx: AsyncContext) -> None:
        try:
            await trio.sleep_forever()
        finally:
            order.append("background")

    @plugin.on_stop
    async def stop(ctx: AsyncContext) -> None:
        order.append("on_stop")

    with Harness(plugin) as h:
        started = {name: h.start_call(name) for name in ("quick", "slow", "shielded")}
        h.wait_until(lambda: len(h.events) == 3)
        began = time.monotonic()
        h.shutdown(1.0)
        assert time.monotonic() - began < 3
        assert started["quick"].result() == "done"
        with pytest.raises(CallCancelled):
            started["slow"].result()
        with pytest.raises(CallCancelled, match="the worker stopped before method 'shielded' had ended"):
            started["shielded"].result()
        assert h.wait_exit() == 0
    assert order == ["quick", "slow", "background", "on_stop"]


def test_a_background_task(plugin: Plugin) -> None:
    @plugin.background
    async def poll(ctx: AsyncContext) -> None:
        await ctx.emit("polled")
        try:
            await trio.sleep_forever()
        finally:
            with trio.move_on_after(1, shield=True):
                await ctx.state.set("closed", True)

    @plugin.background
    async def once(ctx: AsyncContext) -> None:
        await ctx.emit("once")

    with Harness(plugin) as h:
        h.wait_until(lambda: len(h.events) == 2)
        assert h.health() == {"status": "ok"}
    assert h.state == {"closed": True}
    assert h.exit_code == 0


def test_a_background_task_that_raises_ends_the_worker(plugin: Plugin, capfd: pytest.CaptureFixture[str]) -> None:
    @plugin.background
    async def poll(ctx: AsyncContext) -> None:
        while await ctx.state.get("fine"):
            pass
        raise ConnectionResetError("the feed went away")

    with Harness(plugin, state={"fine": True}) as h:
        h.state["fine"] = False
        assert h.wait_exit() == 1
        with pytest.raises(Unavailable):
            h.call("any")
    err = capfd.readouterr().err
    assert "the background task 'poll' failed:\nTraceback" in err
    assert "ConnectionResetError: the feed went away" in err


def test_a_blocked_loop_is_noticed(plugin: Plugin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "STALLED_S", 0.2)
    go, blocked = threading.Event(), threading.Event()

    @plugin.method("block")
    async def block(ctx: AsyncContext) -> None:
        blocked.set()
        go.wait(10)

    with Harness(plugin) as h:
        assert h.health() == {"status": "ok"}
        call = h.start_call("block")
        assert blocked.wait(5)
        answer = until(lambda: h.health(), lambda answer: answer["status"] == "error")
        assert "the event loop has stood still for 0 s: async code blocks it" in answer["message"]
        go.set()
        call.result()
        assert until(lambda: h.health(), lambda answer: answer["status"] == "ok")


def until(ask: Callable[[], Any], holds: Callable[[Any], bool]) -> Any:
    deadline = time.monotonic() + 5
    while not holds(answer := ask()):
        assert time.monotonic() < deadline, answer
    return answer


def test_without_its_capability_on_event_is_refused_at_once(plugin: Plugin) -> None:
    plugin.on_event("plugin.*")(lambda ctx, event: None)
    with (
        pytest.raises(FailedPrecondition, match=r"not granted the capability 'events.subscribe': declare it"),
        Harness(plugin, capabilities=[]),
    ):
        pytest.fail("it did start")
