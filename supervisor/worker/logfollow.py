"""Following a plugin's log by position: what is told is read from the files when there is somebody to take it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from typing import Final

import trio

from supervisor.core.errors import InvalidParams
from supervisor.wire.results import LogLine
from supervisor.worker.logfile import LogFile, Opened
from supervisor.worker.logread import (
    Lookback,
    Wanted,
    in_thread,
    lines_backwards,
    lines_onward,
    mark,
    place,
    read_log,
)

_EMPTY: Final = "0"
"""The place in a log that has no file yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The next lines. `skipped` bytes before them were lost to rotation; None: nobody knows how many, 0: none were."""

    lines: list[LogLine]
    skipped: int | None
    moved: bool
    """False: there was nothing to read."""


class Follower:
    """`begin` once, then `read` again and again. `place` names the way behind what was read last, also to other
    daemons on the same files: `begin` from there misses and repeats nothing.
    """

    def __init__(self, log: LogFile, wanted: Wanted, threads: trio.CapacityLimiter) -> None:
        self._log = log
        self._wanted = wanted
        self._threads = threads
        self._position = 0
        self._lost_its_way = False
        self.place = _EMPTY

    async def begin(self, *, tail: int | None = None, since_ms: int | None = None, after: str | None = None) -> None:
        """From a place; or with the last `tail` lines, or those since an instant; or with what is new.

        Raises:
            InvalidParams: `after` is no place.
            Unavailable: the log cannot be read.
        """
        if after is not None:
            await self._resume(after)
            return
        end = await in_thread(partial(self._log.open_before, None), _end_of, self._threads)
        if end is None:
            self._position = self._log.first
            return
        self._position, self.place = end.position, end.place
        if tail or (tail is None and since_ms is not None):
            lookback = Lookback(self._wanted, most=tail, since_ms=since_ms)
            await read_log(self._log, lookback, self._threads)
            if lookback.begin is not None:
                self._position, self.place = lookback.begin, lookback.place

    async def read(self, most: int) -> Batch:
        """At most `most` wanted lines of the next 64 KiB.

        Raises:
            Unavailable: the log cannot be read.
        """
        begin = self._position

        def open_() -> Opened | None:
            nonlocal begin
            begin, opened = self._log.open_from(self._position)
            return opened

        found = await in_thread(open_, partial(self._read, most=most), self._threads)
        skipped = None if self._lost_its_way else begin - self._position
        self._position, self._lost_its_way = begin, False
        if found is None:
            return Batch(lines=[], skipped=skipped, moved=False)
        lines, end = found
        self._position, self.place = end.position, end.place
        return Batch(lines=lines, skipped=skipped, moved=end.position != begin)

    def _read(self, fd: int, opened: Opened, most: int) -> tuple[list[LogLine], _End]:
        raws, offset = lines_onward(fd, opened.offset, opened.size)
        found: list[LogLine] = []
        behind = opened.offset
        for raw in raws:
            if len(found) == most:
                # The rest is read again when somebody wants it.
                offset = behind
                break
            behind += len(raw) + 1
            if raw and (line := self._wanted.pick(raw)):
                found.append(line)
        return found, _End(opened.start + offset, place(fd, opened, offset))

    async def _resume(self, after: str) -> None:
        self._position, self.place = self._log.first, after
        if after == _EMPTY:
            return
        inode, known, offset = _parse_place(after)
        found = await in_thread(
            partial(self._log.open_inode, inode, offset),
            partial(_position_at, offset=offset, known=known),
            self._threads,
        )
        self._lost_its_way = found is None
        if found is not None:
            self._position = found


@dataclass(frozen=True, slots=True)
class _End:
    position: int
    place: str


def _end_of(fd: int, opened: Opened) -> _End:
    size = os.fstat(fd).st_size if opened.size is None else opened.offset
    # Where the last whole line ends: behind it there may be a torn one.
    offset = next((offset for offset, _ in lines_backwards(fd, size)), 0)
    return _End(opened.start + offset, place(fd, opened, offset))


def _parse_place(text: str) -> tuple[int, int, int]:
    try:
        inode, mark, offset = (int(part, 16) for part in text.split("-"))
    except ValueError:
        raise InvalidParams(f"after must be a place that logs.follow has told, not {text[:100]!r}") from None
    return inode, mark, offset


def _position_at(fd: int, opened: Opened, *, offset: int, known: int) -> int | None:
    """Where in the log `offset` of this file is; None if it is not the file, or no line ends there."""
    if offset > os.fstat(fd).st_size or mark(fd, offset) != known:
        return None
    ends = offset == 0 or os.pread(fd, 1, offset - 1) == b"\n"
    return opened.start + offset if ends else None
