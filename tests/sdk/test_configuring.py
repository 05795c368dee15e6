"""@validate_config and @on_config_changed, and the state's revisions: in threads and in the event loop alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from supervisor.core.errors import InvalidParams, MethodNotFound, PluginError
from supervisor.sdk import AsyncContext, Conflict, Context, Plugin
from supervisor.sdk.testing import Harness


@pytest.fixture
def plugin() -> Plugin:
    return Plugin()


@pytest.mark.parametrize(
    ("outcome", "problems"),
    [
        (None, []),
        ([], []),
        ("no", [{"path": "(the whole)", "message": "no"}]),
        (("db.host", "?"), [{"path": "db.host", "message": "?"}]),
        (["a", ("b", "c")], [{"path": "(the whole)", "message": "a"}, {"path": "b", "message": "c"}]),
    ],
)
@pytest.mark.parametrize("kind", ["plain", "async"])
def test_what_a_hook_has_against_it(plugin: Plugin, kind: str, outcome: Any, problems: list[dict[str, str]]) -> None:
    if kind == "plain":

        @plugin.validate_config
        def check(ctx: Context, config: dict[str, Any]) -> Any:
            assert (ctx.config, config) == ({"city": "Oslo", "token": "t"}, {"city": "Bern", "token": "t"})
            return outcome
    else:

        @plugin.validate_config
        async def check_later(ctx: AsyncContext, config: dict[str, Any]) -> Any:
            assert (ctx.config, config) == ({"city": "Oslo", "token": "t"}, {"city": "Bern", "token": "t"})
            return outcome

    with Harness(plugin, config={"city": "Oslo"}, secrets={"token": "t"}) as h:
        assert h.validate_config({"city": "Bern"}) == problems
        assert h.config == {"city": "Oslo"}


@pytest.mark.parametrize("outcome", [7, [7], {"path": "a"}, ("a", 1), [("a", "b", "c")]])
def test_what_no_hook_may_return(plugin: Plugin, outcome: Any) -> None:
    plugin.validate_config(lambda ctx, config: outcome)
    with Harness(plugin) as h, pytest.raises(PluginError, match="validate_config must return None, a text, or a list"):
        h.validate_config({})


def test_a_hook_may_refuse_by_raising(plugin: Plugin) -> None:
    @plugin.validate_config
    def check(ctx: Context, config: dict[str, Any]) -> None:
        raise InvalidParams("no such city")

    with Harness(plugin) as h, pytest.raises(InvalidParams, match="no such city"):
        h.validate_config({})


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_the_new_configuration_is_in_use_when_the_hook_has_returned(plugin: Plugin, kind: str) -> None:
    seen: list[Any] = []

    if kind == "plain":

        @plugin.on_config_changed
        def changed(ctx: Context, config: dict[str, Any]) -> None:
            seen.append((ctx.config, config))
            if config["city"] == "Atlantis":
                raise ValueError("it sank")
    else:

        @plugin.on_config_changed
        async def changed_later(ctx: AsyncContext, config: dict[str, Any]) -> None:
            seen.append((ctx.config, config))
            if config["city"] == "Atlantis":
                raise ValueError("it sank")

    plugin.method("now")(lambda ctx: [ctx.config, ctx.get_config()])
    with Harness(plugin, config={"city": "Oslo"}, secrets={"db.token": "t"}) as h:
        secret = {"db": {"token": "t"}}
        h.change_config({"city": "Bern"})
        assert seen == [({"city": "Oslo", **secret}, {"city": "Bern", **secret})]
        assert h.call("now") == [{"city": "Bern", **secret}] * 2
        with pytest.raises(PluginError, match="ValueError: it sank"):
            h.change_config({"city": "Atlantis"})
        assert h.call("now") == [{"city": "Bern", **secret}, {"city": "Atlantis", **secret}]


def test_without_hooks_plugind_decides(plugin: Plugin) -> None:
    with Harness(plugin) as h:
        with pytest.raises(MethodNotFound, match=r"no @plugin\.validate_config"):
            h.validate_config({})
        with pytest.raises(MethodNotFound, match=r"no @plugin\.on_config_changed"):
            h.change_config({})


def test_secrets_are_told_to_who_may_read_them(plugin: Plugin) -> None:
    plugin.method("now")(lambda ctx: ctx.config)
    with Harness(plugin, config={"a": 1}, secrets={"t": 2}, capabilities=["config.read"]) as h:
        assert h.call("now") == {"a": 1}


def test_a_hook_is_declared_once(plugin: Plugin) -> None:
    plugin.on_config_changed(lambda ctx, config: None)
    with pytest.raises(ValueError, match="hook 'on_config_changed' is declared twice"):
        plugin.on_config_changed(lambda ctx, config: None)


# --- revisions of the state ---


def plain(plugin: Plugin, raced: Callable[[], None]) -> None:
    @plugin.method("m")
    def m(ctx: Context) -> Any:
        state = ctx.state
        assert state.get_with_revision("n", 5) == (5, 0)
        first = state.set("n", 1, if_revision=0)
        assert state.get_with_revision("n") == (1, first)
        with pytest.raises(Conflict) as caught:
            state.set("n", 2, if_revision=0)
        assert caught.value.details == {"key": "n", "revision": first}
        with pytest.raises(Conflict):
            state.delete("n", if_revision=first + 1)
        assert state.set("n", 2, if_revision=first) > first

        def add(value: int) -> int:
            raced()
            return value + 1

        assert (state.update("n", add), state.update("new", lambda value: [*value, 1], default=[])) == (11, [1])
        with pytest.raises(Conflict):
            state.update("busy", lambda _: state.set("busy", 0))
        return state.delete("n", if_revision=state.get_with_revision("n")[1])


def in_the_loop(plugin: Plugin, raced: Callable[[], None]) -> None:
    @plugin.method("m")
    async def m(ctx: AsyncContext) -> Any:
        state = ctx.state
        assert await state.get_with_revision("n", 5) == (5, 0)
        first = await state.set("n", 1, if_revision=0)
        assert await state.get_with_revision("n") == (1, first)
        with pytest.raises(Conflict) as caught:
            await state.set("n", 2, if_revision=0)
        assert caught.value.details == {"key": "n", "revision": first}
        with pytest.raises(Conflict):
            await state.delete("n", if_revision=first + 1)
        assert await state.set("n", 2, if_revision=first) > first

        def add(value: int) -> int:
            raced()
            return value + 1

        assert await state.update("n", add) == 11
        assert await state.update("new", lambda value: [*value, 1], default=[]) == [1]
        return await state.delete("n", if_revision=(await state.get_with_revision("n"))[1])


@pytest.mark.parametrize("declare", [plain, in_the_loop])
def test_an_update_is_made_anew_where_another_was_quicker(plugin: Plugin, declare: Any) -> None:
    races = iter([10])

    def raced() -> None:
        if (other := next(races, None)) is not None:
            h.state["n"] = other

    declare(plugin, raced)
    with Harness(plugin) as h:
        assert h.call("m") is True
        assert h.state["new"] == [1]
        assert "n" not in h.state
