"""Client: the blocking client. Imports neither trio nor the daemon."""

from __future__ import annotations

import time
from _thread import allocate_lock  # what threading.Lock is; threading itself takes longer to import
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from client import protocol
from client.address import socket_path
from client.errors import ConnectionLost, DaemonNotRunning, DeadlineExceeded
from client.link import Link, open_link
from client.sync_nouns import Daemon, Events, Jobs, Logs, Plugins
from client.sync_stream import EventStream, LogStream

if TYPE_CHECKING:
    from typing import Self

    from client.cursor import OnNotice
    from client.link import OnProgress
    from supervisor.wire.results import Description, HelloInfo, PluginInfo

__all__ = ["Client", "EventStream", "LogStream"]
_RETRY_S = 0.1


class Client:
    """A blocking client of one daemon; connects at the first call.

    Threads may share it: their calls are made one after the other. Methods stand by noun, as in
    `client.plugins.list()`, and raise the classes of `client.errors`. A read is asked once more when the connection was
    lost; a change never is.

    `timeout_s` limits what answers at once (None: no limit); what takes as long as it takes, such as `plugins.load`, is
    only limited by `within()`. After a timeout the connection is dropped, since a late answer may come.

    Ctrl-C during `plugins.install` or `plugins.upgrade` tells the daemon to give it up, and raises `client.Interrupted`
    (a KeyboardInterrupt) with what became of it.
    """

    def __init__(
        self,
        path: str | None = None,
        *,
        timeout_s: float | None = protocol.DEFAULT_TIMEOUT_S,
        name: str = "python",
    ) -> None:
        self.path = socket_path(path)
        self._connection = _Connection(self.path, name)
        self._name = name
        self._timeout_s = timeout_s
        self._limit_s: float | None = None
        self.daemon = Daemon(self._call)
        self.plugins = Plugins(self._call)
        self.jobs = Jobs(self._call)
        self.events = Events(self._call)
        self.logs = Logs(self._call)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop the connection; the next call makes a new one."""
        self._connection.close()

    def within(self, timeout_s: float) -> Client:
        """This client, same connection, with a limit of `timeout_s` seconds on every call."""
        limited = Client(self.path, timeout_s=timeout_s, name=self._name)
        limited._connection = self._connection
        limited._limit_s = timeout_s
        return limited

    def call(self, method: str, /, **params: Any) -> Any:
        """Any method by its name, such as `call("plugins.get", plugin="acme.weather")`."""
        return self._call(method, params)

    def hello(self) -> HelloInfo:
        """Who answers, and what we may: the daemon's answer to this connection's hello."""
        info: HelloInfo = self._connection.hello(self._deadline(self._timeout_s))
        return info

    def describe(self) -> Description:
        """Every method with its params and result as JSON Schema, its role and its deadline."""
        description: Description = self._call("rpc.describe", {})
        return description

    def wait_for(
        self,
        plugin: str,
        *,
        status: str | None = None,
        phase: str | None = "running",
        timeout_s: float = 30.0,
    ) -> PluginInfo:
        """Return as soon as the plugin has this status and phase (None: any); goes on over a restart of the daemon.

        Raises:
            DeadlineExceeded: it had not after `timeout_s` seconds.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            left = max(deadline - time.monotonic(), 0.001)
            try:
                return self.plugins.wait(plugin, status=status, phase=phase, timeout_s=left)
            except (ConnectionLost, DaemonNotRunning):
                if time.monotonic() + _RETRY_S >= deadline:
                    raise
                time.sleep(_RETRY_S)

    def events_stream(
        self,
        after_seq: int | None = None,
        types: Sequence[str] = (),
        plugins: Sequence[str] = (),
        *,
        reconnect_for_s: float | None = None,
    ) -> EventStream:
        """Events as they happen, on a connection of their own; use it in a `with` and iterate.

        Begins after `after_seq` (None: with what is new). `types` are globs, `plugins` keys or ids; empty means all. A
        lost connection is made again, for at most `reconnect_for_s` seconds (None: for ever), and resumes where it was.
        """
        return EventStream(
            lambda deadline: open_link(self.path, self._name, deadline),
            after_seq=after_seq,
            types=types,
            plugins=plugins,
            reconnect_for_s=reconnect_for_s,
        )

    def logs_stream(
        self,
        plugin: str,
        tail: int | None = None,
        since_ms: int | None = None,
        level: str | None = None,
        run: str | None = None,
        stream: str | None = None,
        *,
        reconnect_for_s: float | None = None,
        on_notice: OnNotice | None = None,
    ) -> LogStream:
        """A plugin's log as it grows, on a connection of its own: use it in a `with` and iterate.

        With `tail` the last so many lines come first, with `since_ms` all since then, with both the last so many since
        then; else only what is new. `level` is this one and above. The stream goes on over rotations, restarts of the
        worker and of the daemon: a lost connection is made again, for at most `reconnect_for_s` seconds (None: for
        ever), and resumes where it was. No line is missed or repeated, unless it was rotated away before it could be
        sent; that, and a connection that is lost or back, is told to `on_notice` in a sentence.
        """
        return LogStream(
            lambda deadline: open_link(self.path, self._name, deadline),
            begin={"tail": tail, "since_ms": since_ms},
            filters={"plugin": plugin, "level": level, "run": run, "stream": stream},
            reconnect_for_s=reconnect_for_s,
            on_notice=on_notice,
        )

    def _call(self, method: str, params: dict[str, Any], on_progress: OnProgress | None = None) -> Any:
        limit_s, told_s = protocol.time_limits_s(method, params, self._timeout_s, self._limit_s)
        message = protocol.to_params(params, told_s, progress=on_progress is not None)
        return self._connection.call(method, message, self._deadline(limit_s), on_progress)

    @staticmethod
    def _deadline(limit_s: float | None) -> float | None:
        return None if limit_s is None else time.monotonic() + limit_s


