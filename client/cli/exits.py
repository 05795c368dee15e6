"""What the exit code of pluginctl says."""

from __future__ import annotations

from supervisor.core.errors import SupervisorError

FAILED, USAGE, REFUSED_CODE, NOT_FOUND, UNAVAILABLE, INTERRUPTED = 1, 2, 3, 4, 5, 130
REFUSED = frozenset(
    {
        "INVALID_TRANSITION",
        "FAILED_PRECONDITION",
        "ALREADY_EXISTS",
        "CONFLICT",
        "PERMISSION_DENIED",
        "UNAUTHENTICATED",
        "APPROVAL_REQUIRED",
        "INVALID_PARAMS",
        "INVALID_REQUEST",
        "METHOD_NOT_FOUND",
        "RESOURCE_EXHAUSTED",
    },
)


def exit_code(error: SupervisorError) -> int:
    """The exit code that an error stands for."""
    if error.code in REFUSED:
        return REFUSED_CODE
    if error.code == "UNAVAILABLE":
        return UNAVAILABLE if is_unreachable(error) else REFUSED_CODE
    return NOT_FOUND if error.code == "NOT_FOUND" else FAILED


def is_for_the_role(error: SupervisorError) -> bool:
    """Refused whatever it is about: the caller's role is too low."""
    return error.code == "PERMISSION_DENIED" and "required" in error.details


def is_unreachable(error: SupervisorError) -> bool:
    """Nobody answers. What says why is an answer: plugind is there, and a plugin or its database is not."""
    return error.code == "UNAVAILABLE" and (not error.details or "socket" in error.details)
