"""Which files a plugin's log is in, and which of its bytes each holds: positions that rotation does not change."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from supervisor.log import get_logger


def rotated(path: Path, number: int) -> Path:
    """The file `number` rotations ago; 0 is the one being written."""
    return path.with_name(f"{path.name}.{number}") if number else path


@dataclass(slots=True)
class Part:
    """One file. `start` is the position of its first byte; `inode` None: there is no such file."""

    start: int
    size: int
    inode: int | None

    @property
    def end(self) -> int:
        return self.start + self.size


class Parts:
    """The files of a log by number, 0 being the newest. Positions count its bytes from the oldest there were at first.

    A number without a file, left by somebody who removed it or by a rotation that was cut short, is a part of no bytes.
    """

    def __init__(self, path: Path, files: int) -> None:
        self._path = path
        self._parts: list[Part] = []
        position = 0
        for number in reversed(range(files)):
            part = _look(rotated(path, number), position)
            self._parts.insert(0, part)
            position = part.end
        self._remove_from(files)

    @property
    def newest(self) -> Part:
        return self._parts[0]

    def begin_anew(self, inode: int | None) -> None:
        """What was the newest file is gone from here: another has taken its name."""
        self._parts[0] = Part(self.newest.end, 0, inode)

    def rotate(self) -> None:
        """Shift the files up to the first number that is free, so that none is lost before all are taken.

        May be cut short at any rename, by an error or the end of the process: a later one goes on from there.
        """
        last = len(self._parts) - 1
        free = next((n for n in range(1, last) if not os.path.lexists(rotated(self._path, n))), last)
        if not free:
            self._path.unlink(missing_ok=True)
        for number in range(free, 0, -1):
            self._rename(number - 1, number)
        self._parts[0] = Part(self._latest_end(), 0, None)

    def from_position(self, position: int) -> tuple[int, Part]:
        """The oldest file that holds anything at or after `position`, with its number; else the newest."""
        for number in range(len(self._parts) - 1, 0, -1):
            part = self._parts[number]
            if part.inode is not None and part.end > position:
                return number, part
        return 0, self.newest

    def before(self, position: int) -> list[tuple[int, Part]]:
        """The files that begin before `position`, newest first, with their numbers."""
        found = [(n, part) for n, part in enumerate(self._parts) if part.inode is not None and part.start < position]
        return sorted(found, key=lambda item: -item[1].start)

    def with_inode(self, inode: int) -> tuple[int, Part] | None:
        return next(((n, part) for n, part in enumerate(self._parts) if part.inode == inode), None)

    @property
    def first(self) -> int:
        """The position of the oldest byte that is still there."""
        return min(part.start for part in self._parts if part.inode is not None or part is self.newest)

    def _latest_end(self) -> int:
        return max(part.end for part in self._parts)

    def _rename(self, number: int, to: int) -> None:
        try:
            os.replace(rotated(self._path, number), rotated(self._path, to))
        except FileNotFoundError:
            # Somebody has taken it away meanwhile.
            self._parts[to] = Part(self._parts[number].end, 0, None)
        else:
            self._parts[to] = self._parts[number]
        # Until all are renamed, this number is free.
        self._parts[number] = Part(self._parts[to].end, 0, None)

    def _remove_from(self, number: int) -> None:
        """The files that a larger `log_files` has left."""
        while os.path.lexists(path := rotated(self._path, number)):
            try:
                path.unlink()
            except OSError as error:
                get_logger().warning("log.not_removed", path=str(path), why=str(error))
                return
            number += 1


def _look(path: Path, start: int) -> Part:
    try:
        found = os.lstat(path)
    except OSError:
        # Not there, or not for us; whoever opens it for writing says why.
        return Part(start, 0, None)
    return Part(start, found.st_size, found.st_ino) if stat.S_ISREG(found.st_mode) else Part(start, 0, None)
