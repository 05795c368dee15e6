"""A plugin's log: JSON lines in a file, rotated by size; one writer, whom its readers may wait for."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from json.encoder import encode_basestring_ascii as json_text
from pathlib import Path
from typing import Any, Final

import trio

from supervisor.wire.codec import profile_problem
from supervisor.worker.logparts import Part, Parts, rotated
from supervisor.worker.output import Line

LEVELS: Final = ("debug", "info", "warning", "error", "critical")
_MESSAGE_CHARACTERS: Final = 32 * 1024
_RUN_ID_CHARACTERS: Final = 200
_FIELDS_BYTES: Final = 64 * 1024
_FIELDS_LEVELS: Final = 8
"""What a line's fields may take, so that a line always fits into an answer."""
CUT_CHARACTERS: Final = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """`time_ms` is UTC milliseconds since the epoch; `stream` is stdout, stderr, log or plugind."""

    time_ms: int
    stream: str
    level: str
    message: str
    run_id: str | None = None
    truncated: bool = False
    fields: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """A line of at most 500 kB; what is too long, or too deep for an answer, is cut and marked."""
        fields, cut = self._bounded_fields()
        # Cut first, whatever its length; and then again, since what cannot be encoded has become longer.
        whole = self.message[:_MESSAGE_CHARACTERS].encode("utf-8", "backslashreplace").decode()
        message = whole[:_MESSAGE_CHARACTERS]
        truncated = self.truncated or cut or len(message) < len(whole) or len(self.message) > _MESSAGE_CHARACTERS
        parts = [
            f'{{"time_ms": {self.time_ms}, "stream": {json_text(self.stream)}, "level": {json_text(self.level)}, '
            f'"message": {json_text(message)}'
        ]
        if self.run_id is not None:
            parts.append(f'"run_id": {json_text(self.run_id[:_RUN_ID_CHARACTERS])}')
        if truncated:
            parts.append('"truncated": true')
        if fields:
            parts.append(f'"fields": {fields}')
        return ", ".join(parts) + "}"

    def _bounded_fields(self) -> tuple[str, bool]:
        if not self.fields:
            return "", False
        if is_short(self.fields) and profile_problem([self.fields], _FIELDS_LEVELS) is None:
            # ASCII only: lone surrogates and control characters cannot spoil the file. `str` for what JSON lacks.
            text = json.dumps(self.fields, default=str)
            if len(text) <= _FIELDS_BYTES:
                return text, False
        return json.dumps({"cut": json_beginning(self.fields, CUT_CHARACTERS)}), True


def json_beginning(value: Any, most: int) -> str:
    """The first `most` characters of a value's JSON, without making all of it."""
    text = ""
    for piece in json.JSONEncoder(default=lambda odd: str(odd[:most] if isinstance(odd, bytes) else odd)).iterencode(
        value
    ):
        text += piece[:most]
        if len(text) >= most:
            break
    return text[:most]


def is_short(fields: Mapping[str, Any]) -> bool:
    """Whether fields may be short enough to be dumped: in JSON nothing takes less room than it is counted with here."""
    room, level = _FIELDS_BYTES, [fields]
    while level and room >= 0:
        item: Any = level.pop()
        if isinstance(item, str | bytes):
            room -= len(item)
        elif isinstance(item, Mapping):
            room -= 2 * len(item)
            if room >= 0:
                level += [*item, *item.values()]
        elif isinstance(item, list | tuple):
            room -= len(item)
            if room >= 0:
                level += item
    return room >= 0


@dataclass(frozen=True, slots=True)
class Opened:
    """A file of the log, for who reads it and closes `fd`; it stays the same file though it is rotated meanwhile."""

    fd: int
    inode: int
    start: int
    """Position of its first byte."""
    offset: int
    """Where to read in it."""
    size: int | None
    """Bytes in it, once no more are written to it."""


