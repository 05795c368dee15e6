"""Golden frames, the three shapes and the value profile."""

from __future__ import annotations

import tracemalloc
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.errors import LocalProtocolError, RemoteProtocolError
from supervisor.wire.codec import MAX_CONTAINERS, MAX_VALUES, count_values, decode, encode, profile_problem
from supervisor.wire.message import Failure, Malformed, Message, Notification, Request, Response

FAILURE = Failure("NOT_FOUND", "no plugin 'x'", {"plugin": "x"}, retryable=False)
GOLDEN: list[tuple[Message, str]] = [
    (Request(0, "daemon.ping", []), "9400 00 ab6461656d6f6e2e70696e67 90"),
    (Request(2**32 - 1, "m", [{"a": -1}]), "9400 ceffffffff a16d 91 81a161ff"),
    (Response(7, None, {"pong": True}), "9401 07 c0 81a4706f6e67c3"),
    (
        Response(7, FAILURE, None),
        "9401 07 85 a4636f6465 07 a46e616d65 a94e4f545f464f554e44 a76d657373616765 ad6e6f20706c7567696e20277827"
        "a464617461 81a6706c7567696ea178 a9726574727961626c65 c2 c0",
    ),
    (Notification("rpc.cancel", [1]), "9302 aa7270632e63616e63656c 9101"),
]


BARE_MAPS: list[tuple[Message, str]] = [
    (Request(1, "m", [{"a": -1}]), "9400 01 a16d 81a161ff"),
    (Request(1, "m", [{}]), "9400 01 a16d 80"),
    (Notification("m", [{"a": -1}]), "9302 a16d 81a161ff"),
]
MALFORMED = {
    "method a number": ([0, 1, 5, []], Malformed(1, "", "the method must be text (msgpack str), not a number")),
    "method nil": ([0, 1, None, {}], Malformed(1, "", "the method must be text (msgpack str), not nil")),
    "method bytes": (
        [0, 1, b"m", []],
        Malformed(1, "", "the method must be text (msgpack str), not bytes (msgpack bin)"),
    ),
    "params nil": ([0, 7, "m", None], Malformed(7, "m", "params must be an array or one map, not nil; [] for none")),
    "params text": ([0, 7, "m", "x"], Malformed(7, "m", "params must be an array or one map, not text; [] for none")),
    "params true": (
        [0, 7, "m", True],
        Malformed(7, "m", "params must be an array or one map, not a boolean; [] for none"),
    ),
    "three parts": (
        [0, 2**32 - 1, "m"],
        Malformed(2**32 - 1, "", "a request has 4 parts, [0, id, method, params], and this one has 3"),
    ),
    "five parts": (
        [0, 1, "m", [], 5],
        Malformed(1, "", "a request has 4 parts, [0, id, method, params], and this one has 5"),
    ),
    "two parts": ([0, 0], Malformed(0, "", "a request has 4 parts, [0, id, method, params], and this one has 2")),
    "uint64": ([0, 1, "m", [2**63]], Malformed(1, "m", "integers must fit in 64 bits with sign")),
    "uint64 in a bare map": ([0, 1, "m", {"a": 2**63}], Malformed(1, "m", "integers must fit in 64 bits with sign")),
    "bytes as key": ([0, 1, "m", {b"a": 1}], Malformed(1, "m", "map keys must be strings")),
}


def unpack(frame: bytes) -> Message | Malformed:
    return decode(frame, max_depth=16)


@pytest.mark.parametrize(("message", "text"), BARE_MAPS)
def test_a_bare_map_as_params_is_a_list_of_it(message: Message, text: str) -> None:
    assert unpack(bytes.fromhex(text)) == message


@pytest.mark.parametrize("name", MALFORMED)
def test_a_wrong_request_with_a_usable_id(name: str) -> None:
    value, expected = MALFORMED[name]
    assert unpack(msgpack.packb(value)) == expected


@pytest.mark.parametrize(("message", "text"), GOLDEN)
def test_golden_frames(message: Message, text: str) -> None:
    frame = bytes.fromhex(text)
    assert encode(message, max_bytes=1000) == frame
    assert unpack(frame) == message


def test_an_error_as_a_string() -> None:
    frame = encode(Response(7, FAILURE, None), max_bytes=1000, plain_errors=True)
    assert frame == bytes.fromhex("940107 b84e4f545f464f554e443a206e6f20706c7567696e20277827 c0")
    assert unpack(frame) == Response(7, Failure("NOT_FOUND", "no plugin 'x'"), None)


