"""A worker's stdout and stderr into its plugin's log, as fast as the log takes it: a flood costs its writer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import trio

from supervisor.wire.message import Notification
from supervisor.worker.discretion import Discretion
from supervisor.worker.kernel_queue import bytes_standing
from supervisor.worker.logfile import CUT_CHARACTERS, LEVELS, Entry, LogFile, is_short, json_beginning
from supervisor.worker.output import Line, LineSplitter
from supervisor.worker.process import Process

_READ_BYTES: Final = 16 * 1024
_LINES_AT_A_TIME: Final = 256
TAIL_CHARACTERS: Final = 8000
_MESSAGE_CHARACTERS: Final = 10_000
_RUN_ID_CHARACTERS: Final = 200

_OnLines = Callable[[list[Line]], None]


class Tail:
    """The last 8,000 characters of a stream: a worker's last words."""

    def __init__(self) -> None:
        self._text = ""

    def add(self, lines: list[Line]) -> None:
        if lines:
            # Only what can still matter is joined, so that a flood costs no more than a line.
            recent = "\n".join(line.text[-TAIL_CHARACTERS:] for line in lines[-TAIL_CHARACTERS:])
            self._text = f"{self._text}\n{recent}"[-TAIL_CHARACTERS:]

    def __str__(self) -> str:
        return self._text.strip("\n")


class Output:
    """What a process prints, on its way into its plugin's log."""

    def __init__(
        self,
        process: Process,
        log: LogFile,
        *,
        now_ms: Callable[[], int],
        discretion: Discretion,
        on_stdout: _OnLines | None = None,
        run_id: str | None = None,
    ) -> None:
        """`run_id`: of the run that all of it belongs to."""
        self._tail = Tail()
        self._said = Tail()

        def hear(lines: list[Line]) -> None:
            if on_stdout:
                on_stdout(lines)
            if run_id is not None:
                self._said.add(lines)

        def relay(stream: trio.abc.ReceiveStream, name: str, level: str, on_lines: _OnLines | None) -> Relay:
            return Relay(
                stream,
                log,
                name=name,
                level=level,
                now_ms=now_ms,
                discretion=discretion,
                on_lines=on_lines,
                run_id=run_id,
            )

        out = relay(process.stdout, "stdout", "info", hear)
        err = relay(process.stderr, "stderr", "warning", self._tail.add)
        self._relays = (out, err)
        self._ended = trio.Event()

    @property
    def last_words(self) -> str:
        """The end of stderr; of a run that said nothing there, that of stdout."""
        return str(self._tail) or str(self._said)

    @property
    def unread_bytes(self) -> int:
        """What `finish`, cancelled, has left in the pipes."""
        return sum(relay.unread_bytes for relay in self._relays)

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            for relay in self._relays:
                nursery.start_soon(relay.run)
        self._ended.set()

    async def finish(self) -> None:
        """The process has been reaped: return when what it has written is in the log.

        Something else may hold the pipes and write on, for ever: that is not waited for.
        """
        for relay in self._relays:
            await relay.finish()
        await self._ended.wait()


class Relay:
    """Copies the lines of one stream, without secrets; `name` is what the log calls it, `on_lines` is told of each."""

    def __init__(
        self,
        stream: trio.abc.ReceiveStream,
        log: LogFile,
        *,
        name: str,
        level: str,
        now_ms: Callable[[], int],
        discretion: Discretion,
        on_lines: _OnLines | None = None,
        run_id: str | None = None,
    ) -> None:
        self._stream = stream
        self._log = log
        self._name = name
        self._level = level
        self._now_ms = now_ms
        self._discretion = discretion
        self._on_lines = on_lines
        self._run_id = run_id
        self._splitter = LineSplitter()
        self._read_bytes = 0
        self._enough_bytes: float = math.inf
        self._ended = False

    @property
    def unread_bytes(self) -> int:
        """How much of what it was to read still, since `finish`, it has not read; 0 where that is not known."""
        known = not self._ended and math.isfinite(self._enough_bytes)
        return max(0, int(self._enough_bytes) - self._read_bytes) if known else 0

    async def run(self) -> None:
        """Until the stream ends, or `finish` has had its fill."""
        try:
            while self._read_bytes < self._enough_bytes and (data := await self._stream.receive_some(_READ_BYTES)):
                self._read_bytes += len(data)
                await self._write(self._splitter.feed(data))
            self._ended = True
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            self._ended = True  # Our own end was closed: there is no more of the worker's in it.
        finally:
            await self._write(self._splitter.flush())

    async def finish(self) -> None:
        """The writer is gone: what stands in the pipe by now is the last that is read."""
        standing = None if self._ended else bytes_standing(self._stream)
        if standing is not None:
            self._enough_bytes = self._read_bytes + standing
        if standing == 0:
            await trio.aclose_forcefully(self._stream)  # `run` may be waiting for more.

    async def _write(self, lines: list[Line]) -> None:
        # Every byte may be a line end. In portions, so that whoever prints much keeps nobody waiting; to the end even
        # when cancelled, since what was read is nowhere else any more.
        for start in range(0, len(lines), _LINES_AT_A_TIME):
            portion = self._discretion.lines(lines[start : start + _LINES_AT_A_TIME])
            if self._on_lines:
                self._on_lines(portion)
            self._log.write_lines(
                portion, time_ms=self._now_ms(), stream=self._name, level=self._level, run_id=self._run_id
            )
            await trio.lowlevel.cancel_shielded_checkpoint()


def log_entry(notification: Notification, now_ms: int, discretion: Discretion) -> Entry:
    """A worker's log record; hostile input, so whatever does not fit is shown as it came, save for secrets."""
    record = notification.params[0] if notification.params and isinstance(notification.params[0], dict) else {}
    message = record.get("message", "")
    level, run_id = record.get("level"), record.get("run_id")
    fields, truncated = _told_fields(record.get("fields"), discretion)
    return Entry(
        time_ms=now_ms,
        stream="log",
        level=level if level in LEVELS else "info",
        message=discretion.beginning(_shown(message), _MESSAGE_CHARACTERS),
        run_id=discretion.beginning(run_id, _RUN_ID_CHARACTERS) if isinstance(run_id, str) else None,
        truncated=truncated,
        fields=fields,
    )


def _told_fields(fields: Any, discretion: Discretion) -> tuple[dict[str, Any], bool]:
    """Without secrets, and whether they were cut for that: what is too long is not looked through."""
    if not isinstance(fields, dict):
        return {}, False
    if not discretion:
        return fields, False
    if is_short(fields):
        return discretion.hide(fields), False
    return {"cut": discretion.beginning(json_beginning(fields, CUT_CHARACTERS + 1), CUT_CHARACTERS)}, True


def _shown(message: Any) -> str:
    """As text, little more of it than is kept: a list may have hundreds of thousands of values."""
    if isinstance(message, str):
        return message
    if isinstance(message, bytes):
        return str(message[: _MESSAGE_CHARACTERS + 1])
    return json_beginning(message, _MESSAGE_CHARACTERS + 1) if isinstance(message, list | dict) else str(message)
