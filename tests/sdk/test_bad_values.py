"""Values and exceptions of an author's own classes whose code fails: each request is answered all the same."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from supervisor.core.errors import NotFound, PluginError
from supervisor.sdk import Context, Plugin
from supervisor.sdk.testing import Harness


class TextlessError(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


class Textless:
    def __repr__(self) -> str:
        raise ValueError("no text")


class Unpackable(list[int]):
    def __iter__(self) -> Any:
        raise ZeroDivisionError("no items")


class NoCity(NotFound):
    def __init__(self, city: str) -> None:
        self.city = city


@pytest.fixture
def plugin() -> Plugin:
    plugin = Plugin()

    @plugin.method("ping")
    def ping(ctx: Context) -> str:
        return "pong"

    return plugin


def test_an_exception_without_a_text(plugin: Plugin) -> None:
    @plugin.method("plain")
    def plain(ctx: Context) -> None:
        raise TextlessError

    @plugin.method("async")
    async def in_loop(ctx: Any) -> None:
        raise TextlessError

    with Harness(plugin) as h:
        for method in ["plain"] * 20 + ["async"]:  # More than there are threads.
            with pytest.raises(PluginError, match=r"^TextlessError \(its text cannot be made\)$"):
                h.call(method)
        assert h.call("ping") == "pong"
    assert h.exit_code == 0


def test_an_event_handler_whose_exception_has_no_text(plugin: Plugin) -> None:
    seen: list[int] = []

    @plugin.on_event("x")
    def on_x(ctx: Context, event: dict[str, Any]) -> None:
        seen.append(event["seq"])
        raise TextlessError

    with Harness(plugin) as h:
        h.publish("x")
        h.publish("x")
        h.wait_until(lambda: sum(line.level == "error" for line in h.logs) == 2)
    assert len(seen) == 2


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (NoCity("Oslo"), "NOT_FOUND", "Oslo"),
        (NotFound(404), "NOT_FOUND", "404"),  # type: ignore[arg-type]
        (PluginError(KeyError("k")), "PLUGIN_ERROR", "'k'"),  # type: ignore[arg-type]
        (PluginError(TextlessError()), "PLUGIN_ERROR", "PluginError (its text cannot be made)"),  # type: ignore[arg-type]
    ],
)
def test_an_error_with_a_message_that_is_no_text(plugin: Plugin, error: Any, code: str, message: str) -> None:
    @plugin.method("bad")
    def bad(ctx: Context) -> None:
        raise error

    with Harness(plugin) as h:
        with pytest.raises((NotFound, PluginError)) as caught:
            h.call("bad")
        assert (caught.value.code, caught.value.message) == (code, message)


def test_a_result_that_fails_while_it_is_packed(plugin: Plugin) -> None:
    @plugin.method("bad")
    def bad(ctx: Context) -> Any:
        return Unpackable([1])

    with Harness(plugin) as h, pytest.raises(PluginError, match=r"the result cannot be sent: .*no items"):
        h.call("bad")


@pytest.mark.parametrize("stream", [None, "closed"])
def test_without_stderr(plugin: Plugin, monkeypatch: pytest.MonkeyPatch, stream: str | None) -> None:
    @plugin.method("bad")
    def bad(ctx: Context) -> None:
        raise RuntimeError("x")

    class Closed:
        def write(self, _: str) -> int:
            raise ValueError("I/O operation on closed file")

    with Harness(plugin) as h:
        monkeypatch.setattr(sys, "stderr", Closed() if stream else None)
        with pytest.raises(PluginError, match="RuntimeError: x"):
            h.call("bad")


def test_logging_never_raises(plugin: Plugin) -> None:
    @plugin.method("log")
    def log(ctx: Context) -> str:
        ctx.log.info("repr", x=Textless(), y=1)
        ctx.log.info(TextlessError())  # type: ignore[arg-type]
        ctx.log.info("packed", x=Unpackable([1]))
        return "logged"

    with Harness(plugin) as h:
        assert h.call("log") == "logged"
        assert h.logs[0].fields == {"x": "<Textless: its text cannot be made>", "y": "1"}
        assert h.logs[1].message == "<TextlessError: its text cannot be made>"
        assert h.logs[2].message == "packed"


def test_logging_without_plugind_never_raises(plugin: Plugin, capsys: pytest.CaptureFixture[str]) -> None:
    plugin.log.info("repr", x=Textless())
    assert capsys.readouterr().err == "info: repr x=<Textless: its text cannot be made>\n"


@pytest.mark.parametrize("leave", [sys.exit, lambda: TextlessError()])
def test_a_health_hook_that_exits(plugin: Plugin, leave: Callable[[], Any]) -> None:
    @plugin.health
    def health(ctx: Context) -> None:
        raise leave()

    with Harness(plugin) as h:
        for _ in range(2):
            assert h.health()["status"] == "error"


def test_a_stop_hook_that_exits(plugin: Plugin) -> None:
    @plugin.on_stop
    def stop(ctx: Context) -> None:
        sys.exit(3)

    with Harness(plugin) as h:
        assert h.call("ping") == "pong"
    assert h.exit_code == 0


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    return lambda: monkeypatch.setattr(threading.Thread, "start", start)


def test_health_without_a_thread(plugin: Plugin, no_threads: Callable[[], None]) -> None:
    plugin.health(lambda ctx: None)
    with Harness(plugin) as h:
        no_threads()
        for _ in range(2):
            assert h.health() == {
                "status": "degraded",
                "message": "the health hook cannot be asked: can't start new thread",
            }


def test_a_call_and_the_shutdown_without_a_thread(plugin: Plugin, no_threads: Callable[[], None]) -> None:
    stopped: list[bool] = []
    plugin.on_stop(lambda ctx: stopped.append(True))
    with Harness(plugin) as h:
        no_threads()
        with pytest.raises(Exception, match="cannot start a thread for a handler") as caught:
            h.call("ping")
        assert getattr(caught.value, "code", None) == "RESOURCE_EXHAUSTED"
    assert (h.exit_code, stopped) == (0, [True])
