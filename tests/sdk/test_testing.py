"""Plugins in the harness: jobs, methods, state, events, logs, cancellation, hooks."""

from __future__ import annotations

import gc
import logging
import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from supervisor.core.errors import (
    CallCancelled,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidParams,
    MethodNotFound,
    NotFound,
    PermissionDenied,
    PluginError,
    ResourceExhausted,
    Unavailable,
)
from supervisor.sdk import AsyncRunContext, Context, Plugin, RunContext
from supervisor.sdk.logging import PluginHandler
from supervisor.sdk.testing import Harness


@pytest.fixture
def plugin() -> Plugin:
    return Plugin()


def test_a_job(plugin: Plugin, tmp_path: Path) -> None:
    @plugin.job("refresh")
    def refresh(ctx: RunContext) -> Any:
        assert (ctx.run_id, ctx.trigger, ctx.attempt, ctx.job) == ("r1", "schedule", 2, "refresh")
        assert ctx.scheduled_at == datetime(2026, 1, 1, tzinfo=UTC)
        assert (ctx.plugin_key, ctx.config, ctx.data_dir) == ("acme.weather", {"city": "Oslo"}, tmp_path)
        assert not ctx.cancelled
        ctx.raise_if_cancelled()
        ctx.log.warning("cold", degrees=-4)
        return {"seq": ctx.emit("forecast", {"degrees": -4})}

    with Harness(plugin, key="acme.weather", config={"city": "Oslo"}, data_dir=tmp_path) as h:
        due = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1000)
        result = h.run_job("refresh", trigger="schedule", attempt=2, run_id="r1", scheduled_at_ms=due)
        assert result == {"seq": 1}
        assert h.events == [("forecast", {"degrees": -4})]
        (line,) = h.logs
        assert (line.level, line.message, line.fields, line.run_id) == ("warning", "cold", {"degrees": -4}, "r1")
    assert h.exit_code == 0


def test_params_of_a_run(plugin: Plugin) -> None:
    @plugin.job("refresh")
    def refresh(ctx: RunContext) -> Any:
        return ctx.params

    @plugin.job("later")
    async def later(ctx: AsyncRunContext) -> Any:
        return ctx.params

    with Harness(plugin) as h:
        for job in ("refresh", "later"):
            assert h.run_job(job) == {}
            assert h.run_job(job, params={"city": "Oslo"}) == {"city": "Oslo"}
            assert h.start_job(job, params={"days": 3}).result() == {"days": 3}
        with pytest.raises(InvalidParams, match="'params' as a map"):
            h._ask(
                "run_job",
                {"job": "later", "run_id": "r", "trigger": "manual", "scheduled_at_ms": 0, "attempt": 1, "params": [1]},
            )


def test_state(plugin: Plugin) -> None:
    @plugin.job("j")
    def job(ctx: RunContext) -> Any:
        assert ctx.state.get("none") is None
        assert ctx.state.get("none", 5) == 5
        ctx.state.set("nil", None)
        assert ctx.state.get("nil", 5) is None
        for n in range(1200):
            ctx.state.set(f"n/{n:04}", n)
        assert ctx.state.delete("a")
        assert not ctx.state.delete("a")
        return [value for _, value in ctx.state.items("n/")]

    with Harness(plugin, state={"a": 1, "z": 2}) as h:
        assert h.run_job("j") == list(range(1200))
        assert h.state["z"] == 2
        assert "a" not in h.state


def test_params(plugin: Plugin) -> None:
    @plugin.method("f")
    def f(ctx: Context, city: str, days: int = 1) -> list[Any]:
        return [city, days]

    with Harness(plugin) as h:
        assert h.call("f", city="Oslo") == h.call("f", "Oslo") == ["Oslo", 1]
        assert h.call("f", days=2, city="Oslo") == h.call("f", "Oslo", 2) == ["Oslo", 2]
        for call, why in (
            (lambda: h.call("f"), "f: missing a required argument: 'city'; it takes city, days"),
            (lambda: h.call("f", city="Oslo", dyas=1), "f: got an unexpected keyword argument 'dyas'"),
            (lambda: h.call("f", 1, 2, 3), "f: too many positional arguments"),
            (lambda: h.call("f", ctx=1, city="x"), "f: multiple values for argument 'ctx'"),
        ):
            with pytest.raises(InvalidParams, match=why):
                call()


