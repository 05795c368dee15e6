"""What is declared, and the mistakes that are noticed while importing."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from supervisor.sdk import Plugin
from supervisor.sdk.plugin import is_async


def test_declared() -> None:
    plugin = Plugin()

    @plugin.job("refresh")
    def refresh(ctx: object) -> None: ...

    @plugin.method("forecast")
    def forecast(ctx: object, city: str) -> None: ...

    assert plugin.jobs == {"refresh": refresh}
    assert plugin.methods == {"forecast": forecast}


@pytest.mark.parametrize("kind", ["job", "method"])
def test_a_name_twice(kind: str) -> None:
    plugin = Plugin()
    getattr(plugin, kind)("a")(lambda ctx: None)
    with pytest.raises(ValueError, match=f"{kind} 'a' is declared twice"):
        getattr(plugin, kind)("a")(lambda ctx: None)


@pytest.mark.parametrize("hook", ["on_start", "on_stop", "health"])
def test_a_hook_twice(hook: str) -> None:
    plugin = Plugin()
    getattr(plugin, hook)(lambda ctx: None)
    with pytest.raises(ValueError, match=f"hook '{hook}' is declared twice"):
        getattr(plugin, hook)(lambda ctx: None)


def test_without_a_name() -> None:
    with pytest.raises(TypeError, match=r'@plugin.job needs a name: @plugin.job\("…"\)'):
        Plugin().job(lambda ctx: None)  # type: ignore[arg-type]


async def plain(ctx: object) -> None: ...


class Handler:
    async def __call__(self, ctx: object) -> None: ...

    async def method(self, ctx: object) -> None: ...


@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        (plain, True),
        (functools.partial(plain), True),
        (Handler(), True),
        (Handler().method, True),
        (lambda ctx: None, False),
        (functools.partial(print, end=""), False),
        (print, False),
    ],
    ids=["function", "partial", "object", "method", "lambda", "partial of a builtin", "builtin"],
)
def test_what_is_async(handler: Any, expected: bool) -> None:
    assert is_async(handler) is expected
    for declare in (lambda p: p.job("a"), lambda p: p.on_start, lambda p: p.on_event("x")):
        plugin = Plugin()
        declare(plugin)(handler)
        assert plugin.needs_loop is expected


def test_an_async_generator() -> None:
    async def handler(ctx: object) -> AsyncIterator[int]:
        yield 1

    with pytest.raises(TypeError, match="job 'a' is an async generator"):
        Plugin().job("a")(handler)


def test_a_background_task_that_is_a_plain_function() -> None:
    with pytest.raises(TypeError, match="a background task must be an async function"):
        Plugin().background(lambda ctx: None)


@pytest.mark.parametrize(
    "wrong", [lambda p: p.on_event(lambda ctx, event: None), lambda p: p.on_event("a", plugins="b")]
)
def test_on_event_without_types(wrong: Callable[[Plugin], object]) -> None:
    with pytest.raises(TypeError, match="takes types and plugins"):
        wrong(Plugin())
