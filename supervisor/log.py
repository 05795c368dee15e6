"""Structured logs: `log.bind(plugin=key).info("worker.started", pid=pid)`. Names are events, data are fields.

One record is one line (a traceback adds lines of its own, each marked), whatever is in its fields: control characters
are escaped, so nothing a plugin says can pass for a record of ours. Writing never blocks and never raises: what nobody
takes is counted, and the count is logged when there is room again.
"""

from __future__ import annotations

import os
import select
import socket
import stat
import sys
import threading
from collections.abc import Callable, Mapping, MutableMapping
from types import TracebackType
from typing import Any, Final, Literal, Protocol, TextIO, get_args

Format = Literal["auto", "console", "json", "journal"]
Level = Literal["debug", "info", "warning", "error"]
FORMATS: Final[tuple[str, ...]] = get_args(Format)
LEVELS: Final[tuple[str, ...]] = get_args(Level)

_PRIORITIES: Final[Mapping[str, int]] = {"debug": 7, "info": 6, "warning": 4, "error": 3}
_RANKS: Final[Mapping[str, int]] = {level: rank for rank, level in enumerate(LEVELS)}
# What poll() promises for a pipe: that many bytes fit, and go in whole.
_CHUNK_BYTES: Final = select.PIPE_BUF
_CONTINUED: Final = "  | "
_ESCAPES: Final[Mapping[int, str]] = {
    **{code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))},
    # Line and paragraph separators, and what turns the direction of text around.
    **{code: f"\\u{code:04x}" for code in (0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A))},
    ord("\n"): "\\n",
    ord("\r"): "\\r",
    ord("\t"): "\\t",
}

_ExcInfo = bool | BaseException | tuple[type[BaseException], BaseException, TracebackType | None] | None
_Record = MutableMapping[str, Any]