@pytest.mark.parametrize(
    "value",
    [
        [],
        {},
        7,
        None,
        "m",
        [0],
        [0, -1, "m", []],
        [0, -1, "m", {}],
        [0, None, "m", None],
        [0, 2**32, "m", []],
        [0, True, "m", []],
        [0, "1", "m", []],
        [0, 1.0, "m", []],
        [False, 1, "m", []],
        [0.0, 1, "m", []],
        [True, 1, None, None],
        [1, 1, None],
        [1, None, None, 1],
        [2, "m"],
        [2, "m", None],
        [2, "m", "x"],
        [2, 5, []],
        [3, "m", []],
        [-1, 1, "m", []],
    ],
)
def test_no_message(value: Any) -> None:
    with pytest.raises(RemoteProtocolError, match="is no message"):
        unpack(msgpack.packb(value))


def test_what_is_no_message_is_outlined() -> None:
    for value, outline in (
        ({"a": 1}, "but a map: "),
        ("GET / HTTP/1.1", "but text: "),
        ([3, "m", []], "but an array of 3 that begins with 3: "),
        ([], "but an array of 0: "),
    ):
        with pytest.raises(RemoteProtocolError, match=outline):
            unpack(msgpack.packb(value))


@pytest.mark.parametrize("empty", [b"\x80", b"\x90", b"\x91\x90"])
def test_too_many_containers_are_not_built(empty: bytes) -> None:
    """4 MiB of empty maps would be 250 MiB of them, and seconds in which nobody else has a turn."""
    count = 200_000
    frame = b"\x93\x02\xa1m\x91\xdd" + count.to_bytes(4, "big") + empty * count
    tracemalloc.start()
    try:
        with pytest.raises(RemoteProtocolError, match="a message holds more than 131072 arrays and maps"):
            unpack(frame)
        assert tracemalloc.get_traced_memory()[1] < 3 * len(frame) + 8 * count + 20_000_000
    finally:
        tracemalloc.stop()


def test_as_many_containers_as_may_be() -> None:
    message = Notification("m", [[{}] * (MAX_CONTAINERS - 4)])  # beside the frame, its params, and the list of them
    frame = encode(message, max_bytes=10**6)
    assert unpack(frame) == message
    with pytest.raises(RemoteProtocolError, match="more than 131072"):
        unpack(
            frame.replace((MAX_CONTAINERS - 4).to_bytes(4, "big"), (MAX_CONTAINERS).to_bytes(4, "big")) + b"\x80" * 4
        )
    with pytest.raises(LocalProtocolError, match="more than 131072 arrays and maps"):
        encode(Notification("m", [[{}] * (MAX_CONTAINERS + 1)]), max_bytes=10**6)


