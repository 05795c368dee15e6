"""The blocking client's frames are held to wire.Peer: same bytes out, same meaning in, however they are cut."""

from __future__ import annotations

from itertools import chain

import msgpack
import pytest

from client import frames
from client.errors import InvalidParams, LocalProtocolError, NotFound, RemoteProtocolError, SupervisorError
from client.frames import Answer, Asked, Frames, Said
from supervisor.wire.limits import CLIENT, SERVER
from supervisor.wire.message import Failure, Request
from supervisor.wire.peer import Peer


def test_requests_have_the_same_bytes_as_those_of_the_peer() -> None:
    ours, peer = Frames(), Peer(CLIENT)
    for params in ([], [{"plugin": "a", "n": 1}], [{"$deadline_ms": 1.5, "b": b"\xff", "t": "é"}]):
        assert ours.request("m", params) == peer.request("m", params)


def test_limits_are_those_of_the_peer() -> None:
    assert (
        CLIENT.max_frame_in_bytes,
        CLIENT.max_frame_out_bytes,
    ) == (frames.MAX_FRAME_IN_BYTES, frames.MAX_FRAME_OUT_BYTES)


@pytest.mark.parametrize("plain", [False, True])
def test_answers_of_a_peer_cut_at_every_byte(plain: bool) -> None:
    ours, server = Frames(), Peer(SERVER, plain_errors=plain)
    for _ in range(2):
        server.receive(ours.request("m", [{}])[1])
    assert [type(event) for event in server.events()] == [Request, Request]
    stream = (
        server.respond(0, {"x": [1, None]})
        + server.notify("rpc.event", [{"subscription": 1}])
        + server.fail(1, Failure("NOT_FOUND", "no plugin 'a'", {"plugin": "a"}))
    )
    for cut in range(len(stream)):
        reader = Frames()
        result, said, failed = [*reader.receive(stream[:cut]), *reader.receive(stream[cut:])]
        assert isinstance(result, Answer)
        assert (result.id, result.error, result.result) == (0, None, {"x": [1, None]})
        assert isinstance(said, Said)
        assert (said.method, said.params) == ("rpc.event", [{"subscription": 1}])
        assert isinstance(failed, Answer)
        assert isinstance(failed.error, NotFound)
        assert failed.error.message == "no plugin 'a'"
        assert failed.error.details == ({} if plain else {"plugin": "a"})


@pytest.mark.parametrize(
    "value",
    [
        {"name": "NOT_FOUND", "message": "m", "data": {"a": 1}},
        {"name": "NEW_ONE", "message": "m"},
        {},
        {"name": "INTERNAL", "data": "odd"},
        "CONFLICT: later",
        "no name: here",
        "plain",
        ["odd"],
    ],
)
def test_errors_mean_the_same_as_to_the_peer(value: object) -> None:
    ours, theirs = frames.to_error(value), Failure.from_wire(value).to_error()
    assert (type(ours), ours.message, ours.details) == (type(theirs), theirs.message, theirs.details)


def test_a_request_of_the_daemon_is_refused() -> None:
    (asked,) = Frames().receive(msgpack.packb([0, 5, "plugins.get", []]))
    assert isinstance(asked, Asked)
    assert msgpack.unpackb(asked.reply) == [1, 5, "METHOD_NOT_FOUND: 'plugins.get' is not served at this end", None]


@pytest.mark.parametrize("data", [b"\xc1", msgpack.packb([7]), msgpack.packb("text"), msgpack.packb({1: 2}), b"\x80"])
def test_garbage_ends_the_connection(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        list(Frames().receive(data))


def test_a_frame_beyond_the_limit_ends_the_connection() -> None:
    reader = Frames()
    chunk = b"\xc6\x7f\xff\xff\xff" + bytes(64 * 1024)
    with pytest.raises(RemoteProtocolError):
        list(chain.from_iterable(reader.receive(chunk) for _ in range(100)))


@pytest.mark.parametrize("params", [{"x": object()}, {"x": 2**70}, {"x": bytes(2**20)}])
def test_what_cannot_be_sent_is_said_before_anything_is(params: dict[str, object]) -> None:
    ours = Frames()
    with pytest.raises(LocalProtocolError, match=r"plugins\.call"):
        ours.request("plugins.call", [params])
    assert ours.request("m", [])[0] == 0


@pytest.mark.parametrize(("text", "shown"), [("caf\udce9", r"'caf\xe9'"), ("\ud800", r"'\ud800'")])
def test_a_text_that_is_none_is_the_callers_mistake(text: str, shown: str) -> None:
    with pytest.raises(InvalidParams) as refused:
        Frames().request("plugins.load", [{"plugin": text}])
    assert refused.value.message.startswith(f"{shown} is no UTF-8")


def test_an_unknown_code_is_a_plain_supervisor_error() -> None:
    assert type(frames.to_error({"name": "NEW_ONE", "message": "m"})) is SupervisorError
