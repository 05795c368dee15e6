"""Requests that are nearly right, texts that no path can be, errors as long as novels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgpack
import pytest

from supervisor.control.views import plugin_details, plugin_info
from supervisor.core.lifecycle import Status
from supervisor.wire.limits import SERVER
from supervisor.worker.view import WorkerView
from tests.control.world import ControlWorld, Wire

PLACES = {"package_dir": "/p", "data_dir": "/d", "log_file": "/l"}


async def test_params_may_be_a_bare_map(world: ControlWorld, wire: Wire) -> None:
    plugin = await world.plugin()
    await wire.send([0, 9, "plugins.get", [{"plugin": plugin.key}]], [0, 10, "plugins.get", {"plugin": plugin.key}])
    assert (await wire.answer(9)) == (await wire.answer(10))
    await wire.send([0, 11, "daemon.ping", {}])
    assert (await wire.answer(11))[0] is None


@pytest.mark.parametrize(
    "wrong",
    [[0, 5, "daemon.ping", None], [0, 5, 7, []], [0, 5, "daemon.ping"], [0, 5, "daemon.ping", {"a": 2**63}]],
)
async def test_a_wrong_request_is_answered_and_the_connection_goes_on(wire: Wire, wrong: list[Any]) -> None:
    await wire.send(wrong, [0, 6, "daemon.ping", []])
    error, _ = await wire.answer(5)
    assert error["name"] == "INVALID_REQUEST"
    assert (await wire.answer(6))[1]["pong"] is True


@pytest.mark.parametrize(
    ("method", "params", "told"),
    [
        ("plugins.install", {"source": "/tmp/\0x"}, "the source holds a control character"),
        ("daemon.backup", {"path": "a\0b"}, "path must not contain NUL"),
        ("daemon.backup", {"path": "/tmp/a\0b"}, "path must not contain NUL"),
        ("daemon.backup", {"path": "a"}, "path must be an absolute path"),
    ],
)
async def test_what_can_be_no_path(wire: Wire, method: str, params: dict[str, Any], told: str) -> None:
    error = await wire.refused(method, **params)
    assert error["name"] == "INVALID_PARAMS"
    assert told in error["message"]


async def test_a_list_tells_the_beginning_of_an_error_and_get_all_of_it(world: ControlWorld, wire: Wire) -> None:
    plugin = await world.plugin(status=Status.INSTALLED)
    error = "x" * 5000 + "\nTraceback: more"
    await wire.call("plugins.mark_error", plugin=plugin.key, error=error)
    (listed,) = await wire.call("plugins.list")
    assert listed["last_error"] == "x" * 499 + "…"
    assert len(listed["summary"]) < 1000
    assert (await wire.call("plugins.get", plugin=plugin.key))["last_error"] == error


@pytest.mark.parametrize(
    ("text", "told"), [(None, None), ("one\ntwo", "one"), ("x" * 500, "x" * 500), ("\n\nlate\n", "late")]
)
async def test_the_error_in_a_list(world: ControlWorld, text: str | None, told: str | None) -> None:
    plugin = replace(await world.plugin(), last_error=text)
    assert plugin_info(plugin, WorkerView())["last_error"] == told
    assert plugin_details(plugin, WorkerView(), PLACES)["last_error"] == text


@pytest.mark.parametrize("status", Status)
async def test_five_hundred_of_the_longest_fit_into_a_frame(world: ControlWorld, status: Status) -> None:
    long = "\U0001f980" * 8000
    plugin = replace(await world.plugin(), status=status, last_error=long, disable_reason=long[:500])
    info = plugin_info(plugin, WorkerView(last_failure=long))
    assert len(msgpack.packb([info] * 500)) < SERVER.max_frame_out_bytes


async def test_a_deadline_so_short_that_it_is_none_is_no_other(world: ControlWorld, wire: Wire) -> None:
    plugin = await world.plugin()
    error = await wire.refused("plugins.wait", plugin=plugin.key, phase="running", **{"$deadline_ms": 5e-324})
    assert error["name"] == "DEADLINE_EXCEEDED"
    assert "within 0 s" in error["message"]


@pytest.mark.parametrize("limit", [0, -1, 1001])
async def test_a_page_of_state_has_a_size(world: ControlWorld, wire: Wire, limit: int) -> None:
    plugin = await world.plugin()
    error = await wire.refused("plugins.state_list", plugin=plugin.key, limit=limit)
    assert error["name"] == "INVALID_PARAMS"
    assert "from 1 to 1000" in error["message"]