class LogFile:
    """`path`, and the older `path.1` … `path.<files - 1>`. A line that cannot be written is counted, not raised.

    All its methods are for the event loop's thread: so no rotation falls into the opening of a file.
    """

    def __init__(self, path: Path, *, max_bytes: int, files: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._files = files
        self._known: Parts | None = None
        self._fd: int | None = None
        self._looked_s: int | None = None
        self._news: trio.Event | None = None
        self._why_lost = ""
        self.lost = 0
        """Lines that could not be written since the last one that could; when one can, a line says how many."""
        self.gone = trio.Event()
        """Set for good when the plugin's data are removed; nothing is written any more."""

    def write(self, entries: Sequence[Entry]) -> None:
        """Append lines, all in one go; rotates before a file would pass its size."""
        if entries:
            data = "".join(f"{entry.to_json()}\n" for entry in entries).encode()
            self._put(data, entries[-1].time_ms)

    def write_lines(
        self, lines: Sequence[Line], *, time_ms: int, stream: str, level: str, run_id: str | None = None
    ) -> None:
        """As `write`, for lines of output: they are many, and differ in little."""
        head = f'{{"time_ms": {time_ms}, "stream": "{stream}", "level": "{level}", "message": '
        run = "" if run_id is None else f', "run_id": {json_text(run_id)}'
        ends = (f"{run}}}\n", f'{run}, "truncated": true}}\n')
        self._put("".join(f"{head}{json_text(line.text)}{ends[line.truncated]}" for line in lines).encode(), time_ms)

    def close(self) -> None:
        """Let go of the file; the next line opens it again, also that of another who writes to it."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def retire(self) -> None:
        """The plugin's data are being removed: write no more, and wake all who wait."""
        self.close()
        self.gone.set()
        self._tell()

    # Reading.

    def changed(self) -> trio.Event:
        """Set when something is written; take it before you read."""
        if self._news is None:
            self._news = trio.Event()
        return self._news

    @property
    def first(self) -> int:
        """The position of the oldest byte that is still there."""
        return self._parts.first

    def open_from(self, position: int) -> tuple[int, Opened | None]:
        """Open the file that holds `position`, or the first one after it if that is gone; and the position in there.

        None: nothing has been written since.

        Raises:
            OSError: it is there, and cannot be opened.
        """
        while True:
            number, part = self._parts.from_position(position)
            position = max(position, part.start)
            opened = self._open_part(number, part, position)
            if opened is not None or number == 0:
                return position, opened
            position = part.end

    def open_before(self, position: int | None) -> Opened | None:
        """Open the file that ends at `position` or holds the byte before it; `offset` is where in it that is.

        None as position means the end. None comes back when nothing older is there.

        Raises:
            OSError: it is there, and cannot be opened.
        """
        for number, part in self._parts.before(self._parts.newest.end + 1 if position is None else position):
            opened = self._open_part(number, part, part.end if position is None else min(part.end, position))
            if opened is not None:
                return opened
        return None

    def open_inode(self, inode: int, offset: int) -> Opened | None:
        """Open the file with this inode, if it is one of the log's."""
        found = self._parts.with_inode(inode)
        return None if found is None else self._open_part(*found, found[1].start + offset)

    def _open_part(self, number: int, part: Part, position: int) -> Opened | None:
        """None if it is not there any more, or not the one that it was."""
        if part.inode is None:
            return None
        if number == 0 and self._fd is not None:
            fd = os.dup(self._fd)
        else:
            try:
                fd = os.open(rotated(self._path, number), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError as error:
                if error.errno in {errno.ENOENT, errno.ELOOP, errno.ENOTDIR}:
                    return None
                raise
            if os.fstat(fd).st_ino != part.inode:
                os.close(fd)
                return None
        return Opened(fd, part.inode, part.start, position - part.start, part.size if number else None)

    # Writing.

    @property
    def _parts(self) -> Parts:
        if self._known is None:
            self._known = Parts(self._path, self._files)
        return self._known

    def _put(self, data: bytes, time_ms: int) -> None:
        if self.gone.is_set():
            return
        before = self._loss(time_ms) if self.lost else b""
        data = before + data
        done = 0
        try:
            fd = self._ready(time_ms // 1000)
            while done < len(data):
                fd, written = self._write_some(fd, data, done)
                done += written
        except OSError as error:
            # A full disk costs the plugin its log, never its life; `lost` tells.
            self.close()
            told = done >= len(before)
            self.lost = data.count(b"\n", done) + (0 if told else self.lost - 1)
            self._why_lost = error.strerror or str(error)
        else:
            self.lost = 0
        if done:
            self._tell()

    def _loss(self, time_ms: int) -> bytes:
        lines = "1 line of this log was" if self.lost == 1 else f"{self.lost} lines of this log were"
        message = f"{lines} lost here: {self._why_lost}"
        return f"{Entry(time_ms=time_ms, stream='plugind', level='warning', message=message).to_json()}\n".encode()

    def _ready(self, second: int) -> int:
        """The file to write to. Once a second it is looked at, since somebody may have moved or removed it."""
        if self._fd is not None and second != self._looked_s and not self._still_there(self._fd):
            self.close()
        self._looked_s = second
        return self._open() if self._fd is None else self._fd

    def _still_there(self, fd: int) -> bool:
        own = os.fstat(fd)
        try:
            named = os.lstat(self._path)
        except FileNotFoundError:
            return False
        return os.path.samestat(own, named) and own.st_size == self._parts.newest.size

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        fd = os.open(self._path, flags, 0o640)
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise OSError(errno.EINVAL, f"{self._path} is no regular file")
            newest = self._parts.newest
            if newest.inode not in {None, found.st_ino} or found.st_size < newest.size:
                self._parts.begin_anew(found.st_ino)
                newest = self._parts.newest
            newest.inode, newest.size = found.st_ino, found.st_size
            if found.st_size and os.pread(fd, 1, found.st_size - 1) != b"\n":
                # The daemon was killed in the middle of a line: let the next one begin on its own.
                newest.size += os.write(fd, b"\n")
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        return fd

    def _write_some(self, fd: int, data: bytes, begin: int) -> tuple[int, int]:
        """Write the whole lines that the file has room for, or rotate; the file, and how many bytes are written."""
        newest = self._parts.newest
        room, end = max(0, self._max_bytes - newest.size), len(data)
        if end - begin > room:
            end = data.rfind(b"\n", begin, begin + room) + 1
        if end <= begin:
            if newest.size:
                newest.size = os.fstat(fd).st_size
                self.close()
                self._parts.rotate()
                return self._open(), 0
            # A line that is longer than a file has one of its own.
            end = data.index(b"\n", begin) + 1
        written = os.write(fd, data[begin:end])
        whole = data.rfind(b"\n", begin, begin + written) + 1 - begin if written < end - begin else written
        newest.size += max(whole, 0)
        if whole < written:
            # The disk filled up in the middle of a line: take the torn part back.
            os.ftruncate(fd, os.fstat(fd).st_size - (written - max(whole, 0)))
            if whole <= 0:
                # The kernel says why only when it can write nothing; a quota or a limit would look the same.
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return fd, whole

    def _tell(self) -> None:
        if self._news is not None:
            news, self._news = self._news, None
            news.set()
