"""One blocking connection to the daemon: a socket and its frames. Not thread-safe.

Deadlines are instants of `time.monotonic()`, in seconds; None is no deadline.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections import deque
from collections.abc import Callable

from client import protocol
from client.errors import (
    DeadlineExceeded,
    Interrupted,
    LocalProtocolError,
    NotFound,
    SupervisorError,
    cannot_connect,
    connection_lost,
)
from client.frames import Answer, Frames, Said, to_error

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from typing import Any

    OnProgress = Callable[[Any], object]
    """Called with each `supervisor.wire.results.OperationProgress`, as it comes."""

_READ_BYTES = 64 * 1024
QUEUE_S = 0.1


def dial(path: str, queue_s: float = 0.0) -> socket.socket:
    """A connected socket that does not block.

    `queue_s`: seconds to wait at most in the kernel's queue while the daemon has too many to accept. Who comes back
    instead may find it full for ever, where others connect as fast as they can.

    Raises:
        BlockingIOError: the daemon has too many connections to accept; try again.
        SupervisorError: cannot connect.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(queue_s > 0)
        # Unlike a timeout of Python's, which does not block, and so does not wait.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 0, int(queue_s * 1e6)))
        sock.connect(path)
        sock.setblocking(False)
    except BlockingIOError:
        sock.close()
        raise
    except OSError as error:
        sock.close()
        raise cannot_connect(error, path) from None
    return sock


def open_link(path: str, name: str, deadline: float | None) -> Link:
    """Connect and say hello."""
    while True:
        try:
            sock = dial(path, QUEUE_S)
            break
        except BlockingIOError:
            _seconds_left(deadline, f"a connection to {path}")
    link = Link(sock, path)
    try:
        link.hello = link.call("rpc.hello", [protocol.hello(name)], deadline)
    except BaseException:
        link.close()
        raise
    return link


