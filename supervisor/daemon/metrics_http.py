"""Serve the daemon's numbers over HTTP/1.1 to Prometheus: GET /metrics, one request a connection."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

import h11
import trio

from supervisor.metrics import CONTENT_TYPE
from supervisor.report import report_failure

MOST: Final = 16
"""Connections. Of who has not said what he wants, the one that has been silent for longest makes room."""
READ_S: Final = 5.0
WRITE_S: Final = 10.0
_AT_ONCE: Final = 4
"""Texts in memory: each may be megabytes long, and its reader slow."""
_MAX_HEAD_BYTES: Final = 16 * 1024
_READ_BYTES: Final = 4096
_PLAIN: Final = "text/plain; charset=utf-8"
_PATH: Final = b"/metrics"
_Answer = tuple[HTTPStatus, str, str]
"""Status, type, text."""


class ScrapeServer:
    def __init__(self, listener: socket.socket, scrape: Callable[[], Awaitable[str]]) -> None:
        self._listener = listener
        self._scrape = scrape
        self._open = 0
        self._asking: dict[trio.CancelScope, None] = {}
        """Those of whom the request is not read yet, the oldest first."""
        self._answering = trio.CapacityLimiter(_AT_ONCE)

    async def run(self, *, task_status: trio.TaskStatus[object] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled; the listener is closed then."""
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(self._listener))
        await trio.serve_listeners(self._serve, [listener], task_status=task_status)

    async def _serve(self, stream: trio.SocketStream) -> None:
        self._open += 1
        try:
            await self._serve_one(stream)
        except trio.BrokenResourceError:
            return  # It has gone: there is nobody to tell.
        except Exception as error:  # noqa: BLE001  one client's trouble must not end the others'
            report_failure("scrape.connection_failed", error)
        finally:
            self._open -= 1

    async def _serve_one(self, stream: trio.SocketStream) -> None:
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD_BYTES)
        if self._open > MOST and not self._make_room():
            await _send(
                stream,
                http,
                (HTTPStatus.SERVICE_UNAVAILABLE, _PLAIN, f"{MOST} connections are open: try again later\n"),
            )
            return
        asked = await self._ask(stream, http)
        if isinstance(asked, HTTPStatus):
            await _send(stream, http, (asked, _PLAIN, "this is no HTTP request that can be answered here\n"))
        elif asked is not None:
            async with self._answering:
                await _send(stream, http, await self._answer(asked), head_only=asked.method == b"HEAD")

    def _make_room(self) -> bool:
        """False: all who are there have said what they want."""
        for scope in self._asking:
            scope.cancel(reason="another needs its place")
            del self._asking[scope]
            return True
        return False

    async def _ask(self, stream: trio.SocketStream, http: h11.Connection) -> h11.Request | HTTPStatus | None:
        """The request, or the status that tells what is wrong with it; None: there is none to be had."""
        scope = trio.CancelScope(deadline=trio.current_time() + READ_S)
        self._asking[scope] = None
        try:
            with scope:
                return await _read_request(stream, http)
        finally:
            self._asking.pop(scope, None)
        return None

    async def _answer(self, request: h11.Request) -> _Answer:
        if request.target.partition(b"?")[0] != _PATH:
            return HTTPStatus.NOT_FOUND, _PLAIN, "there is nothing but /metrics\n"
        if request.method not in {b"GET", b"HEAD"}:
            return HTTPStatus.METHOD_NOT_ALLOWED, _PLAIN, "only GET and HEAD are answered\n"
        try:
            return HTTPStatus.OK, CONTENT_TYPE, await self._scrape()
        except Exception as error:  # noqa: BLE001  whatever it is, Prometheus sees that there are no numbers
            log_id = report_failure("scrape.failed", error)
            return HTTPStatus.INTERNAL_SERVER_ERROR, _PLAIN, f"the numbers could not be read: log id {log_id}\n"


async def _read_request(stream: trio.SocketStream, http: h11.Connection) -> h11.Request | HTTPStatus | None:
    while True:
        try:
            event = http.next_event()
        except h11.RemoteProtocolError as error:
            return HTTPStatus(error.error_status_hint)
        if isinstance(event, h11.Request):
            return event
        if event is not h11.NEED_DATA:
            return None
        http.receive_data(await stream.receive_some(_READ_BYTES))


async def _send(stream: trio.SocketStream, http: h11.Connection, answer: _Answer, *, head_only: bool = False) -> None:
    """The whole answer, after which the connection is at its end."""
    status, content_type, text = answer
    body = text.encode()
    headers = [("Content-Type", content_type), ("Content-Length", str(len(body))), ("Connection", "close")]
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        headers.append(("Allow", "GET, HEAD"))
    head = http.send(h11.Response(status_code=status, headers=headers, reason=status.phrase)) or b""
    with trio.move_on_after(WRITE_S):
        await stream.send_all(head if head_only else head + body)
        await stream.send_eof()