def test_failures(plugin: Plugin, capfd: pytest.CaptureFixture[str]) -> None:
    @plugin.method("bug")
    def bug(ctx: Context) -> None:
        raise KeyError("city")

    @plugin.method("exit")
    def leave(ctx: Context) -> None:
        raise SystemExit(3)

    @plugin.method("refuse")
    def refuse(ctx: Context) -> None:
        raise NotFound("no such city", city="Atlantis")

    @plugin.method("denied")
    def denied(ctx: Context) -> None:
        ctx.state.get("k")

    @plugin.method("odd")
    def odd(ctx: Context) -> Any:
        return {1: 2}

    @plugin.method("big")
    def big(ctx: Context) -> Any:
        return b"x" * (5 << 20)

    with Harness(plugin, capabilities=[]) as h:
        with pytest.raises(PluginError, match=r"^KeyError: 'city'$") as caught:
            h.call("bug")
        assert "Traceback" not in str(caught.value.details)
        with pytest.raises(PluginError, match="SystemExit: 3"):
            h.call("exit")
        with pytest.raises(NotFound, match="no such city") as refused:
            h.call("refuse")
        assert refused.value.details == {"city": "Atlantis"}
        with pytest.raises(PluginError, match=r"PermissionDenied: state\.get needs the capability 'state.read'"):
            h.call("denied")
        with pytest.raises(PluginError, match="map keys must be strings"):
            h.call("odd")
        with pytest.raises(ResourceExhausted, match="longer than the limit"):
            h.call("big")
        with pytest.raises(MethodNotFound, match="no method 'none'; it has big, bug"):
            h.call("none")
        with pytest.raises(NotFound, match="no handler for the job 'none'"):
            h.run_job("none")
        assert h.health() == {"status": "ok"}
    err = capfd.readouterr().err
    assert "method 'bug' failed:\nTraceback" in err
    assert "KeyError: 'city'" in err


def test_permission_denied_in_the_handler(plugin: Plugin) -> None:
    @plugin.method("m")
    def m(ctx: Context) -> Any:
        with pytest.raises(PermissionDenied) as caught:
            ctx.emit("x")
        return caught.value.details

    with Harness(plugin, capabilities=["state.read"]) as h:
        assert h.call("m") == {"capability": "events.emit"}


def test_cancel(plugin: Plugin) -> None:
    ended = threading.Event()

    @plugin.job("slow")
    def slow(ctx: RunContext) -> None:
        assert ctx.wait_cancelled(10)
        ended.set()
        ctx.raise_if_cancelled()

    with Harness(plugin) as h:
        with pytest.raises(DeadlineExceeded):
            h.run_job("slow", timeout_s=0.05)
        assert ended.wait(5)


def test_a_cancelled_run_says_so(plugin: Plugin) -> None:
    @plugin.job("slow")
    def slow(ctx: RunContext) -> None:
        ctx.cancel()
        ctx.raise_if_cancelled()

    with Harness(plugin) as h, pytest.raises(CallCancelled):
        h.run_job("slow")


