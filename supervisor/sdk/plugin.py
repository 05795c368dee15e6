"""Plugin: what an author declares, by decorators, while the module is imported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from supervisor.sdk.context import Context, Log, LogOutlet, RunContext

JobHandler = Callable[[RunContext], Any]
MethodHandler = Callable[..., Any]
Hook = Callable[[Context], Any]
_F = TypeVar("_F", bound=Callable[..., Any])
_ASYNC_FLAGS: Final = 0x80 | 0x200
"""CO_COROUTINE and CO_ASYNC_GENERATOR of a code object."""


class Plugin:
    """The handlers of one plugin. Declaring the same name twice is an error at once, at import.

    Handlers are plain functions and run in threads, up to 16 at once.
    """

    def __init__(self) -> None:
        self.jobs: dict[str, JobHandler] = {}
        self.methods: dict[str, MethodHandler] = {}
        self.hooks: dict[str, Hook] = {}
        self.outlet = LogOutlet()
        self.log = Log(self.outlet)
        """For code that has no context: lines carry the run id of the thread they come from."""

    def job(self, key: str) -> Callable[[_F], _F]:
        """Handle the manifest's job `key`: `handler(ctx)`; what it returns (plain values) is the run's result."""
        return self._declare(self.jobs, "job", key)

    def method(self, name: str) -> Callable[[_F], _F]:
        """Handle calls of method `name`: `handler(ctx, …)` with the caller's params as keywords or positions."""
        return self._declare(self.methods, "method", name)

    def on_start(self, hook: _F) -> _F:
        """Run `hook(ctx)` before the handshake is answered; if it raises, the plugin does not become ready."""
        return self._declare(self.hooks, "hook", "on_start")(hook)

    def on_stop(self, hook: _F) -> _F:
        """Run `hook(ctx)` when the handlers have ended and the worker is about to."""
        return self._declare(self.hooks, "hook", "on_stop")(hook)

    def health(self, hook: _F) -> _F:
        """Ask `hook(ctx)` how the plugin is: None is well, a string says how it is degraded, raising is an error."""
        return self._declare(self.hooks, "hook", "health")(hook)

    def _declare(self, table: dict[str, Any], kind: str, name: str) -> Callable[[_F], _F]:
        if not isinstance(name, str):
            raise TypeError(f'@plugin.{kind} needs a name: @plugin.{kind}("…")')

        def declare(handler: _F) -> _F:
            if name in table:
                raise ValueError(f"{kind} {name!r} is declared twice: by {table[name]!r} and by {handler!r}")
            if not callable(handler):
                raise TypeError(f"{kind} {name!r} must be a function, not {handler!r}")
            code = getattr(handler, "__code__", None)
            if code is not None and code.co_flags & _ASYNC_FLAGS:
                raise TypeError(f"{kind} {name!r} is an async function; handlers are plain functions, run in threads")
            table[name] = handler
            return handler

        return declare