class Link:
    def __init__(self, sock: socket.socket, path: str) -> None:
        self._sock = sock
        self._path = path
        self.pid = os.getpid()
        """Of the process that made it: in another one, after a fork, nothing but `close` may be done with it."""
        self._frames = Frames()
        self._answers: dict[int, Answer] = {}
        self._posted: set[int] = set()
        """Requests whose answers nobody waits for."""
        self._taken: list[int] = []
        """Bytes of the latest frame that the kernel has taken, one number a try."""
        self._last_words: SupervisorError | None = None
        self.notifications: deque[Said] = deque()
        self._heard: tuple[int, OnProgress] | None = None
        """The request that tells progress now, and who hears it."""
        self._telling = False
        """He is hearing it just now."""
        self.answered = False
        """Whether the last call was answered, if only with an error: then the link may be used again."""
        self.hello: Any = None
        """The daemon's answer to hello."""

    def close(self) -> None:
        """Also wakes a thread that reads here. After a fork the other process's connection goes on."""
        if self.pid == os.getpid():
            try:
                self._sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # not connected any more: the same end
        self._sock.close()

    def check_process(self) -> None:
        """To be called before anything is read.

        Raises:
            LocalProtocolError: this process is a fork of the one whose connection it is.
        """
        if self.pid != os.getpid():
            raise LocalProtocolError(
                f"this connection belongs to process {self.pid}, of which this one is a fork: make another one here",
                pid=self.pid,
            )

    def alive(self) -> bool:
        """Whether the daemon still holds its end, as far as can be told without asking.

        Between two calls it says nothing but why it closes the connection.
        """
        try:
            self._sock.settimeout(0)  # with any other, Python itself waits before it asks the kernel
            self._sock.recv(1, socket.MSG_PEEK)
            return False
        except BlockingIOError:
            return True
        except OSError:
            return False

    def call(self, method: str, params: list[Any], deadline: float | None) -> Any:
        """Ask and wait for the answer; after `DeadlineExceeded` or `ConnectionLost` close the link.

        Raises:
            SupervisorError: what the daemon answered, or why no answer came.
        """
        id_, frame = self._frames.request(method, params)
        self.answered = False
        self._send(frame, method, deadline)
        return self._answer(id_, method, deadline)

    def post(self, method: str, params: list[Any]) -> None:
        """Ask and wait for nothing; an error in the answer, save NOT_FOUND, is raised by who reads it.

        Raises:
            SupervisorError: the connection has ended, or the daemon reads nothing at all.
        """
        id_, frame = self._frames.request(method, params)
        self._posted.add(id_)
        self._transmit(frame, method, 0.0)

    def operate(self, method: str, params: list[Any], deadline: float | None, on_progress: OnProgress | None) -> Any:
        """As `call`, for what can be cancelled. Left by an exception, such as Ctrl-C or one of `on_progress`, it tells
        the daemon and waits for the one answer, `protocol.CANCEL_WAIT_S` at most.

        Raises:
            Interrupted: Ctrl-C; it says what the daemon answered. A second one is not held up.
        """
        id_, frame = self._frames.request(method, params)
        self.answered, self._taken = False, []
        if on_progress is not None:
            self._heard = (id_, on_progress)
        try:
            self._send(frame, method, deadline)
            self._wait(id_, method, deadline)
        except BaseException as stop:
            if isinstance(stop, SupervisorError) and not self._telling:
                raise  # no answer will come
            # Into half a frame nothing may be said.
            whole = sum(self._taken) == len(frame)
            outcome = self._give_up(id_, method) if whole else Interrupted(self._lost(method))
            if isinstance(stop, KeyboardInterrupt):
                raise outcome from stop
            raise
        finally:
            self._heard, self._telling = None, False
        return self._answer(id_, method, deadline)

    def _give_up(self, id_: int, method: str) -> Interrupted:
        self._heard = None
        deadline = time.monotonic() + protocol.CANCEL_WAIT_S
        try:
            self._send(self._frames.notification(protocol.CANCEL, [id_]), method, deadline)
            self._sort(b"", method, deadline)  # what was read already, and not looked at when it was interrupted
            return Interrupted(None, self._answer(id_, method, deadline))
        except SupervisorError as error:
            return Interrupted(error)

    def _answer(self, id_: int, method: str, deadline: float | None) -> Any:
        self._wait(id_, method, deadline)
        answer = self._answers.pop(id_)
        self.answered = True
        if answer.error is not None:
            raise answer.error
        return answer.result

    def _wait(self, id_: int, method: str, deadline: float | None) -> None:
        while id_ not in self._answers:
            self.read(method, deadline)

    def read(self, method: str, deadline: float | None) -> None:
        """Wait for bytes and sort what they say; `method` is what errors say was waited for."""
        self.check_process()
        try:
            self._sock.settimeout(_seconds_left(deadline, method))
            data = self._sock.recv(_READ_BYTES)
        except TimeoutError:
            raise _too_late(method) from None
        except OSError:
            data = b""
        if not data:
            raise self._ending(method)
        self._sort(data, method, deadline)

    def _sort(self, data: bytes, method: str, deadline: float | None) -> None:
        for message in self._frames.receive(data):
            if isinstance(message, Answer):
                self._receive(message)
            elif isinstance(message, Said):
                self._note(message)
            else:
                self._send(message.reply, method, deadline)

    def _receive(self, answer: Answer) -> None:
        if answer.id not in self._posted:
            self._answers[answer.id] = answer
            return
        self._posted.remove(answer.id)
        if answer.error is not None and not isinstance(answer.error, NotFound):
            raise answer.error

    def _note(self, said: Said) -> None:
        if said.method == "rpc.error" and said.params:
            self._last_words = to_error(said.params[0])
        elif said.method == protocol.PROGRESS:
            self._tell(said.params[0])
        else:
            self.notifications.append(said)

    def _tell(self, progress: Any) -> None:
        if self._heard is not None and progress.get("request") == self._heard[0]:
            self._telling = True
            self._heard[1](progress)
            self._telling = False

    def _send(self, frame: bytes, method: str, deadline: float | None) -> None:
        self._transmit(frame, method, _seconds_left(deadline, method))

    def _transmit(self, frame: bytes, method: str, within_s: float | None) -> None:
        self._taken = taken = list[int]()
        until = None if within_s is None else time.monotonic() + within_s
        try:
            while (at := sum(taken)) < len(frame):
                self._sock.settimeout(within_s if not at or until is None else max(until - time.monotonic(), 0.001))
                # Sent and noted in one call: Ctrl-C comes before or after it, and what the kernel took is known.
                taken.extend(map(self._sock.send, (memoryview(frame)[at:],)))
        except TimeoutError:
            raise _too_late(method) from None
        except OSError:
            self._hear_last_words()
            raise self._ending(method) from None

    def _hear_last_words(self) -> None:
        """What came before the end that was noticed in sending."""
        try:
            self._sock.settimeout(0)
            while data := self._sock.recv(_READ_BYTES):
                for message in self._frames.receive(data):
                    if isinstance(message, Said):
                        self._note(message)
        except OSError:
            return  # there is no more

    def _ending(self, method: str) -> SupervisorError:
        said = self._last_words
        if said is not None and (self.hello is None or not said.retryable):
            return said
        # What had been taken and is closed for want of room is one more lost connection.
        return self._lost(method, None if said is None else said.message)

    def _lost(self, method: str, why: str | None = None) -> SupervisorError:
        return connection_lost(self._path, method, repeatable=method in protocol.READS, said=why)


def _seconds_left(deadline: float | None, method: str) -> float | None:
    if deadline is None:
        return None
    left = deadline - time.monotonic()
    if left <= 0:
        raise _too_late(method)
    return left


def _too_late(method: str) -> DeadlineExceeded:
    return DeadlineExceeded(f"{method} was not answered in time", method=method)
