"""Pool: a blocking client's connections, one for each call that is under way, at most eight. For any threads."""

from __future__ import annotations

import time
from _queue import Empty, SimpleQueue  # what queue.SimpleQueue is; queue and threading take longer to import
from _thread import allocate_lock  # what threading.Lock is
from collections.abc import Iterator
from contextlib import contextmanager

from client import protocol
from client.calling import Call, Contact
from client.errors import DeadlineExceeded
from client.link import Link, open_link

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from typing import Any

    from client.link import OnProgress

MOST = 8
"""Connections; a thread that would need one more waits for one of them."""


class Pool:
    """Connections are made when they are needed, and kept for the next call."""

    def __init__(self, path: str, name: str) -> None:
        self.contact = Contact()
        self._path = path
        self._name = name
        self._places: SimpleQueue[None] = SimpleQueue()
        """One for each connection that may still be used."""
        for _ in range(MOST):
            self._places.put(None)
        self._lock = allocate_lock()
        self._idle: list[Link] = []
        """Used latest, last; replaced when all are closed."""

    def ask(self, call: Call, on_progress: OnProgress | None) -> Any:
        """Ask once and wait for the answer.

        Raises:
            SupervisorError: what the daemon answered, or why no answer came.
        """
        with self._link(call.method, call.deadline) as link:
            if call.method in protocol.OPERATIONS:
                return link.operate(call.method, call.message(), call.deadline, on_progress)
            return link.call(call.method, call.message(), call.deadline)

    def hello(self, deadline: float | None) -> Any:
        """The daemon's answer to a connection's hello."""
        with self._link("rpc.hello", deadline) as link:
            return link.hello

    def close(self) -> None:
        """Close the connections that are idle now, and those that are in use when their calls have ended."""
        with self._lock:
            idle, self._idle = self._idle, []
        for link in idle:
            link.close()

    @contextmanager
    def _link(self, method: str, deadline: float | None) -> Iterator[Link]:
        self._take_place(method, deadline)
        try:
            home = self._idle
            link = self._idle_link() or self._open(deadline)
            try:
                yield link
            finally:
                self._put_away(link, home)
        finally:
            self._places.put(None)

    def _take_place(self, method: str, deadline: float | None) -> None:
        try:
            self._places.get(timeout=None if deadline is None else max(0.0, deadline - time.monotonic()))
        except Empty:
            raise DeadlineExceeded(
                f"{method} was not asked in time: all {MOST} connections of this client were in use by other threads",
                method=method,
            ) from None

    def _idle_link(self) -> Link | None:
        while True:
            with self._lock:
                if not self._idle:
                    return None
                link = self._idle.pop()
            if link.alive():
                return link
            # Found out before anything was sent, so even a change may go over another one.
            link.close()
            self.contact.lost(time.monotonic())

    def _open(self, deadline: float | None) -> Link:
        link = open_link(self._path, self._name, deadline)
        self.contact.made()
        return link

    def _put_away(self, link: Link, home: list[Link]) -> None:
        # An error that the daemon answered leaves the link whole; anything else, Ctrl-C too, leaves it in doubt.
        if not link.answered:
            link.close()
            self.contact.lost(time.monotonic())
            return
        with self._lock:
            keep = home is self._idle
            if keep:
                home.append(link)
        if not keep:
            link.close()
