"""Ids, calls in flight, cancel: two peers joined by hand."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.core.errors import LocalProtocolError, RemoteProtocolError, ResourceExhausted
from supervisor.wire.limits import Limits
from supervisor.wire.message import Failure, Notification, Request, Response
from supervisor.wire.peer import Cancelled, Late, Peer, Refused

SMALL = Limits(max_frame_in_bytes=10_000, max_frame_out_bytes=10_000, max_requests_in=3, max_requests_out=3)


def peer(limits: Limits = SMALL, *, plain_errors: bool = False) -> Peer:
    return Peer(limits, plain_errors=plain_errors)


def said(to: Peer, data: bytes) -> list[Any]:
    to.receive(data)
    return list(to.events())


def test_a_call_and_its_answer() -> None:
    ours, theirs = peer(), peer()
    id_, frame = ours.request("m", [1])
    assert said(theirs, frame) == [Request(id_, "m", [1])]
    assert said(ours, theirs.respond(id_, "r")) == [Response(id_, None, "r")]
    assert ours.statistics() == theirs.statistics() == peer().statistics()


def test_cut_at_every_byte() -> None:
    frames = (
        peer().request("m", [{"a": 1}])[1]
        + peer().notify("n", [])
        + peer().request("m", [])[1].replace(b"\0\0", b"\0\5")
    )
    for cut in range(len(frames)):
        ours = peer()
        assert [*said(ours, frames[:cut]), *said(ours, frames[cut:])] == [
            Request(0, "m", [{"a": 1}]),
            Notification("n", []),
            Request(5, "m", []),
        ]


def test_ids_count_up_wrap_and_skip_what_is_in_use() -> None:
    ours = peer()
    assert ours.request("m", [])[0] == 0
    ours._next_id = 2**32 - 1
    assert ours.request("m", [])[0] == 2**32 - 1
    assert ours.request("m", [])[0] == 1


def test_an_id_used_twice_at_once() -> None:
    ours = peer()
    frame = msgpack.packb([0, 4, "m", []])
    said(ours, frame)
    with pytest.raises(RemoteProtocolError, match="request id 4 is in use"):
        said(ours, frame)


def test_an_id_may_be_used_again_after_its_answer() -> None:
    ours = peer()
    frame = msgpack.packb([0, 4, "m", []])
    for _ in range(3):
        assert said(ours, frame) == [Request(4, "m", [])]
        ours.respond(4, None)


def test_one_request_too_many_is_refused() -> None:
    ours = peer()
    for id_ in range(3):
        said(ours, msgpack.packb([0, id_, "m", []]))
    (refused,) = said(ours, msgpack.packb([0, 3, "m", []]))
    assert isinstance(refused, Refused)
    kind, id_, error, result = msgpack.unpackb(refused.reply)
    assert (kind, id_, error["name"], error["retryable"], result) == (1, 3, "RESOURCE_EXHAUSTED", True, None)
    ours.respond(0, None)
    assert said(ours, msgpack.packb([0, 3, "m", []])) == [Request(3, "m", [])]


def test_a_wrong_request_is_refused_and_the_connection_goes_on() -> None:
    ours = peer()
    for _ in range(5):  # It is answered: it takes no place among the unanswered ones.
        refused, asked = said(ours, msgpack.packb([0, 4, "m", None]) + msgpack.packb([0, 5, "m", {"a": 1}]))
        assert isinstance(refused, Refused)
        assert refused.request == Request(4, "m", [])
        assert refused.reply == bytes.fromhex("940104") + msgpack.packb(
            {
                "code": 2,
                "name": "INVALID_REQUEST",
                "message": "params must be an array or one map, not nil; [] for none",
                "data": {},
                "retryable": False,
            },
        ) + bytes.fromhex("c0")
        assert asked == Request(5, "m", [{"a": 1}])
        ours.respond(5, None)
    assert ours.statistics() == peer().statistics()


def test_a_wrong_request_with_an_id_in_use() -> None:
    ours = peer()
    said(ours, msgpack.packb([0, 4, "m", []]))
    with pytest.raises(RemoteProtocolError, match="request id 4 is in use"):
        said(ours, msgpack.packb([0, 4, "m", None]))


def test_we_do_not_ask_too_much_either() -> None:
    ours = peer()
    for _ in range(3):
        ours.request("m", [])
    with pytest.raises(ResourceExhausted, match="3 calls are in flight and 0 given up"):
        ours.request("m", [])
    ours.cancel(0)
    with pytest.raises(ResourceExhausted, match="2 calls are in flight and 1 given up"):
        ours.request("m", [])
    said(ours, msgpack.packb([1, 0, None, None]))
    ours.request("m", [])


def test_a_request_that_cannot_be_sent_costs_nothing() -> None:
    ours = peer()
    with pytest.raises(LocalProtocolError):
        ours.request("m", [object()])
    assert ours.statistics().requests_out == 0
    assert ours.request("m", [])[0] == 0


def test_cancel() -> None:
    ours, theirs = peer(), peer()
    id_, frame = ours.request("m", [])
    said(theirs, frame)
    assert said(theirs, ours.cancel(id_)) == [Cancelled(id_)]
    assert ours.statistics().unanswered_cancels == 1
    assert said(ours, theirs.respond(id_, "late")) == [Late(id_)]
    assert ours.statistics() == peer().statistics()


@pytest.mark.parametrize("params", [[True], [1.0], [], ["1"], [1, 2], [{}]])
def test_a_cancel_that_names_no_request_is_a_notification_like_others(params: list[Any]) -> None:
    assert said(peer(), msgpack.packb([2, "rpc.cancel", params])) == [Notification("rpc.cancel", params)]


def test_each_frame_yields_an_event() -> None:
    """Also a cancel of nothing: who handles the events gives others a turn by counting them."""
    assert said(peer(), msgpack.packb([2, "rpc.cancel", [9]]) * 40) == [Cancelled(9)] * 40


@pytest.mark.parametrize("id_", [1, 9, 2**32 - 1])
def test_an_answer_that_nobody_asked_for(id_: int) -> None:
    ours = peer()
    assert ours.request("m", [])[0] == 0
    with pytest.raises(RemoteProtocolError, match=f"request id {id_} was answered and never asked") as caught:
        said(ours, msgpack.packb([1, id_, None, None]))
    assert caught.value.details == {"id": id_}


def test_a_second_answer() -> None:
    ours = peer()
    ours.request("m", [])
    frame = msgpack.packb([1, 0, None, None])
    with pytest.raises(RemoteProtocolError, match="request id 0 was answered twice"):
        said(ours, frame + frame)


def test_a_second_answer_to_what_was_given_up() -> None:
    ours = peer()
    ours.request("m", [])
    ours.cancel(0)
    frame = msgpack.packb([1, 0, None, None])
    assert said(ours, frame) == [Late(0)]
    with pytest.raises(RemoteProtocolError, match="request id 0 was answered twice"):
        said(ours, frame)


def test_a_second_answer_after_the_ids_have_wrapped() -> None:
    ours = peer()
    ours._next_id = 2**32 - 1
    ours.request("m", [])
    with pytest.raises(RemoteProtocolError, match="request id 77 was answered twice"):
        said(ours, msgpack.packb([1, 77, None, None]))


def test_bytes_of_unanswered_requests_are_counted() -> None:
    ours = peer(SMALL._replace(max_request_bytes_in=1000))
    frames = [msgpack.packb([0, id_, "m", [b"x" * size]]) for id_, size in enumerate((500, 400, 300))]
    said(ours, frames[0] + frames[1])
    assert (ours.statistics().request_bytes_in, ours.overfull) == (len(frames[0]) + len(frames[1]), False)
    said(ours, frames[2])
    assert ours.overfull
    said(ours, msgpack.packb([0, 3, "m", [b"x" * 900]]))  # one too many: it is answered, and takes nothing
    assert ours.statistics().request_bytes_in == sum(map(len, frames))
    ours.fail(1, Failure("INTERNAL", "x"))
    assert not ours.overfull
    ours.respond(0, None)
    ours.respond(2, None)
    assert ours.statistics() == peer().statistics()


def test_exactly_one_answer() -> None:
    ours = peer()
    said(ours, msgpack.packb([0, 1, "m", []]))
    ours.respond(1, None)
    for again in (lambda: ours.respond(1, None), lambda: ours.fail(1, Failure("INTERNAL", "x"))):
        with pytest.raises(LocalProtocolError, match="is not open"):
            again()


def test_a_result_that_cannot_be_sent_leaves_the_request_open() -> None:
    ours = peer()
    said(ours, msgpack.packb([0, 1, "m", []]))
    with pytest.raises(LocalProtocolError):
        ours.respond(1, {1: 2})
    assert msgpack.unpackb(ours.fail(1, Failure("INTERNAL", "x")))[2]["name"] == "INTERNAL"


@pytest.mark.parametrize(
    "failure",
    [
        Failure("INTERNAL", "m", {"a": object()}),
        Failure("INTERNAL", "m", {"a": "x" * 20_000}),
        Failure("INTERNAL", "\ud800"),
    ],
)
def test_an_error_can_always_be_sent(failure: Failure) -> None:
    ours = peer(Limits(max_frame_in_bytes=10_000, max_frame_out_bytes=11_000))
    said(ours, msgpack.packb([0, 1, "m", []]))
    error = msgpack.unpackb(ours.fail(1, failure))[2]
    assert (error["name"], error["data"]) == ("INTERNAL", {})


def test_strings_first_maps_later() -> None:
    ours = peer(plain_errors=True)
    for id_ in (1, 2):
        said(ours, msgpack.packb([0, id_, "m", []]))
    assert msgpack.unpackb(ours.fail(1, Failure("NOT_FOUND", "x")))[2] == "NOT_FOUND: x"
    ours.plain_errors = False
    assert msgpack.unpackb(ours.fail(2, Failure("NOT_FOUND", "x")))[2]["code"] == 7


whole = st.sampled_from(
    [
        msgpack.packb([0, 1, "m", [{"a": 1}]]),
        msgpack.packb([0, 1, "m", {"a": 1}]),
        msgpack.packb([0, 2, "m", None]),
        msgpack.packb([1, 0, None, "r"]),
        msgpack.packb([1, 0, "NOT_FOUND: x", None]),
        msgpack.packb([2, "rpc.cancel", [1]]),
        b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\x91" * 3000,
    ],
)


@settings(max_examples=300)
@given(st.lists(whole | st.binary(max_size=40), max_size=8), st.integers(1, 64))
def test_nothing_but_a_protocol_error(parts: list[bytes], chunk: int) -> None:
    ours, data = peer(), b"".join(parts)
    ours.request("m", [])
    try:
        for start in range(0, len(data), chunk):
            for event in said(ours, data[start : start + chunk]):
                assert isinstance(event, Request | Response | Notification | Refused | Cancelled | Late)
    except RemoteProtocolError as error:
        assert error.code == "PARSE"  # noqa: PT017  it may, and need not, raise
    assert ours.statistics().requests_in <= SMALL.max_requests_in
