"""Where a plugin's log lines go: to plugind once there is a connection, to stderr before and after."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, Protocol

from supervisor.core.errors import Unavailable


class Teller(Protocol):
    def notify(self, method: str, params: list[Any]) -> bool:
        """Tell plugind. Waits while it is slow to read; a thread that must not wait gets False, and it was not told."""


class Log:
    """Lines for the plugin's log: a message for people and fields for programs.

    While plugind is slow to read, a thread that logs waits for it. Code in the event loop never waits: what finds no
    room there is dropped, counted, and the count is logged when there is room again.
    """

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
    """Shared by everything of a plugin that logs, from any thread."""

    def __init__(self) -> None:
        self._host: Teller | None = None
        # One of its own in every thread, and in every trio task.
        self._run_id: ContextVar[str | None] = ContextVar("run_id", default=None)
        self._lock = threading.Lock()
        self._dropped = 0

    def connect(self, host: Teller | None) -> None:
        """None: what is logged from now on goes to stderr."""
        self._host = host

    def enter_run(self, run_id: str | None) -> None:
        """What this thread or task logs from now on belongs to that run."""
        self._run_id.set(run_id)

    def send(self, level: str, message: str, fields: Mapping[str, Any], run_id: str | None = None) -> None:
        """Never raises over what is logged: values that cannot be sent go as their `repr`."""
        line = _line(level, _text(str, message), dict(fields), run_id or self._run_id.get())
        if self._host is None:
            _print(line)
            return
        try:
            self.tell_dropped()
            if not _notify(self._host, line):
                self._count(1)
        except Unavailable:
            _print(line)

    def tell_dropped(self) -> None:
        """Say how many lines found no room, if any did and there is room now.

        Raises:
            Unavailable: plugind is gone.
        """
        if not self._dropped or self._host is None:
            return
        with self._lock:
            dropped, self._dropped = self._dropped, 0
        if dropped and not _notify(self._host, _line("warning", _lost(dropped), {"dropped": dropped}, None)):
            self._count(dropped)

    def _count(self, lines: int) -> None:
        with self._lock:
            self._dropped += lines


def _lost(lines: int) -> str:
    count = "1 log line was" if lines == 1 else f"{lines} log lines were"
    return f"{count} dropped: plugind read more slowly than the event loop logged"


def _line(level: str, message: str, fields: dict[str, Any], run_id: str | None) -> dict[str, Any]:
    return {"level": level, "message": message, "fields": fields, "run_id": run_id}


def _print(line: Mapping[str, Any]) -> None:
    fields = "".join(f" {name}={_text(repr, value)}" for name, value in line["fields"].items())
    try:
        print(f"{line['level']}: {line['message']}{fields}", file=sys.stderr, flush=True)
    except Exception:  # noqa: BLE001  the plugin has closed or replaced stderr: there is nobody left to tell
        return


def _notify(host: Teller, line: dict[str, Any]) -> bool:
    try:
        return host.notify("log", [line])
    except Unavailable:
        raise
    except Exception:  # noqa: BLE001  a value that cannot be sent, or whose own code fails when it is packed
        plain = {_sendable(name): _sendable(_text(repr, value)) for name, value in list(line["fields"].items())[:100]}
        return host.notify("log", [{**line, "message": _sendable(line["message"]), "fields": plain}])


def _text(make: Callable[[object], str], value: object) -> str:
    try:
        return make(value)
    except Exception:  # noqa: BLE001  an author's __str__ or __repr__
        return f"<{type(value).__name__}: its text cannot be made>"


def _sendable(text: object) -> str:
    return _text(str, text)[:8000].encode(errors="backslashreplace").decode()
