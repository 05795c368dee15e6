"""What a daemon and all that it starts are known by, wherever they go: a limit that nobody needs, and that cannot be
raised again."""

from __future__ import annotations

import hashlib
import resource
from typing import Final, NamedTuple

from supervisor.log import log

_LOCKS: Final = 10
"""RLIMIT_LOCKS: without effect since Linux 2.4.25, inherited through every fork and exec. To raise the hard limit takes
CAP_SYS_RESOURCE: where plugins run as root, only one that knows of it can shed it."""
_LINE: Final = b"Max file locks"
_UNLIMITED: Final = 1 << 64
_HIGHEST: Final = 1 << 62
_ID_BITS: Final = 48


class Badge(NamedTuple):
    number: int
    """The hard limit that we and all below us have."""
    above: int
    """What it was before: who is not below a plugind has at least this, as we were started as others are."""

    def is_on(self, pid: int) -> bool:
        """Whether a daemon on this state directory has started it, this one or one before."""
        return _limit_of(pid) == self.number

    def tells_of(self, pid: int) -> bool:
        """Whether it was started by some daemon, however low it has put its limit since."""
        limit = _limit_of(pid)
        return limit is not None and limit < self.above


def pin_badge(state_id: str) -> Badge | None:
    """On ourselves, before anything is started; for good. None, and it is logged: it cannot be done here."""
    _, hard = resource.getrlimit(_LOCKS)
    above = _UNLIMITED if hard == resource.RLIM_INFINITY else hard
    number = number_below(above, state_id)
    if number is None:
        log.warning("badge.not_pinned", why=f"the limit of file locks (ulimit -x) is {hard} already")
        return None
    try:
        resource.setrlimit(_LOCKS, (number, number))
    except (OSError, ValueError) as error:
        # As in a sandbox that knows no such limit.
        log.warning("badge.not_pinned", why=str(error))
        return None
    return Badge(number, above)


def number_below(above: int, state_id: str) -> int | None:
    """One that tells of the state directory; each daemon below a plugin of another one's has a lower one. None: there
    is no room."""
    level = (min(above, _HIGHEST) >> _ID_BITS) - 1
    digest = hashlib.blake2b(state_id.encode(), digest_size=_ID_BITS // 8).digest()
    return None if level < 1 else (level << _ID_BITS) | int.from_bytes(digest, "big")


def _limit_of(pid: int) -> int | None:
    """The hard one; None: it is gone, or not to be seen."""
    try:
        with open(f"/proc/{pid}/limits", "rb", buffering=0) as file:
            lines = file.readall().splitlines()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    # Its name, then soft, hard and the unit.
    words = next((line[len(_LINE) :].split() for line in lines if line.startswith(_LINE)), None)
    if words is None:
        return None
    return _UNLIMITED if words[1] == b"unlimited" else int(words[1])
