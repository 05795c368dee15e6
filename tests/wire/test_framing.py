"""Frames out of a stream, wherever it is cut, and whatever a hostile peer declares."""

from __future__ import annotations

import tracemalloc

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.errors import RemoteProtocolError
from supervisor.wire.codec import decode
from supervisor.wire.framing import FrameReader

FRAMES = [
    msgpack.packb([0, 1, "daemon.ping", []]),
    msgpack.packb([1, 2**32 - 1, None, {"a": [1.5, None, True, b"\0" * 300, "ü" * 40]}]),
    msgpack.packb([2, "log", [{"message": "x" * 70_000}]]),
    msgpack.packb(0),
]


def test_cut_at_every_byte() -> None:
    stream = FRAMES[0] + FRAMES[1] + FRAMES[3]
    for cut in range(len(stream) + 1):
        reader = FrameReader(1024)
        assert [*reader.feed(stream[:cut]), *reader.feed(stream[cut:])] == [FRAMES[0], FRAMES[1], FRAMES[3]]
        assert not reader.partial


def test_one_byte_at_a_time() -> None:
    reader = FrameReader(1 << 20)
    frames = [frame for byte in b"".join(FRAMES[:2]) for frame in reader.feed(bytes([byte]))]
    assert frames == FRAMES[:2]


def test_partial_says_whether_a_frame_has_begun() -> None:
    reader = FrameReader(1024)
    assert not reader.partial
    assert list(reader.feed(FRAMES[0] + FRAMES[1][:3])) == [FRAMES[0]]
    assert reader.partial
    assert list(reader.feed(FRAMES[1][3:])) == [FRAMES[1]]
    assert not reader.partial


@given(st.lists(st.integers(1, 5000), max_size=40))
def test_any_chunks(sizes: list[int]) -> None:
    stream = b"".join(FRAMES) * 2
    reader, out, at = FrameReader(1 << 20), [], 0
    for size in [*sizes, len(stream)]:
        out += reader.feed(stream[at : at + size])
        at += size
    assert out == FRAMES * 2


def test_the_size_limit_is_exact() -> None:
    frame = msgpack.packb(b"x" * 998)
    assert len(frame) == 1001
    assert list(FrameReader(1001).feed(frame * 3)) == [frame] * 3
    for chunk in (1, 100, len(frame)):
        reader = FrameReader(1000)
        with pytest.raises(RemoteProtocolError, match="longer than 1000 bytes"):  # noqa: PT012  at any chunk
            for start in range(0, len(frame), chunk):
                list(reader.feed(frame[start : start + chunk]))


HUGE = {
    "str32": b"\xdb\xff\xff\xff\xff",
    "bin32": b"\xc6\xff\xff\xff\xff",
    "array32": b"\xdd\xff\xff\xff\xff",
    "map32": b"\xdf\xff\xff\xff\xff",
    "ext32": b"\xc9\xff\xff\xff\xff\x01",
    "nested arrays": b"\x91" * 100_000,
    "nested array32": b"\xdd\xff\xff\xff\xff" * 1000,
    "a map of maps": b"\xde\xff\xff\xa1a" * 10_000,
}


@pytest.mark.parametrize("name", HUGE)
def test_a_declared_length_never_allocates(name: str) -> None:
    limit = 64 * 1024
    tracemalloc.start()
    try:
        reader = FrameReader(limit)
        with pytest.raises(RemoteProtocolError):  # noqa: PT012  wherever in the stream it is noticed
            # msgpack takes an ext32 of the greatest length for an empty one; then it is the decoder that refuses it.
            for frame in reader.feed(b"\x94\x00\x01\xa1m" + HUGE[name]):
                decode(frame, max_depth=16)
            for _ in range(100):
                list(reader.feed(b"\0" * 4096))
        assert tracemalloc.get_traced_memory()[1] < 8 * limit
    finally:
        tracemalloc.stop()


DEEP = "nested deeper than msgpack can be read"
VIOLATIONS = {"nested arrays": DEEP, "a map of maps": DEEP, "ext32": "cannot be decoded.*exceeds max_ext_len"}


@pytest.mark.parametrize("name", HUGE)
def test_the_violation_is_named(name: str) -> None:
    reader = FrameReader(64 * 1024)
    with pytest.raises(RemoteProtocolError, match=VIOLATIONS.get(name, "longer than 65536 bytes")):  # noqa: PT012
        for frame in reader.feed(b"\x94\x00\x01\xa1m" + HUGE[name] + b"\0" * 200_000):
            decode(frame, max_depth=16)


def test_no_msgpack() -> None:
    with pytest.raises(RemoteProtocolError, match="no msgpack"):
        list(FrameReader(100).feed(b"\xc1"))


@given(st.binary(max_size=2000), st.integers(1, 50))
def test_random_bytes(data: bytes, chunk: int) -> None:
    reader = FrameReader(256)
    try:
        for start in range(0, len(data), chunk):
            list(reader.feed(data[start : start + chunk]))
            assert len(reader._data) <= 2 * 256
    except RemoteProtocolError as error:
        assert error.message  # noqa: PT017  it may, and need not, raise
