"""A plugin's log: JSON lines in a file, rotated by size; written by one worker's relays, read by anyone."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from json.encoder import encode_basestring_ascii as json_text
from pathlib import Path
from typing import Any, Final

from supervisor.wire.results import LogLine
from supervisor.worker.output import Line

LEVELS: Final = ("debug", "info", "warning", "error", "critical")
_BLOCK_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """`time_ms` is UTC milliseconds since the epoch; `stream` is stdout, stderr or log."""

    time_ms: int
    stream: str
    level: str
    message: str
    run_id: str | None = None
    truncated: bool = False
    fields: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        record: dict[str, Any] = {
            "time_ms": self.time_ms,
            "stream": self.stream,
            "level": self.level,
            "message": self.message,
        }
        if self.run_id is not None:
            record["run_id"] = self.run_id
        if self.truncated:
            record["truncated"] = True
        if self.fields:
            record["fields"] = self.fields
        # ASCII only: lone surrogates and control characters cannot spoil the file. `str` for what JSON lacks.
        return json.dumps(record, default=str)


class LogFile:
    """`path`, and the older `path.1` … `path.<files - 1>`. A line that cannot be written is counted, not raised."""

    def __init__(self, path: Path, *, max_bytes: int, files: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._files = files
        self._fd: int | None = None
        self._size = 0
        self.lost = 0
        """Lines that could not be written since the last one that could."""

    def write(self, entries: list[Entry]) -> None:
        """Append lines, all in one go; rotates before the file would pass its size."""
        data = "".join(f"{entry.to_json()}\n" for entry in entries).encode()
        try:
            self._append(data)
        except OSError:
            # A full disk costs the plugin its log, never its life; `lost` tells.
            self.lost += len(entries)
        else:
            self.lost = 0

    def write_lines(self, lines: Sequence[Line], *, time_ms: int, stream: str, level: str) -> None:
        """As `write`, for lines of output: they are many, and differ in little."""
        head = f'{{"time_ms": {time_ms}, "stream": "{stream}", "level": "{level}", "message": '
        ends = ("}\n", ', "truncated": true}\n')
        data = "".join(f"{head}{json_text(line.text)}{ends[line.truncated]}" for line in lines).encode()
        try:
            self._append(data)
        except OSError:
            self.lost += len(lines)
        else:
            self.lost = 0

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _append(self, data: bytes) -> None:
        fd = self._open()
        if self._size and self._size + len(data) > self._max_bytes:
            self._rotate()
            fd = self._open()
        written = os.write(fd, data)
        self._size += written
        if written < len(data):
            # The disk filled up in the middle of a line: take the torn part back.
            self._size -= written
            os.ftruncate(fd, self._size)
            raise OSError("short write")

    def _open(self) -> int:
        if self._fd is None:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._fd = os.open(self._path, flags, 0o640)
            self._size = os.fstat(self._fd).st_size
        return self._fd

    def _rotate(self) -> None:
        self.close()
        for number in range(self._files - 1, 0, -1):
            older = rotated(self._path, number - 1)
            if older.exists():
                older.replace(rotated(self._path, number))


def rotated(path: Path, number: int) -> Path:
    """The file `number` rotations ago; 0 is the one being written."""
    return path.with_name(f"{path.name}.{number}") if number else path


def read_log(
    path: Path,
    *,
    tail: int,
    since_ms: int | None = None,
    level: str | None = None,
    run_id: str | None = None,
) -> list[LogLine]:
    """The last `tail` matching lines, oldest first. Blocks: run it in a thread.

    Read from the end, so that the cost is that of the lines looked at. A torn or foreign line is passed over.
    """
    least = LEVELS.index(level) if level else 0
    found: list[LogLine] = []
    for raw in _lines_backwards(path):
        line = _parse(raw)
        if line is None:
            continue
        if len(found) >= tail or (since_ms is not None and line["time_ms"] < since_ms):
            break
        if _rank(line["level"]) >= least and run_id in {None, line["run_id"]}:
            found.append(line)
    return found[::-1]


def _rank(level: str) -> int:
    return LEVELS.index(level) if level in LEVELS else 1


def _parse(raw: bytes) -> LogLine | None:
    try:
        record = json.loads(raw)
        run_id = record.get("run_id")
        return LogLine(
            time_ms=int(record["time_ms"]),
            stream=str(record["stream"]),
            level=str(record["level"]),
            message=str(record["message"]),
            run_id=None if run_id is None else str(run_id),
            truncated=bool(record.get("truncated", False)),
            fields=dict(record.get("fields", {})),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def _lines_backwards(path: Path) -> Iterator[bytes]:
    number = 0
    seen: set[int] = set()
    while True:
        try:
            with rotated(path, number).open("rb") as file:
                # While this one is read it may be rotated, and would be met again under its next name.
                inode = os.fstat(file.fileno()).st_ino
                if inode not in seen:
                    yield from _file_backwards(file.fileno())
                seen.add(inode)
        except FileNotFoundError:
            return
        number += 1


def _file_backwards(fd: int) -> Iterator[bytes]:
    position = os.fstat(fd).st_size
    tail = b""
    while position:
        size = min(_BLOCK_BYTES, position)
        position -= size
        head, *lines = (os.pread(fd, size, position) + tail).split(b"\n")
        tail = head
        yield from (line for line in reversed(lines) if line)
    if tail:
        yield tail
