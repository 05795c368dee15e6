"""Why a worker's life ended without having been asked to. Pure."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

_SHORTAGES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN})


class Reason(StrEnum):
    """Why a worker's life ended without having been asked to, for programs; a `cause` says it for people."""

    EXITED = "exited"
    """It ended by itself, with an exit code."""
    KILLED = "killed"
    """A signal ended it, and not one of ours."""
    OUT_OF_MEMORY = "out_of_memory"
    LIMIT_EXCEEDED = "limit_exceeded"
    """Another limit of its manifest."""
    CANNOT_START = "cannot_start"
    """There never was a process."""
    PACKAGE_CHANGED = "package_changed"
    """A file of its package is not what was installed: it is not started, and waiting would not help."""
    HANDSHAKE_TIMEOUT = "handshake_timeout"
    HANDSHAKE_REFUSED = "handshake_refused"
    HANDSHAKE_INVALID = "handshake_invalid"
    """It answered `initialize` with rubbish, or offers less than its manifest declares."""
    NOT_READY = "not_ready"
    """Its `ready` probe did not succeed in time."""
    UNHEALTHY = "unhealthy"
    """It failed its health checks."""
    NOT_READING = "not_reading"
    """It lives, and does not read its RPC connection."""
    HUNG_UP = "hung_up"
    """It lives, and has closed its RPC connection."""
    RUN_STUCK = "run_stuck"
    """It was told to cancel a run, and did not let go of it."""
    PROTOCOL_VIOLATION = "protocol_violation"
    INTERNAL = "internal"
    """A mistake in plugind itself."""


@dataclass(frozen=True, slots=True)
class Crash:
    """`cause` is what follows "the worker": "exited with code 3", "did not answer initialize within 15 s"."""

    reason: Reason
    cause: str
    passing: bool = False
    """The daemon lacked what it takes to start a process: no fault of the worker's, and it is tried for ever."""


def is_shortage(error: BaseException | None) -> bool:
    """Whether the system had no more descriptors, memory or processes to give."""
    return isinstance(error, OSError) and error.errno in _SHORTAGES
