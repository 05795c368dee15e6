"""What is said on fd 3 during one life: handshake, health, shutdown, and whatever the worker asks and tells."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

import trio

from supervisor.channel import Channel
from supervisor.core.errors import RemoteProtocolError, SupervisorError
from supervisor.core.plugin import Plugin
from supervisor.report import report_failure
from supervisor.wire.limits import WORKER
from supervisor.wire.message import Notification, Request
from supervisor.wire.worker import SHUTDOWN, Log, RunProgress
from supervisor.worker.crash import Crash, Reason
from supervisor.worker.discretion import Discretion
from supervisor.worker.handshake import shake_hands
from supervisor.worker.health import Unwell, wait_unwell
from supervisor.worker.host import Host, serve_worker
from supervisor.worker.kernel_queue import is_read
from supervisor.worker.link import WorkerLink

_HUNG_UP: Final = Crash(Reason.HUNG_UP, "closed its RPC connection")
_MESSAGE_CHARACTERS: Final = 10_000

_Said = TypeVar("_Said", Request, Notification)


class Conversation:
    """`run` it in the nursery `life`, where the tasks that the host starts for the worker live too."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        plugin: Plugin,
        host: Host,
        life: trio.Nursery,
        *,
        data_dir: str,
        discretion: Discretion,
        on_log: Callable[[Notification], None],
        note: Callable[[str], None],
    ) -> None:
        self._stream = stream
        self._plugin = plugin
        self._host = host
        self._data_dir = data_dir
        self._discretion = discretion
        self._on_log = on_log
        self._note = note
        self._over = trio.Event()
        self.violation: Crash | None = None
        """How the worker broke the protocol, if it did."""
        self.channel: Final = Channel(
            stream,
            WORKER,
            on_request=lambda request: serve_worker(host, plugin, self._shown(request), link),
            on_notification=self._on_notification,
            on_unexpected=self._on_unexpected,
        )
        link = WorkerLink(plugin, self.channel, life, discretion)

    @property
    def can_be_asked(self) -> bool:
        return not (self._over.is_set() or self.channel.broken)

    async def run(self, pid: int) -> None:
        """Until the worker hangs up or breaks the protocol."""
        try:
            await self.channel.run()
        except RemoteProtocolError as error:
            self.violation = Crash(Reason.PROTOCOL_VIOLATION, f"broke the RPC protocol: {error.message}")
        except SupervisorError:
            pass  # The connection broke, which is one way of hanging up.
        self._over.set()

    async def come_up(self) -> Crash | None:
        """Return None when hands are shaken, else what was wrong."""
        return await shake_hands(self.channel, self._plugin, self._host, self._discretion, data_dir=self._data_dir)

    async def wait_unwell(self) -> Unwell:
        """Return when it has failed its health checks."""
        return await wait_unwell(
            self.channel, self._plugin.manifest.worker.health, self._note, partial(is_read, self._stream)
        )

    async def wait_over(self) -> Crash:
        """Return why nothing more will be said."""
        await self._over.wait()
        return self.violation or _HUNG_UP

    async def hear_out(self) -> None:
        """The process has been reaped: return when all that it sent before has been handled."""
        if isinstance(self._stream, trio.SocketStream):
            # Who has inherited its end cannot add to what stands in the socket, nor keep it from ending.
            self._stream.socket.shutdown(socket.SHUT_RD)
        await self._over.wait()

    async def ask_to_end(self) -> bool:
        """Tell it to drain. The answer is of no interest: it is the exit that is waited for, refused or not."""
        drain_s = self._plugin.manifest.worker.stop_timeout_s
        try:
            await self.channel.call(SHUTDOWN, [{"drain_s": drain_s}], timeout_s=None)
        except SupervisorError as error:
            why = self._discretion.beginning(error.message, _MESSAGE_CHARACTERS)
            self._note(f"shutdown was not accepted: {error.code}: {why}")
        return True

    def _on_notification(self, notification: Notification) -> None:
        if notification.method == Log.METHOD:
            self._on_log(notification)
        else:
            self._host.told(self._plugin, self._shown(notification))

    def _shown(self, said: _Said) -> _Said:
        """A run's progress is for people to read. What a worker stores, emits and measures is its own data."""
        return said._replace(params=self._discretion.hide(said.params)) if said.method == RunProgress.METHOD else said

    def _on_unexpected(self, request: Request, error: Exception) -> str:
        return report_failure("worker.request_failed", error, plugin=self._plugin.key, method=request.method)
