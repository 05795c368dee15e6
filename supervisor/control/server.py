"""Listen, accept, shed; a connection each for those that are let in."""

from __future__ import annotations

import errno
import os
import resource
import socket
import time
from dataclasses import dataclass
from typing import Final

import trio

from supervisor.control.access import Caller, Gate
from supervisor.control.connection import Connection
from supervisor.control.pace import Pace
from supervisor.control.peers import uid_of
from supervisor.control.reserve import Reserve
from supervisor.control.room import Caps, Room
from supervisor.control.service import Service
from supervisor.core.errors import ResourceExhausted, SupervisorError
from supervisor.log import get_logger
from supervisor.report import report_failure
from supervisor.wire import codec
from supervisor.wire.budget import Budget, Share
from supervisor.wire.control import PROTOCOL_ERROR_NOTIFICATION, Role
from supervisor.wire.limits import MIB, SERVER
from supervisor.wire.message import Failure, Notification

_TOO_MANY_FILES: Final = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}
_BREATHER_S: Final = 0.1
_RESERVED: Final = 8
"""Descriptors: for some connections, and two to see who each is."""
_TURN_S: Final = 0.005
"""For so long others are turned away, as fast as they come, before all who are inside have their turn."""
_IN_VAIN_S: Final = 0.001
"""What one costs who leaves without having said anything, beside the look at who it is."""
_MOST_HELD: Final = 256 * MIB
"""For all who are no admins: unfinished frames, unanswered requests, unread answers."""
_MOST_HELD_OF_A_UID: Final = 64 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStatistics:
    connections: int
    shed: int
    """Closed so that others could come in, since the start."""
    refused: dict[str, int]
    """Turned away since the start: by the limit (`uid`, `total`, `rate`, `descriptors`), or `identity`."""
    held_bytes: int
    """What clients who are no admins make us hold now."""


