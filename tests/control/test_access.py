"""Every method and every role: default deny, each role includes those below; and what who is denied is told."""

from __future__ import annotations

import os
import pwd
import socket
from typing import Any

import pytest
import trio

from supervisor.control.access import Caller, Gate, permits
from supervisor.control.refusals import Refusals
from supervisor.control.roles import make_rules
from supervisor.core.errors import PermissionDenied
from supervisor.wire.control import REQUESTS, Role

BY_HAND = make_rules({Role.OBSERVER: ["*"], Role.OPERATOR: ["@70", "1000"]}, lambda _: None, lambda _: None)


def caller(role: Role | None = None, uid: int = 3_999_999_999, **more: Any) -> Caller:
    return Caller(pid=1, uid=uid, gid=uid, role=role, **more)


@pytest.mark.parametrize("role", [None, *Role], ids=str)
@pytest.mark.parametrize("method", sorted(REQUESTS))
def test_every_method_and_role(method: str, role: Role | None) -> None:
    request = REQUESTS[method]
    may = method == "rpc.hello" or (role is not None and role >= request.ROLE)
    assert permits(caller(role), request) is may


def test_what_changes_something_is_for_no_observer() -> None:
    assert [m for m, request in REQUESTS.items() if request.CHANGES and request.ROLE is Role.OBSERVER] == []
    assert REQUESTS["plugins.install"].ROLE is REQUESTS["daemon.stop"].ROLE is Role.ADMIN


@pytest.mark.parametrize(
    ("own_uid", "role"), [(os.geteuid(), Role.ADMIN), (4242, Role.ADMIN if os.geteuid() == 0 else None)]
)
async def test_the_kernel_says_who_it_is(own_uid: int, role: Role | None) -> None:
    ours, theirs = socket.socketpair()
    with theirs, trio.socket.from_stdlib_socket(ours) as sock:
        found = Gate(own_uid).identify(sock)
    assert (found.pid, found.uid, found.gid, found.role) == (os.getpid(), os.geteuid(), os.getegid(), role)
    assert os.getegid() in found.groups
    assert found.exe == os.readlink("/proc/self/exe")


def test_rules_hold_for_who_is_inside_already() -> None:
    gate, inside = Gate(0), caller(Role.ADMIN, uid=1000, groups=frozenset({70}), client="c")
    inside = gate.renewed(inside)
    assert (inside.role, inside.client) == (None, "c")
    gate.rules = BY_HAND
    inside = gate.renewed(inside)
    assert inside.role is Role.OPERATOR
    assert gate.renewed(inside) is inside
    assert gate.renewed(caller(None)).role is Role.OBSERVER
    assert gate.renewed(caller(None, uid=0)).role is Role.ADMIN


async def denied(gate: Gate, who: Caller, method: str) -> PermissionDenied:
    with trio.fail_after(5), pytest.raises(PermissionDenied) as caught:
        await gate.deny(who, REQUESTS[method])
    return caught.value


async def test_who_is_denied_learns_who_may() -> None:
    gate = Gate(0, BY_HAND)
    error = await denied(gate, caller(Role.OBSERVER), "jobs.run")
    assert error.message == (
        "jobs.run needs the role operator, and uid 3999999999 has the role observer; it is given to @70, 1000"
    )
    assert error.details == {
        "uid": 3_999_999_999,
        "role": "observer",
        "required": "operator",
        "granted_to": ["@70", "1000"],
    }


async def test_where_nobody_may_the_setting_is_named() -> None:
    error = await denied(Gate(0), caller(None, uid=0), "plugins.install")
    assert error.message == (
        f"plugins.install needs the role admin, and uid 0 ({pwd.getpwuid(0).pw_name}) has no "
        'role here; nobody is given it: name users and "@groups" in the setting admins'
    )
    assert error.details["granted_to"] == []
    assert error.details["role"] == "none"


async def test_refusals_do_not_flood_the_log(monkeypatch: pytest.MonkeyPatch, autojump_clock: object) -> None:
    lines: list[tuple[str, dict[str, Any]]] = []

    class Recorder:
        def __init__(self, **fields: Any) -> None:
            self.fields = fields

        def warning(self, event: str) -> None:
            lines.append((event, self.fields))

    monkeypatch.setattr("supervisor.control.refusals.get_logger", Recorder)
    refusals = Refusals(most=2, period_s=60)
    for uid in range(5):
        refusals.request("daemon.stop", "admin", uid=uid)
    refusals.connection("gone")
    assert [fields["uid"] for _, fields in lines] == [0, 1]
    await trio.sleep(60)
    refusals.connection("a plugin")
    assert lines[2:] == [("connection.refused", {"why": "a plugin", "left_out_before": 4})]
