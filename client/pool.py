"""Pool: a blocking client's connections, one for each call that is under way, at most eight. For any threads.

Ctrl-C, or a signal handler that raises, may leave any line here. So there is no lock that could stay taken and no count
that could stay wrong: what is in use is what a call still holds, and each step that threads share is a single one of
Python's own.
"""

from __future__ import annotations

import os
import time
from _queue import Empty, SimpleQueue  # what queue.SimpleQueue is; queue and threading take longer to import
from _weakref import ref
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
_LOOK_AGAIN_S = 1.0
"""Who waits is told when it is his turn, save by a call that was interrupted just then."""


class Place:
    """In the line of calls, from the beginning of a call to its end; the first eight have a connection."""

    __slots__ = ("__weakref__", "bell")

    def __init__(self) -> None:
        self.bell: SimpleQueue[None] = SimpleQueue()
        """Rung when it may be its turn."""


class Home:
    """One process's connections until they are closed: `idle` are those of no call, used latest, last."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.idle: list[Link] = []
        self._line: list[ref[Place]] = []

    def close(self) -> None:
        """Close the idle ones; whoever puts one back later closes it himself."""
        while self.idle:
            try:
                link = self.idle.pop()
            except IndexError:
                return  # another thread has taken the last one
            link.close()

    def in_line(self) -> list[Place]:
        """Of the calls under way, in the order in which they came."""
        return [place for each in tuple(self._line) if (place := each()) is not None]

    @contextmanager
    def place(self, method: str, deadline: float | None) -> Iterator[None]:
        place = Place()
        mine = ref(place)
        self._line.append(mine)
        try:
            while place not in self.in_line()[:MOST]:
                _wait(place, method, deadline)
            yield
        finally:
            self._leave(mine)

    def _leave(self, mine: ref[Place]) -> None:
        for each in tuple(self._line):
            # Also those whose calls were interrupted before they came here.
            if each is mine or each() is None:
                try:
                    self._line.remove(each)
                except ValueError:
                    pass  # another thread was faster
        for place in self.in_line()[:MOST]:
            if place.bell.empty():
                place.bell.put(None)


class Pool:
    """Connections are made when they are needed, and kept for the next call."""

    def __init__(self, path: str, name: str) -> None:
        self.contact = Contact()
        self._path = path
        self._name = name
        self._home = Home()

    def ask(self, call: Call, on_progress: OnProgress | None) -> Any:
        """Ask once and wait for the answer.

        Raises:
            SupervisorError: what the daemon answered, or why no answer came.
        """
        call.sent = call.answered = False
        with self._link(call.method, call.deadline, call.connect_by(time.monotonic())) as link:
            call.sent = True
            try:
                if call.method in protocol.OPERATIONS:
                    return link.operate(call.method, call.message(), call.deadline, on_progress)
                return link.call(call.method, call.message(), call.deadline)
            finally:
                call.answered = link.answered

    def hello(self, deadline: float | None) -> Any:
        """The daemon's answer to a connection's hello."""
        with self._link("rpc.hello", deadline, deadline) as link:
            return link.hello

    def close(self) -> None:
        """Close the connections that are idle now, and those that are in use when their calls have ended."""
        home, self._home = self._home, Home()
        home.close()

    def in_use(self) -> int:
        """Connections that calls under way have, or wait for."""
        return len(self._own_home().in_line())

    def _own_home(self) -> Home:
        if self._home.pid != os.getpid():
            self.close()  # a fork: to read here would take the other process's answers
        return self._home

    @contextmanager
    def _link(self, method: str, deadline: float | None, connect_by: float | None) -> Iterator[Link]:
        home = self._own_home()
        with home.place(method, deadline):
            link = self._idle_link(home) or self._open(connect_by)
            try:
                yield link
            finally:
                self._put_away(link, home)

    def _idle_link(self, home: Home) -> Link | None:
        while home.idle:
            try:
                link = home.idle.pop()
            except IndexError:
                return None  # another thread has taken the last one
            if link.alive():
                return link
            # Found out before anything was sent, so even a change may go over another one.
            link.close()
            self.contact.lost(time.monotonic())
        return None

    def _open(self, connect_by: float | None) -> Link:
        link = open_link(self._path, self._name, connect_by)
        self.contact.made()
        return link

    def _put_away(self, link: Link, home: Home) -> None:
        # An error that the daemon answered leaves the link whole; anything else, Ctrl-C too, leaves it in doubt.
        if not link.answered:
            link.close()
            self.contact.lost(time.monotonic())
            return
        self.contact.made()
        home.idle.append(link)
        if home is not self._home:
            home.close()


def _wait(place: Place, method: str, deadline: float | None) -> None:
    left_s = _LOOK_AGAIN_S if deadline is None else deadline - time.monotonic()
    if left_s <= 0:
        raise DeadlineExceeded(
            f"{method} was not asked in time: all {MOST} connections of this client were in use by other threads",
            method=method,
        )
    try:
        place.bell.get(timeout=min(left_s, _LOOK_AGAIN_S))
    except Empty:
        pass  # looked at again all the same
