"""Plugin: what an author declares, by decorators, while the module is imported."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from supervisor.sdk.outlet import Log, LogOutlet

if TYPE_CHECKING:
    from supervisor.sdk.async_context import AsyncContext, AsyncRunContext
    from supervisor.sdk.context import Context, RunContext

    JobHandler = Callable[[RunContext], Any] | Callable[[AsyncRunContext], Awaitable[Any]]
    Hook = Callable[[Context], Any] | Callable[[AsyncContext], Awaitable[Any]]
    Task = Callable[[AsyncContext], Awaitable[Any]]
    ConfigHook = Callable[[Context, dict[str, Any]], Any] | Callable[[AsyncContext, dict[str, Any]], Awaitable[Any]]

MethodHandler = Callable[..., Any]
_F = TypeVar("_F", bound=Callable[..., Any])
# Of a code object's flags; `inspect` has them too, and takes as long to import as the rest of the SDK.
_COROUTINE: Final = 0x80
_ASYNC_GENERATOR: Final = 0x200


class EventHandler(NamedTuple):
    """What @on_event declares: types (globs) and plugin keys; empty means all."""

    types: tuple[str, ...]
    plugins: tuple[str, ...]
    handler: Callable[..., Any]


class Plugin:
    """The handlers of one plugin. Declaring the same name twice is an error at once, at import.

    A plain function runs in a thread, up to 16 at once, and gets a `Context`. An `async def` runs in one trio event
    loop, up to 64 at once, and gets an `AsyncContext`, which has the same requests, awaited. Both may be in one plugin.
    """

    def __init__(self) -> None:
        self.jobs: dict[str, JobHandler] = {}
        self.methods: dict[str, MethodHandler] = {}
        self.hooks: dict[str, Hook] = {}
        self.config_hooks: dict[str, ConfigHook] = {}
        self.event_handlers: list[EventHandler] = []
        self.tasks: list[Task] = []
        self.outlet = LogOutlet()
        self.log = Log(self.outlet)
        """For code that has no context: lines carry the run id of the thread or trio task they come from."""

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
        """Ask `hook(ctx)` how the plugin is: None is well, a string says how it is degraded, raising is an error.

        Without a hook the plugin is well as long as its event loop, if it has one, does not stand still.
        """
        return self._declare(self.hooks, "hook", "health")(hook)

    def validate_config(self, hook: _F) -> _F:
        """Ask `hook(ctx, config)` whether a configuration that fits the schema will do; only then it is stored.

        It returns nothing where it will, else what is wrong: a text, or a list of texts or of (path, text) such as
        ("db.host", "is not known here"). Raising InvalidParams refuses it too. It has 10 seconds, and may be asked
        about configurations that are never set. Say no secret: plugind masks those that it finds in the words.
        """
        return self._declare(self.config_hooks, "hook", "validate_config")(hook)

    def on_config_changed(self, hook: _F) -> _F:
        """Run `hook(ctx, config)` with a new configuration: `ctx.config` is still the former one, and becomes the new
        one when the hook has returned. It has 10 seconds. Without a hook, or if it raises, the worker is restarted.
        """
        return self._declare(self.config_hooks, "hook", "on_config_changed")(hook)

    def on_event(self, *types: str, plugins: Iterable[str] = ()) -> Callable[[_F], _F]:
        """Handle events whose type is one of `types` (globs such as `plugin.*`; none: all), of those plugins only.

        `handler(ctx, event)` gets {seq, at_ms, type, plugin_id, plugin, data}, one at a time, in order, from the start
        of the worker on. Each event comes at most once: a handler that raises is logged, and the next event follows.
        Needs the capability `events.subscribe`.
        """
        if isinstance(plugins, str) or not all(isinstance(name, str) for name in (*types, *plugins)):
            raise TypeError(
                '@plugin.on_event takes types and plugins: @plugin.on_event("plugin.*", plugins=["acme.db"])'
            )
        wanted = tuple(plugins)

        def declare(handler: _F) -> _F:
            _check_handler("event handler", handler)
            self.event_handlers.append(EventHandler(types, wanted, handler))
            return handler

        return declare

    def background(self, task: _F) -> _F:
        """Run `async def task(ctx)` from the start of the worker on; it is cancelled when the worker stops.

        It may end by itself. If it raises, the worker exits with code 1 and the traceback: a crash as any other.
        """
        if not is_async(task):
            raise TypeError(
                f"a background task must be an async function, not {_name(task)}; a thread needs no declaring"
            )
        self.tasks.append(task)
        return task

    @property
    def needs_loop(self) -> bool:
        """Whether anything of it is async."""
        handlers = [*self.jobs.values(), *self.methods.values(), *self.hooks.values(), *self.config_hooks.values()]
        handlers += [declared.handler for declared in self.event_handlers]
        return bool(self.tasks) or any(is_async(handler) for handler in handlers)

    def _declare(self, table: dict[str, Any], kind: str, name: str) -> Callable[[_F], _F]:
        if not isinstance(name, str):
            raise TypeError(f'@plugin.{kind} needs a name: @plugin.{kind}("…")')

        def declare(handler: _F) -> _F:
            if name in table:
                raise ValueError(f"{kind} {name!r} is declared twice: by {_name(table[name])} and by {_name(handler)}")
            _check_handler(f"{kind} {name!r}", handler)
            table[name] = handler
            return handler

        return declare


def is_async(handler: Any) -> bool:
    """Whether calling it gives a coroutine, as far as can be told without calling."""
    return bool(_code_flags(handler) & _COROUTINE)


def _check_handler(what: str, handler: Any) -> None:
    if not callable(handler):
        raise TypeError(f"{what} must be a function, not {_name(handler)}")
    if _code_flags(handler) & _ASYNC_GENERATOR:
        raise TypeError(f"{what} is an async generator; a handler returns its result, it does not yield")


def _code_flags(handler: Any) -> int:
    while hasattr(handler, "func"):  # functools.partial
        handler = handler.func
    code = getattr(handler, "__code__", None) or getattr(getattr(handler, "__call__", None), "__code__", None)  # noqa: B004
    return int(getattr(code, "co_flags", 0))


def _name(handler: object) -> str:
    return str(getattr(handler, "__qualname__", None) or repr(handler))
