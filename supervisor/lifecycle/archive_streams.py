"""An archive's bytes: read from its descriptor, inflated in small steps, and counted as they come."""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from supervisor.lifecycle.archive_names import AGAIN, Flaw, TooMuch
from supervisor.lifecycle.copying import PackageLimits

CHUNK_BYTES: Final = 256 * 1024
_REPORT_BYTES: Final = 1024 * 1024
_FREE_BYTES: Final = 16 * 1024 * 1024
"""Up to here nobody asks how well it was compressed."""
_OVERHEAD_BYTES: Final = 4096
"""Headers and padding of one entry, generously."""


@dataclass(frozen=True, slots=True)
class Member:
    """An entry of an archive. `content` must be read before the next member is asked for, or not at all."""

    name: bytes
    is_dir: bool
    executable: bool
    size: int
    """Of the content, which never is longer: a reader refuses what is not as long as declared."""
    content: Iterator[bytes]
    problem: str | None = None
    """Why its kind is refused."""


class Meter:
    """Counts what is taken from the file and what it becomes: declared sizes are never relied upon.

    `check_cancelled` is called for every chunk, `report` (bytes of the file read, its size) for every MiB.
    """

    def __init__(
        self,
        total: int,
        limits: PackageLimits,
        check_cancelled: Callable[[], object],
        report: Callable[[int, int | None], None],
    ) -> None:
        self._total = total
        self._limits = limits
        self._check_cancelled = check_cancelled
        self._report = report
        self._taken = 0
        self._made = 0
        self._reported = 0
        self._most = limits.max_bytes + limits.max_entries * _OVERHEAD_BYTES

    def took(self, count: int) -> None:
        self._check_cancelled()
        self._taken += count
        if self._taken - self._reported >= _REPORT_BYTES:
            self._reported = self._taken
            self._report(min(self._taken, self._total), self._total)

    def made(self, count: int) -> None:
        """
        Raises:
            TooMuch: more than all limits together allow, or compressed better than honest files are.
        """
        self._check_cancelled()
        self._made += count
        if self._made > self._most:
            raise TooMuch(f"unpacks to more than {self._limits.max_bytes} bytes; leave some files out")
        if self._made > _FREE_BYTES + self._limits.max_ratio * self._taken:
            raise TooMuch(
                f"unpacks to more than {self._limits.max_ratio} times its size, as a bomb does; "
                "leave out what is that empty, or install from a directory"
            )

    def finish(self) -> None:
        self._report(self._total, self._total)


class FileSource(io.RawIOBase):
    """The file from its descriptor's position on. The descriptor stays open."""

    def __init__(self, fd: int, meter: Meter) -> None:
        self._fd = fd
        self._meter = meter

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        count = os.readv(self._fd, [buffer])
        self._meter.took(count)
        return count


class GzipSource(io.RawIOBase):
    """What one gzip member unpacks to. Nothing may follow it: what tools make of a second one differs."""

    def __init__(self, source: FileSource) -> None:
        self._source = source
        self._inflate = zlib.decompressobj(wbits=31)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        while not self._inflate.eof:
            data = self._inflate.unconsumed_tail or self._source.read(CHUNK_BYTES // 4) or b""
            made = inflated(self._inflate, data, len(buffer))
            if made:
                buffer[: len(made)] = made
                return len(made)
            if not data and not self._inflate.eof:
                raise Flaw(f"is truncated: its gzip stream has no end; {AGAIN}")
        if self._inflate.unused_data or self._source.read(1):
            raise Flaw(f"has data after the end of its gzip stream; {AGAIN}, as one stream")
        return 0


def inflated(inflate: Any, data: bytes, most: int) -> bytes:
    """
    Raises:
        Flaw: that is no deflate stream, or its checksum is another.
    """
    try:
        made: bytes = inflate.decompress(data, most)
    except zlib.error as error:
        raise Flaw(f"is damaged ({str(error).rpartition(': ')[2]}); {AGAIN}") from error
    return made
