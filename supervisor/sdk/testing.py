"""An in-memory plugind for the tests of a plugin: the real protocol over a socket pair, nothing stored, no process.

with Harness(plugin, config={"city": "Oslo"}) as h:
    assert h.run_job("refresh") is None
    assert h.call("forecast", city="Oslo") == {"degrees": 4}
    assert h.events == [("forecast", {"degrees": 4})]
"""

from __future__ import annotations

import os
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from supervisor.core.errors import InvalidParams, MethodNotFound, PermissionDenied, SupervisorError
from supervisor.sdk.connection import Connection
from supervisor.sdk.plugin import Plugin
from supervisor.sdk.serving import Worker
from supervisor.wire.limits import WORKER
from supervisor.wire.message import Notification, Request, named
from supervisor.wire.worker import HOST_REQUESTS

ALL_CAPABILITIES: Final = frozenset(
    request.CAPABILITY for request in HOST_REQUESTS.values() if request.CAPABILITY is not None
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    level: str
    message: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    run_id: str | None = None


class Host:
    """plugind's end of a worker's connection, whatever the worker is: a thread, or a process that has the other end.

    What the worker did is in `state`, `events` (name, payload) and `logs`.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        key: str = "test.plugin",
        config: Mapping[str, Any] | None = None,
        state: Mapping[str, Any] | None = None,
        capabilities: Iterable[str] = ALL_CAPABILITIES,
        data_dir: str = ".",
        timeout_s: float = 10.0,
    ) -> None:
        self.key = key
        self.config = dict(config or {})
        self.state = dict(state or {})
        self.events: list[tuple[str, Any]] = []
        self.logs: list[LogLine] = []
        self.capabilities = frozenset(capabilities)
        self.data_dir = data_dir
        self.timeout_s = timeout_s
        self._connection = Connection(sock.detach(), WORKER)
        self._thread = threading.Thread(target=self._connection.serve, args=(self,), name="host", daemon=True)
        self._thread.start()

    def initialize(self, manifest: Mapping[str, Any] | None = None) -> Any:
        """Shake hands; returns {api_version, methods}."""
        params = {
            "plugin": self.key,
            "manifest": dict(manifest or {}),
            "capabilities": sorted(self.capabilities),
            "config": self.config,
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
    ) -> Any:
        """Run a job and return its result; DeadlineExceeded after `timeout_s`, and the handler is cancelled."""
        params = {
            "job": key,
            "run_id": run_id or str(uuid.uuid4()),
            "trigger": trigger,
            "scheduled_at_ms": int(time.time() * 1000) if scheduled_at_ms is None else scheduled_at_ms,
            "attempt": attempt,
        }
        return self._ask("run_job", params, timeout_s)

    def call(self, method: str, /, *args: Any, **named_params: Any) -> Any:
        """Call a method with positional or named params and return its result.

        Raises:
            SupervisorError: what the plugin answered: PluginError, InvalidParams, …
        """
        if args and named_params:
            raise TypeError("params are positional or named, not both")
        return self._ask("call", {"method": method, "params": list(args) or named_params or None})

    def health(self) -> Any:
        """{status, message?}."""
        return self._ask("health", {})

    def shutdown(self, drain_s: float = 1.0) -> None:
        """Ask the worker to end and wait until it says that it has drained."""
        self._ask("shutdown", {"drain_s": drain_s}, drain_s + self.timeout_s)

    def close(self) -> None:
        """Hang up."""
        self._connection.stop()
        self._thread.join()
        self._connection.close()

    def _ask(self, method: str, params: dict[str, Any], timeout_s: float | None = None) -> Any:
        return self._connection.call(method, [params], self.timeout_s if timeout_s is None else timeout_s)

    # What the connection's reader calls.

    def accept(self, request: Request) -> None:
        try:
            self._connection.respond(request.id, self._answer(request.method, named(request.params) or {}))
        except SupervisorError as error:
            self._connection.fail(request.id, error)

    def notified(self, notification: Notification) -> None:
        if notification.method == "log":
            self.logs.append(LogLine(**(named(notification.params) or {})))

    def cancelled(self, id_: int) -> None:
        """Everything is answered at once: there is nothing to cancel."""

    def woken(self, data: bytes) -> None:
        """Nothing but the end of `serve` wakes us."""

    def _answer(self, method: str, params: dict[str, Any]) -> Any:
        request_type = HOST_REQUESTS.get(method)
        if request_type is None:
            raise MethodNotFound(f"plugind has no method {method!r} for workers", method=method)
        if (capability := request_type.CAPABILITY) not in self.capabilities:
            raise PermissionDenied(f"{method} needs the capability {capability!r}", capability=capability)
        try:
            request: Any = request_type(**params)
        except TypeError as error:
            raise InvalidParams(f"{method}: {error}", method=method) from None
        match method:
            case "config.get":
                return {"config": self.config}
            case "state.get":
                return {"found": request.key in self.state, "value": self.state.get(request.key)}
            case "state.set":
                self.state[request.key] = request.value
                return {}
            case "state.delete":
                return {"found": self.state.pop(request.key, self) is not self}
            case "state.list":
                return self._page(request.prefix, request.after, request.limit)
        self.events.append((request.name, request.payload))
        return {"seq": len(self.events)}

    def _page(self, prefix: str, after: str | None, limit: int) -> dict[str, Any]:
        keys = sorted(key for key in self.state if key.startswith(prefix) and (after is None or key > after))
        entries = [{"key": key, "value": self.state[key]} for key in keys[:limit]]
        return {"entries": entries, "next": keys[limit - 1] if len(keys) > limit else None}


class Harness(Host):
    """A plugin served in this process: enter it to shake hands, leave it to shut down."""

    def __init__(
        self,
        plugin: Plugin,
        *,
        manifest: Mapping[str, Any] | None = None,
        key: str = "test.plugin",
        config: Mapping[str, Any] | None = None,
        state: Mapping[str, Any] | None = None,
        capabilities: Iterable[str] = ALL_CAPABILITIES,
        data_dir: str | os.PathLike[str] | None = None,
        timeout_s: float = 10.0,
    ) -> None:
        self._directory = None if data_dir else tempfile.TemporaryDirectory(prefix="plugin-")
        ours, theirs = socket.socketpair()
        where = os.fspath(data_dir) if data_dir else self._directory.name if self._directory else "."
        super().__init__(
            ours,
            key=key,
            config=config,
            state=state,
            capabilities=capabilities,
            data_dir=where,
            timeout_s=timeout_s,
        )
        self._manifest = manifest
        self._worker_end = Connection(theirs.detach(), WORKER)
        self._worker = Worker(plugin, self._worker_end, default_key=key, default_data_dir=where)
        self._worker_thread = threading.Thread(target=self._serve, name="worker", daemon=True)
        self.exit_code: int | None = None
        """What the worker's process would have exited with, after the block."""

    def __enter__(self) -> Harness:
        self._worker_thread.start()
        try:
            self.initialize(self._manifest)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.shutdown()
        finally:
            self._end()

    def _serve(self) -> None:
        self.exit_code = self._worker.serve()
        self._worker_end.flush_last()

    def _end(self) -> None:
        self.close()
        self._worker_thread.join()
        self._worker_end.close()
        if self._directory:
            self._directory.cleanup()
