"""A handler for the standard library's logging that keeps levels and fields.

    logging.basicConfig(handlers=[PluginHandler(plugin)], level=logging.INFO)

Lines carry the run id of the job whose thread or trio task they come from. This module is imported by who uses it only.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from supervisor.sdk.plugin import Plugin

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class PluginHandler(logging.Handler):
    """Sends each record to the plugin's log; what was given as `extra` become fields."""

    def __init__(self, plugin: Plugin, level: int = logging.NOTSET) -> None:
        super().__init__(level)
        self._outlet = plugin.outlet

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._outlet.send(_level(record.levelno), record.getMessage(), self._fields(record))
        except Exception:  # noqa: BLE001  what every logging handler does: a bad record must not break its author
            self.handleError(record)

    def _fields(self, record: logging.LogRecord) -> dict[str, Any]:
        fields = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        fields["logger"] = record.name
        if record.exc_info:
            fields["traceback"] = (self.formatter or logging.Formatter()).formatException(record.exc_info)
        return fields


def _level(number: int) -> str:
    if number >= logging.ERROR:
        return "error"
    if number >= logging.WARNING:
        return "warning"
    return "info" if number >= logging.INFO else "debug"
