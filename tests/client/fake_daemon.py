"""A daemon that serves canned answers from a thread: a real Channel on a real Unix socket."""

from __future__ import annotations

import contextlib
import fnmatch
import inspect
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import trio

from supervisor.channel import Abortable, Channel, Immediate
from supervisor.core.errors import MethodNotFound, SupervisorError, Unavailable
from supervisor.wire.control import PROGRESS_KEY, PROGRESS_NOTIFICATION, REQUESTS
from supervisor.wire.limits import SERVER
from supervisor.wire.message import Failure, Request
from supervisor.wire.peer import Peer
from supervisor.wire.typed import to_request

NEVER = object()
"""As an answer: none at all."""
HANG_UP = object()
"""As an answer: the connection is closed."""


class Turns(list[Any]):
    """Answers given one after the other."""


@dataclass
class Operating:
    """As an answer: tells `progress` if asked to, and answers `result`; with none, `cancelled` once it is cancelled."""

    progress: list[dict[str, Any]] = field(default_factory=list)
    result: Any = None
    cancelled: Any = None
    until: threading.Event | None = None
    """What the answer to one that was cancelled waits for."""


class FakeDaemon:
    """`answers[method]` is a value, an exception, NEVER, HANG_UP, Operating, a function of the params, or Turns of
    those."""

    def __init__(self, path: str, answers: dict[str, Any] | None = None) -> None:
        self.path = path
        self.answers: dict[str, Any] = {"rpc.hello": {"server": "fake", "role": "admin"}, **(answers or {})}
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.events: list[dict[str, Any]] = []
        self.log: list[dict[str, Any]] = []
        self.connections = 0
        self._subscribers: list[_Subscriber] = []
        self._streams: set[trio.SocketStream] = set()
        self._changed = threading.Condition()
        self._ready = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._ready.clear()
        self._thread = threading.Thread(target=trio.run, args=(self._run,), daemon=True)
        self._thread.start()
        assert self._ready.wait(5)

    def stop(self) -> None:
        if self._thread is not None:
            self._in_loop(self._scope.cancel)
            self._thread.join(5)
            assert not self._thread.is_alive()
            self._thread = None

    def __enter__(self) -> FakeDaemon:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def asked(self, method: str) -> list[dict[str, Any]]:
        """The params of every request for it, without those of the protocol."""
        return [{k: v for k, v in params.items() if k[0] != "$"} for name, params in self.requests if name == method]

    def wait_asked(self, method: str, count: int = 1) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.asked(method)) >= count, 5), self.requests
        self._in_loop(lambda: None)  # the request is noted before it is carried out

    def emit(self, type_: str = "plugin.enabled", plugin: str = "acme.weather", **data: Any) -> int:
        """Append to the journal; subscribers hear of it. Its seq."""
        seq = len(self.events) + 1
        event = {"seq": seq, "at_ms": 1000 * seq, "type": type_, "plugin_id": "id", "plugin": plugin, "data": data}
        self.events.append(event)
        if self._thread is not None:
            self._in_loop(self._push)
        return seq

    def write_log(self, *lines: dict[str, Any]) -> None:
        """Append to the log of every plugin; followers hear of it."""
        self.log.extend(lines)
        if self._thread is not None:
            self._in_loop(self._push)

    def forget_log(self, count: int) -> None:
        """The oldest lines are rotated away: their places are gone."""
        self.log[:count] = [None] * count  # type: ignore[list-item]

    def drop_connections(self) -> None:
        """Close them all at once, without a word."""
        self._in_loop(self._close_streams)

    def shed_connections(self) -> None:
        """Close them all for want of room, and say so."""
        failure = Failure("RESOURCE_EXHAUSTED", "too many connections", {}, retryable=True)
        frame = Peer(SERVER).notify("rpc.error", [failure.to_map()])

        def shed() -> None:
            for stream in self._streams:
                os.write(stream.socket.fileno(), frame)
            self._close_streams()

        self._in_loop(shed)

    @property
    def connected(self) -> int:
        """How many clients hold a connection now."""
        return len(self._streams)

    def end_subscriptions(self, reason: str) -> None:
        def end() -> None:
            for subscriber in list(self._subscribers):
                subscriber.end(reason)

        self._in_loop(end)

    def _in_loop(self, act: Callable[[], Any]) -> None:
        done = threading.Event()

        def run() -> None:
            act()
            done.set()

        self._token.run_sync_soon(run)
        assert done.wait(5)

    async def _run(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        with contextlib.ExitStack() as stack, trio.CancelScope() as self._scope:
            sock = stack.enter_context(trio.socket.socket(trio.socket.AF_UNIX))
            with contextlib.suppress(FileNotFoundError):
                await trio.Path(self.path).unlink()
            await sock.bind(self.path)
            sock.listen()
            async with trio.open_nursery() as self._nursery:
                self._ready.set()
                while True:
                    peer, _ = await sock.accept()
                    self._nursery.start_soon(self._connection, trio.SocketStream(peer))

    async def _connection(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        self._streams.add(stream)
        channel = Channel(
            stream,
            SERVER,
            on_request=lambda request: self._answer(request, stream, channel),
            on_unexpected=lambda request, error: repr((request, error)),
        )
        try:
            await channel.run()
        except SupervisorError:
            pass
        finally:
            channel.close(Unavailable("gone"))
            self._streams.discard(stream)
            self._subscribers = [s for s in self._subscribers if s.channel is not channel]
            await trio.aclose_forcefully(stream)

    def _answer(self, request: Request, stream: trio.SocketStream, channel: Channel) -> Any:
        params = request.params[0] if request.params else {}
        if request.method not in REQUESTS:
            raise MethodNotFound(f"there is no method {request.method!r}")
        to_request(REQUESTS[request.method], request.method, request.params)  # refuses what the daemon would refuse
        with self._changed:
            self.requests.append((request.method, params))
            self._changed.notify_all()
        if request.method.startswith("events.") and request.method not in self.answers:
            return self._events(request.method, params, channel)
        if request.method in {"logs.follow", "logs.credit"} and request.method not in self.answers:
            return self._logs(request.method, params, channel)
        answer = self.answers.get(request.method, {"ok": True})
        if isinstance(answer, Turns):
            answer = answer.pop(0)
        if callable(answer):
            answer = answer(params)
        if isinstance(answer, Exception):
            raise answer
        if answer is NEVER:
            return _never()
        if isinstance(answer, Operating):
            cancelled = trio.Event()
            return Abortable(self._operate(answer, request, channel, cancelled), cancelled.set)
        if answer is HANG_UP:
            stream.socket.shutdown(2)
            return _never()
        assert not inspect.iscoroutine(answer)
        return Immediate([] if answer is None else answer)

    async def _operate(self, what: Operating, request: Request, channel: Channel, cancelled: trio.Event) -> Any:
        if request.params[0].get(PROGRESS_KEY):
            for told in what.progress:
                await channel.notify(PROGRESS_NOTIFICATION, [{"request": request.id, **told}])
        answer = what.result
        if answer is None:
            await cancelled.wait()
            with self._changed:
                self.requests.append(("rpc.cancel", {}))
                self._changed.notify_all()
            if what.until is not None:
                assert await trio.to_thread.run_sync(what.until.wait, 10)
            answer = what.cancelled
        if answer is NEVER:
            await _never()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _events(self, method: str, params: dict[str, Any], channel: Channel) -> Any:
        if method == "events.list":
            return Immediate({"events": self._page(params), "last_seq": len(self.events)})
        if method == "events.credit":
            return self._allow(params, channel)
        self._add(_Subscriber(self, channel, params))
        return Immediate({"subscription": 7, "last_seq": len(self.events)})

    def _page(self, params: dict[str, Any]) -> list[dict[str, Any]]:
        after, since_ms, limit = params["after_seq"], params.get("since_ms"), params["limit"]
        found = [event for event in self.events[after or 0 :] if event["at_ms"] >= (since_ms or 0)]
        return found[-limit:] if after is None and since_ms is None else found[:limit]

    def _logs(self, method: str, params: dict[str, Any], channel: Channel) -> Any:
        if method == "logs.credit":
            return self._allow(params, channel)
        follower = _Follower(self, channel, params)
        self._add(follower)
        return Immediate({"subscription": 8, "place": str(follower.sent)})

    def _allow(self, params: dict[str, Any], channel: Channel) -> Any:
        for subscriber in self._subscribers:
            if subscriber.channel is channel:
                subscriber.credit += params["n"]
        self._nursery.start_soon(self._push_soon)
        return Immediate({"ok": True})

    def _add(self, subscriber: _Subscriber) -> None:
        self._subscribers.append(subscriber)
        self._nursery.start_soon(subscriber.run)
        self._nursery.start_soon(self._push_soon)

    async def _push_soon(self) -> None:
        self._push()

    def _push(self) -> None:
        for subscriber in self._subscribers:
            subscriber.push()

    def _close_streams(self) -> None:
        for stream in self._streams:
            with contextlib.suppress(OSError):  # the client has gone already
                stream.socket.shutdown(2)


async def _never() -> None:
    await trio.sleep_forever()


class _Subscriber:
    NOTIFICATION = "rpc.event"

    def __init__(self, daemon: FakeDaemon, channel: Channel, params: dict[str, Any]) -> None:
        self.daemon = daemon
        self.channel = channel
        self.credit = params["credit"]
        self._outgoing, self._incoming = trio.open_memory_channel[dict[str, Any]](10_000)
        self._begin(params)

    def _begin(self, params: dict[str, Any]) -> None:
        self._types = params["types"]
        self._sent = len(self.daemon.events) if params["after_seq"] is None else params["after_seq"]

    def push(self) -> None:
        for event in self.daemon.events[self._sent :]:
            if self._types and not any(fnmatch.fnmatch(event["type"], glob) for glob in self._types):
                self._sent = event["seq"]
                continue
            if self.credit == 0:
                return
            self.credit -= 1
            self._sent = event["seq"]
            self._notify({"subscription": 7, "event": event})

    def end(self, reason: str) -> None:
        self.daemon._subscribers.remove(self)
        self._notify({"subscription": 7, "end": True, "reason": reason, "last_seq": self._sent})

    def _notify(self, params: dict[str, Any]) -> None:
        self._outgoing.send_nowait(params)

    async def run(self) -> None:
        # One task, since tasks started one after the other may run in any order.
        with contextlib.suppress(SupervisorError):  # the connection has gone: so has this subscription
            async for params in self._incoming:
                await self.channel.notify(self.NOTIFICATION, [params])


class _Follower(_Subscriber):
    """A place is the number of lines before it."""

    NOTIFICATION = "rpc.log"

    def _begin(self, params: dict[str, Any]) -> None:
        there = len(self.daemon.log)
        if params.get("after") is not None:
            self.sent = int(params["after"])
        else:
            since_ms, tail = params["since_ms"], params["tail"]
            found = [n for n, line in enumerate(self.daemon.log) if line["time_ms"] >= (since_ms or 0)]
            wanted = found if tail is None and since_ms is not None else found[max(0, len(found) - (tail or 0)) :]
            self.sent = wanted[0] if wanted else there

    def push(self) -> None:
        lines = self.daemon.log[self.sent : self.sent + self.credit]
        if not lines:
            return
        self.sent += len(lines)
        gone = lines.count(None)  # type: ignore[arg-type]
        told = {"subscription": 8, "lines": lines[gone:], "place": str(self.sent)}
        self.credit -= len(lines) - gone
        self._notify({**told, "skipped_bytes": 100 * gone} if gone else told)

    def end(self, reason: str) -> None:
        self.daemon._subscribers.remove(self)
        self._notify({"subscription": 8, "end": True, "reason": reason, "place": str(self.sent)})
