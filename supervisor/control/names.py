"""Names and numbers of users and groups, as this host has them; asking may take long where they are in a network."""

from __future__ import annotations

import grp
import pwd
from collections.abc import Sequence
from typing import Final

import trio

from supervisor.control.roles import Rules, make_rules
from supervisor.wire.control import Role

_MOST: Final = 1000
"""Names that are remembered."""


def find_user(name: str) -> int | None:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def find_group(name: str) -> int | None:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def rules_of(observers: Sequence[str], operators: Sequence[str], admins: Sequence[str]) -> Rules:
    """The rules of the settings of these names; may block."""
    given = {Role.OBSERVER: observers, Role.OPERATOR: operators, Role.ADMIN: admins}
    return make_rules(given, find_user, find_group)


class UserNames:
    """uid -> name, remembered until `forget`."""

    def __init__(self) -> None:
        self._known: dict[int, str | None] = {}
        # One that hangs in a directory service must not take the threads of others.
        self._limiter = trio.CapacityLimiter(2)

    async def of(self, uid: int) -> str | None:
        """None: it has none."""
        if uid not in self._known:
            name = await trio.to_thread.run_sync(name_of, uid, limiter=self._limiter, abandon_on_cancel=True)
            if len(self._known) >= _MOST:
                self.forget()
            self._known[uid] = name
        return self._known[uid]

    def forget(self) -> None:
        """They may have changed."""
        self._known.clear()


def name_of(uid: int) -> str | None:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None
