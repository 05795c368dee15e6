"""A worker's stdout and stderr into its plugin's log, as fast as the log takes it: a flood costs its writer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from supervisor.wire.message import Notification
from supervisor.worker.logfile import LEVELS, Entry, LogFile
from supervisor.worker.output import Line, LineSplitter

_READ_BYTES: Final = 16 * 1024
_LINES_AT_A_TIME: Final = 256
TAIL_CHARACTERS: Final = 8000
_MESSAGE_CHARACTERS: Final = 10_000


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


async def relay(
    stream: trio.abc.ReceiveStream,
    log: LogFile,
    *,
    name: str,
    level: str,
    now_ms: Callable[[], int],
    tail: Tail | None = None,
) -> None:
    """Copy lines until the stream ends; `name` is what the log calls it."""
    splitter = LineSplitter()

    async def take(lines: list[Line]) -> None:
        if tail:
            tail.add(lines)
        # Every byte may be a line end. In portions, so that whoever prints much keeps nobody waiting.
        for start in range(0, len(lines), _LINES_AT_A_TIME):
            log.write_lines(lines[start : start + _LINES_AT_A_TIME], time_ms=now_ms(), stream=name, level=level)
            await trio.lowlevel.checkpoint()

    try:
        while data := await stream.receive_some(_READ_BYTES):
            await take(splitter.feed(data))
    except (trio.ClosedResourceError, trio.BrokenResourceError):
        pass  # Our own end was closed: the worker is gone and something else keeps the pipe open.
    finally:
        if last := splitter.flush():
            log.write_lines(last, time_ms=now_ms(), stream=name, level=level)
            if tail:
                tail.add(last)


def log_entry(notification: Notification, now_ms: int) -> Entry:
    """A worker's log record; hostile input, so whatever does not fit is shown as it came."""
    record = notification.params[0] if notification.params and isinstance(notification.params[0], dict) else {}
    level, fields, run_id = record.get("level"), record.get("fields"), record.get("run_id")
    return Entry(
        time_ms=now_ms,
        stream="log",
        level=level if level in LEVELS else "info",
        message=str(record.get("message", ""))[:_MESSAGE_CHARACTERS],
        run_id=run_id if isinstance(run_id, str) else None,
        fields=fields if isinstance(fields, dict) else {},
    )
