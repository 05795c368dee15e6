"""Worker: plugind's requests to the plugin's handlers, and what they return back."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from supervisor.core.errors import (
    CallCancelled,
    FailedPrecondition,
    InternalError,
    InvalidParams,
    MethodNotFound,
    NotFound,
    RemoteProtocolError,
    ResourceExhausted,
    SupervisorError,
    Unavailable,
)
from supervisor.sdk.configuring import config_hook, given, problems_of, reading
from supervisor.sdk.connection import Connection
from supervisor.sdk.context import Context, RunContext, Settings
from supervisor.sdk.declared import API_VERSION, check_handshake, check_run
from supervisor.sdk.ending import Ending
from supervisor.sdk.events import Subscriptions
from supervisor.sdk.forked import leave
from supervisor.sdk.health import Health
from supervisor.sdk.plugin import EventHandler, Plugin, is_async
from supervisor.sdk.pool import Pool
from supervisor.sdk.work import InFlight, Work, bind, described, print_traceback
from supervisor.wire.limits import CALLS_PER_WORKER
from supervisor.wire.message import Notification, Request, named

if TYPE_CHECKING:
    from supervisor.sdk.async_side import AsyncSide

MAX_THREADS: Final = 16
_MAX_SECONDS: Final = 1e6
_LOOP_END_S: Final = 0.2


class Worker:
    """One plugin on one connection; `serve` it in the thread that may become the reader."""

    def __init__(self, plugin: Plugin, connection: Connection, *, default_key: str, default_data_dir: str) -> None:
        self.connection = connection
        self.outlet = plugin.outlet
        self.in_flight = InFlight(CALLS_PER_WORKER)
        self.ready = False
        self.settings = Settings(plugin_key=default_key, config={}, data_dir=default_data_dir)
        self.ending = Ending(self)
        self.subscriptions = Subscriptions(plugin.event_handlers, connection, plugin.log, self._handle_event)
        self._plugin = plugin
        self._is_child = False
        self._pool = Pool(MAX_THREADS)
        self._loop = _async_side(self, plugin)
        self._health = Health(connection, self._loop.stalled_s if self._loop else lambda: 0.0)

    def serve(self, *, stop_signal: int | None = None) -> int:
        """Serve until told to stop or until plugind is gone; the process's exit code."""
        self._stop_signal = stop_signal
        self.outlet.connect(self.connection)
        if self._loop:
            self._loop.start()
        try:
            asked = self.connection.serve(self)
        except RemoteProtocolError as error:
            print(f"plugind broke the protocol: {error}", file=sys.stderr)
            asked = False
        if asked:
            self.ending.drain_postponed()
        else:
            self.ending.alone()
        if self._loop:
            self._loop.stop(_LOOP_END_S)
        self.subscriptions.stop()
        self._pool.close()
        return 1 if self.ending.exit_code is None else self.ending.exit_code

    # What the connection's reader calls; none of these waits.

    def accept(self, request: Request) -> None:
        try:
            self._accept(request)
        except SupervisorError as error:
            self.connection.fail(request.id, error)
        except Exception as error:  # noqa: BLE001  one request's failure is not the worker's
            print_traceback(f"{request.method} failed:", error)
            self.connection.fail(request.id, InternalError(f"{request.method}: {described(error)}"))

    def notified(self, notification: Notification) -> None:
        # A later plugind may tell more; that is passed over.
        if notification.method == "event":
            self.subscriptions.deliver(named(notification.params) or {})

    def cancelled(self, id_: int) -> None:
        if work := self.in_flight.find(id_):
            work.cancel()
        else:
            self._health.cancelled(id_)

    def woken(self, data: bytes) -> None:
        if self._stop_signal is not None and self._stop_signal in data:
            self.ending.terminate()

    # For the parts.

    def finish(self, work: Work, outcome: Any) -> None:
        """Answer what is not answered yet: SupervisorError is a failure, anything else a result."""
        self.in_flight.finish(work, partial(self._answer, work, outcome))

    def cancel_all(self) -> None:
        for work in self.in_flight:
            work.cancel()

    def stop_background(self, timeout_s: float) -> None:
        """Cancel the background tasks and wait so long for their end."""
        if self._loop:
            self._loop.stop_background(timeout_s)

    def run_hook(self, name: str, cancel_with: Callable[[Callable[[], None]], None] = lambda _: None) -> Any:
        """Run a hook, if there is one, to its end; not in the reader. `cancel_with` gets what cancels it.

        Raises:
            BaseException: what it raised.
        """
        hook: Callable[..., Any] | None = self._plugin.hooks.get(name)
        if hook is None:
            return None
        if self._loop and is_async(hook):
            asked = self._loop.context(None)
            return self._loop.run_here(lambda: hook(asked), cancel_with)
        context = Context(self.connection, self.settings, self.outlet)
        cancel_with(context.cancel)
        return self._run_here(lambda: hook(context))

    def forked(self) -> None:
        """In a forked child, before anything else: it has nothing to do with plugind. Takes no lock."""
        self._is_child = True
        self.outlet.connect(None)
        self.connection.forked()

    def leave_child(self, outcome: Any) -> None:
        """A handler has ended, with an exception or another outcome: if it did so in a child that it has forked, the
        child ends. Its request is for the worker itself to answer.
        """
        if self._is_child:
            leave(outcome)

    def _run_here(self, call: Callable[[], Any]) -> Any:
        outcome: Any = None
        try:
            outcome = call()
        except BaseException as error:
            outcome = error
            raise
        finally:
            self.leave_child(outcome)
        return outcome

    def _answer(self, work: Work, outcome: Any) -> None:
        if work.id is None:
            if isinstance(outcome, SupervisorError) and not isinstance(outcome, CallCancelled):
                self.outlet.send("error", f"{work.what} failed: {outcome.message}", {})
        elif isinstance(outcome, SupervisorError):
            self.connection.fail(work.id, outcome)
        else:
            self.connection.respond(work.id, outcome)

    def _accept(self, request: Request) -> None:
        params = named(request.params)
        if params is None:
            if request.params:
                raise InvalidParams(f"{request.method} takes one map of named params")
            params = {}
        match request.method:
            case "health":
                self._answer_health(request.id)
            case "shutdown":
                self.ending.drain(_seconds(params.get("drain_s", 0.0)), request.id)
            case "initialize":
                self._initialize(request.id, params)
            case "run_job":
                self._must_be_open()
                self._run_job(request.id, params)
            case "call":
                self._must_be_open()
                self._call(request.id, params)
            case "validate_config" | "config_changed":
                self._must_be_open()
                self._configure(request.id, request.method, params)
            case _:
                raise MethodNotFound(f"a worker has no method {request.method!r}", method=request.method)

    def _must_be_open(self) -> None:
        if self.ending.begun:
            raise Unavailable("the worker is stopping and takes no new work")
        if not self.ready:
            raise FailedPrecondition("the worker is not initialized")

    def _answer_health(self, id_: int) -> None:
        if not self.ready or "health" not in self._plugin.hooks:
            self._health.answer(id_)
            return
        work = Work(id_, "health", lambda: self.run_hook("health", work.cancel_with))
        self._health.ask(work)

    def _initialize(self, id_: int, params: Mapping[str, Any]) -> None:
        if self.ending.begun:
            raise Unavailable("the worker is stopping")
        if self.ready:
            raise FailedPrecondition("the worker is initialized already")
        check_handshake(self._plugin, params)
        self.settings.config = params.get("config") or {}
        self.settings.plugin_key = params.get("plugin") or self.settings.plugin_key
        self.settings.data_dir = params.get("data_dir") or self.settings.data_dir
        work = Work(id_, "on_start", lambda: self._start_up(work))
        if "on_start" in self._plugin.hooks or self._plugin.event_handlers:
            self._submit(work)  # These ask plugind, and the reader must not wait for its answers.
        else:
            self.connection.respond(id_, self._start_up(work))

    def _start_up(self, work: Work) -> dict[str, Any]:
        self.run_hook("on_start", work.cancel_with)
        self.subscriptions.open()
        self.ready = True
        if self._loop:
            self._loop.start_background()
        return {"api_version": API_VERSION, "methods": sorted(self._plugin.methods)}

    def _run_job(self, id_: int, params: Mapping[str, Any]) -> None:
        check_run(params)
        handler: Callable[..., Any] | None = self._plugin.jobs.get(params["job"])
        if handler is None:
            raise NotFound(f"the plugin has no handler for the job {params['job']!r}", job=params["job"])
        self._start(id_, f"job {params['job']!r}", handler, handler, run=params)

    def _call(self, id_: int, params: Mapping[str, Any]) -> None:
        name = params.get("method")
        handler = self._plugin.methods.get(name) if isinstance(name, str) else None
        if handler is None:
            known = ", ".join(sorted(self._plugin.methods)) or "none"
            raise MethodNotFound(f"the plugin has no method {name!r}; it has {known}", method=name)

        def call(context: Any) -> Any:
            context.caller = params.get("caller")
            bound = bind(handler, str(name), context, params.get("params"))
            return handler(*bound.args, **bound.kwargs)

        self._start(id_, f"method {name!r}", handler, call)

    def _configure(self, id_: int, method: str, params: Mapping[str, Any]) -> None:
        hook, config = config_hook(self._plugin, method), given(params)

        def taken(_: Any) -> dict[str, Any]:
            self.settings.config = config
            return {}

        self._start(id_, method, hook, reading(hook, config, problems_of if method == "validate_config" else taken))

    def _start(
        self,
        id_: int,
        what: str,
        handler: Callable[..., Any],
        call: Callable[[Any], Any],
        *,
        run: Mapping[str, Any] | None = None,
    ) -> None:
        """Let `call` run where its handler belongs: in a thread, or in the event loop."""
        run_id = run["run_id"] if run else None
        if self._loop and is_async(handler):
            context = self._loop.context(run)
            work = Work(id_, what, lambda: call(context), run_id=run_id)
            self.in_flight.add(work)
            self._loop.start_work(work, partial(self.finish, work))
            return
        plain = RunContext(self.connection, self.settings, self.outlet, run) if run else self._context()
        work = Work(id_, what, lambda: call(plain), run_id=run_id)
        work.cancel_with(plain.cancel)
        self._submit(work)

    def _context(self) -> Context:
        return Context(self.connection, self.settings, self.outlet)

    def _submit(self, work: Work) -> None:
        self.in_flight.add(work)
        task = partial(self._perform, work)

        def withdraw() -> None:
            if self._pool.withdraw(task):
                self.finish(work, CallCancelled(f"{work.what} was cancelled before it began"))

        work.cancel_with(withdraw)
        try:
            self._pool.submit(task)
        except ResourceExhausted as error:
            self.finish(work, error)

    def _perform(self, work: Work) -> None:
        """Run a plain handler and answer; in a thread."""
        self.outlet.enter_run(work.run_id)
        try:
            outcome = work.returned(self._run_here(work.call))
        except BaseException as error:  # noqa: BLE001  the top of a handler, sys.exit() too: it becomes an answer
            outcome = work.failed(error)
        finally:
            self.outlet.enter_run(None)
        self.finish(work, outcome)

    def _handle_event(self, declared: EventHandler, event: dict[str, Any]) -> None:
        """In the subscription's own thread."""
        handler, what = declared.handler, f"the handler of {event['type']} (event {event['seq']})"
        if self._loop and is_async(handler):
            loop = self._loop
            work = Work(None, what, lambda: loop.run_here(lambda: handler(loop.context(None), event), work.cancel_with))
        else:
            context = self._context()
            work = Work(None, what, lambda: handler(context, event))
            work.cancel_with(context.cancel)
        self.in_flight.add(work)
        self._perform(work)


def _async_side(worker: Worker, plugin: Plugin) -> AsyncSide | None:
    if not plugin.needs_loop:
        return None
    from supervisor.sdk.async_side import AsyncSide  # trio comes with it.

    return AsyncSide(worker, plugin.tasks)


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MAX_SECONDS:
        raise InvalidParams("drain_s must be a number of seconds, 0 or more", param="drain_s")
    return float(value)