class _Connection:
    """The link, made when it is needed, and one call at a time on it."""

    def __init__(self, path: str, name: str) -> None:
        self._path = path
        self._name = name
        self._lock = allocate_lock()
        self._link: Link | None = None

    def call(
        self, method: str, params: list[Any], deadline: float | None, on_progress: OnProgress | None = None
    ) -> Any:
        with self._turn(method, deadline):
            try:
                return self._call(method, params, deadline, on_progress)
            except ConnectionLost:
                if method not in protocol.READS:
                    raise
            return self._call(method, params, deadline, None)

    def hello(self, deadline: float | None) -> Any:
        with self._turn("rpc.hello", deadline):
            return self._open(deadline).hello

    def close(self) -> None:
        with self._lock:
            self._drop()

    @contextmanager
    def _turn(self, method: str, deadline: float | None) -> Iterator[None]:
        wait_s = -1 if deadline is None else max(0.0, deadline - time.monotonic())
        if not self._lock.acquire(timeout=wait_s):
            raise DeadlineExceeded(f"{method} had to wait for another thread's call", method=method)
        try:
            yield
        finally:
            self._lock.release()

    def _call(self, method: str, params: list[Any], deadline: float | None, on_progress: OnProgress | None) -> Any:
        link = self._open(deadline)
        try:
            if method in protocol.OPERATIONS:
                return link.operate(method, params, deadline, on_progress)
            return link.call(method, params, deadline)
        finally:
            # An error that the daemon answered leaves the link whole; anything else, Ctrl-C too, leaves it in doubt.
            if not link.answered:
                self._drop()

    def _open(self, deadline: float | None) -> Link:
        if self._link is not None and not self._link.alive():
            self._drop()  # found out before anything was sent, so even a change may go over a new one
        if self._link is None:
            self._link = open_link(self._path, self._name, deadline)
        return self._link

    def _drop(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()
