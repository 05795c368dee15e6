"""wire.Peer on a file descriptor, shared by threads: one reads, all may ask, tell and answer.

The reader never waits for room to write: two ends that both write and do not read would wait for each other for ever.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from typing import Any, Final, Protocol

from supervisor.core.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    LocalProtocolError,
    ResourceExhausted,
    SupervisorError,
    Unavailable,
)
from supervisor.sdk.work import described
from supervisor.sdk.writer import Writer
from supervisor.wire.limits import Limits
from supervisor.wire.message import Failure, Notification, Request, Response
from supervisor.wire.peer import Cancelled, Peer, PeerEvent, Refused

_READ_BYTES: Final = 64 * 1024
OnDone = Callable[[Any], None]
"""Takes an answer, or the SupervisorError instead of one. Called in any thread; must not wait."""


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
        """Guards the peer, the calls and the order of what is sent; never held while anything waits."""
        self._asked: dict[int, OnDone] = {}
        self._lost: Unavailable | None = None
        self._stopped = False
        self._reader: int | None = None
        self._wake_r, self.wake_fd = os.pipe()
        os.set_blocking(self._wake_r, False)
        os.set_blocking(self.wake_fd, False)
        self._writer = Writer(fd, wake=self._wake, lost=self._cannot_write)

    @property
    def is_up(self) -> bool:
        """Whether the peer may still be reached."""
        return self._lost is None

    def serve(self, served: Served) -> bool:
        """Read until `stop` (True) or until the peer has gone (False); calls in flight fail then.

        Raises:
            RemoteProtocolError: the peer broke the protocol.
        """
        self._reader = threading.get_ident()
        self.never_wait()
        try:
            return self._serve(served)
        finally:
            self._lose(Unavailable("the connection is closed"))

    def never_wait(self) -> None:
        """From now on this thread does not wait for room to write."""
        self._writer.never_wait()

    def stop(self) -> None:
        """Let `serve` end. From any thread."""
        self._stopped = True
        self._wake()

    def flush_last(self, timeout_s: float = 1.0) -> None:
        """Write what is left after a `stop`, for so long at most; `serve` has ended.

        When the peer has hung up or broken the protocol nothing is written: nobody would read it.
        """
        if self._stopped:
            self._writer.flush_for(timeout_s)

    def close(self) -> None:
        """Close the descriptors; nobody may use the connection any more."""
        with self._lock:
            fds = self._fd, self._wake_r, self.wake_fd
            # A thread that comes too late must not write to a number that is somebody else's by then.
            self._fd = self._wake_r = self.wake_fd = -1
        self._writer.close()
        for fd in fds:
            os.close(fd)

    def forked(self) -> None:
        """In a forked child, before anything else: it has no part in the connection. Takes no lock."""
        # Whoever held the old locks is a thread of the parent, and never gives them back here.
        self._lock = threading.Lock()
        self._lost = Unavailable("this is a forked child: ask in the worker itself")
        self._asked = {}
        self._writer = Writer(-1, wake=self._wake, lost=self._cannot_write)
        self._writer.end()
        fds = self._fd, self._wake_r, self.wake_fd
        self._fd = self._wake_r = self.wake_fd = -1
        for fd in fds:
            os.close(fd)

    def ask(self, method: str, params: list[Any], on_done: OnDone) -> int:
        """Ask the peer; `on_done` gets the answer, once, unless the request is given up. Returns the request's id.

        Raises:
            Unavailable: the connection is gone.
            ResourceExhausted: too many requests are unanswered.
            LocalProtocolError: the params cannot be sent.
        """
        with self._lock:
            self._must_be_up()
            id_, frame = self._peer.request(method, params)
            self._asked[id_] = on_done
            self._writer.put(frame)
        self._writer.flush()
        return id_

    def give_up(self, id_: int) -> bool:
        """Tell the peer that nobody waits for the answer; False if it has come, and `on_done` is or will be called."""
        with self._lock:
            if self._asked.pop(id_, None) is None:
                return False
            self._writer.put(self._peer.cancel(id_))
        self._writer.flush()
        return True

    def call(
        self, method: str, params: list[Any], timeout_s: float | None = 30.0, *, seen: OnDone | None = None
    ) -> Any:
        """Ask the peer and wait for its answer; `seen` gets it before anything else that the peer says is handled.

        Raises:
            DeadlineExceeded: none came within `timeout_s` seconds; the peer is told that nobody waits.
            Unavailable: the connection is gone.
            SupervisorError: what the peer answered.
        """
        if threading.get_ident() == self._reader:
            raise FailedPrecondition(f"{method} cannot be asked in the thread that reads the answers")
        done = threading.Event()
        outcome: list[Any] = []

        def settle(value: Any) -> None:
            outcome.append(value)
            if seen is not None and not isinstance(value, SupervisorError):
                seen(value)
            done.set()

        id_ = self.ask(method, params, settle)
        if not done.wait(timeout_s):
            if self.give_up(id_):
                raise DeadlineExceeded(f"{method} was not answered within {timeout_s:g} s", method=method)
            done.wait()
        return answer(method, outcome[0])

    def notify(self, method: str, params: list[Any]) -> bool:
        """Tell the peer; waits while it is slow to read. In a thread that must not wait: False, and it was not told.

        Raises:
            Unavailable: the connection is gone.
            LocalProtocolError: the params cannot be sent.
        """
        with self._lock:
            self._must_be_up()
            frame = self._peer.notify(method, params)
            if not self._writer.has_room and not self._writer.may_wait:
                return False
            self._writer.put(frame)
        self._writer.flush()
        return True

    def when_room(self, call: Callable[[], None]) -> None:
        """Call it once there is room to write, or the connection is gone; in any thread, so it must not wait."""
        self._writer.when_room(call)

    def respond(self, id_: int, result: Any) -> None:
        """Answer a request. A result that cannot be sent becomes an error that says so."""
        with self._lock:
            try:
                frame = self._peer.respond(id_, result)
            except LocalProtocolError as error:
                frame = self._peer.fail(id_, _unsendable(error))
            except Exception as error:  # noqa: BLE001  a class of the author's whose own code fails while it is packed
                failure = Failure("PLUGIN_ERROR", f"the result cannot be sent: {described(error)}")
                frame = self._peer.fail(id_, failure)
            self._writer.put(frame)
        self._writer.flush()

    def fail(self, id_: int, error: SupervisorError) -> None:
        """Answer a request with an error."""
        with self._lock:
            self._writer.put(self._peer.fail(id_, Failure.from_error(error)))
        self._writer.flush()

    def _serve(self, served: Served) -> bool:
        poll = select.poll()
        poll.register(self._wake_r, select.POLLIN)
        while not self._stopped:
            self._writer.flush_nowait()
            poll.register(self._fd, select.POLLIN | (select.POLLOUT if self._writer.pending else 0))
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
                    on_done = self._asked.pop(id_, None)
                if on_done:
                    on_done(result if failure is None else failure.to_error())
            case Notification():
                served.notified(event)
            case Cancelled(id_):
                served.cancelled(id_)
            case Refused(_, reply):
                with self._lock:
                    self._writer.put(reply)

    def _must_be_up(self) -> None:
        if self._lost is not None:
            raise Unavailable(self._lost.message)

    def _cannot_write(self, error: OSError) -> None:
        self._lose(Unavailable(f"the connection broke: {error}"))

    def _lose(self, error: Unavailable) -> None:
        with self._lock:
            self._lost = self._lost or error
            asked, self._asked = self._asked, {}
        self._writer.end()
        for on_done in asked.values():
            on_done(Unavailable(error.message))

    def _wake(self) -> None:
        # Under the lock, as `close` is: a number that was closed meanwhile would be somebody else's.
        with self._lock:
            if self.wake_fd < 0:
                return
            try:
                os.write(self.wake_fd, b"\0")
            except BlockingIOError:
                return  # The pipe is full: the reader will wake anyway.


def answer(method: str, outcome: Any) -> Any:
    """What `on_done` got, returned or raised.

    Raises:
        SupervisorError: with `origin` set if it is the peer's answer.
    """
    if isinstance(outcome, SupervisorError):
        outcome.origin = method
        raise outcome
    return outcome


def _unsendable(error: LocalProtocolError) -> Failure:
    name = ResourceExhausted.code if "max_frame_bytes" in error.details else "PLUGIN_ERROR"
    return Failure(name, f"the result cannot be sent: {error.message}", error.details)
