"""What is told of a worker's lives: events for the journal, a full line each for the daemon's log."""

from __future__ import annotations

from supervisor.core.event import Event, WorkerStarted
from supervisor.core.plugin import Plugin
from supervisor.log import get_logger
from supervisor.report import report_failure
from supervisor.worker.backoff import Verdict
from supervisor.worker.ending import Ending, crash_event, stop_event
from supervisor.worker.host import Host


class Teller:
    """A fact that cannot be recorded has happened all the same: nothing here raises."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def started(self, plugin: Plugin, pid: int, restarts: int) -> None:
        await self._record(WorkerStarted(plugin_id=plugin.id, plugin_key=plugin.key, pid=pid, restarts=restarts))
        get_logger().info("worker.started", plugin=plugin.key, pid=pid, restarts=restarts)

    async def stopped(self, plugin: Plugin, ending: Ending) -> None:
        if (stopped := stop_event(plugin, ending)) is not None:
            await self._record(stopped)
        get_logger().info(
            "worker.stopped", plugin=plugin.key, pid=ending.pid, stage=ending.stage, exit=str(ending.exit)
        )

    async def crashed(self, plugin: Plugin, ending: Ending, verdict: Verdict) -> None:
        get_logger().warning(
            "worker.crashed",
            plugin=plugin.key,
            pid=ending.pid,
            cause=ending.cause,
            ran_s=ending.ran_s,
            crashes=verdict.crashes,
            restart_in_s=verdict.wait_s,
        )
        await self._record(crash_event(plugin, ending, verdict.crashes, verdict.wait_s))

    async def failed_on_trial(self, plugin: Plugin, ending: Ending) -> None:
        """What runs of the plugin has not crashed: nobody is told so. One that had been told as started has stopped."""
        get_logger().warning(
            "worker.failed_on_trial",
            plugin=plugin.key,
            version=plugin.version,
            pid=ending.pid,
            cause=ending.cause,
            ran_s=ending.ran_s,
        )
        if (stopped := stop_event(plugin, ending)) is not None:
            await self._record(stopped)

    async def _record(self, event: Event) -> None:
        try:
            await self._host.record(event)
        except Exception as error:  # noqa: BLE001  whatever it is, the worker goes on
            report_failure("event.not_recorded", error, type=event.type, plugin=event.plugin_key)
