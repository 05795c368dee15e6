"""What peers may make us hold, together and alone."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from supervisor.core.errors import ResourceExhausted
from supervisor.wire.budget import SMALL_BYTES, Budget, Share
from supervisor.wire.limits import KIB, SERVER
from supervisor.wire.message import Request
from supervisor.wire.peer import Peer, Refused


def test_what_is_held_moves_in_and_out() -> None:
    budget = Budget(1000, 1000)
    share = Share(None, 1)
    share.add(600)
    share.count_in(budget)
    assert budget.held_bytes == 600
    share.count_in(budget)
    share.add(-200)
    assert budget.held_bytes == 400
    share.count_in(None)
    share.add(50)
    assert budget.held_bytes == 0
    share.count_in(budget)
    assert budget.held_bytes == 450
    share.close()
    share.add(-50)
    share.count_in(budget)
    assert budget.held_bytes == 0


def asked(id_: int, size: int) -> bytes:
    frame: bytes = msgpack.packb([0, id_, "m", ["x" * size]])
    return frame


def test_each_alone_and_all_together() -> None:
    budget = Budget(100 * KIB, 60 * KIB)
    first, second, third = Share(budget, 1), Share(budget, 1), Share(budget, 2)
    first.add(50 * KIB)
    assert (second.fits(11 * KIB), second.fits(10 * KIB), third.fits(50 * KIB), third.fits(51 * KIB)) == (
        False,
        True,
        True,
        False,
    )
    third.add(50 * KIB)
    assert (second.full, third.full) == (True, True)
    assert second.fits(SMALL_BYTES), "what is small is taken always"
    first.close()
    first.add(-50 * KIB)
    assert budget.held_bytes == 50 * KIB, "what ends after the connection has gone counts no more"
    assert not second.full


def test_without_a_budget_nothing_counts() -> None:
    share = Share()
    share.add(1 << 40)
    assert not share.full
    assert share.set_unfinished(1 << 40)


@pytest.mark.parametrize("value", [[{}] * 50_000, [[]] * 50_000, ["ab"] * 50_000, [1.5] * 50_000])
def test_what_grows_by_decoding_weighs_what_it_grows_to(value: Any) -> None:
    frame = msgpack.packb(value)
    assert Share(Budget(1, 1), 1).weigh([value], len(frame)) >= 64 * 50_000


def test_a_request_that_does_not_fit_is_refused_and_those_that_are_small_are_not() -> None:
    budget = Budget(100 * KIB, 100 * KIB)
    peer = Peer(SERVER, share=Share(budget, 1))
    peer.receive(asked(1, 60 * KIB) + asked(2, 60 * KIB) + asked(3, 10))
    one, two, three = list(peer.events())
    assert [type(event) for event in (one, two, three)] == [Request, Refused, Request]
    assert isinstance(two, Refused)
    _, id_, error, _ = msgpack.unpackb(two.reply)
    assert (id_, error["name"], error["retryable"]) == (2, "RESOURCE_EXHAUSTED", True)
    peer.respond(1, None)
    peer.respond(3, None)
    assert budget.held_bytes == 0
    peer.receive(asked(2, 60 * KIB))
    assert isinstance(next(peer.events()), Request)


def test_a_frame_that_outgrows_what_is_left_ends_the_connection() -> None:
    budget = Budget(100 * KIB, 100 * KIB)
    frame = asked(1, 200 * KIB)
    peer = Peer(SERVER, share=Share(budget, 1))
    peer.receive(frame[: 50 * KIB])
    assert list(peer.events()) == []
    assert budget.held_bytes == 100 * KIB
    other = Peer(SERVER, share=Share(budget, 2))
    other.receive(frame[:SMALL_BYTES])
    assert list(other.events()) == [], "a small beginning is held always"
    other.receive(frame[SMALL_BYTES : SMALL_BYTES + 1])
    with pytest.raises(ResourceExhausted):
        list(other.events())
    peer.receive(frame[50 * KIB : 51 * KIB])
    with pytest.raises(ResourceExhausted):
        list(peer.events())


def test_whole_frames_leave_nothing_behind() -> None:
    budget = Budget(1 << 30, 1 << 30)
    peer = Peer(SERVER, share=Share(budget, 1))
    for byte in asked(1, 300):
        peer.receive(bytes([byte]))
        list(peer.events())
    assert 300 < budget.held_bytes < 1000
    peer.respond(1, None)
    assert budget.held_bytes == 0
