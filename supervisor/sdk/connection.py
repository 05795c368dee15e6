"""wire.Peer on a file descriptor, shared by threads: one reads, all may ask, tell and answer.

The reader never waits for room to write: two ends that both write and do not read would wait for each other for ever.
What it cannot write at once stays in the outbox until there is room. Other threads wait: that is their back-pressure.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from typing import Any, Final, Protocol

from supervisor.core.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    LocalProtocolError,
    ResourceExhausted,
    SupervisorError,
    Unavailable,
)
from supervisor.wire.limits import Limits
from supervisor.wire.message import Failure, Notification, Request, Response
from supervisor.wire.peer import Cancelled, Peer, PeerEvent, Refused

_READ_BYTES: Final = 64 * 1024


class Served(Protocol):
    """Who answers the peer. All are called in the reading thread and must not wait."""

    def accept(self, request: Request) -> None: ...

    def notified(self, notification: Notification) -> None: ...

    def cancelled(self, id_: int) -> None: ...

    def woken(self, data: bytes) -> None:
        """`data` was written to `wake_fd`: numbers of signals, if that is the process's wake-up descriptor."""


class Connection:
    """Takes over `fd`, a stream socket. `serve` it in one thread."""

    def __init__(self, fd: int, limits: Limits) -> None:
        self._fd = fd
        os.set_blocking(fd, False)
        self._peer = Peer(limits)
        self._lock = threading.Lock()
        """Guards the peer and the calls; never held while anything waits."""
        self._turn = threading.Lock()
        """Whoever holds it writes."""
        self._outbox: deque[memoryview] = deque()
        self._waiting: dict[int, _Waiter] = {}
        self._lost: Unavailable | None = None
        self._stopped = False
        self._reader: int | None = None
        self._wake_r, self.wake_fd = os.pipe()
        os.set_blocking(self._wake_r, False)
        os.set_blocking(self.wake_fd, False)

    def serve(self, served: Served) -> bool:
        """Read until `stop` (True) or until the peer has gone (False); calls in flight fail then.

        Raises:
            RemoteProtocolError: the peer broke the protocol.
        """
        self._reader = threading.get_ident()
        try:
            return self._serve(served)
        finally:
            self._lose(Unavailable("the connection is closed"))

    def stop(self) -> None:
        """Let `serve` end. From any thread."""
        # In one step as `close` sees it: who reads may notice the first, end, and close what the second writes to.
        with self._lock:
            self._stopped = True
            if self.wake_fd >= 0:
                self._wake()

    def flush_last(self, timeout_s: float = 1.0) -> None:
        """Write what is left after a `stop`, for so long at most; `serve` has ended.

        When the peer has hung up or broken the protocol nothing is written: nobody would read it.
        """
        if not self._stopped:
            return
        room = select.poll()
        room.register(self._fd, select.POLLOUT)
        deadline = time.monotonic() + timeout_s
        while self._outbox and (left := deadline - time.monotonic()) > 0:
            room.poll(left * 1000)
            self._flush(wait=False)

    def close(self) -> None:
        """Close the descriptors; nobody may use the connection any more."""
        with self._lock:
            fds = self._fd, self._wake_r, self.wake_fd
            # A thread that comes too late must not write to a number that is somebody else's by then.
            self._fd = self._wake_r = self.wake_fd = -1
        for fd in fds:
            os.close(fd)

    def call(self, method: str, params: list[Any], timeout_s: float | None = 30.0) -> Any:
        """Ask the peer and wait for its answer.

        Raises:
            DeadlineExceeded: none came within `timeout_s` seconds; the peer is told that nobody waits.
            Unavailable: the connection is gone.
            SupervisorError: what the peer answered.
        """
        if threading.get_ident() == self._reader:
            raise FailedPrecondition(f"{method} cannot be asked in the thread that reads the answers")
        waiter = _Waiter()
        with self._lock:
            self._must_be_up()
            id_, frame = self._peer.request(method, params)
            self._waiting[id_] = waiter
            self._outbox.append(memoryview(frame))
        self._flush(wait=True)
        if not waiter.done.wait(timeout_s) and self._give_up(id_):
            raise DeadlineExceeded(f"{method} was not answered within {timeout_s:g} s", method=method)
        if isinstance(waiter.outcome, SupervisorError):
            waiter.outcome.origin = method
            raise waiter.outcome
        return waiter.outcome

    def notify(self, method: str, params: list[Any]) -> None:
        """Tell the peer; waits while it is slow to read.

        Raises:
            Unavailable: the connection is gone.
            LocalProtocolError: the params cannot be sent.
        """
        with self._lock:
            self._must_be_up()
            self._outbox.append(memoryview(self._peer.notify(method, params)))
        self._flush(wait=True)

    def respond(self, id_: int, result: Any) -> None:
        """Answer a request. A result that cannot be sent becomes an error that says so."""
        with self._lock:
            try:
                frame = self._peer.respond(id_, result)
            except LocalProtocolError as error:
                frame = self._peer.fail(id_, _unsendable(error))
            self._outbox.append(memoryview(frame))
        self._flush(wait=True)

    def fail(self, id_: int, error: SupervisorError) -> None:
        """Answer a request with an error."""
        with self._lock:
            self._outbox.append(memoryview(self._peer.fail(id_, Failure.from_error(error))))
        self._flush(wait=True)

    def _serve(self, served: Served) -> bool:
        poll = select.poll()
        poll.register(self._wake_r, select.POLLIN)
        while not self._stopped:
            self._flush(wait=False)
            poll.register(self._fd, select.POLLIN | (select.POLLOUT if self._outbox else 0))
            ready = dict(poll.poll())
            if self._wake_r in ready:
                served.woken(os.read(self._wake_r, 4096))
            if ready.get(self._fd, 0) & ~select.POLLOUT and not self._receive(served):
                return False
        return True

    def _receive(self, served: Served) -> bool:
        try:
            data = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not data:
            return False
        with self._lock:
            self._peer.receive(data)
            events = list(self._peer.events())
        for event in events:
            self._handle(event, served)
        return True

    def _handle(self, event: PeerEvent, served: Served) -> None:
        match event:
            case Request():
                served.accept(event)
            case Response(id_, failure, result):
                with self._lock:
                    waiter = self._waiting.pop(id_, None)
                if waiter:
                    waiter.resolve(result if failure is None else failure.to_error())
            case Notification():
                served.notified(event)
            case Cancelled(id_):
                served.cancelled(id_)
            case Refused(_, reply):
                self._outbox.append(memoryview(reply))

    def _must_be_up(self) -> None:
        if self._lost is not None:
            raise Unavailable(self._lost.message)

    def _give_up(self, id_: int) -> bool:
        with self._lock:
            if self._waiting.pop(id_, None) is None:
                return False
            self._outbox.append(memoryview(self._peer.cancel(id_)))
        self._flush(wait=True)
        return True

    def _lose(self, error: Unavailable) -> None:
        with self._lock:
            self._lost = self._lost or error
            waiting, self._waiting = self._waiting, {}
        for waiter in waiting.values():
            waiter.resolve(Unavailable(error.message))

    def _wake(self) -> None:
        try:
            os.write(self.wake_fd, b"\0")
        except BlockingIOError:
            return  # The pipe is full: the reader will wake anyway.

    def _flush(self, *, wait: bool) -> None:
        if threading.get_ident() == self._reader:
            wait = False
        # Again after giving up the turn: what another thread has added meanwhile may have found it taken.
        while self._outbox and self._turn.acquire(blocking=wait):
            try:
                if not self._write_out(wait=wait):
                    return
            finally:
                self._turn.release()

    def _write_out(self, *, wait: bool) -> bool:
        while self._outbox:
            view = self._outbox[0]
            try:
                written = os.write(self._fd, view)
            except BlockingIOError:
                if not wait:
                    return False
                room = select.poll()
                room.register(self._fd, select.POLLOUT)
                room.poll()
                continue
            except OSError as error:
                self._outbox.clear()
                self._lose(Unavailable(f"the connection broke: {error}"))
                return False
            if written == len(view):
                self._outbox.popleft()
            else:
                self._outbox[0] = view[written:]
        return True


class _Waiter:
    __slots__ = ("done", "outcome")

    def __init__(self) -> None:
        self.done = threading.Event()
        self.outcome: Any = None

    def resolve(self, outcome: Any) -> None:
        self.outcome = outcome
        self.done.set()


def _unsendable(error: LocalProtocolError) -> Failure:
    name = ResourceExhausted.code if "max_frame_bytes" in error.details else "PLUGIN_ERROR"
    return Failure(name, f"the result cannot be sent: {error.message}", error.details)
