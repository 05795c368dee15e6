"""Worker: plugind's requests to the plugin's handlers, and what they return back."""

from __future__ import annotations

import inspect
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from supervisor.core.errors import (
    AlreadyExists,
    CallCancelled,
    FailedPrecondition,
    InvalidParams,
    MethodNotFound,
    NotFound,
    PluginError,
    RemoteProtocolError,
    SupervisorError,
    Unavailable,
)
from supervisor.sdk.connection import Connection
from supervisor.sdk.context import Context, RunContext, Settings
from supervisor.sdk.plugin import Plugin
from supervisor.sdk.pool import Pool
from supervisor.wire.message import Notification, Request, named

API_VERSION: Final = 1
MAX_HANDLERS: Final = 16
LOST_S: Final = 0.8
"""How long handlers and the stop hook may go on when plugind is gone; with the last output it is a second in all."""
TERM_DRAIN_S: Final = 2.0
"""Drain after SIGTERM, where nobody said how long it may take."""
_CANCEL_AFTER: Final = 0.8
"""The part of a drain after which the handlers still running are told to end."""
_RUN_FIELDS: Final = {"job": str, "run_id": str, "trigger": str, "scheduled_at_ms": int, "attempt": int}
# An author may say these with a name of their own; anything else that a handler raises is a PLUGIN_ERROR.
_SPOKEN: Final = (InvalidParams, NotFound, AlreadyExists, FailedPrecondition, PluginError, CallCancelled)