@pytest.mark.parametrize(
    "value",
    [
        b"\xdd" + (4_000_000).to_bytes(4, "big") + b"\x01" * 4_000_000,
        b"\xdc\x01\x00" + (b"\xdc\x40\x00" + b"\x01" * 0x4000) * 256,
        b"\xdf" + (140_000).to_bytes(4, "big") + b"".join(b"\xa6%06d\x01" % n for n in range(140_000)),
    ],
)
def test_too_many_values_are_not_looked_at(value: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(RemoteProtocolError, match="a message holds more than 262144 values"):
            unpack(b"\x93\x02\xa1m\x91" + value)
        assert tracemalloc.get_traced_memory()[1] < 40_000_000
    finally:
        tracemalloc.stop()


def test_as_many_values_as_may_be() -> None:
    most = [1] * (MAX_VALUES - 4)  # beside the three parts of the message, and its one param
    message = Notification("m", [most])
    assert unpack(encode(message, max_bytes=10**6)) == message
    assert count_values([most, {"a": 1}]) == MAX_VALUES - 4 + 4
    with pytest.raises(LocalProtocolError, match="more than 262144 values"):
        encode(Notification("m", [{"a": [1] * (MAX_VALUES + 1)}]), max_bytes=10**6)


def test_whatever_a_value_raises_while_it_is_packed_is_our_own_error() -> None:
    class Odd(list[int]):
        def __iter__(self) -> Any:
            raise RuntimeError("not today")

    with pytest.raises(LocalProtocolError, match="not today"):
        encode(Notification("m", [Odd([1])]), max_bytes=100)


@pytest.mark.parametrize("odd", [2**63, -(2**63) - 1, {1: 2}, [[2**63]]])
def test_one_odd_value_among_many(odd: Any) -> None:
    for many in ([5, None, "x", -1] * 1000, [7] * 5000, ["x"] * 5000):
        assert profile_problem([many], 16) is None
        assert profile_problem([[*many, odd]], 16) is not None
        assert profile_problem([{**{str(n): value for n, value in enumerate(many)}, "odd": odd}], 16) is not None


def nested(depth: int, kind: type, core: Any) -> Any:
    for _ in range(depth):
        core = [core] if kind is list else {"k": core}
    return core


@pytest.mark.parametrize("kind", [list, dict])
@pytest.mark.parametrize(
    "shape",
    [lambda v: [0, 1, "m", [v]], lambda v: [1, 1, None, v], lambda v: [1, 1, v, None], lambda v: [2, "m", [v]]],
)
def test_depth(kind: type, shape: Any) -> None:
    unpack(msgpack.packb(shape(nested(16, kind, 1))))
    unpack(msgpack.packb(shape(nested(15, kind, kind()))))
    for too_deep in (nested(17, kind, 1), nested(16, kind, kind()), nested(100, kind, 1)):
        if shape(1)[0] == 0:
            problem = "a value is nested deeper than 16 levels"
            assert unpack(msgpack.packb(shape(too_deep))) == Malformed(1, "m", problem)
            continue
        with pytest.raises(RemoteProtocolError, match="deeper than 16 levels"):
            unpack(msgpack.packb(shape(too_deep)))


@pytest.mark.parametrize("depth", [17, 18, 400])
def test_we_do_not_send_what_is_too_deep(depth: int) -> None:
    with pytest.raises(LocalProtocolError, match="deeper than 16 levels"):
        encode(Request(1, "m", [nested(depth, list, 1)]), max_bytes=1000)


@pytest.mark.parametrize("value", [-(2**63), 2**63 - 1, 0, 1.5, float("inf"), b"\xff", "ü", True, None, {"": []}])
def test_inside_the_profile(value: Any) -> None:
    message = Request(1, "m", [value])
    assert unpack(encode(message, max_bytes=1000)) == message


OUTSIDE = {
    "uint64": bytes.fromhex("93 02 a16d 91 cf8000000000000000"),
    "integer key": bytes.fromhex("94 00 01 a16d 91 810101"),
    "bytes as key": bytes.fromhex("93 02 a16d 91 81c4016101"),
    "bytes as key of a bare map": bytes.fromhex("93 02 a16d 81c4016101"),
    "nil key": bytes.fromhex("94 00 01 a16d 91 81c001"),
    "array as key": bytes.fromhex("94 00 01 a16d 91 819001"),
    "fixext1": bytes.fromhex("94 00 01 a16d 91 d40100"),
    "empty ext": bytes.fromhex("94 00 01 a16d 91 c70001"),
    "timestamp": bytes.fromhex("94 00 01 a16d 91 d6ff00000000"),
    "empty timestamp": bytes.fromhex("94 00 01 a16d 91 c700ff"),
    "no utf-8": bytes.fromhex("94 00 01 a16d 91 a1ff"),
    "method no utf-8": bytes.fromhex("94 00 01 a1ff 90"),
    "two frames": bytes.fromhex("9302a16d90 9302a16d90"),
    "half a frame": bytes.fromhex("9302a16d"),
    "nothing": b"",
    "deep": b"\x91" * 2000 + b"\x00",
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_outside_the_profile(name: str) -> None:
    with pytest.raises(RemoteProtocolError):
        unpack(OUTSIDE[name])


LOOP: list[Any] = []
LOOP += [LOOP, LOOP]


@pytest.mark.parametrize(
    "value",
    [2**63, -(2**63) - 1, {1: 2}, {b"k": 1}, {"a": [{None: 1}]}, object(), {1, 2}, "\ud800", LOOP, 2**70],
    ids=["2**63", "below", "int key", "bytes key", "deep key", "object", "set", "surrogate", "loop", "2**70"],
)
def test_we_do_not_send_what_is_outside(value: Any) -> None:
    for message in (Request(1, "m", [value]), Response(1, None, value), Notification("m", [value])):
        with pytest.raises(LocalProtocolError, match="cannot be sent"):
            encode(message, max_bytes=1000)


def test_the_size_limit_of_what_we_send() -> None:
    frame = encode(Notification("m", ["x" * 100]), max_bytes=1000)
    assert encode(Notification("m", ["x" * 100]), max_bytes=len(frame)) == frame
    with pytest.raises(LocalProtocolError, match="longer than the limit") as caught:
        encode(Notification("m", ["x" * 100]), max_bytes=len(frame) - 1)
    assert caught.value.details == {"max_frame_bytes": len(frame) - 1}


@given(st.binary(max_size=400))
def test_random_bytes(data: bytes) -> None:
    check_decode(data)


@given(st.sampled_from([bytes.fromhex(text) for _, text in GOLDEN]), st.data())
def test_mutated_frames(frame: bytes, data: st.DataObject) -> None:
    broken = bytearray(frame)
    for _ in range(data.draw(st.integers(1, 4))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    check_decode(bytes(broken))


def check_decode(frame: bytes) -> None:
    try:
        message = unpack(frame)
    except RemoteProtocolError as error:
        assert error.message  # noqa: PT017  it may, and need not, raise
    else:
        assert isinstance(message, Request | Response | Notification | Malformed)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text() | st.binary() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=15,
)


@given(values)
def test_there_and_back(value: Any) -> None:
    for message in (Request(1, "m", [value]), Response(1, None, value), Notification("m", [value])):
        try:
            frame = encode(message, max_bytes=1 << 20)
        except LocalProtocolError as error:
            assert "deeper" in error.message  # noqa: PT017  it may, and need not, raise
        else:
            assert unpack(frame) == message