class ControlServer:
    """At most so many connections in all and of one uid (see `Room`); an admin always gets in."""

    def __init__(self, listener: socket.socket, service: Service, gate: Gate, caps: Caps | None = None) -> None:
        self._listener = listener
        listener.setblocking(False)
        self._gate = gate
        self._service = service
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._masters = frozenset({0, os.geteuid()})
        self._room = Room((caps or Caps()).within(descriptors), self._masters, _is_admin)
        self._budget = Budget(_MOST_HELD, _MOST_HELD_OF_A_UID)
        self._pace = Pace()
        self._reserve = Reserve(_RESERVED)
        self._connections: dict[Connection, Share] = {}
        self._short_of_files = False

    @property
    def connections(self) -> int:
        return len(self._room)

    def look_again(self) -> None:
        """The rules have changed."""
        for connection, share in list(self._connections.items()):
            connection.look_again()
            share.count_in(self._budget_of(connection.caller))
            self._room.look_again(connection)

    def statistics(self) -> ServerStatistics:
        return ServerStatistics(
            connections=len(self._room),
            shed=self._room.shed,
            refused=dict(self._room.refused),
            held_bytes=self._budget.held_bytes,
        )

    async def run(self, work: trio.Nursery, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Accept until cancelled. Connections live in `work`: when no more are taken they answer and end."""
        task_status.started()
        try:
            with self._reserve:
                while True:
                    if connection := await self._accept():
                        work.start_soon(self._serve, connection)
        finally:
            self._service.detached.drain()
            for connection in self._connections:
                connection.drain()

    async def run_while_stopping(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled, let who asks now see what is going on; changes and long waits are refused."""
        with self._reserve:
            async with trio.open_nursery() as nursery:
                task_status.started()
                while True:
                    if connection := await self._accept(only_looking=True):
                        nursery.start_soon(self._serve, connection)

    async def _accept(self, *, only_looking: bool = False) -> Connection | None:
        """The next one that is let in. None: there was none among those that could be looked at in one turn."""
        # First: accept() fails for want of a descriptor though nobody waits, and the reserve would be spent on nobody.
        await trio.lowlevel.wait_readable(self._listener.fileno())
        until = time.perf_counter() + _TURN_S
        while time.perf_counter() < until:
            try:
                sock, _ = self._listener.accept()
            except OSError as error:
                # Otherwise nobody is left, or the client went away between connect and accept.
                if error.errno in _TOO_MANY_FILES:
                    await self._do_without_files(error)
                return None
            if connection := self._let_in(sock, only_looking):
                return connection
        return None

    def _let_in(self, sock: socket.socket, only_looking: bool) -> Connection | None:
        """It counts from now on. None for one that may not come in."""
        try:
            uid = uid_of(sock)
            if uid not in self._masters and self._pace.is_over(uid):
                # Thousands a second may come, and an admin behind them: what can be left out is not done for them.
                self._room.refused["rate"] += 1
                self._restock()
                _hang_up(sock, _TOO_OFTEN)
                return None
            began = time.thread_time()
            try:
                return self._received(sock, uid, only_looking)
            finally:
                self._pace.take(uid, time.thread_time() - began)
        except Exception as error:  # noqa: BLE001  who cannot be told from others is not let in, and keeps nobody out
            report_failure("connection.not_identified", error)
            sock.close()
            return None

    def _received(self, sock: socket.socket, uid: int, only_looking: bool) -> Connection | None:
        try:
            caller = self._admit(sock, uid)
        except SupervisorError as error:
            # At once, without a task: there may be thousands, and others behind them.
            _hang_up(sock, _last_words(error))
            return None
        share = Share(self._budget_of(caller), caller.uid)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        connection = Connection(stream, caller, self._service, share=share, only_looking=only_looking)
        self._room.enter(connection)
        self._connections[connection] = share
        return connection

    async def _do_without_files(self, error: OSError) -> None:
        if not self._short_of_files:
            # Once, or who keeps asking would fill the log.
            get_logger().error("connection.not_accepted", why=os.strerror(error.errno or 0))
        self._short_of_files = True
        if not self._reserve.spend():
            await trio.sleep(_BREATHER_S)

    async def _serve(self, connection: Connection) -> None:
        try:
            await connection.run()
        except Exception as error:  # noqa: BLE001  one client's trouble must not end the others'
            caller = connection.caller
            report_failure("connection.failed", error, uid=caller.uid, pid=caller.pid)
        finally:
            self._connections.pop(connection, None)
            self._room.leave(connection)
            if not connection.understood:
                self._pace.take(connection.caller.uid, _IN_VAIN_S)

    def _identify(self, sock: socket.socket) -> Caller:
        try:
            return self._gate.identify(sock)
        except ResourceExhausted:
            # The connection itself had the last descriptor.
            if not self._reserve.spend():
                raise
            return self._gate.identify(sock)

    def _admit(self, sock: socket.socket, uid: int) -> Caller:
        """Who it is.

        Raises:
            SupervisorError: he is not let in, and this is what to tell him.
        """
        if refusal := self._room.refusal_of(uid):
            # Whoever of this uid it is: to find that out is the dearest part.
            self._restock()
            raise refusal
        try:
            caller = self._identify(sock)
        except SupervisorError:
            self._room.refused["identity"] += 1
            raise
        finally:
            self._restock()
        if self._reserve.missing and caller.uid not in self._masters:
            # It came in by the last descriptors, which are for who can do something about it.
            self._room.refused["descriptors"] += 1
            raise ResourceExhausted("the daemon has no file descriptor left: ask again later")
        if refusal := self._room.make(caller):
            raise refusal
        return caller

    def _restock(self) -> None:
        self._reserve.restore()
        self._short_of_files = self._reserve.missing

    def _budget_of(self, caller: Caller) -> Budget | None:
        return None if _is_admin(caller) else self._budget


def _is_admin(caller: Caller) -> bool:
    return caller.role is Role.ADMIN


def _last_words(error: SupervisorError) -> bytes:
    notification = Notification(PROTOCOL_ERROR_NOTIFICATION, [Failure.from_error(error).to_map()])
    return codec.encode(notification, max_bytes=SERVER.max_frame_out_bytes)


_TOO_OFTEN: Final = _last_words(
    ResourceExhausted("your user connects too often: keep a connection open, or ask again later")
)


def _hang_up(sock: socket.socket, last_words: bytes) -> None:
    """Tell him why, as far as his socket takes it."""
    try:
        sock.send(last_words, socket.MSG_DONTWAIT)
    except OSError as gone:
        get_logger().debug("connection.gone_before_refusal", why=str(gone))
    sock.close()
