"""What a handler is given: config, state, emit, log, cancellation."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from supervisor.core.errors import CallCancelled, LocalProtocolError, Unavailable

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

_PAGE: Final = 500


class Cancelled(CallCancelled):
    """Raised by `raise_if_cancelled`: let it pass, and the run ends as cancelled."""


class Host(Protocol):
    """plugind, as a handler reaches it."""

    def call(self, method: str, params: list[Any], timeout_s: float | None = 30.0) -> Any: ...

    def notify(self, method: str, params: list[Any]) -> None: ...


class Settings:
    """What the handshake told: the same for all contexts of a worker."""

    __slots__ = ("config", "data_dir", "plugin_key")

    def __init__(self, *, plugin_key: str, config: dict[str, Any], data_dir: str) -> None:
        self.plugin_key = plugin_key
        self.config = config
        self.data_dir = data_dir


class Context:
    """Given to every handler and hook. It may be used from threads of the handler's own.

    Every request to plugind waits at most 30 seconds and raises a class of `supervisor.core.errors`: PermissionDenied
    without the capability, DeadlineExceeded, Unavailable when plugind is gone.
    """

    def __init__(self, host: Host, settings: Settings, outlet: LogOutlet, run_id: str | None = None) -> None:
        self._host = host
        self._settings = settings
        self._cancelled = threading.Event()
        self.log = Log(outlet, run_id)
        self.state = State(host)

    @property
    def plugin_key(self) -> str:
        return self._settings.plugin_key

    @property
    def config(self) -> dict[str, Any]:
        return self._settings.config

    @property
    def data_dir(self) -> Path:
        """The plugin's own directory, which is also the current one when the worker starts."""
        from pathlib import Path

        return Path(self._settings.data_dir)

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for this handler any more; it should end soon."""
        return self._cancelled.is_set()

    def wait_cancelled(self, timeout_s: float) -> bool:
        """Sleep up to `timeout_s` seconds, less if cancelled; whether it was."""
        return self._cancelled.wait(timeout_s)

    def raise_if_cancelled(self) -> None:
        """Raises: Cancelled."""
        if self._cancelled.is_set():
            raise Cancelled("the handler was cancelled")

    def emit(self, name: str, payload: Any = None) -> int:
        """Publish the event `emitted.<name>` and return its number, once plugind has stored it."""
        return int(self._host.call("events.emit", [{"name": name, "payload": payload}])["seq"])

    def cancel(self) -> None:
        """Set `cancelled`; the runner does it when the caller has given up."""
        self._cancelled.set()


class RunContext(Context):
    """Given to a job: also which run it is. `attempt` is 1 for the first; `trigger` says why it runs."""

    def __init__(self, host: Host, settings: Settings, outlet: LogOutlet, run: Mapping[str, Any]) -> None:
        super().__init__(host, settings, outlet, run["run_id"])
        self.run_id: str = run["run_id"]
        self.job: str = run["job"]
        self.trigger: str = run["trigger"]
        self.attempt: int = run["attempt"]
        self._scheduled_at_ms: int = run["scheduled_at_ms"]

    @property
    def scheduled_at(self) -> datetime:
        """When the run was due: an aware UTC datetime."""
        from datetime import UTC, datetime

        return datetime.fromtimestamp(self._scheduled_at_ms / 1000, UTC)


class State:
    """The plugin's own keys and values in plugind's database; a value is at most 1 MiB."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def get(self, key: str, default: Any = None) -> Any:
        answer = self._host.call("state.get", [{"key": key}])
        return answer["value"] if answer["found"] else default

    def set(self, key: str, value: Any) -> None:
        """Returns when it is stored."""
        self._host.call("state.set", [{"key": key, "value": value}])

    def delete(self, key: str) -> bool:
        """Whether it was there."""
        return bool(self._host.call("state.delete", [{"key": key}])["found"])

    def items(self, prefix: str = "") -> Iterator[tuple[str, Any]]:
        """Keys that begin with `prefix` and their values, in key order, fetched a page at a time."""
        after = None
        while True:
            page = self._host.call("state.list", [{"prefix": prefix, "after": after, "limit": _PAGE}])
            yield from ((entry["key"], entry["value"]) for entry in page["entries"])
            after = page["next"]
            if after is None:
                return


class Log:
    """Lines for the plugin's log: a message for people and fields for programs."""

    def __init__(self, outlet: LogOutlet, run_id: str | None = None) -> None:
        self._outlet = outlet
        self._run_id = run_id

    def debug(self, message: str, /, **fields: Any) -> None:
        self._outlet.send("debug", message, fields, self._run_id)

    def info(self, message: str, /, **fields: Any) -> None:
        self._outlet.send("info", message, fields, self._run_id)

    def warning(self, message: str, /, **fields: Any) -> None:
        self._outlet.send("warning", message, fields, self._run_id)

    def error(self, message: str, /, **fields: Any) -> None:
        self._outlet.send("error", message, fields, self._run_id)


class LogOutlet:
    """Where log lines go: to plugind once there is a connection, to stderr before and after."""

    def __init__(self) -> None:
        self._host: Host | None = None
        self._thread = threading.local()

    def connect(self, host: Host) -> None:
        self._host = host

    def enter_run(self, run_id: str | None) -> None:
        """What this thread logs from now on belongs to that run."""
        self._thread.run_id = run_id

    def send(self, level: str, message: str, fields: Mapping[str, Any], run_id: str | None = None) -> None:
        """Never raises over what is logged: values that cannot be sent go as their `repr`."""
        run_id = run_id or getattr(self._thread, "run_id", None)
        line = {"level": level, "message": str(message), "fields": dict(fields), "run_id": run_id}
        if self._host is None:
            self._print(line)
            return
        try:
            _notify(self._host, line)
        except Unavailable:
            self._print(line)

    def _print(self, line: Mapping[str, Any]) -> None:
        fields = "".join(f" {name}={value!r}" for name, value in line["fields"].items())
        print(f"{line['level']}: {line['message']}{fields}", file=sys.stderr, flush=True)


def _notify(host: Host, line: dict[str, Any]) -> None:
    try:
        host.notify("log", [line])
    except LocalProtocolError:
        plain = {_sendable(name): _sendable(repr(value)) for name, value in list(line["fields"].items())[:100]}
        host.notify("log", [{**line, "message": _sendable(line["message"]), "fields": plain}])


def _sendable(text: object) -> str:
    return str(text)[:8000].encode(errors="backslashreplace").decode()
