"""Every request that a worker may make, with and without its capability, well made and badly made."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio

from supervisor.core.errors import (
    Conflict,
    InvalidParams,
    NotFound,
    PermissionDenied,
    PluginCrashed,
    ResourceExhausted,
    SupervisorError,
)
from supervisor.core.job import Run, RunState, Trigger
from supervisor.core.manifest import MethodSpec
from supervisor.core.plugin import Plugin
from supervisor.jobs.active import ActiveRun
from supervisor.wire.codec import encode
from supervisor.wire.limits import SERVER
from supervisor.wire.message import Notification, Request, Response
from supervisor.wire.worker import HOST_REQUESTS
from tests.daemon.host_world import ALL, CONFIG, HostWorld
from tests.jobs.world import job

GOOD: dict[str, tuple[dict[str, Any], Any]] = {
    "config.get": ({}, {"config": {"city": "Oslo", "db": {"host": "h"}}}),  # no secrets.read
    "state.get": ({"key": "k"}, {"found": False, "value": None, "revision": 0}),
    "state.set": ({"key": "k", "value": 1}, {"revision": 1}),
    "state.delete": ({"key": "k"}, {"found": False}),
    "state.list": ({}, {"entries": [], "next": None}),
    "events.emit": ({"name": "beat"}, {"seq": 4}),
    "events.subscribe": ({}, {"subscription": 1, "last_seq": 3}),
    "events.unsubscribe": ({"subscription": 7}, NotFound),
    "metrics.write": ({"metrics": [{"name": "rows", "value": 1}]}, {}),
    "secrets.get": ({"name": "db.password"}, {"value": "hunter2"}),
    "plugins.list": (
        {},
        {"plugins": [{"key": "acme.one", "version": "1.0", "status": "installed", "phase": "stopped", "methods": []}]},
    ),
    "plugins.call": ({"plugin": "acme.two", "method": "now"}, NotFound),
    "run.progress": ({"run_id": "r"}, NotFound),
}


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("method", HOST_REQUESTS)
async def test_each_with_its_capability_alone(autojump_clock: Any, host_world: HostWorld, method: str) -> None:
    params, expected = GOOD[method]
    plugin = await host_world.plugin(capabilities=frozenset({str(HOST_REQUESTS[method].CAPABILITY)}))
    async with host_world.life(plugin) as worker:
        if isinstance(expected, type):
            with pytest.raises(expected):
                await worker.ask(method, **params)
        else:
            assert await worker.ask(method, **params) == expected


@pytest.mark.parametrize("method", HOST_REQUESTS)
async def test_each_without_its_capability(autojump_clock: Any, host_world: HostWorld, method: str) -> None:
    capability = str(HOST_REQUESTS[method].CAPABILITY)
    plugin = await host_world.plugin(capabilities=ALL - {capability})
    async with host_world.life(plugin) as worker:
        with pytest.raises(PermissionDenied, match=capability) as caught:
            await worker.ask(method, **GOOD[method][0])
        assert caught.value.details == {"capability": capability}


@pytest.mark.parametrize(
    ("method", "params", "error", "told"),
    [
        ("no.such", {}, "METHOD_NOT_FOUND", "there are config.get"),
        ("x" * 100_000, {}, "METHOD_NOT_FOUND", "there are config.get"),
        ("config.get", {"extra": 1}, "INVALID_PARAMS", "extra"),
        ("state.get", {}, "INVALID_PARAMS", "key"),
        ("state.get", {"key": ""}, "INVALID_PARAMS", "1 to 512"),
        ("state.get", {"key": "x" * 600}, "INVALID_PARAMS", "1 to 512"),
        ("state.get", {"key": b"bytes"}, "INVALID_PARAMS", "key"),
        ("state.set", {"key": "x" * 1_000_000, "value": 1}, "INVALID_PARAMS", "1 to 512"),
        ("state.set", {"key": "x" * 1_000_000, "value": nested(13)}, "INVALID_PARAMS", "nested"),
        ("state.set", {"key": "k", "value": nested(13)}, "INVALID_PARAMS", "nested"),
        ("state.set", {"key": "k", "value": "x" * 1_100_000}, "RESOURCE_EXHAUSTED", "1048576"),
        ("state.set", {"key": "k", "value": 1, "if_revision": -1}, "INVALID_PARAMS", "if_revision"),
        ("state.set", {"key": "k", "value": 1, "if_revision": True}, "INVALID_PARAMS", "if_revision"),
        ("state.delete", {"key": "k", "if_revision": "1"}, "INVALID_PARAMS", "if_revision"),
        ("state.list", {"limit": 0}, "INVALID_PARAMS", "limit"),
        ("state.list", {"limit": -(2**63)}, "INVALID_PARAMS", "limit"),
        ("state.list", {"limit": 1.5}, "INVALID_PARAMS", "limit"),
        ("events.emit", {"name": "beat", "payload": nested(13)}, "INVALID_PARAMS", "nested deeper than 12"),
        ("events.emit", {"name": "beat", "payload": "x" * 66_000}, "INVALID_PARAMS", "longer than the limit"),
        ("events.emit", {"name": "be at"}, "INVALID_PARAMS", "letters"),
        ("events.emit", {"name": ".beat"}, "INVALID_PARAMS", "not begin with '.' or '-': '.beat' is none"),
        ("state.set", {"key": "k", "value": [1] * 261_145}, "INVALID_PARAMS", "holds more than 261144 values"),
        ("state.list", {"limit": 1001}, "INVALID_PARAMS", "from 1 to 1000"),
        ("events.emit", {"name": ""}, "INVALID_PARAMS", "letters"),
        ("events.emit", {"name": "x" * 101}, "INVALID_PARAMS", "letters"),
        ("events.emit", {"name": "beat\n"}, "INVALID_PARAMS", "letters"),
        ("events.subscribe", {"types": ["*"] * 101}, "INVALID_PARAMS", "100 entries"),
        ("events.subscribe", {"types": ["x" * 201]}, "INVALID_PARAMS", "200 characters"),
        ("events.subscribe", {"plugins": ["nobody"]}, "NOT_FOUND", "nobody"),
        ("events.subscribe", {"after_seq": 10**9}, "FAILED_PRECONDITION", "the journal holds"),
        ("events.subscribe", {"after_seq": -1}, "FAILED_PRECONDITION", "the journal holds"),
        ("events.subscribe", {"after_seq": "1"}, "INVALID_PARAMS", "after_seq"),
        ("events.unsubscribe", {"subscription": 1}, "NOT_FOUND", "no subscription 1"),
        ("metrics.write", {"metrics": [{"name": "a b", "value": 1}]}, "INVALID_PARAMS", "must match"),
        ("metrics.write", {"metrics": [{"name": "a", "value": math.nan}]}, "INVALID_PARAMS", "finite"),
        ("metrics.write", {"metrics": [{"name": "a", "value": "1"}]}, "INVALID_PARAMS", "value"),
        ("metrics.write", {"metrics": "rows"}, "INVALID_PARAMS", "metrics"),
        ("secrets.get", {"name": "city"}, "NOT_FOUND", "it has db.password, token"),
        ("secrets.get", {"name": "x" * 100_000}, "NOT_FOUND", "it has db.password, token"),
        ("plugins.call", {"plugin": "x" * 100_000, "method": "m"}, "NOT_FOUND", "no plugin"),
        ("plugins.call", {"plugin": "acme.one", "method": "x" * 100_000}, "NOT_FOUND", "no method"),
        ("run.progress", {"run_id": "x" * 100_000}, "NOT_FOUND", "is running"),
        ("run.progress", {"run_id": "r", "fraction": 1.1}, "INVALID_PARAMS", "from 0 to 1"),
        ("run.progress", {"run_id": "r", "fraction": math.nan}, "INVALID_PARAMS", "from 0 to 1"),
        ("run.progress", {"run_id": "r", "message": "x" * 501}, "INVALID_PARAMS", "500 characters"),
    ],
)
async def test_what_is_wrong_is_told_shortly_and_the_connection_goes_on(
    autojump_clock: Any, host_world: HostWorld, method: str, params: dict[str, Any], error: str, told: str
) -> None:
    async with host_world.life(await host_world.plugin()) as worker:
        with pytest.raises(SupervisorError, match=told) as caught:
            await worker.ask(method, **params)
        assert caught.value.code == error
        assert len(caught.value.message) < 1000
        assert await worker.ask("state.set", key="after", value=None) == {"revision": 1}


@pytest.mark.parametrize("value", [None, math.nan, math.inf, "\0", b"\xff\x00", nested(12), -(2**63), {"a": {"b": []}}])
async def test_what_is_stored_comes_back(autojump_clock: Any, host_world: HostWorld, value: Any) -> None:
    key = "odd\0key\U0001f600"
    async with host_world.life(await host_world.plugin()) as worker:
        await worker.ask("state.set", key=key, value=value)
        answer = await worker.ask("state.get", key=key)
        assert answer["found"]
        assert repr(answer["value"]) == repr(value)
        page = await worker.ask("state.list", prefix="odd\0")
        assert [entry["key"] for entry in page["entries"]] == [key]


@pytest.mark.parametrize("payload", [None, {"count": 3}, nested(12), "x" * 65_000])
async def test_what_is_emitted_can_be_sent_on(autojump_clock: Any, host_world: HostWorld, payload: Any) -> None:
    async with host_world.life(await host_world.plugin()) as worker:
        answer = await worker.ask("events.emit", name="beat", payload=payload)
    event = host_world.world.events[-1]
    assert answer == {"seq": event.seq}
    assert (event.type, event.data) == ("emitted.beat", {"name": "beat", "payload": payload})
    for message in (
        Notification("rpc.event", [{"subscription": 1, "event": event.to_wire()}]),
        Response(1, None, {"events": [event.to_wire()] * 10, "last_seq": 1}),
    ):
        encode(message, max_bytes=SERVER.max_frame_out_bytes, max_depth=SERVER.max_depth)


async def test_a_configuration_with_its_secrets_for_who_may_read_them(
    autojump_clock: Any, host_world: HostWorld
) -> None:
    plugin = await host_world.plugin()
    async with host_world.life(plugin) as worker:
        assert await worker.ask("config.get") == {"config": CONFIG}
    assert host_world.discretion
    given = await host_world.host.config(plugin)
    assert (given.config, given.revision, given.is_new) == (CONFIG, 1, True)
    await host_world.host.config_taken(plugin.id, 1)
    assert not (await host_world.host.config(plugin)).is_new
    assert (await host_world.configs.get(plugin.id)).good


async def test_compare_and_set(autojump_clock: Any, host_world: HostWorld) -> None:
    async with host_world.life(await host_world.plugin()) as worker:
        assert await worker.ask("state.set", key="k", value=1, if_revision=0) == {"revision": 1}
        for change in (
            worker.ask("state.set", key="k", value=2, if_revision=0),
            worker.ask("state.delete", key="k", if_revision=7),
        ):
            with pytest.raises(Conflict) as caught:
                await change
            assert caught.value.details == {"key": "k", "revision": 1}
        entry = {"key": "k", "value": 1, "revision": 1}
        assert await worker.ask("state.list") == {"entries": [entry], "next": None}
        assert await worker.ask("state.delete", key="k", if_revision=1) == {"found": True}


async def test_secrets_are_in_no_other_answer_than_the_configuration(
    autojump_clock: Any, host_world: HostWorld
) -> None:
    plugin = await host_world.plugin()
    async with host_world.life(plugin) as worker:
        assert await worker.ask("secrets.get", name="token") == {"value": "s3cret"}
        everything = [
            await worker.ask("plugins.list"),
            await worker.ask("state.list"),
            [event.to_wire() for event in host_world.world.events],
        ]
    assert not any(secret in repr(everything) for secret in ("s3cret", "hunter2"))
    assert (await host_world.configs.get(plugin.id)).data == CONFIG


async def test_pages_are_made_for_who_takes_them(autojump_clock: Any, host_world: HostWorld) -> None:
    """A worker that asks for much and reads nothing holds a few pages of the daemon's memory, not one a request."""
    plugin = await host_world.plugin()
    async with host_world.life(plugin) as worker:
        for n in range(3):
            await worker.ask("state.set", key=f"k{n}", value="x" * 900_000)
    reads = 0
    read = host_world.world.database.read

    async def counted(work: Any, **how: Any) -> Any:
        nonlocal reads
        reads += 1
        return await read(work, **how)

    host_world.world.database.read = counted  # type: ignore[method-assign]
    async with host_world.wire(plugin) as stream:
        for n in range(40):
            await stream.send_all(encode(Request(n, "state.list", [{}]), max_bytes=1000))
        await trio.sleep(1)
        assert reads <= 8
        received = 0
        while received < 40 * 1_800_000:
            received += len(await stream.receive_some(1_000_000))
    assert reads == 40


