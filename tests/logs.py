"""A plugin's log as tests read it: whole, at once, without an event loop."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from supervisor.wire.results import LogLine
from supervisor.worker.logfile import LogFile
from supervisor.worker.logread import Lookback, Wanted


def look_back(log: LogFile, lookback: Lookback) -> list[LogLine]:
    """As `read_log` does, in this thread; oldest first."""
    opened = log.open_before(None)
    while opened is not None and not lookback.over:
        try:
            lookback.look(opened.fd, opened)
        finally:
            os.close(opened.fd)
        opened = None if lookback.over else log.open_before(lookback.reached)
    return lookback.lines[::-1]


def read_log(
    path: Path, *, tail: int | None = None, since_ms: int | None = None, files: int = 20, **wanted: Any
) -> list[LogLine]:
    """The last `tail` lines that match."""
    log = LogFile(path, max_bytes=1, files=files)
    return look_back(log, Lookback(Wanted(**wanted), most=tail, since_ms=since_ms, most_bytes=1 << 40))
