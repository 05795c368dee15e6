"""Rules -> role: the highest that any rule gives, and nothing to who is in none."""

from __future__ import annotations

import grp
import pwd
from collections.abc import Sequence

import pytest
import trio

from supervisor.control.names import UserNames, find_group, find_user, rules_of
from supervisor.control.roles import NO_RULES, Rules, make_rules, setting_of
from supervisor.wire.control import Role

USERS = {"alice": 1001, "bob": 1002}
GROUPS = {"staff": 50, "ops": 51}


def rules(observers: Sequence[str] = (), operators: Sequence[str] = (), admins: Sequence[str] = ()) -> Rules:
    given = {Role.OBSERVER: observers, Role.OPERATOR: operators, Role.ADMIN: admins}
    return make_rules(given, USERS.get, GROUPS.get)


@pytest.mark.parametrize(
    ("given", "uid", "groups", "role"),
    [
        (rules(), 1001, {50}, None),
        (rules(observers=["alice"]), 1001, set(), Role.OBSERVER),
        (rules(observers=["alice"]), 1002, {1001}, None),  # a group's number is no user's
        (rules(operators=["1001"]), 1001, set(), Role.OPERATOR),
        (rules(admins=["@staff"]), 1002, {50}, Role.ADMIN),
        (rules(admins=["@50"]), 1002, {49, 50}, Role.ADMIN),
        (rules(admins=["@50"]), 50, {49}, None),
        (rules(observers=["*"]), 4242, set(), Role.OBSERVER),
        (rules(operators=["*"], observers=["alice"]), 1001, set(), Role.OPERATOR),
        (rules(observers=["*"], operators=["@staff", "@ops"], admins=["bob"]), 1002, {50}, Role.ADMIN),
        (rules(observers=["bob"], operators=["@ops"]), 1002, {51, 52}, Role.OPERATOR),
        (rules(observers=["@ops"], admins=["@ops"]), 7, {51}, Role.ADMIN),
        (rules(admins=["nosuch", "@nosuch"]), 0, {0}, None),
        (NO_RULES, 0, {0}, None),
    ],
)
def test_the_highest_that_any_rule_gives(given: Rules, uid: int, groups: set[int], role: Role | None) -> None:
    assert given.role(uid, groups) is role


def test_a_name_that_does_not_exist_is_said_and_gives_nobody_anything() -> None:
    found = rules(observers=["carol", "@wheel", "1", "@2"], operators=["alice"])
    assert found.warnings == (
        "observers: there is no user 'carol' here: 'carol' gives nobody a role",
        "observers: there is no group 'wheel' here: '@wheel' gives nobody a role",
    )
    assert (dict(found.users), dict(found.groups)) == ({1: Role.OBSERVER, 1001: Role.OPERATOR}, {2: Role.OBSERVER})


def test_everybody_as_admin_is_warned_of() -> None:
    assert rules(operators=["*"]).warnings == ()
    assert "run code as the user that runs plugind" in rules(admins=["*"]).warnings[0]


def test_who_has_a_role_by_the_rules() -> None:
    given = rules(observers=["*"], operators=["@ops", "alice"], admins=["bob"])
    assert given.granted_to(Role.OBSERVER) == ["*", "@ops", "alice", "bob"]
    assert given.granted_to(Role.OPERATOR) == ["@ops", "alice", "bob"]
    assert given.granted_to(Role.ADMIN) == ["bob"]
    assert [setting_of(role) for role in Role] == ["observers", "operators", "admins"]


async def test_names_of_this_host() -> None:
    user, group = pwd.getpwuid(0).pw_name, grp.getgrgid(0).gr_name
    assert (find_user(user), find_group(group)) == (0, 0)
    assert find_user("no-such-user-here") is find_group("no-such-group-here") is None
    found = rules_of([user], [f"@{group}"], ["no-such-user-here"])
    assert (found.role(0, frozenset()), found.role(99_999, {0})) == (Role.OBSERVER, Role.OPERATOR)
    assert len(found.warnings) == 1
    names = UserNames()
    with trio.fail_after(5):
        assert [await names.of(0), await names.of(3_999_999_999)] == [user, None]


async def test_a_name_is_looked_up_once_until_it_is_to_be_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr("supervisor.control.names.name_of", lambda uid: asked.append(uid) or f"u{uid}")
    names = UserNames()
    with trio.fail_after(5):
        assert [await names.of(5), await names.of(5), await names.of(6)] == ["u5", "u5", "u6"]
        names.forget()
        await names.of(5)
    assert asked == [5, 6, 5]