# Metrics and progress.


async def test_metrics_outlive_the_worker(autojump_clock: Any, host_world: HostWorld) -> None:
    plugin = await host_world.plugin()
    for _ in range(2):
        async with host_world.life(plugin) as worker:
            rows = {"name": "rows", "value": 2, "kind": "counter", "labels": {"table": "a"}}
            await worker.ask("metrics.write", metrics=[rows, {"name": "depth", "value": 1.5}])
            await worker.channel.notify("metrics.write", [{"metrics": [rows]}])
            await worker.ask("state.get", key="k")
    assert host_world.metrics.read(plugin.id) == [
        {"name": "depth", "kind": "gauge", "value": 1.5, "labels": {}, "at_ms": 1234},
        {"name": "rows", "kind": "counter", "value": 8.0, "labels": {"table": "a"}, "at_ms": 1234},
    ]


def active_run(plugin: Plugin, run_id: str = "r1") -> ActiveRun:
    run = Run(
        id=run_id,
        job_id="j",
        plugin_id=plugin.id,
        plugin_key=plugin.key,
        job_key="refresh",
        trigger=Trigger.MANUAL,
        state=RunState.QUEUED,
        attempt=1,
        due_ms=0,
        created_ms=0,
    )
    return ActiveRun(run, job())


async def test_progress_of_its_own_running_runs_only(autojump_clock: Any, host_world: HostWorld) -> None:
    one, two = await host_world.plugin("acme.one"), await host_world.plugin("acme.two")
    active = active_run(one)
    host_world.runs.add(active)
    async with host_world.life(one) as worker, host_world.life(two) as stranger:
        with pytest.raises(NotFound):  # queued
            await worker.ask("run.progress", run_id="r1", fraction=0.5)
        active.worker_is_at_it = True
        with pytest.raises(NotFound):
            await stranger.ask("run.progress", run_id="r1", fraction=0.1)
        assert host_world.runs.progress("r1") is None
        await worker.ask("run.progress", run_id="r1", fraction=0, message="begun")
        assert host_world.runs.progress("r1") == {"run": "r1", "fraction": 0.0, "message": "begun", "at_ms": 1234}
        await worker.channel.notify("run.progress", [{"run_id": "r1", "fraction": 0.75, "message": None}])
        await worker.ask("state.get", key="k")
        assert host_world.runs.progress_of_job("j") == [{"run": "r1", "fraction": 0.75, "message": None, "at_ms": 1234}]
        host_world.runs.remove(active)  # given up, and the worker is still at it
        with pytest.raises(NotFound):
            await worker.ask("run.progress", run_id="r1", fraction=1)


