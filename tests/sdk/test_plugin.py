"""What is declared, and the mistakes that are noticed while importing."""

from __future__ import annotations

import pytest

from supervisor.sdk import Plugin


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


def test_an_async_handler() -> None:
    async def handler(ctx: object) -> None: ...

    with pytest.raises(TypeError, match="is an async function"):
        Plugin().job("a")(handler)
