"""plugind's end of a worker's connection, in memory. For `testing` only."""

from __future__ import annotations

import itertools
import queue
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

from supervisor.core.errors import CallCancelled, DeadlineExceeded, NotFound, PluginError, SupervisorError
from supervisor.sdk.connection import Connection
from supervisor.sdk.memory import ALL_CAPABILITIES, LogLine, Memory, OtherPlugins, wants
from supervisor.sdk.started import Started
from supervisor.wire.limits import WORKER
from supervisor.wire.message import Notification, Request, named
from supervisor.wire.worker import EventsEmit, EventsSubscribe, EventsUnsubscribe, PluginsCall, RunProgress


class Host(Memory):
    """plugind's end of a worker's connection, whatever the worker is: a thread, or a process that has the other end."""

    def __init__(
        self,
        sock: socket.socket | None = None,
        *,
        key: str = "test.plugin",
        config: Mapping[str, Any] | None = None,
        state: Mapping[str, Any] | None = None,
        secrets: Mapping[str, Any] | None = None,
        plugins: OtherPlugins | None = None,
        capabilities: Iterable[str] = ALL_CAPABILITIES,
        data_dir: str = ".",
        timeout_s: float = 10.0,
    ) -> None:
        super().__init__(
            key=key,
            config=config or {},
            state=state or {},
            secrets=secrets or {},
            plugins=plugins or {},
            capabilities=capabilities,
        )
        self.data_dir = data_dir
        self.timeout_s = timeout_s
        self._changed = threading.Condition()
        self._open: set[int] = set()
        """Requests of the worker that are not answered yet."""
        self._subscriptions: dict[int, _Subscription] = {}
        self._numbers = itertools.count(1)
        self._link: Connection | None = None
        self._threads: list[threading.Thread] = []
        self._outgoing: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        """What is to be sent in order, by a thread that may wait for a worker that is slow to read."""
        if sock is not None:
            self.attach(sock)

    def attach(self, sock: socket.socket) -> None:
        """Serve the worker that has the other end; once."""
        self._link = Connection(sock.detach(), WORKER)
        self._threads = [
            threading.Thread(target=work, name="host", daemon=True)
            for work in (partial(self._link.serve, self), self._send)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def _connection(self) -> Connection:
        if self._link is None:
            raise RuntimeError(
                "no worker is served yet: use the harness inside its block, with Harness(plugin) as h: …"
            )
        return self._link

    def initialize(self, manifest: Mapping[str, Any] | None = None) -> Any:
        """Shake hands; returns {api_version, methods}."""
        params = {
            "plugin": self.key,
            "manifest": dict(manifest or {}),
            "capabilities": sorted(self.capabilities),
            "config": self.given_config(),
            "data_dir": self.data_dir,
            "api_version": 1,
        }
        return self._ask("initialize", params)

    def run_job(
        self,
        key: str,
        *,
        trigger: str = "manual",
        attempt: int = 1,
        scheduled_at_ms: int | None = None,
        run_id: str | None = None,
        timeout_s: float | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run a job and return its result; DeadlineExceeded after `timeout_s`, and the handler is cancelled.

        `params` are what an operator would give a run by hand.
        """
        return self._ask("run_job", _run(key, trigger, attempt, scheduled_at_ms, run_id, params), timeout_s)

    def start_job(
        self,
        key: str,
        *,
        trigger: str = "manual",
        attempt: int = 1,
        scheduled_at_ms: int | None = None,
        run_id: str | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> Started:
        """Run a job, and do not wait for it."""
        run = _run(key, trigger, attempt, scheduled_at_ms, run_id, params)
        return Started(self._connection, "run_job", run, self.timeout_s)

    def call(self, method: str, /, *args: Any, **named_params: Any) -> Any:
        """Call a method with positional or named params and return its result.

        Raises:
            SupervisorError: what the plugin answered: PluginError, InvalidParams, …
        """
        return self._ask("call", _call(method, args, named_params))

    def start_call(self, method: str, /, *args: Any, **named_params: Any) -> Started:
        """Call a method, and do not wait for it."""
        return Started(self._connection, "call", _call(method, args, named_params), self.timeout_s)

    def health(self) -> Any:
        """{status, message?}."""
        return self._ask("health", {})

    def validate_config(self, config: Mapping[str, Any]) -> list[dict[str, str]]:
        """Ask the worker about a configuration; [{path, message}, …], empty where it will do.

        Raises:
            MethodNotFound: the plugin has no `@plugin.validate_config`; plugind lets the schema alone decide.
        """
        answer = self._ask("validate_config", {"config": self.given_config(config)})
        problems: list[dict[str, str]] = answer["problems"]
        return problems

    def change_config(self, config: Mapping[str, Any]) -> None:
        """Give the worker another configuration, as plugind does when one was set.

        Raises:
            SupervisorError: the hook has raised, or there is none (MethodNotFound); plugind restarts the worker then.
        """
        self.config = dict(config)
        self._ask("config_changed", {"config": self.given_config()})

    def publish(self, type_: str, data: Any = None, *, plugin: str = "test.other") -> int:
        """Let an event happen, for the handlers of `@plugin.on_event` that want it; its number."""
        with self._changed:
            event = self.record(type_, data, plugin)
            self._outgoing.put(partial(self._tell, event))
        return int(event["seq"])

    def wait_until(self, condition: Callable[[], Any], timeout_s: float | None = None) -> None:
        """Wait until it holds; it is looked at again whenever the worker has asked or told something.

        Raises:
            TimeoutError: it did not come to hold.
        """
        limit_s = self.timeout_s if timeout_s is None else timeout_s
        with self._changed:
            if not self._changed.wait_for(condition, limit_s):
                raise TimeoutError(f"what was waited for did not come within {limit_s:g} s")

    def shutdown(self, drain_s: float = 1.0) -> None:
        """Ask the worker to end and wait until it says that it has drained."""
        self._ask("shutdown", {"drain_s": drain_s}, drain_s + self.timeout_s)

    def close(self) -> None:
        """Hang up."""
        self._connection.stop()
        self._outgoing.put(None)
        for thread in self._threads:
            thread.join()
        self._connection.close()

    def _ask(self, method: str, params: dict[str, Any], timeout_s: float | None = None) -> Any:
        return self._connection.call(method, [params], self.timeout_s if timeout_s is None else timeout_s)

    # What the connection's reader calls.

    def accept(self, request: Request) -> None:
        with self._changed:
            self._open.add(request.id)
            try:
                self._serve(request.id, self.request(request.method, request.params))
            except SupervisorError as error:
                self._reply(request.id, error)
            self._changed.notify_all()

    def notified(self, notification: Notification) -> None:
        with self._changed:
            if notification.method == "log":
                self.logs.append(LogLine(**(named(notification.params) or {})))
            elif notification.method == RunProgress.METHOD:
                self._take_progress(notification)
            self._changed.notify_all()

    def cancelled(self, id_: int) -> None:
        self._reply(id_, CallCancelled("it was cancelled"))

    def woken(self, data: bytes) -> None:
        """Nothing but the end of `serve` wakes us."""

    def _take_progress(self, notification: Notification) -> None:
        try:
            request = self.request(notification.method, notification.params)
        except SupervisorError as error:
            # plugind answers no notification: it passes over what is wrong, and a test should see it.
            self.logs.append(LogLine(level="error", message=f"run.progress was refused: {error.message}"))
            return
        self.answer(request)

    def _serve(self, id_: int, request: Any) -> None:
        match request:
            case EventsEmit(name=name, payload=payload):
                self.events.append((name, payload))
                event = self.record(f"emitted.{name}", payload, self.key)
                self._reply(id_, {"seq": event["seq"]})
                self._outgoing.put(partial(self._tell, event))
            case EventsSubscribe():
                self._outgoing.put(partial(self._subscribe, id_, request))
            case EventsUnsubscribe(subscription=subscription):
                if self._subscriptions.pop(subscription, None) is None:
                    raise NotFound(f"there is no subscription {subscription}")
                self._reply(id_, {})
            case PluginsCall():
                self._call_other(id_, request)
            case _:
                self._reply(id_, self.answer(request))

    def _reply(self, id_: int, outcome: Any) -> None:
        """Answer, unless it has been answered: a cancel, a time limit and the end of a call may all come to this."""
        with self._changed:
            if id_ not in self._open:
                return
            self._open.discard(id_)
        if isinstance(outcome, SupervisorError):
            self._connection.fail(id_, outcome)
        else:
            self._connection.respond(id_, outcome)

    def _call_other(self, id_: int, request: PluginsCall) -> None:
        call = self.method(request)

        def run() -> None:
            try:
                self._reply(id_, {"result": call()})
            except SupervisorError as error:
                self._reply(id_, error)
            except Exception as error:  # noqa: BLE001  what a worker would have answered
                self._reply(id_, PluginError(f"{type(error).__name__}: {error}"))

        threading.Thread(target=run, name="other plugin", daemon=True).start()
        if request.timeout_s is not None:
            late = DeadlineExceeded(f"{request.plugin} did not answer within {request.timeout_s:g} s")
            timer = threading.Timer(request.timeout_s, self._reply, (id_, late))
            timer.daemon = True
            timer.start()

    # What the sending thread does.

    def _send(self) -> None:
        while (send := self._outgoing.get()) is not None:
            try:
                send()
            except SupervisorError:
                return  # The worker is gone.

    def _subscribe(self, id_: int, asked: EventsSubscribe) -> None:
        with self._changed:
            known, number = len(self.journal), next(self._numbers)
            after = known if asked.after_seq is None else asked.after_seq
            subscription = self._subscriptions[number] = _Subscription(number, asked, known)
            missed = self.journal[after:known]
        self._reply(id_, {"subscription": number, "last_seq": after})
        for event in missed:
            self._tell_one(subscription, event)

    def _tell(self, event: dict[str, Any]) -> None:
        for subscription in list(self._subscriptions.values()):
            if event["seq"] > subscription.known:
                self._tell_one(subscription, event)

    def _tell_one(self, subscription: _Subscription, event: dict[str, Any]) -> None:
        if wants(subscription.asked, event):
            self._connection.notify("event", [{"subscription": subscription.number, "event": event}])


class _Subscription(NamedTuple):
    number: int
    asked: EventsSubscribe
    known: int
    """The journal's last event when it was made: what is not newer was told then, if it was asked for."""


def _run(
    key: str,
    trigger: str,
    attempt: int,
    scheduled_at_ms: int | None,
    run_id: str | None,
    params: Mapping[str, Any] | None,
) -> dict[str, Any]:
    return {
        "job": key,
        "run_id": run_id or str(uuid.uuid4()),
        "trigger": trigger,
        "scheduled_at_ms": int(time.time() * 1000) if scheduled_at_ms is None else scheduled_at_ms,
        "attempt": attempt,
        "params": None if params is None else dict(params),
    }


def _call(method: str, args: tuple[Any, ...], named_params: dict[str, Any]) -> dict[str, Any]:
    if args and named_params:
        raise TypeError("params are positional or named, not both")
    return {"method": method, "params": list(args) or named_params or None}
