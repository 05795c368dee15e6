"""One connection to the daemon on trio: a Channel that tells lost from closed."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

from client import protocol
from client.errors import ConnectionLost, DeadlineExceeded, LocalProtocolError, SupervisorError, Unavailable
from client.link import QUEUE_S, dial
from supervisor.channel import Channel, ignore_notifications
from supervisor.wire.limits import CLIENT
from supervisor.wire.message import Failure, Notification, Request

if TYPE_CHECKING:
    from client.link import OnProgress

OnNotification = Callable[[Notification], None]
OpenIn = Callable[[trio.Nursery, OnNotification, Callable[[], None]], Awaitable["AsyncLink"]]
"""Opens a connection that runs in that nursery, and tells of notifications and of its end."""


@asynccontextmanager
async def background() -> AsyncIterator[trio.Nursery]:
    """A nursery for tasks that never raise, cancelled at the end: what the body raises comes out in no group."""
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        try:
            yield nursery
        except Exception as error:  # noqa: BLE001  raised again below, outside the nursery
            failure = error
        finally:
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def open_link(
    nursery: trio.Nursery,
    path: str,
    name: str,
    timeout_s: float | None,
    on_notification: OnNotification = ignore_notifications,
    on_end: Callable[[], None] = lambda: None,
) -> AsyncLink:
    """Connect, run the channel in `nursery`, and say hello.

    Raises:
        SupervisorError: cannot connect, or the daemon refused.
    """
    with trio.move_on_after(float("inf") if timeout_s is None else timeout_s):
        link = await _open_link(nursery, path, name, on_notification, on_end)
        link.timeout_s = timeout_s
        return link
    raise DeadlineExceeded(f"no connection to plugind at {path} within {timeout_s:g} s", socket=path)


async def _dialled(path: str) -> socket.socket:
    try:
        return dial(path)
    except BlockingIOError:
        pass  # Too many want to come in: in the queue, then.
    while True:
        try:
            return await trio.to_thread.run_sync(dial, path, QUEUE_S)
        except BlockingIOError:
            continue


async def _open_link(
    nursery: trio.Nursery, path: str, name: str, on_notification: OnNotification, on_end: Callable[[], None]
) -> AsyncLink:
    link = AsyncLink(await _dialled(path), path, on_notification, on_end)
    await nursery.start(link.run)
    try:
        link.hello = await link.call("rpc.hello", [protocol.hello(name)], timeout_s=None)
    except BaseException:
        link.drop()
        raise
    return link


class AsyncLink:
    """`run` it in a nursery; it never raises, but ends the calls in flight with the reason. `drop` ends it."""

    def __init__(
        self,
        sock: socket.socket,
        path: str,
        on_notification: OnNotification,
        on_end: Callable[[], None],
    ) -> None:
        self._sock = sock
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        self._channel = Channel(stream, CLIENT, on_notification=self._note, on_unexpected=_not_logged)
        self._path = path
        self._on_notification = on_notification
        self._on_end = on_end
        self._last_words: SupervisorError | None = None
        self._scope = trio.CancelScope()
        self._heard: dict[int, Callable[[Any], None]] = {}
        """Request -> who hears its progress."""
        self._pid = os.getpid()
        self._failure: SupervisorError | None = None
        """What the calls that were in flight were ended with."""
        self.timeout_s: float | None = None
        """For what answers at once, of a link that a stream has for itself."""
        self.ended = False
        self.hello: Any = None
        """The daemon's answer to hello."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        error: SupervisorError = ConnectionLost(f"the connection to plugind at {self._path} was lost")
        try:
            with self._scope:
                await self._channel.run(task_status=task_status)
        except Unavailable:
            pass  # it broke: said below, and the same to a caller as an orderly end
        except SupervisorError as broken:
            error = broken
        finally:
            self.ended = True
            self._failure = self._ending(error)
            self._channel.close(self._failure)
            self._on_end()
            await self._channel.aclose()

    def _ending(self, error: SupervisorError) -> SupervisorError:
        said = self._last_words
        if said is None or not isinstance(error, ConnectionLost):
            return said or error
        if self.hello is None or not said.retryable:
            return said
        # What had been taken and is closed for want of room is one more lost connection.
        return ConnectionLost(f"{error.message} ({said.message})", said=said.message)

    def alive(self) -> bool:
        """Whether the daemon still holds its end; its own task may not have come to hear of it."""
        try:
            return not self.ended and self._sock.recv(1, socket.MSG_PEEK) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False

    def answered(self, error: SupervisorError) -> bool:
        """Whether this, which a call has raised, is what the daemon answered, and no failure on the way."""
        if isinstance(error, ConnectionLost | DeadlineExceeded):
            return False
        failure = self._failure
        return failure is None or (error.code, error.message) != (failure.code, failure.message)

    def check_process(self) -> None:
        """To be called before anything is asked.

        Raises:
            LocalProtocolError: this process is a fork of the one whose connection it is.
        """
        if self._pid != os.getpid():
            raise LocalProtocolError(
                f"this connection belongs to process {self._pid}, of which this one is a fork: make a client here",
                pid=self._pid,
            )

    def drop(self) -> None:
        self.ended = True
        self._scope.cancel()

    async def call(self, method: str, params: list[Any], *, timeout_s: float | None) -> Any:
        """Ask and wait for the answer.

        Raises:
            SupervisorError: what the daemon answered, or why no answer came.
        """
        return await self._channel.call(method, params, timeout_s=timeout_s)

    async def operate(self, method: str, params: list[Any], on_progress: OnProgress | None) -> Any:
        """As `call`, for what can be cancelled: a caller who is waits for the one answer, `CANCEL_WAIT_S` at most.

        What `on_progress` raises cancels the call in the same way, and comes out of it.
        """
        settled = trio.Event()
        failures: list[Exception] = []
        ids: list[int] = []

        def tell(progress: Any) -> None:
            try:
                if on_progress is not None and not failures:
                    on_progress(progress)
            except Exception as error:  # noqa: BLE001  raised below, in the task that called
                failures.append(error)
                scope.cancel()

        def note_sent(id_: int) -> None:
            ids.append(id_)
            self._heard[id_] = tell

        with trio.CancelScope() as scope:
            try:
                return await self._channel.call(
                    method, params, timeout_s=None, on_settled=settled.set, on_sent=note_sent
                )
            except trio.Cancelled:
                with trio.move_on_after(protocol.CANCEL_WAIT_S, shield=True):
                    await settled.wait()
                raise
            finally:
                for id_ in ids:
                    del self._heard[id_]
        raise failures[0]

    def _note(self, notification: Notification) -> None:
        if notification.method == protocol.PROGRESS and notification.params:
            self._heard.get(notification.params[0].get("request"), _not_heard)(notification.params[0])
        elif notification.method == "rpc.error" and notification.params:
            self._last_words = Failure.from_wire(notification.params[0]).to_error()
        else:
            self._on_notification(notification)


def _not_heard(_: Any) -> None:
    """Of a call that nobody waits for any more."""


def _not_logged(request: Request, error: Exception) -> str:
    """Needed by the channel; this end serves nothing, so nothing unexpected can happen while it does."""
    return f"none ({request.method}: {error!r})"
