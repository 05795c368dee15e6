"""AsyncClient: the client on trio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

from client import protocol
from client.address import socket_path
from client.async_link import AsyncLink, background, open_link
from client.async_nouns import AsyncDaemon, AsyncEvents, AsyncJobs, AsyncLogs, AsyncPlugins
from client.async_stream import AsyncEventStream, AsyncLogStream
from client.errors import ConnectionLost, DaemonNotRunning, DeadlineExceeded, connection_lost

if TYPE_CHECKING:
    from client.cursor import OnNotice
    from client.link import OnProgress
    from supervisor.wire.results import Description, HelloInfo, PluginInfo

__all__ = ["AsyncClient", "AsyncEventStream", "AsyncLogStream"]
_RETRY_S = 0.1


class AsyncClient:
    """A client of one daemon: `async with AsyncClient.connect() as client`.

    Tasks may share it: their calls are in flight at once. Methods stand by noun, as in `await client.plugins.list()`,
    and raise the classes of `client.errors`. A read is asked once more when the connection was lost; a change never
    is. A caller that is cancelled tells the daemon, which stops working on it, save on changes. `plugins.install` and
    `plugins.upgrade` are ended by that until their commit point; the cancelled call waits for the daemon's answer, up
    to 10 s.
    """

    def __init__(self, path: str, nursery: trio.Nursery, *, timeout_s: float | None, name: str) -> None:
        """Use `connect`."""
        self.path = path
        self._nursery = nursery
        self._timeout_s = timeout_s
        self._name = name
        self._connecting = trio.Lock()
        self._link: AsyncLink | None = None
        self.daemon = AsyncDaemon(self._call)
        self.plugins = AsyncPlugins(self._call)
        self.jobs = AsyncJobs(self._call)
        self.events = AsyncEvents(self._call)
        self.logs = AsyncLogs(self._call)

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        path: str | None = None,
        *,
        timeout_s: float | None = protocol.DEFAULT_TIMEOUT_S,
        name: str = "python-trio",
    ) -> AsyncIterator[AsyncClient]:
        """Connect at once; `timeout_s` limits what answers at once (None: no limit), trio's own scopes all the rest.

        Raises:
            SupervisorError: cannot connect, with how to start the daemon.
        """
        async with background() as nursery:
            client = cls(socket_path(path), nursery, timeout_s=timeout_s, name=name)
            await client._open()
            yield client

    async def call(self, method: str, /, **params: Any) -> Any:
        """Any method by its name, such as `await call("plugins.get", plugin="acme.weather")`."""
        return await self._call(method, params)

    async def hello(self) -> HelloInfo:
        """Who answers, and what we may: the daemon's answer to this connection's hello."""
        info: HelloInfo = (await self._open()).hello
        return info

    async def describe(self) -> Description:
        """Every method with its params and result as JSON Schema, its role and its deadline."""
        description: Description = await self._call("rpc.describe", {})
        return description

    async def wait_for(
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
        deadline = trio.current_time() + timeout_s
        while True:
            left = max(deadline - trio.current_time(), 0.001)
            try:
                return await self.plugins.wait(plugin, status=status, phase=phase, timeout_s=left)
            except (ConnectionLost, DaemonNotRunning):
                if trio.current_time() + _RETRY_S >= deadline:
                    raise
                await trio.sleep(_RETRY_S)

    @asynccontextmanager
    async def events_stream(
        self,
        after_seq: int | None = None,
        types: Sequence[str] = (),
        plugins: Sequence[str] = (),
        *,
        reconnect_for_s: float | None = None,
    ) -> AsyncIterator[AsyncEventStream]:
        """Events as they happen, on a connection of their own: `async with …as stream: async for event in stream`.

        Begins after `after_seq` (None: with what is new). `types` are globs, `plugins` keys or ids; empty means all. A
        lost connection is made again, for at most `reconnect_for_s` seconds (None: for ever), and resumes where it was.
        """
        async with background() as nursery:
            stream = AsyncEventStream(
                lambda on_note, on_end: open_link(nursery, self.path, self._name, on_note, on_end),
                after_seq=after_seq,
                types=types,
                plugins=plugins,
                reconnect_for_s=reconnect_for_s,
            )
            await stream.subscribe()
            yield stream

    @asynccontextmanager
    async def logs_stream(
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
    ) -> AsyncIterator[AsyncLogStream]:
        """A plugin's log as it grows, on a connection of its own: `async with …as stream: async for line in stream`.

        With `tail` the last so many lines come first, with `since_ms` all since then, with both the last so many since
        then; else only what is new. `level` is this one and above. The stream goes on over rotations, restarts of the
        worker and of the daemon: a lost connection is made again, for at most `reconnect_for_s` seconds (None: for
        ever), and resumes where it was. No line is missed or repeated, unless it was rotated away before it could be
        sent; that, and a connection that is lost or back, is told to `on_notice` in a sentence.
        """
        async with background() as nursery:
            lines = AsyncLogStream(
                lambda on_note, on_end: open_link(nursery, self.path, self._name, on_note, on_end),
                begin={"tail": tail, "since_ms": since_ms},
                filters={"plugin": plugin, "level": level, "run": run, "stream": stream},
                reconnect_for_s=reconnect_for_s,
                on_notice=on_notice,
            )
            await lines.subscribe()
            yield lines

    async def _call(self, method: str, params: dict[str, Any], on_progress: OnProgress | None = None) -> Any:
        limit_s, told_s = protocol.time_limits_s(method, params, self._timeout_s, None)
        message = protocol.to_params(params, told_s, progress=on_progress is not None)
        if method in protocol.OPERATIONS:
            return await self._operate(method, message, on_progress)
        try:
            return await self._ask(method, message, limit_s)
        except ConnectionLost:
            if method not in protocol.READS:
                raise connection_lost(self.path, method, repeatable=False) from None
        try:
            return await self._ask(method, message, limit_s)
        except ConnectionLost:
            raise connection_lost(self.path, method, repeatable=True) from None

    async def _ask(self, method: str, message: list[Any], limit_s: float | None) -> Any:
        link = await self._open()
        return await link.call(method, message, timeout_s=limit_s)

    async def _operate(self, method: str, message: list[Any], on_progress: OnProgress | None) -> Any:
        link = await self._open()
        try:
            return await link.operate(method, message, on_progress)
        except ConnectionLost:
            raise connection_lost(self.path, method, repeatable=False) from None

    async def _open(self) -> AsyncLink:
        if self._link is not None and not self._link.ended:
            return self._link
        with trio.move_on_after(protocol.DEFAULT_TIMEOUT_S):
            async with self._connecting:
                if self._link is None or self._link.ended:
                    self._link = await open_link(self._nursery, self.path, self._name)
                return self._link
        raise DeadlineExceeded(f"no connection to plugind at {self.path} within {protocol.DEFAULT_TIMEOUT_S:g} s")
