"""PROTOCOL.md says what the code does: error codes, the workers' methods, and the bytes of its example."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from supervisor.core.errors import CLASSES, NUMBERS
from supervisor.wire.codec import decode, encode
from supervisor.wire.message import Request, Response
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


def test_the_hex_example() -> None:
    blocks = re.findall(r"```\n(.*?)```", TEXT, re.DOTALL)
    frames = [bytes.fromhex("".join(line.strip().split("   ")[0] for line in block.splitlines())) for block in blocks]
    assert [decode(frame, max_depth=16) for frame in frames] == [INITIALIZE, ANSWER]
    assert frames == [encode(INITIALIZE, max_bytes=1000), encode(ANSWER, max_bytes=1000)]


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
