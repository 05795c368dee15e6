"""Work: something that a handler is asked for, and what its end means to who asked."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from supervisor.core.errors import (
    AlreadyExists,
    CallCancelled,
    FailedPrecondition,
    InvalidParams,
    NotFound,
    PluginError,
    ResourceExhausted,
    SupervisorError,
    error_from_code,
)

if TYPE_CHECKING:
    import inspect

# An author may say these with a name of their own; anything else that a handler raises is a PLUGIN_ERROR.
_SPOKEN: Final = (InvalidParams, NotFound, AlreadyExists, FailedPrecondition, PluginError, CallCancelled)


class Work:
    """`call` runs the handler, or makes its coroutine. `id` is the request to answer; None: nobody asked for it."""

    def __init__(self, id_: int | None, what: str, call: Callable[[], Any], *, run_id: str | None = None) -> None:
        self.id = id_
        self.what = what
        self.call = call
        self.run_id = run_id
        self._cancelled = False
        self._cancellers: list[Callable[[], None]] = []

    def cancel(self) -> None:
        """Tell the handler that nobody waits for it any more. From any thread, also more than once."""
        self._cancelled = True
        for cancel in list(self._cancellers):
            cancel()

    def cancel_with(self, cancel: Callable[[], None]) -> None:
        """What `cancel` is to do, beside what it does already; at once if it has been called."""
        self._cancellers.append(cancel)
        if self._cancelled:
            cancel()

    def failed(self, error: BaseException) -> SupervisorError:
        """The answer for what the handler raised. An author's mistake goes to stderr with its traceback."""
        cause = _alone(error)
        if isinstance(cause, _SPOKEN):
            # What the daemon refused to the handler is the handler's own mistake, not its caller's.
            return _plain(cause) if cause.origin is None else PluginError(f"{cause.origin}: {cause.message}")
        run = f" (run {self.run_id})" if self.run_id else ""
        print_traceback(f"{self.what}{run} failed:", error)
        return PluginError(described(cause))

    def returned(self, result: Any) -> Any:
        """The answer for what a plain function returned."""
        if not hasattr(result, "__await__"):
            return result
        if hasattr(result, "close"):
            result.close()  # Or it would complain that nobody awaited it.
        return PluginError(f"{self.what} returned a coroutine: declare the function itself with 'async def'")


class InFlight:
    """The work that is not done yet. At most `limit` requests at once."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._changed = threading.Condition()
        self._works: list[Work] = []
        self._finishing = 0
        self._hurried = False

    def __iter__(self) -> Iterator[Work]:
        with self._changed:
            return iter(list(self._works))

    def add(self, work: Work) -> None:
        """Raises: ResourceExhausted."""
        with self._changed:
            if work.id is not None and sum(1 for one in self._works if one.id is not None) >= self._limit:
                raise ResourceExhausted(f"{self._limit} requests are in flight in the worker", limit=self._limit)
            self._works.append(work)

    def find(self, id_: int) -> Work | None:
        return next((work for work in self if work.id == id_), None)

    def finish(self, work: Work, answer: Callable[[], None]) -> None:
        """`answer`, unless it was finished already: the handler, a cancel and the end of a drain may all come here."""
        with self._changed:
            if work not in self._works:
                return
            self._works.remove(work)
            self._finishing += 1
        try:
            answer()
        finally:
            with self._changed:
                self._finishing -= 1
                self._changed.notify_all()

    def wait_none(self, timeout_s: float) -> bool:
        """Wait until all is done and answered; whether it is so. `hurry` ends all waiting."""
        with self._changed:
            self._changed.wait_for(lambda: self._hurried or self._none(), max(0.0, timeout_s))
            return self._none()

    def hurry(self) -> None:
        """Let who waits in `wait_none` go on."""
        with self._changed:
            self._hurried = True
            self._changed.notify_all()

    def calm(self) -> None:
        """Waiting in `wait_none` is waiting again."""
        with self._changed:
            self._hurried = False

    def _none(self) -> bool:
        return not self._works and not self._finishing


def bind(handler: Callable[..., Any], name: str, context: Any, params: Any) -> inspect.BoundArguments:
    """The call's arguments.

    Raises:
        InvalidParams: names the param that is unknown, missing or too many.
    """
    import inspect

    signature = inspect.signature(handler)
    try:
        match params:
            case None:
                return signature.bind(context)
            case dict():
                return signature.bind(context, **params)
            case list():
                return signature.bind(context, *params)
    except TypeError as error:
        takes = ", ".join(list(signature.parameters)[1:]) or "none"
        raise InvalidParams(f"{name}: {error}; it takes {takes}", method=name) from None
    raise InvalidParams(f"{name}: params must be a map of names, a list or nothing", method=name)


def described(error: BaseException) -> str:
    """Never raises, whatever the author's class does."""
    try:
        return f"{type(error).__name__}: {error}"
    except BaseException:  # noqa: BLE001  __str__ is an author's code too, and the caller is to be answered
        return f"{type(error).__name__} (its text cannot be made)"


def print_traceback(title: str, error: BaseException) -> None:
    """Never raises: stderr is the plugin's, which may have closed or replaced it, and then there is nobody to tell."""
    try:
        print(title, file=sys.stderr)
        sys.__excepthook__(type(error), error, error.__traceback__)
        sys.stderr.flush()
    except Exception:  # noqa: BLE001  a closed stderr is a ValueError, none an AttributeError, a broken one anything
        return


def _plain(error: SupervisorError) -> SupervisorError:
    """The same with a text for a message: an author may raise it with any value, or from an `__init__` of its own."""
    message, details = getattr(error, "message", None), getattr(error, "details", None)
    if isinstance(message, str) and isinstance(details, dict):
        return error
    try:
        text = str(error)
    except BaseException:  # noqa: BLE001  as in `described`
        text = described(error)
    return error_from_code(error.code, text, details if isinstance(details, dict) else {})


def _alone(error: BaseException) -> BaseException:
    """A nursery wraps what one of its tasks raised in a group; when there is just one, that one is meant."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