def test_sixteen_at_once_and_health_all_the_same(plugin: Plugin) -> None:
    at_once = threading.Barrier(17)
    go = threading.Event()

    @plugin.method("wait")
    def wait(ctx: Context, n: int) -> int:
        if n < 16:
            at_once.wait(10)
        assert go.wait(10)
        return n

    with Harness(plugin) as h:
        results: list[int] = []
        callers = [threading.Thread(target=lambda n=n: results.append(h.call("wait", n=n))) for n in range(16)]
        for caller in callers:
            caller.start()
        at_once.wait(10)
        more = threading.Thread(target=lambda: results.append(h.call("wait", n=99)))
        more.start()
        assert h.health() == {"status": "ok"}
        go.set()
        for caller in [*callers, more]:
            caller.join(10)
        assert sorted(results) == [*range(16), 99]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [(None, {"status": "ok"}), ("disk is slow", {"status": "degraded", "message": "disk is slow"})],
)
def test_health(plugin: Plugin, answer: str | None, expected: dict[str, str]) -> None:
    plugin.health(lambda ctx: answer)
    with Harness(plugin) as h:
        assert h.health() == expected


def test_health_that_raises_and_asks(plugin: Plugin) -> None:
    @plugin.health
    def health(ctx: Context) -> None:
        raise ValueError(ctx.state.get("why"))

    with Harness(plugin, state={"why": "no database"}) as h:
        assert h.health() == {"status": "error", "message": "ValueError: no database"}


def test_hooks_may_ask_too(plugin: Plugin) -> None:
    plugin.on_start(lambda ctx: ctx.state.set("started", True))
    plugin.on_stop(lambda ctx: ctx.state.set("stopped", True))
    with Harness(plugin) as h:
        assert h.state == {"started": True}
    assert h.state == {"started": True, "stopped": True}


def test_a_start_that_fails_fails_the_handshake(plugin: Plugin) -> None:
    @plugin.on_start
    def start(ctx: Context) -> None:
        raise ConnectionRefusedError("database")

    with pytest.raises(PluginError, match="ConnectionRefusedError: database"), Harness(plugin):
        pytest.fail("it did not start")


def test_a_declared_job_without_a_handler(plugin: Plugin) -> None:
    manifest = {"jobs": [{"key": "a"}], "methods": [{"name": "b"}]}
    with (
        pytest.raises(FailedPrecondition, match="declares job 'a', method 'b', but the code has no handler"),
        Harness(plugin, manifest=manifest),
    ):
        pytest.fail("it did start")


def test_a_declared_job_that_is_a_program_of_its_own_needs_no_handler(plugin: Plugin) -> None:
    with Harness(plugin, manifest={"jobs": [{"key": "dump", "command": ["pg_dump"]}]}) as h:
        assert h.health()["status"] == "ok"


def test_a_typo_shows_what_the_code_has_instead(plugin: Plugin) -> None:
    plugin.job("refersh")(lambda ctx: None)
    plugin.job("known")(lambda ctx: None)
    plugin.method("forcast")(lambda ctx: None)
    manifest = {"jobs": [{"key": "refresh"}, {"key": "known"}], "methods": [{"name": "forecast"}]}
    with pytest.raises(FailedPrecondition) as caught, Harness(plugin, manifest=manifest):
        pytest.fail("it did start")
    assert caught.value.message == (
        "plugin.toml declares job 'refresh', method 'forecast', but the code has no handler for it; "
        "the code has job 'refersh', method 'forcast', which plugin.toml does not declare"
    )


def test_no_new_work_while_stopping(plugin: Plugin) -> None:
    running, go = threading.Event(), threading.Event()

    @plugin.method("wait")
    def wait(ctx: Context) -> str:
        running.set()
        assert go.wait(10)
        return "drained"

    with Harness(plugin) as h:
        results: list[Any] = []
        caller = threading.Thread(target=lambda: results.append(h.call("wait")))
        caller.start()
        assert running.wait(10)
        stopper = threading.Thread(target=h.shutdown, args=(10,))
        stopper.start()
        while not h._worker.ending.begun:
            h.health()
        with pytest.raises(Unavailable, match="is stopping"):
            h.call("wait")
        go.set()
        stopper.join(10)
        caller.join(10)
        assert results == ["drained"]
        h.shutdown = lambda: None  # type: ignore[method-assign]  it has been
    assert h.exit_code == 0