class Logger:
    """Immutable; `bind` gives another one that carries more fields."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[str, object]) -> None:
        self._fields = fields

    def bind(self, **fields: object) -> Logger:
        return Logger({**self._fields, **fields})

    def debug(self, event: str, **fields: object) -> None:
        self._log("debug", event, None, fields)

    def info(self, event: str, **fields: object) -> None:
        self._log("info", event, None, fields)

    def warning(self, event: str, *, exc_info: _ExcInfo = None, **fields: object) -> None:
        self._log("warning", event, exc_info, fields)

    def error(self, event: str, *, exc_info: _ExcInfo = None, **fields: object) -> None:
        """`exc_info`: the exception whose traceback to add, or True for the one being handled."""
        self._log("error", event, exc_info, fields)

    def exception(self, event: str, **fields: object) -> None:
        """`error` with the traceback of the exception being handled."""
        self._log("error", event, True, fields)

    def _log(self, level: str, event: str, exc_info: _ExcInfo, fields: Mapping[str, object]) -> None:
        sink = _configured[-1] if _configured else configure()
        if _RANKS[level] >= sink.rank:
            sink.emit({**self._fields, **fields, "event": event, "level": level, "exc_info": exc_info})


def get_logger(**fields: object) -> Logger:
    """A logger that carries `fields`."""
    return Logger(fields)


def configure(format: Format = "auto", level: Level = "info", stream: TextIO | None = None) -> Sink:
    """Where this process's records go from now on, and how they look.

    `auto` is `journal` when `stream` (default: stderr) is the one that systemd names in JOURNAL_STREAM, else `console`.
    """
    out = sys.stderr if stream is None else stream
    lines = _Lines(out)
    style = ("journal" if _is_journal(lines.fd) else "console") if format == "auto" else format
    sink = Sink(_renderer(style, colors=out is not None and out.isatty()), lines, _RANKS[level], style)
    _configured[:] = [sink]
    return sink


class Sink:
    """Renders records and writes them out."""

    def __init__(self, render: Callable[[_Record], str], lines: _Lines, rank: int, format: str) -> None:
        self.rank = rank
        self.format = format
        """What `auto` came to."""
        self._render = render
        self._lines = lines
        self._lock = threading.Lock()

    @property
    def lost(self) -> int:
        """Records that nobody took, since the last one that was."""
        return self._lines.lost

    def emit(self, record: _Record) -> None:
        try:
            text = self._render(record)
        except Exception as error:  # noqa: BLE001  a field's own __repr__ failed; the caller must not hear of it
            plain = {"event": str(record.get("event")), "level": "error", "log_error": type(error).__name__}
            text = self._render({**plain, "exc_info": None})
        with self._lock:
            lost = self._lines.lost
            if lost and not self._lines.write(self._render(_lost_record(lost))):
                self._lines.lost += 1
                return
            if lost:
                self._lines.lost = 0
            if not self._lines.write(text):
                self._lines.lost += 1


# What the process writes its records with: one at most, set by `configure`.
_configured: Final[list[Sink]] = []


def _lost_record(count: int) -> _Record:
    return {"event": "log.records_lost", "level": "warning", "count": count, "exc_info": None}


def _is_journal(fd: int | None) -> bool:
    named = os.environ.get("JOURNAL_STREAM")
    if fd is None or not named:
        return False
    try:
        found = os.fstat(fd)
    except OSError:
        return False
    return named == f"{found.st_dev}:{found.st_ino}"


class _Processor(Protocol):
    def __call__(self, logger: Any, name: str, record: _Record, /) -> Any: ...


def _renderer(style: str, *, colors: bool) -> Callable[[_Record], str]:
    # structlog brings asyncio and rich's console: a tenth of a second that a client which only imports us never pays.
    from structlog import dev, processors

    stamp: list[_Processor] = [processors.TimeStamper(fmt="iso", utc=True)]
    match style:
        case "json":
            # ensure_ascii escapes all that is not printable, and the record stays one line.
            as_json = processors.JSONRenderer(default=_plain, ensure_ascii=True)
            steps = [*stamp, processors.format_exc_info, as_json, _escape_delete]
        case "journal":
            # The journal stamps and shows the time itself.
            steps = [processors.format_exc_info, _take_traceback, _escape, _journal_line]
        case _:
            console = dev.ConsoleRenderer(colors=colors, exception_formatter=dev.plain_traceback, pad_event_to=0)
            steps = [*stamp, processors.format_exc_info, _take_traceback, _escape, _then_traceback(console)]

    def render(record: _Record) -> str:
        value: Any = record
        for step in steps:
            value = step(None, "", value)
        return str(value)

    return render


def _plain(value: object) -> str:
    return str(value)


def _escape_delete(_logger: Any, _name: str, line: Any) -> str:
    """The one control character that json lets pass."""
    return str(line).replace("\x7f", "\\u007f")


def _take_traceback(_logger: Any, _name: str, record: _Record) -> _Record:
    """Tracebacks stand below the line, each of their lines escaped and marked."""
    record.pop("exc_info", None)
    if text := record.pop("exception", None):
        record["_traceback"] = [line.translate(_ESCAPES) for line in str(text).split("\n")]
    return record


def _escape(_logger: Any, _name: str, record: _Record) -> _Record:
    for name, value in record.items():
        if name != "_traceback" and not isinstance(value, bool | int | float | None):
            record[name] = str(value).translate(_ESCAPES)
    return record


def _then_traceback(console: _Processor) -> _Processor:
    def render(logger: Any, name: str, record: _Record, /) -> str:
        traceback = record.pop("_traceback", ())
        return "\n".join([console(logger, name, record), *(f"{_CONTINUED}{line}" for line in traceback)])

    return render


def _journal_line(_logger: Any, _name: str, record: _Record) -> str:
    prefix = f"<{_PRIORITIES[record.pop('level')]}>"
    traceback = record.pop("_traceback", ())
    line = " ".join([record.pop("event"), *(f"{name}={_quoted(value)}" for name, value in record.items())])
    return "\n".join(f"{prefix}{part}" for part in (line, *(f"{_CONTINUED}{part}" for part in traceback)))


def _quoted(value: object) -> str:
    text = str(value)
    if text and not any(c in text for c in ' "='):
        return text
    return '"{}"'.format(text.replace('"', '\\"'))


class _Lines:
    """Lines to a stream that may be full, closed or gone; nothing here waits or raises.

    A descriptor is asked first whether it takes another chunk: setting O_NONBLOCK instead would change the terminal or
    pipe for everybody who shares it.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self.lost = 0
        self._stream = stream
        self._torn = False
        self._is_socket = False
        self.fd: int | None = None
        try:
            self.fd = stream.fileno() if stream is not None else None
            self._is_socket = self.fd is not None and stat.S_ISSOCK(os.fstat(self.fd).st_mode)
        except (OSError, ValueError):  # no descriptor (a StringIO), or a closed one
            return

    def write(self, text: str) -> bool:
        """Whether all of it was taken."""
        try:
            if self.fd is None:
                return self._write_stream(text)
            return self._write_fd(text)
        except (OSError, ValueError):  # EPIPE, EIO, ENOSPC; a closed stream
            return False

    def _write_stream(self, text: str) -> bool:
        if self._stream is None:
            return False
        self._stream.write(f"{text}\n")
        self._stream.flush()
        return True

    def _write_fd(self, text: str) -> bool:
        data = memoryview((("\n" if self._torn else "") + text + "\n").encode("utf-8", "backslashreplace"))
        while data:
            sent = self._send(data[:_CHUNK_BYTES])
            if sent == 0:
                return False
            data = data[sent:]
            # Until its end is out, a line that breaks off here has to be ended before the next one.
            self._torn = bool(data)
        return True

    def _send(self, chunk: memoryview) -> int:
        fd = self.fd
        if fd is None:
            return 0
        if self._is_socket:
            # A duplicate, so that the socket object can be closed again.
            with socket.socket(fileno=os.dup(fd)) as sock:
                try:
                    return sock.send(chunk, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
                except BlockingIOError:
                    return 0
        poll = select.poll()
        poll.register(fd, select.POLLOUT)
        if not any(event & select.POLLOUT for _, event in poll.poll(0)):
            return 0
        return os.write(fd, chunk)


log: Final = get_logger()
