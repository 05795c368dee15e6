"""When a call is asked again, and what it says then: the decision alone, with times of our own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from client.backoff import FIRST_S, LONGEST_S, Backoff
from client.calling import Call, Contact, Terms, fresh_request_id
from client.errors import (
    Conflict,
    ConnectionLost,
    DaemonNotRunning,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidParams,
    NotFound,
    PermissionDenied,
    RemoteProtocolError,
    ResourceExhausted,
    SupervisorError,
    Unavailable,
)
from client.protocol import READS

LOST = ConnectionLost("lost", socket="/s")
DOWN = DaemonNotRunning("down", socket="/s")
STOPPING = Unavailable("the daemon is stopping", stopping=True)
ANSWERS = [Unavailable("its worker is not running"), NotFound("no"), ResourceExhausted("no"), DeadlineExceeded("late")]


def read(contact: Contact, *, timeout_s: float | None = 30.0, reconnect_s: float = 5.0) -> Call:
    return Call("plugins.list", {}, Terms(timeout_s, reconnect_s), contact, 100.0)


def change(contact: Contact, method: str = "plugins.load", request_id: str | None = "one") -> Call:
    terms = Terms(30.0, 5.0)
    return Call(method, {"plugin": "a"}, terms.once(request_id) if request_id else terms, contact, 100.0)


def end_of(call: Call, error: SupervisorError, now: float = 100.0) -> float:
    """When it is given up, if every try ends with `error` at once."""
    while (pause_s := call.pause_s(error, now)) is not None:
        now += pause_s
    return now


@pytest.mark.parametrize("error", [LOST, DOWN])
def test_a_read_is_asked_until_the_patience_is_over(error: SupervisorError) -> None:
    assert end_of(read(Contact(lost_at=100.0)), error) == pytest.approx(105.0)
    assert end_of(read(Contact(lost_at=97.0)), error) == pytest.approx(102.0)
    assert end_of(read(Contact(lost_at=94.0)), error) == 100.0


def test_its_own_time_limit_comes_before_that() -> None:
    assert 100.0 < end_of(read(Contact(lost_at=100.0), timeout_s=1.0), DOWN) < 101.0


def test_a_daemon_that_never_answered_is_not_waited_for() -> None:
    assert read(Contact()).pause_s(DOWN, 100.0) is None


def test_a_daemon_that_hangs_up_at_each_call_is_left_alone_in_the_end() -> None:
    contact = Contact()
    call, now, tries = read(contact), 100.0, 0
    while True:
        contact.made()
        contact.lost(now)
        if (pause_s := call.pause_s(LOST, now)) is None:
            break
        now, tries = now + pause_s, tries + 1
    assert now == pytest.approx(105.0)
    assert 5 <= tries <= 9


@pytest.mark.parametrize("error", ANSWERS)
def test_what_was_answered_is_the_end(error: SupervisorError) -> None:
    contact = Contact(lost_at=100.0)
    assert read(contact).pause_s(error, 100.0) is None
    assert change(contact).pause_s(error, 100.0) is None


@pytest.mark.parametrize("error", [LOST, DOWN, STOPPING, *ANSWERS])
@pytest.mark.parametrize("method", ["plugins.load", "plugins.install", "plugins.call", "jobs.run", "no.such"])
def test_a_change_without_an_id_is_never_asked_again(method: str, error: SupervisorError) -> None:
    assert change(Contact(lost_at=100.0), method, None).pause_s(error, 100.0) is None


def test_a_call_of_a_plugins_method_has_no_id_and_is_never_asked_again() -> None:
    call = change(Contact(lost_at=100.0), "plugins.call")
    assert call.message() == [{"plugin": "a"}]
    assert call.pause_s(LOST, 100.0) is None
    assert call.outcome(LOST) is LOST


def test_reads_have_no_id() -> None:
    for method in READS:
        call = Call(method, {}, Terms(None, 5.0).once("one"), Contact(), 100.0)
        assert call.message() == [{}]


def test_a_change_under_an_id_is_asked_again_under_the_same() -> None:
    call = change(Contact(lost_at=100.0))
    said = [call.message()]
    for now in (100.0, 101.0):
        assert call.pause_s(LOST, now) is not None
        said.append(call.message())
    assert said == [[{"plugin": "a", "$request_id": "one"}]] * 3


def test_each_call_takes_a_fresh_id() -> None:
    terms = Terms(30.0, 5.0).once(None)
    calls = [Call("plugins.load", {"plugin": "a"}, terms, Contact(), 100.0) for _ in range(3)]
    ids = {call.message()[0]["$request_id"] for call in calls}
    assert len(ids) == 3
    assert all(1 <= len(each) <= 200 for each in ids)
    assert len({fresh_request_id() for _ in range(100)}) == 100


def test_what_is_still_under_way_is_waited_for_as_long_as_it_takes() -> None:
    call = change(Contact())
    now = 100.0
    for _ in range(1000):
        pause_s = call.pause_s(Conflict("has begun and not ended", request_id="one"), now)
        assert pause_s is not None
        now += pause_s
    assert now > 1000
    assert call.pause_s(Conflict("somebody else has set it meanwhile"), now) is None
    assert change(Contact()).pause_s(Conflict("of another", request_id="two"), 100.0) is None


def test_a_daemon_that_is_stopping_is_waited_for_and_then_as_long_as_usual() -> None:
    for call in (read(Contact(), timeout_s=None), change(Contact())):
        now = 100.0
        while now < 130.0:
            pause_s = call.pause_s(STOPPING, now)
            assert pause_s is not None
            last, now = now, now + pause_s
        assert end_of(call, DOWN, now) == pytest.approx(last + 5.0)


def test_the_daemon_is_told_what_is_left() -> None:
    call = read(Contact(lost_at=100.0))
    assert call.message() == [{"$deadline_ms": 30_000}]
    assert call.left_s(100.0) == call.left_s(99.0) - 1.0 == 30.0
    pause_s = call.pause_s(LOST, 104.0)
    assert pause_s is not None
    assert call.left_s(104.0) == 26.0
    assert call.left_s(131.0) == 0.0
    assert call.message()[0]["$deadline_ms"] == pytest.approx(26_000 - pause_s * 1000)


def test_a_wait_goes_on_for_what_is_left_of_it() -> None:
    contact = Contact(lost_at=100.0)
    call = Call("plugins.wait", {"plugin": "a", "timeout_s": 10.0}, Terms(30.0, 60.0), contact, 100.0)
    assert call.message() == [{"plugin": "a", "timeout_s": 10.0}]
    pause_s = call.pause_s(LOST, 108.0)
    assert pause_s is not None
    assert call.message()[0]["timeout_s"] == pytest.approx(2.0 - pause_s)
    assert call.pause_s(LOST, 110.0) is not None
    assert call.message()[0]["timeout_s"] == 0.001
    assert end_of(call, LOST, 110.0) <= 110.25


def test_who_gives_up_is_told_the_id_and_the_doubt() -> None:
    call = change(Contact(lost_at=100.0))
    assert call.pause_s(LOST, 100.0) is not None
    assert call.pause_s(DOWN, 105.0) is None
    told = call.outcome(DOWN)
    assert type(told) is ConnectionLost
    assert "once('one')" in told.message
    assert told.data == {"socket": "/s", "method": "plugins.load", "request_id": "one"}
    late = call.outcome(DeadlineExceeded("late", method="plugins.load"))
    assert type(late) is DeadlineExceeded
    assert "once('one')" in late.message
    assert late.data == {"method": "plugins.load", "request_id": "one"}


@pytest.mark.parametrize("error", [ResourceExhausted("full"), PermissionDenied("no"), RemoteProtocolError("odd"), DOWN])
def test_a_change_that_may_have_been_made_is_never_said_to_be_refused(error: SupervisorError) -> None:
    """It was sent; what its repetition met was no answer to it, but a connection that could not be made."""
    call = change(Contact(lost_at=100.0))
    assert call.pause_s(LOST, 100.0) is not None
    call.sent = False
    assert (call.pause_s(error, 104.0) is None) == (type(error) in {PermissionDenied, RemoteProtocolError})
    assert call.pause_s(error, 105.0) is None
    told = call.outcome(error)
    assert type(told) is ConnectionLost
    assert told.data["request_id"] == "one"
    assert (error.message in told.message) == (error is not DOWN)
    call.sent = call.answered = True
    assert call.outcome(error) is error


@pytest.mark.parametrize("make", [read, change])
def test_a_refusal_that_may_pass_is_waited_out_where_the_daemon_was_known(make: Callable[[Contact], Call]) -> None:
    known = Contact()
    known.made()
    for contact, until in ((Contact(), 100.0), (Contact(lost_at=98.0), 103.0), (known, 105.0)):
        call = make(contact)
        call.sent = False
        assert end_of(call, ResourceExhausted("full")) == pytest.approx(until)
        assert call.outcome(DOWN) is DOWN
    call = make(known)
    call.sent = False
    assert call.pause_s(PermissionDenied("no"), 100.0) is None


def test_one_that_was_found_again_by_others_is_waited_for_by_who_lost_it() -> None:
    contact = Contact()
    contact.made()
    assert end_of(read(contact), LOST) == pytest.approx(105.0)
    assert end_of(read(contact), DOWN) == pytest.approx(105.0)


def test_until_when_a_connection_is_waited_for() -> None:
    assert read(Contact(), timeout_s=3.0).connect_by(101.0) == 103.0
    assert change(Contact()).connect_by(101.0) == 131.0
    assert Call("plugins.load", {}, Terms(None, 5.0), Contact(), 100.0).connect_by(101.0) is None
    assert Call("plugins.wait", {"timeout_s": 1}, Terms(30.0, 5.0), Contact(), 100.0).connect_by(100.0) == 101.25


@pytest.mark.parametrize("limit_s", [float("inf"), 1e12, None])
def test_what_is_longer_than_a_life_is_no_limit(limit_s: float | None) -> None:
    terms = Terms(limit_s, 5.0)
    assert Call("plugins.list", {}, terms, Contact(), 100.0).deadline is None
    assert Call("plugins.list", {}, Terms(30.0, 5.0).within(limit_s or 1e9), Contact(), 100.0).message() == [{}]
    assert Call("plugins.wait", {"timeout_s": limit_s}, terms, Contact(), 100.0).deadline is None
    assert end_of(read(Contact(lost_at=100.0), timeout_s=9.0, reconnect_s=float("inf")), LOST) > 105.0


@pytest.mark.parametrize("limit_s", [float("nan"), "5"])
def test_what_is_no_time_is_refused_with_the_way_out(limit_s: Any) -> None:
    for make in (lambda: Terms(limit_s, 5.0), lambda: Terms(30.0, 5.0).within(limit_s)):
        with pytest.raises(InvalidParams, match="timeout_s is a number of seconds, or None for no limit"):
            make()
    with pytest.raises(InvalidParams, match="reconnect_s is a number"):
        Terms(30.0, limit_s)
    with pytest.raises(InvalidParams, match="timeout_s is a number"):
        Call("plugins.wait", {"timeout_s": float("nan")}, Terms(30.0, 5.0), Contact(), 100.0)


def test_what_was_never_sent_is_in_no_doubt() -> None:
    call = change(Contact())
    call.sent = False
    down = DaemonNotRunning("down", socket="/s")
    assert call.pause_s(down, 100.0) is None
    assert call.outcome(down) is down
    cut_short = FailedPrecondition("cut short", request_id="one")
    assert call.outcome(cut_short) is cut_short


def test_pauses_double_and_differ() -> None:
    for _ in range(20):
        backoff = Backoff()
        pauses = [backoff.next_s() for _ in range(9)]
        for n, pause_s in enumerate(pauses):
            assert 0.74 <= pause_s / min(FIRST_S * 2**n, LONGEST_S) <= 1.26
        backoff.reset()
        assert backoff.next_s() <= FIRST_S * 1.26
    assert len({Backoff().next_s() for _ in range(50)}) > 5
