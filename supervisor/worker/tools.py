"""What every supervisor needs from its surroundings, and how a life is made of it."""

from __future__ import annotations

import random
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any

from supervisor.core.errors import SupervisorError
from supervisor.core.package import PackageChanged
from supervisor.core.plugin import Plugin
from supervisor.report import report_failure
from supervisor.worker.crash import Crash, Reason, is_shortage
from supervisor.worker.ending import Ending, never_lived
from supervisor.worker.host import Host
from supervisor.worker.launch import CannotLaunch, Launch
from supervisor.worker.life import Life
from supervisor.worker.logfile import LogFile
from supervisor.worker.process import Process
from supervisor.worker.shutdown import Graces, WorkerUnkillable


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    host: Host
    graces: Graces
    prepare: Callable[[Plugin], Awaitable[Launch]]
    """Verifies the package and plans its launch; may be cancelled. What it raises counts as a crash: OSError and
    SupervisorError as any other, PackageChanged as one after which nothing is tried."""
    spawn: Callable[[Launch], Process]
    open_log: Callable[[Plugin], LogFile]
    now_ms: Callable[[], int]
    random: random.Random

    def new_life(
        self,
        plugin: Plugin,
        log: LogFile,
        *,
        came_up: Callable[[], Coroutine[Any, Any, None]],
        stopping: Callable[[], None],
        stuck: Callable[[WorkerUnkillable], None],
        run_id: str | None = None,
    ) -> Life:
        return Life(
            plugin,
            host=self.host,
            log=log,
            graces=self.graces,
            now_ms=self.now_ms,
            came_up=came_up,
            stopping=stopping,
            stuck=stuck,
            run_id=run_id,
        )

    async def live(self, plugin: Plugin, life: Life, may_start: Callable[[], bool]) -> Ending:
        """The whole of it; whatever goes wrong is an ending too. Without a process, and without a crash, where it was
        asked to stop, or `may_start` has become untrue, while its files were looked at."""
        try:
            # No checkpoint between `may_start` and the process: whoever requires, or is required, sees it coming.
            launch = await life.get_ready(partial(self._prepare, plugin), may_start)
            if launch is None:
                return never_lived(None)
            return await life.live(launch.as_life(secrets.token_hex(8)), self.spawn)
        except PackageChanged as error:
            crash = Crash(Reason.PACKAGE_CHANGED, f"was not started: {error.message}")
        except CannotLaunch as error:
            crash = Crash(Reason.CANNOT_START, str(error), passing=is_shortage(error.__cause__))
        except SupervisorError as error:
            crash = Crash(Reason.CANNOT_START, f"was not started: {error.message}")
        except Exception as error:  # noqa: BLE001  a mistake of ours costs this life, never the other workers
            log_id = report_failure("worker.start_failed", error, plugin=plugin.key)
            crash = Crash(Reason.INTERNAL, f"was lost to a mistake in plugind itself (log id {log_id})")
        return never_lived(crash)

    async def _prepare(self, plugin: Plugin) -> Launch:
        try:
            return await self.prepare(plugin)
        except CannotLaunch:
            raise
        except OSError as error:
            raise CannotLaunch(f"cannot be started: its files cannot be made ready: {error}") from error
