"""Named points at which a test kills the daemon: between a step and the next, where a crash must do no harm."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

VARIABLE: Final = "PLUGIND_FAULT_POINT"


class FaultPoint(StrEnum):
    """<path>.<what has just happened>; each directly after a step that is durable, or seen from outside.

    The comment above each group says what reaches it. With a name comes the path: no point is shared by two.
    """

    # plugins.install, of a new plugin and of one that was uninstalled.
    INSTALL_STAGED = "install.staged"
    INSTALL_INTENT_WRITTEN = "install.intent_written"
    INSTALL_FILES_STORED = "install.files_stored"
    INSTALL_ROW_WRITTEN = "install.row_written"
    # Every plugins.upgrade with a source.
    UPGRADE_STAGED = "upgrade.staged"
    UPGRADE_INTENT_WRITTEN = "upgrade.intent_written"
    UPGRADE_FILES_STORED = "upgrade.files_stored"
    # plugins.upgrade of a ready plugin, worker.upgrade = overlap; also with a kept version, and from upgrade_pending.
    UPGRADE_OVERLAP_STARTED = "upgrade_overlap.started"
    UPGRADE_OVERLAP_EXCHANGED = "upgrade_overlap.exchanged"
    UPGRADE_OVERLAP_FORMER_GONE = "upgrade_overlap.former_gone"
    UPGRADE_OVERLAP_TOLD = "upgrade_overlap.told"
    # The same with worker.upgrade = stop_first in one of the two versions.
    UPGRADE_STOP_FIRST_STOPPED = "upgrade_stop_first.stopped"
    UPGRADE_STOP_FIRST_STARTED = "upgrade_stop_first.started"
    UPGRADE_STOP_FIRST_EXCHANGED = "upgrade_stop_first.exchanged"
    UPGRADE_STOP_FIRST_TOLD = "upgrade_stop_first.told"
    # plugins.upgrade of a ready plugin to a version that asks for more than was approved.
    UPGRADE_PENDING_STORED = "upgrade_pending.stored"
    UPGRADE_PENDING_STOPPED = "upgrade_pending.stopped"
    UPGRADE_PENDING_TOLD = "upgrade_pending.told"
    # plugins.upgrade of a disabled plugin, or of one in error.
    UPGRADE_IDLE_EXCHANGED = "upgrade_idle.exchanged"
    # plugins.upgrade to a version whose worker does not come up.
    UPGRADE_FAILED_FILES_REMOVED = "upgrade_failed.files_removed"
    UPGRADE_FAILED_INTENT_ENDED = "upgrade_failed.intent_ended"
    UPGRADE_FAILED_TOLD = "upgrade_failed.told"
    # plugins.approve, and plugins.enable of an upgrade that needs no approval any more.
    APPROVE_STARTED = "approve.started"
    APPROVE_EXCHANGED = "approve.exchanged"
    APPROVE_TOLD = "approve.told"
    # plugins.approve of a version whose worker does not come up.
    APPROVE_FAILED_STORED = "approve_failed.stored"
    APPROVE_FAILED_TOLD = "approve_failed.told"
    # plugins.reject.
    REJECT_STORED = "reject.stored"
    REJECT_STARTED = "reject.started"
    REJECT_TOLD = "reject.told"
    # plugins.rollback of a ready plugin, or of one in error; `stopped` with worker.upgrade = stop_first.
    ROLLBACK_STOPPED = "rollback.stopped"
    ROLLBACK_STARTED = "rollback.started"
    ROLLBACK_EXCHANGED = "rollback.exchanged"
    ROLLBACK_FORMER_GONE = "rollback.former_gone"
    ROLLBACK_TOLD = "rollback.told"
    # plugins.rollback of a disabled plugin.
    ROLLBACK_IDLE_EXCHANGED = "rollback_idle.exchanged"
    # A version on probation gives up; `ended` where it stands to the end.
    PROBATION_STOPPED = "probation.stopped"
    PROBATION_STARTED = "probation.started"
    PROBATION_EXCHANGED = "probation.exchanged"
    PROBATION_FORMER_GONE = "probation.former_gone"
    PROBATION_TOLD = "probation.told"
    PROBATION_ENDED = "probation.ended"
    # plugins.unload without remove_data; `stopped` of a ready plugin.
    UNLOAD_STOPPED = "unload.stopped"
    UNLOAD_STORED = "unload.stored"
    UNLOAD_FILES_REMOVED = "unload.files_removed"
    UNLOAD_INTENT_ENDED = "unload.intent_ended"
    # plugins.unload with remove_data; `stopped` of a ready plugin.
    ERASE_STOPPED = "erase.stopped"
    ERASE_STORED = "erase.stored"
    ERASE_DATA_REMOVED = "erase.data_removed"
    ERASE_FILES_REMOVED = "erase.files_removed"
    ERASE_INTENT_ENDED = "erase.intent_ended"
    # The purge of what was uninstalled purge_after_days ago.
    PURGE_STORED = "purge.stored"
    PURGE_DATA_REMOVED = "purge.data_removed"
    PURGE_FILES_REMOVED = "purge.files_removed"
    PURGE_INTENT_ENDED = "purge.intent_ended"
    # After each exchange, approve, reject: versions beyond keep_versions, and what waits no more.
    COLLECT_STORED = "collect.stored"
    COLLECT_FILES_REMOVED = "collect.files_removed"
    COLLECT_INTENT_ENDED = "collect.intent_ended"
    # plugins.config_set, and plugins.config_restore.
    CONFIG_STORED = "config.stored"
    CONFIG_TOLD = "config.told"
    # The daemon's start.
    BOOT_LEFTOVERS_REMOVED = "boot.leftovers_removed"
    BOOT_INTENTS_ENDED = "boot.intents_ended"
    BOOT_VERSIONS_DROPPED = "boot.versions_dropped"
    BOOT_COLLECTED = "boot.collected"
    # The daemon's start after it was killed in a command that had not said its last word.
    BOOT_WORDS_SAID = "boot.words_said"


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
