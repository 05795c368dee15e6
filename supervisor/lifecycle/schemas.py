"""Checking values with plugins' own JSON Schemas (draft 2020-12). jsonschema is imported when one is used.

A schema and a value may both be hostile, and together take for ever. So each check has a budget: a moment on the event
loop, which nearly all keep to, and some seconds in a thread for the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast
from weakref import WeakValueDictionary

import trio

from supervisor.core.errors import InvalidParams, ResourceExhausted
from supervisor.core.problem import shown
from supervisor.lifecycle.schema_budget import Budget, Overrun
from supervisor.lifecycle.schema_messages import MAX_PROBLEMS, message_of

AT_ONCE_S: Final = 0.02
"""How long a check may keep the event loop."""
ASIDE_S: Final = 5.0
"""How long a check may take in a thread, and how long it may wait for its turn there."""
_THREADS: Final = 3
_MAX_REFERENCES: Final = 20_000
"""Those followed for one whole value: a few that branch would otherwise take years."""


class SchemaChecks:
    """Checks of many plugins' values: in a thread is one of each plugin at most, and three of all of them.

    Calls, configurations that are set, and workers that start have one each: none of them waits for the others.
    """

    def __init__(self) -> None:
        self._threads = trio.CapacityLimiter(_THREADS)
        # A limiter is kept by those who hold it or wait for it: a thread that was left behind is one of them.
        self._own: WeakValueDictionary[str, trio.CapacityLimiter] = WeakValueDictionary()

    async def validate(self, plugin: str, schema: Mapping[str, Any], value: object, what: str) -> None:
        """As `validate`, without keeping the event loop. `plugin` is the one whose schema it is.

        Raises:
            InvalidParams: as `validate`; or it could not be checked within 5 s.
            ResourceExhausted: other checks with this plugin's schemas take so long that its turn did not come.
        """
        if not schema:
            return
        own = self._own.setdefault(plugin, trio.CapacityLimiter(1))
        if not own.borrowed_tokens:
            _import_engine()
            try:
                validate(schema, value, what, Budget(AT_ONCE_S, references=_MAX_REFERENCES))
            except Overrun:
                pass  # It goes on in a thread, from the start.
            else:
                return
        turn = cast(trio.CapacityLimiter, _Turn(own, self._threads, plugin))
        # Whoever is cancelled goes at once; the thread keeps its place until its budget is spent.
        await trio.to_thread.run_sync(_validate_aside, schema, value, what, limiter=turn, abandon_on_cancel=True)


class _Turn:
    """A place in both limiters, as one limiter for a thread."""

    def __init__(self, own: trio.CapacityLimiter, shared: trio.CapacityLimiter, plugin: str) -> None:
        self._own = own
        self._shared = shared
        self._plugin = plugin

    async def acquire_on_behalf_of(self, borrower: object) -> None:
        with trio.move_on_after(ASIDE_S):
            await self._own.acquire_on_behalf_of(borrower)
            try:
                await self._shared.acquire_on_behalf_of(borrower)
            except BaseException:
                self._own.release_on_behalf_of(borrower)
                raise
            return
        raise ResourceExhausted(
            f"others are being checked against the schemas of plugin {self._plugin!r}, or of other plugins, for more "
            f"than {ASIDE_S:g} s: try again later, or simplify its schemas",
            plugin=self._plugin,
        )

    def release_on_behalf_of(self, borrower: object) -> None:
        self._shared.release_on_behalf_of(borrower)
        self._own.release_on_behalf_of(borrower)


def _validate_aside(schema: Mapping[str, Any], value: object, what: str) -> None:
    budget = Budget(ASIDE_S, aside=True, references=_MAX_REFERENCES)
    try:
        validate(schema, value, what, budget)
    except Overrun as overrun:
        raise InvalidParams(
            f"{what}: cannot be checked against its schema within {ASIDE_S:g} s: {overrun.way_out}"
        ) from overrun


def _import_engine() -> None:
    """It takes longer than a check on the event loop may."""
    import supervisor.lifecycle.schema_engine  # noqa: F401


def validate(schema: Mapping[str, Any], value: object, what: str, budget: Budget) -> None:
    """Check `value` against a schema that `schema_faults` has passed. `what` names it in the message.

    Raises:
        InvalidParams: with all problems (20 at most); details: problems, a list of {path, message}.
        Overrun: the budget is spent.
    """
    from referencing.exceptions import Unresolvable

    from supervisor.lifecycle.schema_engine import InvalidPattern, errors_of

    try:
        errors = errors_of(schema, value, budget)
    except RecursionError as error:
        raise InvalidParams(f"{what}: is nested too deeply for its schema, or takes too many references") from error
    except Unresolvable as error:
        raise InvalidParams(f"{what}: a reference in its schema leads nowhere: {shown(str(error))}") from error
    except InvalidPattern as error:
        raise InvalidParams(f"{what}: a pattern in its schema is none: {error}") from error
    if not errors:
        return
    problems = [{"path": _place(error), "message": message_of(error)} for error in errors[:MAX_PROBLEMS]]
    count = "1 problem" if len(errors) == 1 else f"{len(errors)} problems"
    lines = "\n".join(f"  {problem['path']}: {problem['message']}" for problem in problems)
    raise InvalidParams(f"{what} has {count}:\n{lines}", problems=problems)


def _place(error: Any) -> str:
    path = str(error.json_path).removeprefix("$").removeprefix(".")
    return path or "(the whole)"