class Worker:
    """One plugin on one connection; `serve` it in the thread that may become the reader."""

    def __init__(self, plugin: Plugin, connection: Connection, *, default_key: str, default_data_dir: str) -> None:
        self._plugin = plugin
        self._connection = connection
        self._settings = Settings(plugin_key=default_key, config={}, data_dir=default_data_dir)
        self._pool = Pool(MAX_HANDLERS)
        self._work: dict[int, _Work] = {}
        self._ready = False
        self._health = threading.Lock()
        """Held while the health hook runs."""
        self._stopping = threading.Lock()
        """Taken for good by the first who stops the worker."""
        self._stop_requests: list[int] = []
        self._exit_code: int | None = None

    def serve(self, *, stop_signal: int | None = None) -> int:
        """Serve until told to stop or until plugind is gone; the process's exit code."""
        self._stop_signal = stop_signal
        self._plugin.outlet.connect(self._connection)
        try:
            asked = self._connection.serve(self)
        except RemoteProtocolError as error:
            print(f"plugind broke the protocol: {error}", file=sys.stderr)
            asked = False
        if not asked:
            self._end_alone()
        return 1 if self._exit_code is None else self._exit_code

    # What the connection's reader calls; none of these waits.

    def accept(self, request: Request) -> None:
        try:
            self._accept(request)
        except SupervisorError as error:
            self._connection.fail(request.id, error)

    def notified(self, notification: Notification) -> None:
        """Version 1 has no notification to a worker; a later one may, so it is passed over."""

    def cancelled(self, id_: int) -> None:
        if work := self._work.get(id_):
            work.context.cancel()
            if self._pool.withdraw(work.run):
                self._finish(work, CallCancelled(f"{work.what} was cancelled before it began"))

    def woken(self, data: bytes) -> None:
        if self._stop_signal is not None and self._stop_signal in data:
            if self._stopping.locked():
                self._pool.hurry()
            self._stop(TERM_DRAIN_S)

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
                self._stop_requests.append(request.id)
                self._stop(_seconds(params.get("drain_s", 0.0)))
            case "initialize":
                self._initialize(request.id, params)
            case "run_job" | "call":
                self._must_be_open()
                self._start(
                    self._job(request.id, params) if request.method == "run_job" else self._call(request.id, params)
                )
            case _:
                raise MethodNotFound(f"a worker has no method {request.method!r}", method=request.method)

    def _must_be_open(self) -> None:
        if self._stopping.locked():
            raise Unavailable("the worker is stopping and takes no new work")
        if not self._ready:
            raise FailedPrecondition("the worker is not initialized")

    def _initialize(self, id_: int, params: Mapping[str, Any]) -> None:
        if self._stopping.locked():
            raise Unavailable("the worker is stopping")
        if params.get("api_version") != API_VERSION:
            theirs = params.get("api_version")
            raise FailedPrecondition(
                f"this SDK speaks api_version {API_VERSION}, plugind {theirs!r}: install a matching one"
            )
        self._check_declared(params.get("manifest") or {})
        self._settings.config = params.get("config") or {}
        self._settings.plugin_key = params.get("plugin") or self._settings.plugin_key
        self._settings.data_dir = params.get("data_dir") or self._settings.data_dir
        answer = {"api_version": API_VERSION, "methods": sorted(self._plugin.methods)}
        hook = self._plugin.hooks.get("on_start")
        if hook is None:
            self._ready = True
            self._connection.respond(id_, answer)
            return

        def start(context: Context) -> Any:
            hook(context)
            self._ready = True
            return answer

        self._start(_Work(self, id_, "on_start", self._context(), start))

    def _check_declared(self, manifest: Mapping[str, Any]) -> None:
        """What plugin.toml declares and no handler serves is better said now than at the first run."""
        missing = [f"job {job['key']!r}" for job in manifest.get("jobs", []) if job["key"] not in self._plugin.jobs]
        missing += [
            f"method {method['name']!r}"
            for method in manifest.get("methods", [])
            if method["name"] not in self._plugin.methods
        ]
        if missing:
            raise FailedPrecondition(
                f"plugin.toml declares {', '.join(missing)}, but the code has no handler for it"
                f"{self._undeclared(manifest)}",
            )

    def _undeclared(self, manifest: Mapping[str, Any]) -> str:
        """What the code has and plugin.toml does not name: often the same thing, spelled in two ways."""
        jobs = {job["key"] for job in manifest.get("jobs", [])}
        methods = {method["name"] for method in manifest.get("methods", [])}
        extra = [f"job {key!r}" for key in self._plugin.jobs if key not in jobs]
        extra += [f"method {name!r}" for name in self._plugin.methods if name not in methods]
        return f"; the code has {', '.join(extra)}, which plugin.toml does not declare" if extra else ""

    def _job(self, id_: int, params: Mapping[str, Any]) -> _Work:
        for name, type_ in _RUN_FIELDS.items():
            if not isinstance(params.get(name), type_):
                raise InvalidParams(f"run_job needs {name!r}, {type_.__name__}", param=name)
        key = params["job"]
        handler = self._plugin.jobs.get(key)
        if handler is None:
            raise NotFound(f"the plugin has no handler for the job {key!r}", job=key)
        context = RunContext(self._connection, self._settings, self._plugin.outlet, params)
        return _Work(self, id_, f"job {key!r}", context, handler, run_id=context.run_id)

    def _call(self, id_: int, params: Mapping[str, Any]) -> _Work:
        name = params.get("method")
        handler = self._plugin.methods.get(name) if isinstance(name, str) else None
        if handler is None:
            known = ", ".join(sorted(self._plugin.methods)) or "none"
            raise MethodNotFound(f"the plugin has no method {name!r}; it has {known}", method=name)
        context = self._context()
        bound = _bind(handler, str(name), context, params.get("params"))
        return _Work(self, id_, f"method {name!r}", context, lambda _: handler(*bound.args, **bound.kwargs))

    def _context(self) -> Context:
        return Context(self._connection, self._settings, self._plugin.outlet)

    def _start(self, work: _Work) -> None:
        self._work[work.id] = work
        self._pool.submit(work.run)

    def perform(self, work: _Work) -> None:
        """Run a handler and answer; in a thread of the pool."""
        self._plugin.outlet.enter_run(work.run_id)
        try:
            outcome: Any = work.handler(work.context)
        except _SPOKEN as error:
            # What the daemon refused to the handler is the handler's own mistake, not its caller's.
            outcome = error if error.origin is None else PluginError(f"{error.origin}: {error.message}")
        except BaseException as error:  # noqa: BLE001  the top of a handler, sys.exit() too: it becomes an answer
            _print_traceback(work, error)
            outcome = PluginError(_described(error))
        finally:
            self._plugin.outlet.enter_run(None)
        self._finish(work, outcome)

    def _finish(self, work: _Work, outcome: Any) -> None:
        # The handler, a cancel and the end of a drain may all come to this; the first one answers.
        if self._work.pop(work.id, None) is None:
            return
        if isinstance(outcome, SupervisorError):
            self._connection.fail(work.id, outcome)
        else:
            self._connection.respond(work.id, outcome)

    def _answer_health(self, id_: int) -> None:
        hook = self._plugin.hooks.get("health")
        if hook is None or not self._ready:
            self._connection.respond(id_, {"status": "ok"})
        elif self._health.acquire(blocking=False):
            # A thread of its own: it must not wait for handlers, and the reader must not wait for it.
            threading.Thread(target=self._ask_health, args=(id_, hook), name="health", daemon=True).start()
        else:
            self._connection.respond(id_, {"status": "error", "message": "the health check before has not ended"})

    def _ask_health(self, id_: int, hook: Callable[[Context], Any]) -> None:
        try:
            complaint = hook(self._context())
            answer = {"status": "ok"} if complaint is None else {"status": "degraded", "message": str(complaint)}
        except Exception as error:  # noqa: BLE001  the hook's way to say that the plugin is not well
            answer = {"status": "error", "message": _described(error)}
        finally:
            self._health.release()
        self._connection.respond(id_, answer)

    def _stop(self, drain_s: float) -> None:
        """Stop once; whoever asks later waits for the same end."""
        if self._stopping.acquire(blocking=False):
            threading.Thread(target=self._drain, args=(drain_s,), name="drain", daemon=True).start()

    def _drain(self, drain_s: float) -> None:
        started = time.monotonic()
        if not self._pool.wait_idle(drain_s * _CANCEL_AFTER):
            self._cancel_work()
            self._pool.calm()
            self._pool.wait_idle(min(TERM_DRAIN_S, drain_s - (time.monotonic() - started)))
        self._run_stop_hook()
        for work in list(self._work.values()):
            self._finish(work, CallCancelled(f"the worker stopped before {work.what} had ended"))
        for id_ in self._stop_requests:
            self._connection.respond(id_, {})
        self._exit_code = 0
        self._connection.stop()

    def _end_alone(self) -> None:
        """plugind is gone: end within LOST_S, whatever the handlers do."""
        deadline = time.monotonic() + LOST_S
        self._cancel_work()
        first = self._stopping.acquire(blocking=False)
        self._pool.wait_idle(LOST_S / 2)
        if first:
            hook = threading.Thread(target=self._run_stop_hook, name="on_stop", daemon=True)
            hook.start()
            hook.join(max(0.0, deadline - time.monotonic()))

    def _cancel_work(self) -> None:
        for work in list(self._work.values()):
            work.context.cancel()

    def _run_stop_hook(self) -> None:
        hook = self._plugin.hooks.get("on_stop")
        if hook is None or not self._ready:
            return
        try:
            hook(self._context())
        except Exception as error:  # noqa: BLE001  the worker ends in any case; the author finds it in the log
            print(f"on_stop failed: {_described(error)}", file=sys.stderr)
            sys.__excepthook__(type(error), error, error.__traceback__)


class _Work:
    """A handler that was asked for."""

    def __init__(
        self,
        worker: Worker,
        id_: int,
        what: str,
        context: Context,
        handler: Callable[[Any], Any],
        run_id: str | None = None,
    ) -> None:
        self.id = id_
        self.what = what
        self.context = context
        self.handler = handler
        self.run_id = run_id
        self._worker = worker

    def run(self) -> None:
        self._worker.perform(self)


def _bind(handler: Callable[..., Any], name: str, context: Context, params: Any) -> inspect.BoundArguments:
    """The call's arguments.

    Raises:
        InvalidParams: names the param that is unknown, missing or too many.
    """
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


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= threading.TIMEOUT_MAX:
        raise InvalidParams("drain_s must be a number of seconds, 0 or more", param="drain_s")
    return float(value)


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _print_traceback(work: _Work, error: BaseException) -> None:
    run = f" (run {work.run_id})" if work.run_id else ""
    print(f"{work.what}{run} failed:", file=sys.stderr)
    sys.__excepthook__(type(error), error, error.__traceback__)
    sys.stderr.flush()