@pytest.mark.parametrize(
    ("capabilities", "notification"),
    [
        (ALL, Notification("run.progress", [{"run_id": "r1", "fraction": 2}])),
        (ALL, Notification("run.progress", [])),
        (ALL, Notification("metrics.write", [[1, 2]])),
        (ALL, Notification("state.set", [{"key": "k", "value": 1}])),
        (ALL, Notification("no.such", [{}])),
        (frozenset(), Notification("run.progress", [{"run_id": "r1", "fraction": 0.5}])),
    ],
)
async def test_a_wrong_notification_is_passed_over(
    autojump_clock: Any, host_world: HostWorld, capabilities: frozenset[str], notification: Notification
) -> None:
    plugin = await host_world.plugin(capabilities=capabilities | {"state.read"})
    active = active_run(plugin)
    active.worker_is_at_it = True
    host_world.runs.add(active)
    async with host_world.life(plugin) as worker:
        await worker.channel.notify(notification.method, notification.params)
        assert await worker.ask("state.get", key="k") == {"found": False, "value": None, "revision": 0}
    assert active.progress is None


# Other plugins.

NOW = MethodSpec(name="now", params_schema={"properties": {"zone": {"type": "string"}}})


async def test_a_plugin_calls_another(autojump_clock: Any, host_world: HostWorld) -> None:
    one = await host_world.plugin("acme.one")
    await host_world.plugin("acme.two", ready=True, methods=(NOW,))
    async with host_world.life(one) as worker:
        answer = await worker.ask("plugins.call", plugin="acme.two", method="now", params={"zone": "UTC"})
        assert answer["result"]["params"] == {"zone": "UTC"}
        assert answer["result"]["caller"] == "acme.one"
        with pytest.raises(InvalidParams, match="zone"):
            await worker.ask("plugins.call", plugin="acme.two", method="now", params={"zone": 1})
        with pytest.raises(NotFound, match="it offers now"):
            await worker.ask("plugins.call", plugin="acme.two", method="then")
        for timeout_s in (0, -1, math.nan):
            with pytest.raises(InvalidParams, match="positive"):
                await worker.ask("plugins.call", plugin="acme.two", method="now", timeout_s=timeout_s)
        listed = (await worker.ask("plugins.list"))["plugins"]
        assert [(p["key"], p["phase"], p["methods"]) for p in listed] == [
            ("acme.one", "stopped", []),
            ("acme.two", "running", ["now"]),
        ]


