"""Reading a plugin's log: lines forward and backward in bounded memory, and which of them are wanted.

All but `read_log` and `in_thread` block on the disk: run it in a thread.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii as json_text
from typing import Final, NamedTuple, TypeVar

import trio

from supervisor.core.errors import Unavailable
from supervisor.wire.codec import profile_problem
from supervisor.wire.results import LogLine
from supervisor.worker.logfile import LEVELS, LogFile, Opened

_T = TypeVar("_T")
_BLOCK_BYTES: Final = 64 * 1024
MOST_BYTES: Final = 512 * 1024
"""Of one line; what is longer was not written by us, and is passed over."""
_SLICE_BYTES: Final = 1024 * 1024
"""Looked at in one go; then others have their turn at the threads."""
_CONTAINER_BYTES: Final = 32
"""What an array or a map counts in an answer: a message may hold 131,072."""
_MARK_BYTES: Final = 64
_LEVELS_DEEP: Final = 12
_RANKS: Final = {level: rank for rank, level in enumerate(LEVELS)}
_HEAD: Final = re.compile(rb'\{"time_ms": (-?\d{1,18}), "stream": "(\w+)", "level": "(\w+)", "message": "')


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which lines: of this level and above, this run, this stream, and no later than `until_ms`; None: all."""

    level: str | None = None
    run_id: str | None = None
    stream: str | None = None
    until_ms: int | None = None

    def pick(self, raw: bytes, glance: Glance | None = None) -> LogLine | None:
        """The line, if it is one and wanted. What can be told from its head is looked at before the whole is parsed."""
        glance = glance or glance_at(raw)
        if glance is None or not self._admits(glance):
            return None
        if self.run_id is not None and json_text(self.run_id).encode() not in raw:
            return None
        line = parse(raw)
        return line if line is not None and self.run_id in {None, line["run_id"]} else None

    def _admits(self, glance: Glance) -> bool:
        return (
            (self.stream is None or glance.stream == self.stream)
            and (self.level is None or _rank(glance.level) >= _RANKS[self.level])
            and (self.until_ms is None or glance.time_ms <= self.until_ms)
        )


class Glance(NamedTuple):
    """What stands first in a line. There may be hundreds of thousands to look at, so they are cheap to make."""

    time_ms: int
    stream: str
    level: str


def glance_at(raw: bytes) -> Glance | None:
    """None: it is no line of a log."""
    if head := _HEAD.match(raw):
        return Glance(int(head[1]), head[2].decode(), head[3].decode())
    line = parse(raw) if raw.startswith(b"{") else None
    return line and Glance(line["time_ms"], line["stream"], line["level"])


def parse(raw: bytes) -> LogLine | None:
    """A line of the log; None for what is none, such as a torn one, or could not be sent to anybody."""
    try:
        record = json.loads(raw)
        run_id = record.get("run_id")
        line = LogLine(
            time_ms=int(record["time_ms"]),
            stream=str(record["stream"]),
            level=str(record["level"]),
            message=str(record["message"]),
            run_id=None if run_id is None else str(run_id),
            truncated=bool(record.get("truncated", False)),
            fields=dict(record.get("fields", {})),
        )
        if b"\\ud" in raw:
            # Halves of a pair that stand alone are no text that can be sent.
            json.dumps(line, ensure_ascii=False).encode()
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    return line if profile_problem([line], _LEVELS_DEEP) is None else None


def _rank(level: str) -> int:
    return _RANKS.get(level, _RANKS["info"])


def lines_backwards(fd: int, size: int) -> Iterator[tuple[int, bytes]]:
    """The lines in the first `size` bytes of a file, last first, each with the offset at which it begins.

    What is empty, or too long and therefore passed over, comes as an empty line.
    """
    position, tail, junk = size, b"", False
    while position > 0:
        length = min(_BLOCK_BYTES, position)
        position -= length
        block = os.pread(fd, length, position)
        if len(block) < length:
            return  # somebody has cut the file off meanwhile
        *ended, last = block.split(b"\n")
        if ended:
            offset = position + length - len(last)
            yield offset, b"" if junk else last + tail
            for line in reversed(ended[1:]):
                offset -= len(line) + 1
                yield offset, line
            junk, tail = False, ended[0]
        elif junk:
            yield position, b""
        else:
            tail = last + tail
        if len(tail) > MOST_BYTES:
            junk, tail = True, b""
    if tail:
        yield 0, tail


def lines_onward(fd: int, offset: int, size: int | None) -> tuple[list[bytes], int]:
    """Some whole lines from `offset` on, without their ends, and the offset behind them: about 64 KiB, or one line.

    Those that are too long are passed over. Without `size` the file is still being written, and its last line is waited
    for; with it nothing comes after that many bytes.
    """
    data = b""
    while len(data) <= MOST_BYTES:
        left = _BLOCK_BYTES if size is None else min(_BLOCK_BYTES, size - offset - len(data))
        more = os.pread(fd, left, offset + len(data)) if left > 0 else b""
        data += more
        if (end := data.rfind(b"\n", len(data) - len(more)) + 1) > 0:
            return data[: end - 1].split(b"\n"), offset + end
        if not more:
            # A torn last line; and what was cut off a file by somebody does not come back.
            return ([], offset) if size is None else ([data], size)
    return [], offset + len(data)


