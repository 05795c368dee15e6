"""Every method and every role: default deny, each role includes those below."""

from __future__ import annotations

import os
import socket

import pytest
import trio

from supervisor.control.access import Caller, Gate, require
from supervisor.core.errors import PermissionDenied
from supervisor.wire.control import REQUESTS, Role


@pytest.mark.parametrize("role", [None, *Role], ids=str)
@pytest.mark.parametrize("method", sorted(REQUESTS))
def test_every_method_and_role(method: str, role: Role | None) -> None:
    request, caller = REQUESTS[method], Caller(pid=1, uid=1000, gid=1000, role=role)
    if role is not None and role >= request.ROLE:
        require(caller, request)
        return
    with pytest.raises(PermissionDenied, match="uid 1000") as caught:
        require(caller, request)
    assert caught.value.details["required"] == request.ROLE.name.lower()


def test_what_changes_something_is_for_no_observer() -> None:
    assert [m for m, request in REQUESTS.items() if request.CHANGES and request.ROLE is Role.OBSERVER] == []
    assert REQUESTS["plugins.install"].ROLE is REQUESTS["daemon.stop"].ROLE is Role.ADMIN


@pytest.mark.parametrize(
    ("own_uid", "role"), [(os.geteuid(), Role.ADMIN), (4242, Role.ADMIN if os.geteuid() == 0 else None)]
)
async def test_the_kernel_says_who_it_is(own_uid: int, role: Role | None) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        sock = trio.socket.from_stdlib_socket(ours)
        with sock:
            assert Gate(own_uid).identify(sock) == Caller(os.getpid(), os.geteuid(), os.getegid(), role)
