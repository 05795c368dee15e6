"""Threads that keep asking the daemon for `pluginctl top`; the screen takes what they have found, when it likes.

What is kept is bounded, however much comes: the newest lines, each cut to what a screen can show.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from client.cli.top_model import Seen, event_line, log_line
from client.cli.top_text import Line, Span, safe
from client.errors import NotFound, SupervisorError

if TYPE_CHECKING:
    from client.cli.top_actions import Action
    from client.sync_client import Client
    from client.sync_stream import EventStream, LogStream
    from supervisor.wire.results import EventInfo, JobInfo

MakeClient = Callable[[], "Client"]

KEPT = 500
"""Lines of events, and of the log."""
_FIRST_EVENTS, _FIRST_LINES = 100, 100
_RUNS = 50
_NEXT = 200
"""Times; a job that is often due has many of them."""
_FAR_BEHIND = 5000
"""Events that may be waiting; beyond that only the newest are worth reading."""
_SHARE = 4
"""Of the time, the share in which a large daemon is asked: a quarter."""
_RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why the daemon does not answer, and since when (`time.monotonic()`)."""

    message: str
    since: float


def look(client: Client, clock: Callable[[], int], before: Seen | None = None) -> Seen:
    """All that the screen shows of the daemon, save streams; `before` is what it answered last."""
    status = client.daemon.status()
    started_anew = before is None or status["uptime_s"] < before.status["uptime_s"]
    return Seen(
        info=client.daemon.info() if before is None or started_anew else before.info,
        status=status,
        plugins=client.plugins.list(usage=True),
        runs=client.jobs.runs(states=("running", "queued"), limit=_RUNS),
        next=client.jobs.next(count=_NEXT)["next"],
        at_ms=clock(),
    )


class Tail:
    """The last lines of something, written by one thread and read by another."""

    def __init__(self) -> None:
        self._lines: deque[Line] = deque(maxlen=KEPT)
        self._lock = threading.Lock()

    def add(self, line: Line) -> None:
        with self._lock:
            self._lines.append(line)

    def clear(self) -> None:
        with self._lock:
            self._lines.clear()

    def lines(self) -> list[Line]:
        with self._lock:
            return list(self._lines)


class LogTail(Tail):
    """The log of one plugin, followed until it is closed."""

    def __init__(self, plugin: str, make_client: MakeClient) -> None:
        super().__init__()
        self.plugin = plugin
        self._make_client = make_client
        self._closed = threading.Event()
        self._stream: LogStream | None = None

    def run(self) -> None:
        told = ""
        while not self._closed.is_set():
            try:
                with self._make_client() as client, self._open(client) as stream:
                    self._stream = stream
                    if self._closed.is_set():
                        return  # while it was opened: nobody has closed it
                    for line in stream:
                        if self._closed.is_set():
                            return
                        self.add(log_line(line))
                return
            except SupervisorError as error:
                if told != (told := error.message):
                    self._note(error.message)
                if isinstance(error, NotFound):
                    return
            self._closed.wait(_RETRY_S)

    def close(self) -> None:
        self._closed.set()
        if (stream := self._stream) is not None:
            stream.close()

    def _open(self, client: Client) -> LogStream:
        return client.logs(self.plugin, tail=_FIRST_LINES, on_notice=self._note)

    def _note(self, text: str) -> None:
        self.add(((f"-- {safe(text)}", "faint"),))


