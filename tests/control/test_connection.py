"""Requests of one client: hello, refusals, deadlines, cancel, garbage, changes that outlive their caller."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgpack
import pytest
import trio
import trio.testing

from supervisor.control.describe import describe
from supervisor.core.lifecycle import Status
from supervisor.core.plugin import PluginId
from supervisor.wire.limits import SERVER
from supervisor.worker.phase import Phase
from tests.control.world import ControlWorld, Wire, open_control_world


async def test_errors_are_strings_before_hello_and_maps_after(world: ControlWorld) -> None:
    wire = await world.dial()
    async with wire.stream:
        assert (await wire.refused("daemon.fly")).startswith("METHOD_NOT_FOUND: there is no method 'daemon.fly'")
        hello = await wire.call("rpc.hello", client="test")
        assert (hello["server"], hello["role"], hello["protocol"]) == ("plugind", "admin", 1)
        assert hello["limits"]["max_requests"] == 64
        error = await wire.refused("daemon.fly")
        assert (error["name"], error["data"], error["retryable"]) == (
            "METHOD_NOT_FOUND",
            {"method": "daemon.fly"},
            False,
        )
        assert (await wire.refused("rpc.hello", protocol=[99]))["name"] == "INVALID_PARAMS"


async def test_a_refused_hello_tells_what_is_spoken_here(world: ControlWorld) -> None:
    wire = await world.dial()
    async with wire.stream:
        assert (await wire.refused("rpc.hello", protocol="2")).startswith("INVALID_PARAMS: "), "this is no hello"
        error = await wire.refused("rpc.hello", client="test", protocol=[2, 3])
        assert (error["name"], error["data"]) == ("INVALID_PARAMS", {"supported": [1]})
        assert (await wire.refused("daemon.fly"))["name"] == "METHOD_NOT_FOUND", "it reads maps, as every hello does"
        assert (await wire.call("rpc.hello", protocol=error["data"]["supported"]))["protocol"] == 1


@pytest.mark.parametrize(
    ("method", "params", "told"),
    [
        ("plugins.get", [{"plugni": "x"}], "did you mean 'plugin'?"),
        ("plugins.get", [], "plugin"),
        ("plugins.get", [5], "plugin"),
        ("plugins.get", ["x", True, "y"], "at most 2"),
        ("daemon.ping", [{"x": 1}], "'x'"),
        ("plugins.wait", [{"plugin": "acme.one", "status": "happy"}], "installed, ready"),
        ("plugins.wait", [{"plugin": "acme.one", "timeout_s": -1}], "timeout_s"),
        ("plugins.list", [{"$deadline_ms": -5}], "$deadline_ms"),
        ("plugins.install", ["./relative/path"], "absolute"),
        (
            "plugins.install",
            [{"source": "/x", "capabilities": ["network.outbond"]}],
            "did you mean 'network.outbound'?",
        ),
        ("plugins.install", [{"source": "/x", "$progress": 1}], "$progress must be true or false"),
        ("plugins.upgrade", [{"plugin": "acme.one", "source": "/x", "version": "1"}], "name either source"),
        ("plugins.upgrade", [{"plugin": "acme.one", "version": "1", "hashes": ["x"]}], "hashes goes with a source"),
        ("plugins.upgrade", [{"plugin": "acme.one", "version": "1", "probation_s": 0}], "probation_s"),
        ("plugins.upgrade", [{"plugin": "acme.one", "version": "1", "probation_s": float("nan")}], "probation_s"),
        ("events.subscribe", [{"credit": -1}], "credit"),
        ("logs.read", [{"plugin": "acme.one", "tail": 0}], "tail"),
        ("logs.read", [{"plugin": "acme.one", "level": "loud"}], "debug, info, warning, error, critical, not 'loud'"),
        ("logs.read", [{"plugin": "acme.one", "stream": "stdin"}], "stdout, stderr, log, plugind, not 'stdin'"),
        ("logs.follow", [{"plugin": "acme.one", "level": "loud"}], "level"),
        ("logs.follow", [{"plugin": "acme.one", "tail": -1}], "tail"),
        ("logs.follow", [{"plugin": "acme.one", "credit": -1}], "credit"),
        ("logs.follow", [{"plugin": "acme.one", "after": "here"}], "'here'"),
        ("logs.follow", [{"plugin": "acme.one", "after": "0", "tail": 3}], "after"),
    ],
)
async def test_wrong_params_are_told(world: ControlWorld, wire: Wire, method: str, params: Any, told: str) -> None:
    await world.plugin()
    await wire.send([0, 77, method, params])
    error, _ = await wire.answer(77)
    assert error["name"] == "INVALID_PARAMS"
    assert told in error["message"]


async def test_params_by_place_and_by_name_are_the_same(world: ControlWorld, wire: Wire) -> None:
    plugin = await world.plugin()
    await wire.send([0, 9, "plugins.get", [plugin.key]], [0, 10, "plugins.get", [{"plugin": plugin.id}]])
    assert (await wire.answer(9)) == (await wire.answer(10))


async def test_wait_answers_when_it_holds(world: ControlWorld, wire: Wire) -> None:
    plugin = await world.plugin()
    waiting = await wire.ask("plugins.wait", plugin=plugin.key, status="ready", phase="running")
    await wire.call("plugins.enable", plugin=plugin.key)
    error, seen = await wire.answer(waiting)
    assert (error, seen["status"], seen["phase"]) == (None, "ready", "running")


async def test_what_a_plugin_emits_wakes_nobody_who_waits_for_it(
    world: ControlWorld, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = await world.plugin("acme.one"), await world.plugin("acme.two")
    looks, changed = list[str](), world.lifecycle_world.workers.changed

    def counted(plugin_id: PluginId) -> trio.Event:
        looks.append(plugin_id)
        return changed(plugin_id)

    monkeypatch.setattr(world.lifecycle_world.workers, "changed", counted)
    waiting = await wire.ask("plugins.wait", plugin=one.key, status="ready", phase="running")
    await wire.call("daemon.ping")
    for _ in range(3):
        await world.emit(one, 10)
        await world.emit(two, 10)
        await wire.call("daemon.ping")
    await wire.call("plugins.load", plugin=two.key)
    assert looks == [one.id]
    await wire.call("plugins.load", plugin=one.key)
    assert (await wire.answer(waiting))[1]["status"] == "ready"


async def test_wait_for_one_that_goes_away_names_it_as_the_caller_did(world: ControlWorld, wire: Wire) -> None:
    plugin = await world.plugin()
    waiting = await wire.ask("plugins.wait", plugin=plugin.key, status="ready")
    await wire.call("plugins.unload", plugin=plugin.key, remove_data=True)
    error, _ = await wire.answer(waiting)
    assert (error["name"], error["data"]["plugin"]) == ("NOT_FOUND", plugin.key)
    assert plugin.id not in error["message"]


async def test_wait_names_what_it_waited_for(world: ControlWorld, wire: Wire) -> None:
    plugin = await world.plugin()
    error = await wire.refused("plugins.wait", plugin=plugin.key, status="ready", timeout_s=0.01)
    assert (error["name"], error["data"]) == ("DEADLINE_EXCEEDED", {"status": "disabled", "phase": "stopped"})
    assert (await wire.refused("plugins.wait", plugin="nobody"))["name"] == "NOT_FOUND"
    waiting = await wire.ask("plugins.wait", plugin=plugin.key, status="ready")
    await wire.call("plugins.unload", plugin=plugin.key, remove_data=True)
    assert (await wire.answer(waiting))[0]["name"] == "NOT_FOUND"


async def test_the_callers_deadline_holds_and_a_change_goes_on(world: ControlWorld, wire: Wire) -> None:
    plugin = await world.plugin()
    error = await wire.refused("plugins.wait", **{"plugin": plugin.key, "status": "ready", "$deadline_ms": 10})
    assert error["name"] == "DEADLINE_EXCEEDED"
    world.lifecycle_world.workers.script(plugin.key).up_after_s = 0.1
    error = await wire.refused("plugins.enable", **{"plugin": plugin.key, "$deadline_ms": 10})
    assert error["name"] == "DEADLINE_EXCEEDED"
    assert (await wire.call("plugins.wait", plugin=plugin.key, phase="running"))["status"] == "ready"


async def test_a_cancelled_request_has_exactly_one_answer(world: ControlWorld, wire: Wire) -> None:
    plugin = await world.plugin()
    wait = {"plugin": plugin.key, "status": "ready"}
    # One that waits already; one whose cancel stands right behind it; one that nobody knows; one that is over.
    await wire.send([0, 50, "plugins.wait", [wait]])
    await wire.call("daemon.ping")
    await wire.send([2, "rpc.cancel", [50]], [0, 51, "plugins.wait", [wait]], [2, "rpc.cancel", [51]])
    await wire.send([2, "rpc.cancel", [999]], [0, 52, "daemon.ping", []], [2, "rpc.cancel", [52]])
    await wire.send([0, 53, "daemon.ping", []])
    messages = [await wire.message() for _ in range(4)]
    assert sorted((m[1], m[2] and m[2]["name"]) for m in messages) == [
        (50, "CANCELLED"),
        (51, "CANCELLED"),
        (52, None),
        (53, None),
    ]
    with trio.move_on_after(0.05):
        assert await wire.message() is None, "one answer too many"


async def test_a_cancelled_change_goes_on(world: ControlWorld, wire: Wire) -> None:
    plugin = await world.plugin()
    world.lifecycle_world.workers.script(plugin.key).up_after_s = 0.1
    await wire.send([0, 50, "plugins.enable", [plugin.key]], [2, "rpc.cancel", [50]])
    assert (await wire.answer(50))[0]["name"] == "CANCELLED"
    await wire.call("plugins.wait", plugin=plugin.key, phase="running")


PING = msgpack.packb([0, 1, "daemon.ping", []])


@pytest.mark.parametrize("place", range(len(PING)))
async def test_garbage_at_any_byte_is_one_error_and_the_end(world: ControlWorld, place: int) -> None:
    wire = await world.dial()
    broken = PING[:place] + b"\xc1" + PING[place + 1 :]
    async with wire.stream:
        await wire.stream.send_all(broken + PING)
        *before, last = await wire.rest()
    assert (last[0], last[1], last[2][0]["name"]) == (2, "rpc.error", "PARSE")
    assert before == []


@pytest.mark.parametrize(
    "frame",
    [
        msgpack.packb(7),
        msgpack.packb([0, "1", "daemon.ping", []]),
        msgpack.packb([0, -1, "daemon.ping", []]),
        msgpack.packb([5, 1, "daemon.ping", []]),
        msgpack.packb([0, 1, "daemon.ping", [msgpack.ExtType(1, b"x")]]),
        msgpack.packb([0, 1, "daemon.ping", [{7: 1}]], strict_types=True),
        b"\xdd\xff\xff\xff\xff",
        msgpack.packb([0, 1, "daemon.ping", ["x" * SERVER.max_frame_in_bytes]]),
    ],
    ids=["number", "id as text", "negative id", "kind 5", "ext", "int key", "declared length", "too large"],
)
async def test_what_is_no_message_ends_the_connection_and_no_other(
    world: ControlWorld, wire: Wire, frame: bytes
) -> None:
    bad = await world.dial()
    async with bad.stream, trio.open_nursery() as nursery:

        async def send() -> None:
            try:
                await bad.stream.send_all(frame + PING)
            except trio.BrokenResourceError:
                assert len(frame) > 100_000, "only what is too large is not read to its end"

        nursery.start_soon(send)
        if frame[0] == 0xDD:  # It might go on for ever: that is for the deadline of unfinished frames to end.
            with trio.move_on_after(0.05):
                assert (await bad.rest())[-1][1] == "rpc.error"
        else:
            try:
                assert [m[1] for m in await bad.rest()] == ["rpc.error"]
            except trio.BrokenResourceError:
                assert len(frame) > 100_000
    assert (await wire.call("daemon.ping"))["pong"] is True


async def test_so_many_requests_in_flight_and_no_more(world: ControlWorld, wire: Wire) -> None:
    plugin = await world.plugin()
    wait = {"plugin": plugin.key, "status": "ready"}
    await wire.send(*([0, 100 + n, "plugins.wait", [wait]] for n in range(65)))
    error, _ = await wire.answer(164)
    assert (error["name"], error["retryable"], error["data"]) == ("RESOURCE_EXHAUSTED", True, {"limit": 64})
    await wire.send([2, "rpc.cancel", [100]])
    assert (await wire.answer(100))[0]["name"] == "CANCELLED"
    await wire.call("daemon.ping")
    await world.lifecycle_world.lifecycle.enable(plugin.key)
    for number in range(1, 64):
        assert (await wire.answer(100 + number))[0] is None


async def test_one_id_twice_is_a_protocol_error(world: ControlWorld, wire: Wire) -> None:
    plugin = await world.plugin()
    wait = [0, 5, "plugins.wait", [{"plugin": plugin.key, "status": "ready"}]]
    await wire.send(wait, wait)
    assert (await wire.rest())[-1][1] == "rpc.error"


async def test_a_change_outlives_its_caller(world: ControlWorld) -> None:
    plugin = await world.plugin()
    world.lifecycle_world.workers.script(plugin.key).up_after_s = 0.1
    wire = await world.dial()
    await wire.ask("plugins.enable", plugin=plugin.key)
    await wire.stream.aclose()
    watcher = await (await world.dial()).hello()
    async with watcher.stream:
        await watcher.call("plugins.wait", plugin=plugin.key, status="ready", phase="running")
        subscription = await watcher.call("events.subscribe", after_seq=0, types=["plugin.enabled"])
        assert (await watcher.event())["event"]["plugin_id"] == plugin.id
        assert subscription["subscription"] == 1


async def test_a_request_id_is_run_once(world: ControlWorld, wire: Wire) -> None:
    plugin = await world.plugin(status=Status.READY)
    params = {"plugin": plugin.key, "reason": "once", "$request_id": "r-1"}
    first = await wire.call("plugins.disable", **params)
    other = await (await world.dial()).hello()
    async with other.stream:
        assert await other.call("plugins.disable", **params) == first
    assert world.lifecycle_world.told().count("disabled") == 1
    error = await wire.refused("plugins.enable", **{"plugin": plugin.key, "$request_id": "r-1"})
    assert (error["name"], "plugins.disable" in error["message"]) == ("INVALID_PARAMS", True)
    refusal = {"plugin": plugin.key, "$request_id": "r-2"}
    was = await wire.refused("plugins.disable", **refusal)
    await wire.call("plugins.enable", plugin=plugin.key)
    assert await wire.refused("plugins.disable", **refusal) == was
    for bad in ("", "x" * 201, 7):
        error = await wire.refused("plugins.disable", **{"plugin": plugin.key, "$request_id": bad})
        assert error["name"] == "INVALID_PARAMS"


async def test_a_request_id_under_way(world: ControlWorld, wire: Wire) -> None:
    plugin = await world.plugin()
    world.lifecycle_world.workers.script(plugin.key).up_after_s = 0.2
    params = {"plugin": plugin.key, "$request_id": "r-1"}
    first = await wire.ask("plugins.enable", **params)
    while world.lifecycle_world.workers.phase(plugin.id) is not Phase.STARTING:
        await world.lifecycle_world.workers.changed(plugin.id).wait()
    error = await wire.refused("plugins.enable", **params)
    assert (error["name"], error["retryable"]) == ("CONFLICT", True)
    result = (await wire.answer(first))[1]
    assert await wire.call("plugins.enable", **params) == result


async def test_a_request_id_that_was_cut_short_by_the_daemons_end(tmp_path: Path) -> None:
    params = {"plugin": "acme.one", "$request_id": "r-1"}
    with trio.fail_after(10):
        async with open_control_world(tmp_path) as world:
            plugin = await world.plugin()
            world.lifecycle_world.workers.script(plugin.key).up_after_s = 100
            wire = await (await world.dial()).hello()
            await wire.ask("plugins.enable", **params)
            while world.lifecycle_world.workers.phase(plugin.id) is not Phase.STARTING:
                await world.lifecycle_world.workers.changed(plugin.id).wait()
        messages = await wire.rest()
        await wire.stream.aclose()
        assert messages == [] or messages[-1][2]["name"] in {"UNAVAILABLE", "CANCELLED"}
        async with open_control_world(tmp_path) as world:
            wire = await (await world.dial()).hello()
            async with wire.stream:
                error = await wire.refused("plugins.enable", **params)
                assert (error["name"], error["retryable"]) == ("FAILED_PRECONDITION", False)


async def test_a_mistake_inside_is_told_by_its_log_id_only(
    world: ControlWorld, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.plugin()

    def mistake(*_: Any) -> Any:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(world.lifecycle_world.registry, "get", mistake)
    for method in ("plugins.get", "plugins.disable"):
        error = await wire.refused(method, plugin="acme.one")
        assert error["name"] == "INTERNAL"
        assert error["data"]["log_id"] in error["message"]
        assert "secret" not in str(error)


async def test_what_is_described_arrives_whole(wire: Wire) -> None:
    told = await wire.call("rpc.describe")
    assert told == describe()
    assert told["limits"] == (await wire.call("rpc.hello"))["limits"]


async def test_stop_is_answered(world: ControlWorld, wire: Wire) -> None:
    assert await wire.call("daemon.stop") == {"ok": True}
    assert len(world.stop_asked) == 1


async def test_calls_reach_declared_methods_only(world: ControlWorld, wire: Wire) -> None:
    plugin = await world.plugin(status=Status.READY)
    error = await wire.refused("plugins.call", plugin=plugin.key, method="fly")
    assert (error["name"], "offers none" in error["message"]) == ("NOT_FOUND", True)
    assert error["data"] == {"plugin": plugin.key, "method": "fly"}
