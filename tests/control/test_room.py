"""How many may be inside, and who goes for whom."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from supervisor.control.access import Caller
from supervisor.control.room import Caps, Room
from supervisor.core.errors import ResourceExhausted
from supervisor.wire.control import Role

ROOT, OWN, ADMIN, ALICE, BOB = 0, 900, 1000, 1001, 1002


def caller(uid: int) -> Caller:
    return Caller(1, uid, uid, Role.ADMIN if uid in {ROOT, OWN, ADMIN} else Role.OBSERVER)


@dataclass(eq=False)
class Guest:
    uid: int
    idle: float | None = 0
    understood: bool = True
    told: list[ResourceExhausted] = field(default_factory=list)

    @property
    def caller(self) -> Caller:
        return caller(self.uid)

    def idle_s(self) -> float | None:
        return self.idle

    def shed(self, error: ResourceExhausted) -> None:
        self.told.append(error)


def a_room(*guests: Guest, most: int = 4, most_of_a_uid: int = 3, most_of_a_master: int = 3) -> Room:
    caps = Caps(most=most, most_of_a_uid=most_of_a_uid, most_of_a_master=most_of_a_master)
    room = Room(caps, {ROOT, OWN}, lambda who: who.role is Role.ADMIN)
    for guest in guests:
        room.enter(guest)
    return room


@pytest.mark.parametrize("uid", [ROOT, OWN, ADMIN, ALICE])
def test_a_uid_has_so_many(uid: int) -> None:
    room = a_room(*[Guest(uid, None) for _ in range(3)])
    refusal = room.make(caller(uid))
    assert refusal is not None
    assert refusal.message == f"uid {uid} has 3 connections open, and no more are taken"
    assert room.refused == {"uid": 1}
    assert room.make(caller(BOB)) is None


def test_a_full_uid_is_refused_unseen() -> None:
    room = a_room(*[Guest(uid, None) for uid in (ROOT, ADMIN, ALICE) for _ in range(3)], Guest(BOB))
    for uid in (ADMIN, ALICE):
        refusal = room.refusal_of(uid)
        assert refusal is not None
        assert refusal.message == f"uid {uid} has 3 connections open, and no more are taken"
    assert [room.refusal_of(uid) for uid in (ROOT, OWN, BOB, 1003)] == [None] * 4
    assert room.refused == {"uid": 2}


def test_it_is_looked_at_whose_idle_one_may_go() -> None:
    idler = Guest(ALICE, 60)
    room = a_room(Guest(ALICE, None), idler, Guest(ALICE, None))
    assert room.refusal_of(ALICE) is None
    assert (idler.told, len(room), room.refused) == ([], 3, {})


def test_who_is_no_admin_any_more_counts_with_the_others() -> None:
    admins: set[int] = {ADMIN}
    room = Room(Caps(most=1, most_of_a_uid=3), {ROOT}, lambda who: who.uid in admins)
    inside = Guest(ADMIN, None)
    room.enter(inside)
    assert room.make(caller(ALICE)) is None
    admins.clear()
    room.look_again(inside)
    refusal = room.make(caller(ALICE))
    assert refusal is not None
    assert room.refused == {"total": 1}
    admins.add(ADMIN)
    room.look_again(inside)
    assert room.make(caller(ALICE)) is None
    room.leave(inside)
    admins.clear()
    room.look_again(inside)
    assert (len(room), room.make(caller(ALICE))) == (0, None)


def test_so_many_in_all_who_are_no_admins() -> None:
    room = a_room(Guest(ALICE, None), Guest(ALICE, None), Guest(BOB, None), Guest(BOB, None), Guest(ROOT), Guest(ADMIN))
    refusal = room.make(caller(1003))
    assert refusal is not None
    assert refusal.message == "4 connections are open, and no more are taken"
    assert room.refused == {"total": 1}
    assert [room.make(caller(uid)) for uid in (ROOT, OWN, ADMIN)] == [None] * 3


def test_admins_do_not_count_for_the_others() -> None:
    room = a_room(*[Guest(uid, None) for uid in (ROOT, OWN, ADMIN) for _ in range(3)])
    assert room.make(caller(ALICE)) is None


@pytest.mark.parametrize("uid", [ROOT, OWN])
def test_a_masters_longest_idle_one_goes_however_short_that_is(uid: int) -> None:
    guests = [Guest(uid, 0.1), Guest(uid, 0.3, understood=False), Guest(uid, None)]
    room = a_room(*guests)
    assert room.make(caller(uid)) is None
    assert [len(guest.told) for guest in guests] == [0, 1, 0]
    assert (len(room), room.shed) == (2, 1)


@pytest.mark.parametrize("uid", [ADMIN, ALICE])
@pytest.mark.parametrize(
    ("idle", "understood", "goes"), [(60, True, 1), (59.9, True, 0), (10, False, 1), (9.9, False, 0)]
)
def test_who_has_been_idle_for_long_goes(uid: int, idle: float, understood: bool, goes: int) -> None:
    idler = Guest(uid, idle, understood=understood)
    room = a_room(Guest(uid, 0), idler, Guest(uid, None))
    assert (room.make(caller(uid)) is None) == bool(goes)
    assert len(idler.told) == goes


def test_anybody_but_an_admin_makes_room_in_all() -> None:
    guests = [Guest(ROOT, 1000), Guest(ADMIN, 1000), Guest(ALICE, 70), Guest(BOB, 80), Guest(ALICE), Guest(BOB)]
    room = a_room(*guests)
    assert room.make(caller(1003)) is None
    assert [len(guest.told) for guest in guests] == [0, 0, 0, 1, 0, 0]
    assert guests[3].told[0].message == "closed after 80 s without a request: others needed its place"


def test_nobody_goes_before_there_is_need() -> None:
    guests = [Guest(ALICE, 1000), Guest(ALICE, 1000)]
    assert a_room(*guests).make(caller(ALICE)) is None
    assert [guest.told for guest in guests] == [[], []]


def test_who_has_left_counts_no_more_and_may_leave_twice() -> None:
    guests = [Guest(ALICE) for _ in range(3)]
    room = a_room(*guests)
    for _ in range(2):
        room.leave(guests[0])
    assert (len(room), room.make(caller(ALICE))) == (2, None)


@pytest.mark.parametrize(
    ("descriptors", "within"),
    [(20_000, (256, 32, 512)), (1024, (256, 32, 256)), (256, (64, 32, 64)), (64, (16, 16, 16)), (3, (1, 1, 1))],
)
def test_connections_take_a_quarter_of_the_descriptors(descriptors: int, within: tuple[int, int, int]) -> None:
    caps = Caps().within(descriptors)
    assert (caps.most, caps.most_of_a_uid, caps.most_of_a_master) == within
