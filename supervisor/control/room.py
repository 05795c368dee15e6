"""Who is inside, how many may be, and who goes so that another may come in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from heapq import nlargest
from typing import Final, Protocol

from supervisor.control.access import Caller
from supervisor.core.errors import ResourceExhausted

_IDLE_S: Final = 60.0
"""Who has been silent so long, and is owed nothing, makes room when there is none."""
_DUMB_S: Final = 10.0
"""So does, after this, who has never said one whole thing."""

_BURST: Final = 32
"""Of so many of a master one goes, and of more more."""


class Guest(Protocol):
    """A connection, as far as it matters here."""

    @property
    def caller(self) -> Caller: ...
    @property
    def understood(self) -> bool: ...
    def idle_s(self) -> float | None: ...
    def shed(self, error: ResourceExhausted) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """How many connections may be open."""

    most: int = 256
    """Of all who are no admins together."""
    most_of_a_uid: int = 32
    most_of_a_master: int = 512
    """Of root, and of the daemon's own user: each."""

    def within(self, descriptors: int) -> Caps:
        """The same where a process may open only so many: workers and files need theirs."""
        quarter = max(descriptors // 4, 1)
        return Caps(
            most=min(self.most, quarter),
            most_of_a_uid=min(self.most_of_a_uid, quarter),
            most_of_a_master=min(self.most_of_a_master, quarter),
        )


class Room:
    """A master, `masters` being uids, is refused only where all his own connections are busy: his idle ones go for it,
    however short they have been idle. Others' go when they have been idle for long."""

    def __init__(self, caps: Caps, masters: Collection[int], is_admin: Callable[[Caller], bool]) -> None:
        self._caps = caps
        self._masters = frozenset(masters)
        self._is_admin = is_admin
        self._of_uid: dict[int, dict[Guest, None]] = {}
        self._commons: dict[Guest, None] = {}
        """Those of all who are no admins."""
        self.refused: Final[Counter[str]] = Counter()
        """How often, by the limit that was met: `uid` or `total`."""
        self.shed = 0

    def __len__(self) -> int:
        return sum(map(len, self._of_uid.values()))

    def enter(self, guest: Guest) -> None:
        self._of_uid.setdefault(guest.caller.uid, {})[guest] = None
        if not self._is_admin(guest.caller):
            self._commons[guest] = None

    def leave(self, guest: Guest) -> None:
        """It may have left before."""
        self._commons.pop(guest, None)
        of_uid = self._of_uid.get(guest.caller.uid, {})
        of_uid.pop(guest, None)
        if not of_uid:
            self._of_uid.pop(guest.caller.uid, None)

    def look_again(self, guest: Guest) -> None:
        """The role of one that is inside may have changed."""
        if self._is_admin(guest.caller):
            self._commons.pop(guest, None)
        elif guest in self._of_uid.get(guest.caller.uid, {}):
            self._commons[guest] = None

    def refusal_of(self, uid: int) -> ResourceExhausted | None:
        """What anybody of this uid is to be told; None if there may be room, as there may be always for a master."""
        mine = self._of_uid.get(uid, {})
        if (
            uid in self._masters
            or len(mine) < self._caps.most_of_a_uid
            or any(_spare_s(guest, at_once=False) is not None for guest in mine)
        ):
            return None
        return self._refuse(uid, self._caps.most_of_a_uid)

    def _refuse(self, uid: int, most: int) -> ResourceExhausted:
        self.refused["uid"] += 1
        return ResourceExhausted(f"uid {uid} has {most} connections open, and no more are taken", limit=most)

    def make(self, caller: Caller) -> ResourceExhausted | None:
        """Let there be room for one more of this caller's; None if there is, else what he is to be told."""
        uid, master = caller.uid, caller.uid in self._masters
        most = self._caps.most_of_a_master if master else self._caps.most_of_a_uid
        mine = self._of_uid.get(uid, {})
        if len(mine) >= most and not self._make_go(mine, at_once=master):
            return self._refuse(uid, most)
        most = self._caps.most
        if (
            not master
            and not self._is_admin(caller)
            and len(self._commons) >= most
            and not self._make_go(self._commons)
        ):
            self.refused["total"] += 1
            return ResourceExhausted(f"{most} connections are open, and no more are taken", limit=most)
        return None

    def _make_go(self, guests: Collection[Guest], *, at_once: bool = False) -> bool:
        """The one that has been idle longest; False if there is none."""
        idle = [
            (seconds, n, guest) for n, guest in enumerate(guests) if (seconds := _spare_s(guest, at_once)) is not None
        ]
        # Where hundreds come in a burst, all are not looked at again for each.
        count = max(len(guests) // _BURST, 1) if at_once else 1
        for seconds, _, guest in nlargest(count, idle):
            # It counts no more, though its last word takes a moment.
            self.leave(guest)
            self.shed += 1
            guest.shed(ResourceExhausted(f"closed after {seconds:.0f} s without a request: others needed its place"))
        return bool(idle)


def _spare_s(guest: Guest, at_once: bool) -> float | None:
    """For how long it has been idle, if that is long enough."""
    seconds = guest.idle_s()
    if seconds is None or at_once:
        return seconds
    return seconds if seconds >= (_IDLE_S if guest.understood else _DUMB_S) else None
