"""Params to typed requests, and what is said about wrong ones."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.core.errors import InvalidParams
from supervisor.wire.control import REQUESTS, EventsSubscribe, PluginsDisable
from supervisor.wire.typed import deadline_s, json_schema, to_request
from supervisor.wire.worker import HOST_REQUESTS, StateSet


def test_named_and_positional() -> None:
    expected = PluginsDisable(plugin="k", reason="r")
    assert to_request(PluginsDisable, "m", [{"plugin": "k", "reason": "r", "$deadline_ms": 5}]) == expected
    assert to_request(PluginsDisable, "m", ["k", "r"]) == expected
    assert to_request(PluginsDisable, "m", ["k"]) == PluginsDisable(plugin="k")
    assert to_request(EventsSubscribe, "m", []) == EventsSubscribe()


@pytest.mark.parametrize(
    ("params", "why"),
    [
        ([], "plugins.disable: .*missing required field `plugin`"),
        ([{}], "missing required field `plugin`"),
        ([{"plugin": 5}], r"Expected `str`, got `int` - at `\$.plugin`"),
        (["k", "r", 3], r"takes at most 2 params \(plugin, reason\), got 3"),
        ([{"plugin": "k", "raeson": "r"}], "no param 'raeson'; did you mean 'reason'"),
        ([{"plugin": "k", "zzz": 1}], "no param 'zzz'; it takes plugin, reason"),
        ([None], "Expected `str`, got `null`"),
    ],
)
def test_wrong_ones(params: list[Any], why: str) -> None:
    with pytest.raises(InvalidParams, match=why):
        to_request(PluginsDisable, "plugins.disable", params)


def test_any_value_of_the_profile_is_a_state_value() -> None:
    for value in (None, b"\0", {"a": [1, 2.5]}, [], "x"):
        assert to_request(StateSet, "state.set", [{"key": "k", "value": value}]) == StateSet(key="k", value=value)


@pytest.mark.parametrize(
    ("params", "seconds"), [([], None), ([{}], None), ([{"$deadline_ms": 1500}], 1.5), ([1], None)]
)
def test_deadline(params: list[Any], seconds: float | None) -> None:
    assert deadline_s(params) == seconds


@pytest.mark.parametrize("value", [0, -1, "5", True, float("nan"), [], {}])
def test_a_bad_deadline(value: Any) -> None:
    with pytest.raises(InvalidParams, match="positive number of milliseconds"):
        deadline_s([{"$deadline_ms": value}])


@pytest.mark.parametrize("method", sorted(REQUESTS))
def test_every_method_can_be_described(method: str) -> None:
    request = REQUESTS[method]
    assert method == request.METHOD
    assert request.__doc__
    assert "$ref" in json_schema(request)
    assert json_schema(request.RESULT)


def test_what_a_worker_may_ask() -> None:
    assert {method: request.CAPABILITY for method, request in HOST_REQUESTS.items()} == {
        "config.get": "config.read",
        "state.get": "state.read",
        "state.set": "state.write",
        "state.delete": "state.write",
        "state.list": "state.read",
        "events.emit": "events.emit",
        "events.subscribe": "events.subscribe",
        "events.unsubscribe": "events.subscribe",
        "metrics.write": "metrics.write",
        "secrets.get": "secrets.read",
        "plugins.list": "plugins.read",
        "plugins.call": "plugins.call",
        "run.progress": "jobs.schedule",
    }