def test_what_cannot_be_logged_is_logged_as_text(plugin: Plugin) -> None:
    @plugin.method("m")
    def m(ctx: Context) -> None:
        ctx.log.info("odd \ud800", what={1: 2}, where=Path("/x"))

    with Harness(plugin) as h:
        h.call("m")
        (line,) = h.logs
        assert line.message == "odd \\ud800"
        assert line.fields == {"what": "{1: 2}", "where": "PosixPath('/x')"}


def test_standard_logging(plugin: Plugin) -> None:
    log = logging.getLogger("acme")
    handler = PluginHandler(plugin)
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)

    @plugin.job("j")
    def job(ctx: RunContext) -> None:
        log.debug("a %d", 1, extra={"city": "Oslo"})
        try:
            raise ValueError("x")
        except ValueError:
            log.exception("b")

    try:
        with Harness(plugin) as h:
            h.run_job("j", run_id="r1")
            first, second = h.logs
    finally:
        log.removeHandler(handler)
    assert (first.level, first.message, first.fields, first.run_id) == (
        "debug",
        "a 1",
        {"city": "Oslo", "logger": "acme"},
        "r1",
    )
    assert (second.level, second.message) == ("error", "b")
    assert "ValueError: x" in second.fields["traceback"]


def test_both_ends_send_more_than_the_socket_holds(plugin: Plugin) -> None:
    @plugin.method("echo")
    def echo(ctx: Context, data: bytes) -> bytes:
        return data

    with Harness(plugin) as h:
        results: list[Any] = []
        callers = [
            threading.Thread(target=lambda n=n: results.append(h.call("echo", data=bytes([n]) * (2 << 20))[0]))
            for n in range(12)
        ]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(20)
        assert sorted(results) == list(range(12))


def test_leaves_nothing_behind(plugin: Plugin) -> None:
    @plugin.method("f")
    def f(ctx: Context) -> None:
        return None

    before, fds = set(threading.enumerate()), set(os.listdir("/proc/self/fd"))
    with Harness(plugin) as h:
        h.call("f")
        directory = Path(h.data_dir)
        assert directory.is_dir()
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
        assert not thread.is_alive()
    assert set(os.listdir("/proc/self/fd")) == fds
    assert not directory.exists()


def test_one_that_is_never_entered_holds_nothing(plugin: Plugin) -> None:
    before, fds = threading.active_count(), set(os.listdir("/proc/self/fd"))
    harness = Harness(plugin)
    assert set(os.listdir("/proc/self/fd")) == fds
    assert threading.active_count() == before
    directory = Path(harness.data_dir)
    del harness
    gc.collect()
    assert not directory.exists()


def test_use_before_the_block_says_what_to_do(plugin: Plugin) -> None:
    harness = Harness(plugin)
    for use in (lambda: harness.call("f"), harness.health, lambda: harness.start_job("j"), harness.wait_exit):
        with pytest.raises(RuntimeError, match=r"inside its block, with Harness\(plugin\) as h"):
            use()


def test_entering_twice_says_what_to_do(plugin: Plugin) -> None:
    with Harness(plugin) as h:
        pass
    with pytest.raises(RuntimeError, match=r"entered only once: make a new Harness\(plugin\)"), h:
        pass


def test_what_another_plugin_does_not_offer_is_not_found_as_by_plugind(plugin: Plugin) -> None:
    @plugin.method("ask")
    def ask(ctx: Context, key: str, method: str) -> Any:
        with pytest.raises(NotFound) as refused:
            ctx.call(key, method)
        return refused.value.details

    with Harness(plugin, plugins={"acme.db": {"query": list}}) as h:
        assert h.call("ask", "acme.db", "nothing") == {"plugin": "acme.db", "method": "nothing"}
        assert h.call("ask", "acme.no", "query") == {"plugin": "acme.no"}