class Lookback:
    """The last lines that are wanted, at most `most`, none of them before `since_ms`; files are looked at newest first.

    With `most_bytes` the lines are kept, as long as they fit into an answer of that size.
    """

    def __init__(
        self, wanted: Wanted, *, most: int | None, since_ms: int | None = None, most_bytes: int | None = None
    ) -> None:
        self._wanted = wanted
        self._left = most
        self._since_ms = since_ms
        self._room = most_bytes
        self.lines: list[LogLine] = []
        """Newest first."""
        self.begin: int | None = None
        """The position of the oldest one found."""
        self.place = ""
        """The same as a place."""
        self.over = most == 0
        """Set it to stop looking."""
        self.reached: int | None = None
        """The position before which it is to look next; None: it has not begun."""

    def look(self, fd: int, opened: Opened) -> None:
        """Look at some of one file, backwards from where it has got to, or from its end."""
        at_end = opened.size is None and self.reached is None
        size = os.fstat(fd).st_size if at_end else opened.offset
        self.reached = opened.start
        for offset, raw in lines_backwards(fd, size):
            if self.over:
                break
            # Not in the middle of a line that is too long.
            if raw and size - offset > _SLICE_BYTES:
                self.reached = opened.start + offset + len(raw) + 1
                break
            glance = glance_at(raw) if raw else None
            if glance is None:
                continue
            if self._since_ms is not None and glance.time_ms < self._since_ms:
                self.over = True
            elif line := self._wanted.pick(raw, glance):
                self._take(line, raw, opened.start + offset)
        if self.begin is not None and self.begin >= opened.start:
            self.place = place(fd, opened, self.begin - opened.start)

    def _take(self, line: LogLine, raw: bytes, position: int) -> None:
        if self._room is not None:
            self._room -= len(raw) + _CONTAINER_BYTES * (raw.count(b"[") + raw.count(b"{") + 1)
            if self._room < 0 and self.lines:
                self.over = True
                return
            self.lines.append(line)
        self.begin = position
        if self._left is not None:
            self._left -= 1
            self.over = self._left <= 0


def place(fd: int, opened: Opened, offset: int) -> str:
    """A name for this offset in this file that a later daemon understands too."""
    return f"{opened.inode:x}-{mark(fd, offset):x}-{offset:x}"


def mark(fd: int, offset: int) -> int:
    """A file is known again by its inode, since it may be renamed, and by its first line, whose beginning holds its
    time, since inodes are used again.
    """
    return zlib.crc32(os.pread(fd, _MARK_BYTES, 0)) if offset >= _MARK_BYTES else 0


async def read_log(log: LogFile, lookback: Lookback, threads: trio.CapacityLimiter) -> None:
    """Let `lookback` look at one file after the other; may be cancelled at any time.

    Raises:
        Unavailable: a file cannot be read, and why.
    """

    def look(fd: int, opened: Opened) -> bool:
        lookback.look(fd, opened)
        return True

    try:
        while not lookback.over and await in_thread(lambda: log.open_before(lookback.reached), look, threads):
            pass
    finally:
        # A thread that nobody waits for any more ends soon.
        lookback.over = True


async def in_thread(
    open_: Callable[[], Opened | None], work: Callable[[int, Opened], _T], threads: trio.CapacityLimiter
) -> _T | None:
    """What `work` returns, run in a thread that is given up when the caller is cancelled; None if nothing is opened.

    The file is opened here, in the event loop's thread, and once there is a thread for it: those who wait hold no
    descriptors. It is closed in any case.

    Raises:
        Unavailable: the disk did not do it.
    """
    slot = _Slot(threads, open_)

    def run() -> _T | None:
        opened = slot.take()
        if opened is None:
            return None
        try:
            return work(opened.fd, opened)
        finally:
            os.close(opened.fd)

    try:
        return await trio.to_thread.run_sync(run, limiter=slot, abandon_on_cancel=True)  # type: ignore[arg-type]
    except OSError as error:
        raise cannot_read(error) from error
    finally:
        if (opened := slot.take()) is not None:
            os.close(opened.fd)


class _Slot:
    """A place among `threads`, as trio wants it, where a file is opened as soon as it is one's own."""

    def __init__(self, threads: trio.CapacityLimiter, open_: Callable[[], Opened | None]) -> None:
        self._threads = threads
        self._open = open_
        self._opened: list[Opened] = []

    async def acquire_on_behalf_of(self, borrower: object) -> None:
        await self._threads.acquire_on_behalf_of(borrower)
        try:
            opened = self._open()
        except BaseException:
            self._threads.release_on_behalf_of(borrower)
            raise
        if opened is not None:
            self._opened.append(opened)

    def release_on_behalf_of(self, borrower: object) -> None:
        self._threads.release_on_behalf_of(borrower)

    def take(self) -> Opened | None:
        """The file, for who comes first: the thread, or the task that has given up on it."""
        try:
            return self._opened.pop()
        except IndexError:
            return None


def cannot_read(error: OSError) -> Unavailable:
    return Unavailable(f"the log cannot be read: {error.strerror or error}", why=error.strerror or str(error))
