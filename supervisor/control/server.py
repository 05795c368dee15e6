"""Listen, accept, shed; a connection each for those that are let in."""

from __future__ import annotations

import errno
import os
import socket
from collections import Counter
from typing import Final

import trio

from supervisor.control.access import Caller, Gate
from supervisor.control.connection import Connection, Service
from supervisor.core.errors import ResourceExhausted, SupervisorError
from supervisor.log import get_logger
from supervisor.report import report_failure
from supervisor.wire import codec
from supervisor.wire.control import PROTOCOL_ERROR_NOTIFICATION
from supervisor.wire.limits import SERVER
from supervisor.wire.message import Failure, Notification

_TOO_MANY_FILES: Final = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}
_BREATHER_S: Final = 0.1


class ControlServer:
    """At most so many connections in all and of one uid; root always gets in."""

    def __init__(
        self, listener: socket.socket, service: Service, gate: Gate, *, most: int = 256, most_of_a_uid: int = 32
    ) -> None:
        self._listener = trio.socket.from_stdlib_socket(listener)
        self._gate = gate
        self._service = service
        self._most = most
        self._most_of_a_uid = most_of_a_uid
        self._of_uid: Counter[int] = Counter()
        self._connections: set[Connection] = set()
        self._draining = False

    @property
    def connections(self) -> int:
        return self._of_uid.total()

    async def run(self, work: trio.Nursery, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Accept until cancelled. Connections live in `work`: when no more are taken they answer and end."""
        task_status.started()
        try:
            while True:
                sock = await self._accept()
                if sock is not None:
                    work.start_soon(self._serve, sock)
        finally:
            self._draining = True
            self._service.detached.drain()
            for connection in self._connections:
                connection.drain()

    async def run_while_stopping(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled, let who asks now see what is going on; changes and long waits are refused."""
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                sock = await self._accept()
                if sock is not None:
                    nursery.start_soon(self._serve, sock, True)

    async def _accept(self) -> trio.socket.SocketType | None:
        try:
            sock, _ = await self._listener.accept()
        except OSError as error:
            if error.errno not in _TOO_MANY_FILES:
                # The client went away between connect and accept.
                return None
            get_logger().error("connection.not_accepted", why=os.strerror(error.errno))
            await trio.sleep(_BREATHER_S)
            return None
        return sock

    async def _serve(self, sock: trio.socket.SocketType, only_looking: bool = False) -> None:
        stream = trio.SocketStream(sock)
        try:
            caller = self._gate.identify(sock)
        except SupervisorError as error:
            await _turn_away(stream, error)
            return
        if refusal := self._refusal(caller):
            await _turn_away(stream, refusal)
            return
        self._of_uid[caller.uid] += 1
        connection = Connection(stream, caller, self._service, only_looking=only_looking)
        self._connections.add(connection)
        if self._draining and not only_looking:
            # Accepted at the last moment: its task has begun only now.
            connection.drain()
        try:
            await connection.run()
        except Exception as error:  # noqa: BLE001  one client's trouble must not end the others'
            report_failure("connection.failed", error, uid=caller.uid, pid=caller.pid)
        finally:
            self._connections.discard(connection)
            self._of_uid[caller.uid] -= 1

    def _refusal(self, caller: Caller) -> ResourceExhausted | None:
        if caller.is_root:
            return None
        if self.connections >= self._most:
            return ResourceExhausted(f"{self._most} connections are open, and no more are taken", limit=self._most)
        if self._of_uid[caller.uid] >= self._most_of_a_uid:
            most = self._most_of_a_uid
            return ResourceExhausted(f"uid {caller.uid} has {most} connections open, and no more are taken", limit=most)
        return None


async def _turn_away(stream: trio.SocketStream, error: SupervisorError) -> None:
    notification = Notification(PROTOCOL_ERROR_NOTIFICATION, [Failure.from_error(error).to_map()])
    with trio.move_on_after(1):
        try:
            await stream.send_all(codec.encode(notification, max_bytes=SERVER.max_frame_out_bytes))
        except trio.BrokenResourceError:
            get_logger().debug("connection.gone_before_refusal")
    await trio.aclose_forcefully(stream)
