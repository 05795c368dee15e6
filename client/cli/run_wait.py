"""Waiting for a run: its log lines as they come, how far it is, and what became of it."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import contextmanager

from client.cli.failure import tell_interrupted
from client.cli.progress import ERASE, columns
from client.cli.render import escaped
from client.cli.run_text import UNDER_WAY, bar, progress_text
from client.cli.status import log_line
from client.errors import DeadlineExceeded, NotFound, SupervisorError, Unavailable

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from collections.abc import Iterator

    from client.cli.output import Context
    from client.sync_client import Client
    from client.sync_stream import LogStream
    from supervisor.wire.results import LogLine, RunInfo

LOOK_S = 5.0
"""An end is an event; this is for those that nobody told of."""
LOOK_AT_PROGRESS_S = 0.5
GONE_S = 60.0
"""So long a daemon that has gone is waited for."""
LAST_LINES_S = 2.0
"""The last lines of a run that has ended are given up when none of them comes for so long."""
_SOONER_MS = 1000
_STEPS = 10
"""Where there is no terminal, progress is told each tenth."""
EXIT_CODES = {"succeeded": 0, "cancelled": 3, "skipped": 3}


def exit_code(run: RunInfo) -> int:
    """Of a command that waited for it: 0 succeeded, 3 cancelled or skipped, 1 any other end."""
    return EXIT_CODES.get(run["state"], 1)


def wait_for_run(context: Context, run: RunInfo, timeout_s: float | None = None) -> RunInfo:
    """The run as it has ended, with its log and progress shown to people; on Ctrl-C it goes on, and that is said.

    Raises:
        DeadlineExceeded: it had not within `timeout_s`; it goes on.
    """
    id_ = escaped(run["id"])
    stands = "is queued" if run["state"] == "queued" else "has begun"
    context.note(f"{escaped(run['job'])}: run {id_} {stands}")
    screen = Screen(context)
    try:
        return follow(context, run, screen, lines=not context.json, timeout_s=timeout_s)
    except DeadlineExceeded:
        screen.clear()
        raise
    except KeyboardInterrupt:
        screen.clear()
        tell_interrupted(context, f"the run goes on; `pluginctl runs cancel {id_}` ends it")
        raise


def follow(context: Context, run: RunInfo, screen: Screen, *, lines: bool, timeout_s: float | None = None) -> RunInfo:
    """Wait until it has ended; show people its progress meanwhile, and whoever wants `lines` those."""
    look_s = LOOK_S if context.json else LOOK_AT_PROGRESS_S
    if not lines:
        return _ended(context.client, run, screen, look_s, timeout_s)
    with _Lines.of(context.client, run, screen) as shown:
        ended = _ended(context.client, run, screen, look_s, timeout_s)
        complete = shown.wait_complete()
    screen.clear()
    if not complete:
        context.note(f"the end of its log did not come: `pluginctl runs logs {escaped(run['id'])}` shows all of it")
    return ended


def _ended(client: Client, run: RunInfo, screen: Screen, look_s: float, timeout_s: float | None) -> RunInfo:
    if run["state"] not in UNDER_WAY:
        return run
    with client.events(types=["job.*"], plugins=[run["plugin"]], reconnect_for_s=GONE_S) as events:
        # Looked at once the stream is there, so that no end falls between; an event only means: look again.
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while (run := _look(client, run))["state"] in UNDER_WAY:
            screen.show(run)
            if end is not None:
                look_s = min(look_s, end - time.monotonic())
            if look_s <= 0:
                raise _too_long(run, timeout_s)
            try:
                events.receive(look_s)
            except DeadlineExceeded:
                continue
        return run


def _too_long(run: RunInfo, timeout_s: float | None) -> DeadlineExceeded:
    ends_it = f"`pluginctl runs cancel {run['id']}` ends it"
    return DeadlineExceeded(f"{run['job']}: no end within {timeout_s:g} s; it goes on, {ends_it}", run=run["id"])


def _look(client: Client, run: RunInfo) -> RunInfo:
    try:
        return client.jobs.get_run(run["id"])
    except Unavailable:
        return run  # the daemon has gone; the events say when it is back, or that it does not come back


class Screen:
    """Lines on stdout, and below them on stderr one that is kept up to date; without a terminal, one for each step."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._live = not context.json and sys.stderr.isatty()
        self._shown = ""
        self._told: object = None

    def line(self, line: LogLine) -> None:
        with self._lock:
            self._erase()
            self._context.stream(line, log_line(line))
            self._draw()

    def notice(self, text: str) -> None:
        """What is to be known of the lines: some were left out, the connection was lost or is back."""
        with self._lock:
            self._erase()
            self._context.note(escaped(text))
            self._draw()

    def show(self, run: RunInfo) -> None:
        """How far it is."""
        if self._context.json:
            return
        with self._lock:
            if self._live:
                self._erase()
                self._shown = bar(run, columns() - 1)
                self._draw()
            else:
                self._tell(run)

    def clear(self) -> None:
        with self._lock:
            self._erase()
            self._shown = ""

    def _tell(self, run: RunInfo) -> None:
        progress = run["progress"]
        text = progress_text(progress) or run["waiting_for"]
        fraction = progress and progress["fraction"]
        step = (run["waiting_for"], progress and progress["message"], fraction and int(_STEPS * fraction))
        if text and step != self._told:
            self._context.note(f"{run['state']}: {escaped(text)}")
        self._told = step

    def _erase(self) -> None:
        if self._shown:
            sys.stderr.write(ERASE)
            sys.stderr.flush()

    def _draw(self) -> None:
        if self._shown:
            sys.stderr.write(self._shown)
            sys.stderr.flush()


class _Lines:
    """The run's log, shown by a thread of its own: both it and the run's end are waited for at the same time."""

    def __init__(self, client: Client, run: RunInfo, stream: LogStream, screen: Screen) -> None:
        self._client = client
        self._run = run
        self._stream = stream
        self._screen = screen
        self._came = threading.Condition()
        self._last: LogLine | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._show_all, name="log", daemon=True)

    @classmethod
    @contextmanager
    def of(cls, client: Client, run: RunInfo, screen: Screen) -> Iterator[_Lines]:
        since_ms = run["created_ms"] - _SOONER_MS
        follow_ = client.logs(
            run["plugin"], None, since_ms, run=run["id"], reconnect_for_s=GONE_S, on_notice=screen.notice
        )
        with follow_ as stream:
            lines = cls(client, run, stream, screen)
            lines._thread.start()
            try:
                yield lines
            finally:
                stream.close()
                lines._thread.join(LAST_LINES_S)
        if lines._error is not None:
            raise lines._error

    def _show_all(self) -> None:
        try:
            for line in self._stream:
                self._screen.line(line)
                with self._came:
                    self._last = line
                    self._came.notify_all()
        except (SupervisorError, OSError) as error:
            # The output may be closed, or the plugin gone: said by whoever waits for the run.
            with self._came:
                self._error = error
                self._came.notify_all()

    def wait_complete(self) -> bool:
        """Return when the last line that there is now has been shown; False: none came for LAST_LINES_S before it."""
        try:
            newest = self._client.logs.read(self._run["plugin"], 1, run=self._run["id"])
        except (NotFound, Unavailable):
            return True  # the plugin has gone with its log, or the daemon
        with self._came:
            while newest and not self._has_shown(newest[0]) and self._error is None:
                if not self._came.wait(LAST_LINES_S):
                    return False
        return True

    def _has_shown(self, line: LogLine) -> bool:
        last = self._last
        return last is not None and (last == line or last["time_ms"] > line["time_ms"])
