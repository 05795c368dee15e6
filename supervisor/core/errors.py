"""The error tree, and code <-> class. Pure.

Every error that a caller may see has a code (its name on the wire), a message for people and details for programs.
The codes are promises: we add, we do not rename.
"""

from __future__ import annotations

from collections.abc import Mapping

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is most of what a blocking client would import
if TYPE_CHECKING:
    from typing import Any, ClassVar, Final


class SupervisorError(Exception):
    """The root: an error with a code that travels.

    `details` are plain values (str, int, float, bool, None, lists and maps of them); they go to the peer beside the
    code, so they never hold secrets or tracebacks. A detail keeps the name it was given, `code` and `message` apart.
    """

    code: ClassVar[str] = "INTERNAL"
    retryable: ClassVar[bool] = False
    origin: str | None = None
    """The method that the other end answered with this error, where that must be told from one of our own."""

    def __init__(self, message: str, /, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details: Mapping[str, Any] = details

    @property
    def data(self) -> Mapping[str, Any]:
        """The details, under the name that they have on the wire."""
        return self.details


class InternalError(SupervisorError):
    """A mistake of plugind's own. Details: log_id, the place in its log; never a traceback."""


class ParseError(SupervisorError):
    """Bytes that are no message; the connection cannot go on."""

    code = "PARSE"


class InvalidRequest(SupervisorError):
    """What was asked is no request: wrong parts, or values that may not be."""

    code = "INVALID_REQUEST"


class MethodNotFound(SupervisorError):
    """There is no method of that name. Details: method."""

    code = "METHOD_NOT_FOUND"


class InvalidParams(SupervisorError):
    """The params do not fit the method, or say what cannot be."""

    code = "INVALID_PARAMS"


class Unauthenticated(SupervisorError):
    """Nobody can tell who asks."""

    code = "UNAUTHENTICATED"


class PermissionDenied(SupervisorError):
    """Who asks may not. Details: uid, role, required, or the capability that a plugin lacks."""

    code = "PERMISSION_DENIED"


class NotFound(SupervisorError):
    """There is nothing of that name."""

    code = "NOT_FOUND"


class AlreadyExists(SupervisorError):
    """There is one of that name already."""

    code = "ALREADY_EXISTS"


class FailedPrecondition(SupervisorError):
    """As things are it cannot be done; the message says what has to be otherwise."""

    code = "FAILED_PRECONDITION"


class InvalidTransition(SupervisorError):
    """A command that the plugin's status does not allow; nothing was touched."""

    code = "INVALID_TRANSITION"


class Conflict(SupervisorError):
    """Somebody else was first, or is at it: look at what is now, then ask again."""

    code = "CONFLICT"
    retryable = True


class ResourceExhausted(SupervisorError):
    """There is no room for it now, or it is more than may ever be; the message names the limit."""

    code = "RESOURCE_EXHAUSTED"
    retryable = True


class DeadlineExceeded(SupervisorError):
    """It did not end within the time that it was given. A change goes on."""

    code = "DEADLINE_EXCEEDED"
    retryable = True


class CallCancelled(SupervisorError):
    """It was cancelled, by who asked or with what it was about."""

    code = "CANCELLED"


class Unavailable(SupervisorError):
    """Who should do it is not there now: a worker that does not run, a daemon that stops."""

    code = "UNAVAILABLE"
    retryable = True


class PluginError(SupervisorError):
    """The plugin's own code failed or refused; its worker is well."""

    code = "PLUGIN_ERROR"


class PluginCrashed(SupervisorError):
    """The worker ended while a call was in flight. Details: exit_code, signal, stderr_tail."""

    code = "PLUGIN_CRASHED"
    retryable = True


class ActivationFailed(SupervisorError):
    """The worker did not come up. Details: cause, exit_code, signal, stderr_tail."""

    code = "ACTIVATION_FAILED"


class UpgradeFailed(SupervisorError):
    """The new version did not come up, and the one before goes on."""

    code = "UPGRADE_FAILED"


class ApprovalRequired(SupervisorError):
    """It asks for capabilities that nobody has agreed to. Details: plugin, version, capabilities."""

    code = "APPROVAL_REQUIRED"


class LocalProtocolError(SupervisorError):
    """We were about to break the protocol ourselves: a value that does not fit, a request id answered twice."""

    code = "INTERNAL"


class RemoteProtocolError(ParseError):
    """The peer broke the protocol."""


# The number beside each name in an error map. Fixed: a number is never used again for another name.
NUMBERS: Final[Mapping[str, int]] = {
    "PARSE": 1,
    "INVALID_REQUEST": 2,
    "METHOD_NOT_FOUND": 3,
    "INVALID_PARAMS": 4,
    "UNAUTHENTICATED": 5,
    "PERMISSION_DENIED": 6,
    "NOT_FOUND": 7,
    "ALREADY_EXISTS": 8,
    "FAILED_PRECONDITION": 9,
    "INVALID_TRANSITION": 10,
    "CONFLICT": 11,
    "RESOURCE_EXHAUSTED": 12,
    "DEADLINE_EXCEEDED": 13,
    "CANCELLED": 14,
    "UNAVAILABLE": 15,
    "PLUGIN_ERROR": 16,
    "PLUGIN_CRASHED": 17,
    "ACTIVATION_FAILED": 18,
    "UPGRADE_FAILED": 19,
    "APPROVAL_REQUIRED": 20,
    "INTERNAL": 21,
}

CLASSES: Final[Mapping[str, type[SupervisorError]]] = {
    cls.code: cls
    for cls in (
        InternalError,
        ParseError,
        InvalidRequest,
        MethodNotFound,
        InvalidParams,
        Unauthenticated,
        PermissionDenied,
        NotFound,
        AlreadyExists,
        FailedPrecondition,
        InvalidTransition,
        Conflict,
        ResourceExhausted,
        DeadlineExceeded,
        CallCancelled,
        Unavailable,
        PluginError,
        PluginCrashed,
        ActivationFailed,
        UpgradeFailed,
        ApprovalRequired,
    )
}


def error_from_code(code: str, message: str, details: Mapping[str, Any]) -> SupervisorError:
    """The exception for an error that came over the wire; an unknown code becomes a plain `SupervisorError`."""
    error = CLASSES.get(code, SupervisorError)(message)
    # Set afterwards: a peer's detail may carry any name.
    error.details = dict(details)
    return error