class Feed:
    """Starts and owns the threads. `on_news` is called in them, when an operator waits for what has come."""

    def __init__(
        self, make_client: MakeClient, *, interval_s: float, clock: Callable[[], int], first: Seen | None = None
    ) -> None:
        self.seen = first
        self.trouble: Trouble | None = None
        self.notice: Span = ("", "")
        """What has become of the last command."""
        self.jobs: tuple[str, Sequence[JobInfo]] | None = None
        """The answer to `ask_jobs`; who takes it sets None."""
        self.events = Tail()
        self.log: LogTail | None = None
        self.failure: Exception | None = None
        """A mistake of ours in a thread: the screen ends with it."""
        self.on_news: Callable[[], object] = lambda: None
        self._make_client = make_client
        self._interval_s = interval_s
        self._clock = clock
        self._ending = threading.Event()
        self._hurry = threading.Event()
        self._events: EventStream | None = None
        self._last_seq = 0

    def start(self) -> None:
        self._spawn(self._ask)
        self._spawn(self._listen)

    def close(self) -> None:
        """The threads end with what they wait for, at the latest with the program; a change goes on at the daemon."""
        self._ending.set()
        self._hurry.set()
        self.follow(None)
        if (stream := self._events) is not None:
            stream.close()

    def follow(self, plugin: str | None) -> None:
        """Follow this plugin's log, and no other."""
        if (self.log.plugin if self.log else None) == plugin:
            return
        if self.log is not None:
            self.log.close()
        self.log = LogTail(plugin, self._make_client) if plugin else None
        if self.log is not None:
            self._spawn(self.log.run)

    def do(self, action: Action) -> None:
        """Have it done; `notice` says what becomes of it."""
        self._tell(f"{action.doing} …", "busy")
        self._spawn(lambda: self._do(action))

    def ask_jobs(self, plugin: str) -> None:
        self._spawn(lambda: self._find_jobs(plugin))

    def _spawn(self, act: Callable[[], None]) -> None:
        # Daemon threads: none holds up the end of the program, whatever it waits for.
        threading.Thread(target=self._guarded, args=(act,), daemon=True).start()

    def _guarded(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # noqa: BLE001  the screen raises it
            self.failure = error
            self.on_news()

    def _tell(self, text: str, style: str) -> None:
        self.notice = (text, style)
        self.on_news()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What goes wrong is told to the operator."""
        try:
            yield
        except SupervisorError as error:
            self._tell(safe(error.message or error.code), "bad")

    def _do(self, action: Action) -> None:
        with self._told(), self._make_client() as client:
            client.call(action.method, **action.params)
            self._tell(action.done, "good")
        self._hurry.set()

    def _find_jobs(self, plugin: str) -> None:
        with self._told(), self._make_client() as client:
            self.jobs = (plugin, client.jobs.list(plugin))
            self.on_news()

    def _ask(self) -> None:
        with self._make_client() as client:
            while not self._ending.is_set():
                began = time.monotonic()
                try:
                    self.seen = look(client, self._clock, self.seen)
                    self.trouble = None
                except SupervisorError as error:
                    since = self.trouble.since if self.trouble else began
                    self.trouble = Trouble(error.message or error.code, since)
                took = time.monotonic() - began
                self._hurry.wait(max(self._interval_s, (_SHARE - 1) * took))
                self._hurry.clear()

    def _listen(self) -> None:
        told = ""
        while not self._ending.is_set():
            try:
                with self._make_client() as client:
                    self._listen_on(client)
            except SupervisorError as error:
                if told != (told := error.message):
                    self.events.add(((f"-- {safe(error.message)}", "faint"),))
                self._ending.wait(_RETRY_S)

    def _listen_on(self, client: Client) -> None:
        """The newest events and then those that come; returns when too many have come to be read."""
        page = client.events.list(limit=_FIRST_EVENTS)
        if page["last_seq"] < self._last_seq:
            self._last_seq = 0  # another journal than before: the daemon had to begin anew
            self.events.clear()
        for event in page["events"]:
            self._note(event)
        with client.events(page["last_seq"]) as stream:
            self._events = stream
            if self._ending.is_set():
                return  # while it was opened: nobody has closed it
            for event in stream:
                self._note(event)
                if self._ending.is_set() or self._is_far_behind():
                    return

    def _note(self, event: EventInfo) -> None:
        if event["seq"] > self._last_seq:
            self._last_seq = event["seq"]
            self.events.add(event_line(event))

    def _is_far_behind(self) -> bool:
        seen = self.seen
        return seen is not None and seen.status["last_seq"] - self._last_seq > _FAR_BEHIND
