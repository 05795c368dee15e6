"""PROTOCOL.md says what the code does: errors, methods and roles, fields, limits, and the bytes of its examples."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from supervisor.clock import from_ms
from supervisor.control.describe import describe
from supervisor.control.room import Caps
from supervisor.core.errors import CLASSES, NUMBERS
from supervisor.core.event import PluginLoaded, Recorded
from supervisor.wire.codec import decode, encode
from supervisor.wire.control import (
    NOTIFICATIONS,
    PROGRESS_KEY,
    REQUESTS,
    AuditList,
    EventsList,
    EventsSubscribe,
    Hello,
    Role,
)
from supervisor.wire.limits import MIB, SERVER, WORKER, Limits
from supervisor.wire.message import DEADLINE_KEY, Notification, Request, Response
from supervisor.wire.results import (
    AuditEntry,
    ErrorInfo,
    EventInfo,
    EventPage,
    HelloInfo,
    MethodDescription,
    OperationProgress,
    ReloadInfo,
    SubscriptionInfo,
)
from supervisor.wire.typed import to_request
from supervisor.wire.worker import (
    CALL,
    CONFIG_CHANGED,
    EVENT,
    HANDSHAKE,
    HEALTH,
    HOST_REQUESTS,
    RUN_JOB,
    SHUTDOWN,
    VALIDATE_CONFIG,
)

TEXT = (Path(__file__).parents[2] / "supervisor" / "wire" / "PROTOCOL.md").read_text()
INITIALIZE = Request(
    0,
    "initialize",
    [{"plugin": "demo", "manifest": {}, "capabilities": [], "config": {}, "data_dir": "/d", "api_version": 1}],
)
ANSWER = Response(0, None, {"api_version": 1, "methods": ["now"]})
LOADED = {
    "seq": 43,
    "at_ms": 1700000000000,
    "type": "plugin.loaded",
    "plugin_id": "p1",
    "plugin": "demo",
    "data": {"version": "1.0"},
}
CONVERSATION = [
    Request(1, "rpc.hello", [{"client": "demo", "protocol": [1]}]),
    Request(2, "events.subscribe", [{"types": ["plugin.*"], "after_seq": 41, "credit": 1}]),
    Response(2, None, {"subscription": 1, "last_seq": 41}),
    Notification("rpc.event", [{"subscription": 1, "event": LOADED}]),
    Request(3, "events.credit", [{"subscription": 1, "n": 5}]),
    Response(3, None, {"ok": True}),
    Notification("rpc.event", [{"subscription": 1, "end": True, "reason": "overflow", "last_seq": 60}]),
]
CONTROL = TEXT[TEXT.index("## 4. The control socket") :]


def test_the_hex_examples() -> None:
    blocks = re.findall(r"```\n(.*?)```", TEXT, re.DOTALL)
    frames = [bytes.fromhex("".join(line.strip().split("   ")[0] for line in block.splitlines())) for block in blocks]
    messages = [INITIALIZE, ANSWER, *CONVERSATION]
    assert [decode(frame, max_depth=16) for frame in frames] == messages
    assert frames == [encode(message, max_bytes=1000) for message in messages]


def test_the_example_is_what_is_really_said() -> None:
    """Each request can be asked, and each word of the daemon's has the fields that it is described with."""
    for message in CONVERSATION:
        if isinstance(message, Request):
            assert to_request(REQUESTS[message.method], message.method, message.params)
    event = Recorded(
        seq=43,
        at=from_ms(1700000000000),
        type=PluginLoaded.TYPE,
        plugin_id="p1",
        plugin_key="demo",
        data={"version": "1.0"},
    )
    assert event.to_wire() == LOADED
    assert set(event.data) == set(describe()["events"][event.type]["data"]["properties"])
    assert set(CONVERSATION[2].result) == set(SubscriptionInfo.__annotations__)  # type: ignore[union-attr]


@pytest.mark.parametrize("role", Role)
def test_who_may_ask_for_what(role: Role) -> None:
    (row,) = re.findall(rf"\n\| {role.name.lower()} \| (.*) \|", CONTROL)
    assert row == ", ".join(f"`{name}`" for name, request in sorted(REQUESTS.items()) if request.ROLE is role)


@pytest.mark.parametrize(
    "name",
    [
        *describe(),
        *describe()["limits"],
        *NOTIFICATIONS,
        *AuditEntry.__annotations__,
        *HelloInfo.__annotations__,
        *MethodDescription.__annotations__,
        *ErrorInfo.__annotations__,
        *EventInfo.__annotations__,
        *OperationProgress.__annotations__,
        *EventPage.__annotations__,
        *ReloadInfo.__annotations__,
        *(field.name for kind in (EventsList, EventsSubscribe, AuditList, Hello) for field in fields(kind)),
        DEADLINE_KEY,
        PROGRESS_KEY,
        "$request_id",
        "observers",
        "operators",
        "admins",
        "metrics_listen",
    ],
)
def test_what_a_client_has_to_know(name: str) -> None:
    assert re.search(rf"(?<![a-z_$]){re.escape(name)}(?![a-z_])", CONTROL + TEXT[: TEXT.index("## 3.")])


def test_every_method_that_is_named_is_there() -> None:
    named = set(re.findall(r"`((?:rpc|daemon|plugins|jobs|events|logs|audit)\.[a-z_]+)", TEXT))
    capabilities = {"jobs.schedule", "plugins.read", "events.after_seq"}
    assert named <= {*REQUESTS, *NOTIFICATIONS, *HOST_REQUESTS, *capabilities, "rpc.cancel"}
    assert capabilities < named


@pytest.mark.parametrize("limits", [("control socket", SERVER), ("worker's fd 3", WORKER)])
def test_the_limits_of_frames(limits: tuple[str, Limits]) -> None:
    name, kept = limits
    in_, out = (f"{size // MIB} MiB" for size in (kept.max_frame_in_bytes, kept.max_frame_out_bytes))
    assert f"| {name} | {in_} | {out} | {kept.max_requests_in} |" in TEXT


def test_the_caps_of_connections() -> None:
    caps = Caps()
    told = (
        f"{caps.most} connections of all who are no admins, {caps.most_of_a_uid} of each uid; "
        f"{caps.most_of_a_master} of root"
    )
    assert told in CONTROL


@pytest.mark.parametrize("name", NUMBERS)
def test_every_error(name: str) -> None:
    found = re.search(rf"\| {NUMBERS[name]} \| {name}( \(retryable\))?[ |]", TEXT)
    assert found
    assert bool(found[1]) is CLASSES[name].retryable


@pytest.mark.parametrize(
    "method", [HANDSHAKE, HEALTH, RUN_JOB, CALL, VALIDATE_CONFIG, CONFIG_CHANGED, SHUTDOWN, EVENT, "log"]
)
def test_every_method_of_a_worker(method: str) -> None:
    assert f"\n| `{method}`" in TEXT


@pytest.mark.parametrize("method", HOST_REQUESTS)
def test_every_method_for_workers(method: str) -> None:
    request = HOST_REQUESTS[method]
    (row,) = re.findall(rf"\n\| `{re.escape(method)}` .*", TEXT)
    assert f"`{request.CAPABILITY}`" in row
    assert all(f"`{name}`" in row for name in request.__slots__)
