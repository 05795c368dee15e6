"""One blocking connection to the daemon: a socket and its frames. Not thread-safe.

Deadlines are instants of `time.monotonic()`, in seconds; None is no deadline.
"""

from __future__ import annotations

import socket
import time
from collections import deque
from typing import Any

from client import protocol
from client.errors import DeadlineExceeded, SupervisorError, cannot_connect, connection_lost
from client.frames import Answer, Frames, Said, to_error

_READ_BYTES = 64 * 1024
_BUSY_RETRY_S = 0.01


def dial(path: str) -> socket.socket:
    """A connected socket that does not block.

    Raises:
        BlockingIOError: the daemon has too many connections to accept; try again.
        SupervisorError: cannot connect.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.connect(path)
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
            sock = dial(path)
            break
        except BlockingIOError:
            _seconds_left(deadline, f"a connection to {path}")
            time.sleep(_BUSY_RETRY_S)
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
        self._frames = Frames()
        self._answers: dict[int, Answer] = {}
        self._last_words: SupervisorError | None = None
        self.notifications: deque[Said] = deque()
        self.answered = False
        """Whether the last call was answered, if only with an error: then the link may be used again."""
        self.hello: Any = None
        """The daemon's answer to hello."""

    def close(self) -> None:
        """Also wakes a thread that reads here."""
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # not connected any more: the same end
        self._sock.close()

    def alive(self) -> bool:
        """Whether the daemon still holds its end, as far as can be told without asking."""
        try:
            self._sock.settimeout(0)  # with any other, Python itself waits before it asks the kernel
            return self._sock.recv(1, socket.MSG_PEEK) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False

    def call(self, method: str, params: list[Any], deadline: float | None) -> Any:
        """Ask and wait for the answer; after `DeadlineExceeded` or `ConnectionLost` close the link.

        Raises:
            SupervisorError: what the daemon answered, or why no answer came.
        """
        self.answered = False
        id_, frame = self._frames.request(method, params)
        self._send(frame, method, deadline)
        while id_ not in self._answers:
            self.read(method, deadline)
        answer = self._answers.pop(id_)
        self.answered = True
        if answer.error is not None:
            raise answer.error
        return answer.result

    def read(self, method: str, deadline: float | None) -> None:
        """Wait for bytes and sort what they say; `method` is what errors say was waited for."""
        try:
            self._sock.settimeout(_seconds_left(deadline, method))
            data = self._sock.recv(_READ_BYTES)
        except TimeoutError:
            raise _too_late(method) from None
        except OSError:
            data = b""
        if not data:
            raise self._ending(method)
        for message in self._frames.receive(data):
            if isinstance(message, Answer):
                self._answers[message.id] = message
            elif isinstance(message, Said):
                self._note(message)
            else:
                self._send(message.reply, method, deadline)

    def _note(self, said: Said) -> None:
        if said.method == "rpc.error" and said.params:
            self._last_words = to_error(said.params[0])
        else:
            self.notifications.append(said)

    def _send(self, frame: bytes, method: str, deadline: float | None) -> None:
        try:
            self._sock.settimeout(_seconds_left(deadline, method))
            self._sock.sendall(frame)
        except TimeoutError:
            raise _too_late(method) from None
        except OSError:
            raise self._ending(method) from None

    def _ending(self, method: str) -> SupervisorError:
        return self._last_words or connection_lost(self._path, method, repeatable=method in protocol.READS)


def _seconds_left(deadline: float | None, method: str) -> float | None:
    if deadline is None:
        return None
    left = deadline - time.monotonic()
    if left <= 0:
        raise _too_late(method)
    return left


def _too_late(method: str) -> DeadlineExceeded:
    return DeadlineExceeded(f"{method} was not answered in time", method=method)
