"""Bytes of a worker's stdout or stderr -> log lines. Pure."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from typing import Final

MAX_LINE_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Line:
    """Text without its line end; bytes that are no UTF-8 are escaped as `\\xff`. `truncated`: it went on."""

    text: str
    truncated: bool = False


class LineSplitter:
    """Holds at most one unfinished line of `MAX_LINE_BYTES`; what is cut off a longer one is dropped."""

    def __init__(self, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._max = max_line_bytes
        self._partial = b""
        self._dropping = False
        """The line being read has been reported already, cut; the rest of it is passed over."""

    def feed(self, data: bytes | bytearray) -> list[Line]:
        """The lines that end in `data`, and a cut one as soon as it is too long."""
        *ended, rest = (self._partial + data).split(b"\n")
        lines = [line for raw in ended if (line := self._finish(raw)) is not None]
        self._partial = rest
        if len(rest) > self._max:
            if not self._dropping:
                lines.append(self._line(rest))
            self._dropping, self._partial = True, b""
        return lines

    def flush(self) -> list[Line]:
        """What stood without a line end when the stream closed."""
        last = self._finish(self._partial) if self._partial else None
        self._partial = b""
        return [last] if last else []

    def _finish(self, raw: bytes) -> Line | None:
        if self._dropping:
            self._dropping = False
            return None
        return self._line(raw)

    def _line(self, raw: bytes) -> Line:
        if len(raw) > self._max:
            # A character that the cut went through is left out: it was good UTF-8.
            return Line(codecs.utf_8_decode(raw[: self._max], "backslashreplace", False)[0], truncated=True)
        return Line(raw.rstrip(b"\r").decode("utf-8", "backslashreplace"))
