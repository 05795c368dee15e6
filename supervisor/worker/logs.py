"""The plugins' logs: one LogFile each, for all who write and all who read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import trio

from supervisor.worker.logfile import LogFile
from supervisor.worker.logparts import rotated

_READERS: Final = 2
"""Threads that read logs: a slow disk is waited for by readers only. Each contends with the event loop for Python."""


class PluginLogs:
    """Files are named by the plugin's key, which the checks of keys make safe for that."""

    def __init__(self, directory: Path, *, max_bytes: int, files: int) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._files = files
        self._logs: dict[str, LogFile] = {}
        self.threads = trio.CapacityLimiter(_READERS)

    def of(self, key: str) -> LogFile:
        log = self._logs.get(key)
        if log is None:
            log = self._logs[key] = LogFile(self.path(key), max_bytes=self._max_bytes, files=self._files)
        return log

    def path(self, key: str) -> Path:
        return self._directory / f"{key}.log"

    def retire(self, key: str) -> list[Path]:
        """The plugin's data are being removed: nothing is written or told any more; the files to remove."""
        if log := self._logs.pop(key, None):
            log.retire()
        files, number = [], 0
        while number < self._files or os.path.lexists(rotated(self.path(key), number)):
            files.append(rotated(self.path(key), number))
            number += 1
        return files
