"""Named points at which a test kills the daemon: between a step and the next, where a crash must do no harm."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

VARIABLE: Final = "PLUGIND_FAULT_POINT"


class FaultPoint(StrEnum):
    """<command>.<what has just happened>."""

    INSTALL_STAGED = "install.staged"
    INSTALL_INTENT_WRITTEN = "install.intent_written"
    INSTALL_FILES_STORED = "install.files_stored"
    INSTALL_ROW_WRITTEN = "install.row_written"


class FaultPoints:
    """Kills this process at the point that `PLUGIND_FAULT_POINT` names; `name:2` means the second time."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        name, _, count = environ.get(VARIABLE, "").partition(":")
        self._wanted = FaultPoint(name) if name else None
        self._left = int(count or 1)

    def reach(self, point: FaultPoint) -> None:
        """From any thread."""
        if point is self._wanted:
            self._left -= 1
            if self._left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