async def test_a_plugin_that_does_not_run_is_unavailable(autojump_clock: Any, host_world: HostWorld) -> None:
    one = await host_world.plugin("acme.one")
    await host_world.plugin("acme.two", methods=(NOW,))
    async with host_world.life(one) as worker:
        with pytest.raises(SupervisorError, match="Installed and not loaded yet") as caught:
            await worker.ask("plugins.call", plugin="acme.two", method="now")
    assert (caught.value.code, caught.value.details["phase"]) == ("UNAVAILABLE", "stopped")


async def test_what_the_other_one_printed_last_stays_its_own(autojump_clock: Any, host_world: HostWorld) -> None:
    one = await host_world.plugin("acme.one")
    await host_world.plugin("acme.two", ready=True, methods=(NOW,))

    def crash(method: str, params: Any) -> Any:
        raise PluginCrashed("the worker ended: exited with code 3", exit_code=3, stderr_tail="password hunter2")

    host_world.world.workers.answer = crash
    async with host_world.life(one) as worker:
        with pytest.raises(PluginCrashed) as caught:
            await worker.ask("plugins.call", plugin="acme.two", method="now")
    assert caught.value.details == {"exit_code": 3}


async def test_more_subscriptions_than_a_worker_may_have(autojump_clock: Any, host_world: HostWorld) -> None:
    async with host_world.life(await host_world.plugin()) as worker:
        refused: list[str] = []

        async def subscribe() -> None:
            try:
                await worker.ask("events.subscribe")
            except ResourceExhausted as error:
                refused.append(error.message)

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(subscribe)
        assert len(refused) == 4
        await worker.ask("events.unsubscribe", subscription=1)
        assert (await worker.ask("events.subscribe"))["subscription"] not in range(1, 17)
