"""The composition root: opens what the parts stand on and the nurseries they run in, and closes them in order."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import trio

from supervisor.bus import EventBus
from supervisor.clock import to_ms
from supervisor.control.access import Gate
from supervisor.control.audit import AuditTrail
from supervisor.control.detached import Detached
from supervisor.control.listen import bound_socket
from supervisor.control.methods import Methods, daemon_status
from supervisor.control.peers import PluginTree
from supervisor.control.server import ControlServer
from supervisor.control.service import Service
from supervisor.core.event import Recorded
from supervisor.core.lifecycle import Status
from supervisor.daemon.assembly import Assembly, Surrounding, assemble
from supervisor.daemon.delegation import workers_group
from supervisor.daemon.foreign import ForeignChildren
from supervisor.daemon.metrics_service import MetricsService
from supervisor.daemon.predecessor import clean_up_after_the_last_daemon
from supervisor.daemon.reaper import reap_orphans
from supervisor.daemon.reloading import LiveSettings
from supervisor.daemon.resources import look_at_resources
from supervisor.daemon.settings import Settings, describe
from supervisor.daemon.socket_parts import parts_of
from supervisor.daemon.strays import kill_strays
from supervisor.daemon.systemd import watchdog
from supervisor.daemon.upkeep import Upkeep
from supervisor.log import get_logger
from supervisor.store.database import Database
from supervisor.version import VERSION
from supervisor.wire.control import PROTOCOL_VERSION
from supervisor.wire.results import DaemonInfo, DaemonStatus, ReloadInfo
from supervisor.worker.badge import pin_badge

DATABASE_NAME: Final = "plugind.db"


class App:
    """`run` it once. `request_stop` and `hurry` may be called at any time, from the event loop's thread."""

    _built: Assembly
    """The parts, as soon as they are built."""
    _gate: Gate

    def __init__(self, given: Surrounding) -> None:
        self._given = given
        self._settings = given.settings
        self._clock = given.clock
        self._stop = trio.Event()
        self._work_scope: trio.CancelScope | None = None
        self._socket_path = _address(given.listener) if given.listener else given.settings.socket
        """Where clients connect: an inherited socket is where its unit says."""
        self._started_at = given.clock.now()
        self._started = trio.current_time()
        self._bus = EventBus()
        self._metrics = MetricsService(given.clock)
        self._badge = pin_badge(given.state_dir.state_id)
        self._foreign = ForeignChildren(given.state_dir.state_id, self._badge)
        self._server: ControlServer | None = None
        self._live = LiveSettings(given.settings, given.reread, binds=given.listener is None)
        self._upkeep: Upkeep | None = None
        self.warnings: list[str] = []
        """Beside those of the settings."""

    # The daemon as seen from the socket and from signals.

    def request_stop(self, why: str) -> None:
        if not self._stop.is_set():
            get_logger().info("daemon.stopping", why=why)
        self._stop.set()

    def hurry(self) -> None:
        """A second time asked to stop: no more draining."""
        get_logger().warning("daemon.hurried")
        self._stop.set()
        if self._work_scope:
            self._work_scope.cancel(reason="hurried")
            # Unwanted first: what is killed then has been stopped, and has not crashed.
            self._built.workers.close()
            self._built.workers.kill_all()
            self._built.commands.kill_all()

    def info(self) -> DaemonInfo:
        groups = self._built.groups
        return {
            "name": "plugind",
            "version": VERSION,
            "pid": os.getpid(),
            "uid": os.geteuid(),
            "protocol": PROTOCOL_VERSION,
            "python": sys.version.split()[0],
            "state_dir": str(self._given.state_dir.path),
            "socket": self._socket_path,
            "config_file": str(config) if (config := self._settings.config_file) else None,
            "resources": look_at_resources(
                self._built.database.path, self._settings.log_dir, groups.controllers if groups else None
            ),
            "started_at_ms": to_ms(self._started_at),
        }

    def status(self) -> DaemonStatus:
        plugins, workers = daemon_status(self._built.registry, self._built.workers)
        return {
            "uptime_s": trio.current_time() - self._started,
            "plugins": plugins,
            "workers": workers,
            "connections": self._server.connections if self._server else 0,
            "runs_in_flight": len(self._built.runner.active),
            "jobs_held_since_ms": self._built.operator.holds.since_ms,
            "last_seq": self._bus.last_seq,
            "stopping": self._stop.is_set(),
            "warnings": self._warnings(),
        }

    async def reload(self) -> ReloadInfo:
        """Read the settings anew, who has which role, and the tz database.

        Raises:
            SettingsError: they have problems; all is as it was.
        """
        notifier = self._given.notifier
        # Not before it was ready, nor while it stops: READY=1 would take the place of what is said then.
        is_told = self._server is not None and not self._stop.is_set()
        if is_told:
            notifier.reloading()
        try:
            return await self._live.reload(self._put_in_force)
        finally:
            if is_told and not self._stop.is_set():
                notifier.ready()

    def _put_in_force(self, settings: Settings) -> None:
        """What was built with them; all else asks for them when it needs them."""
        self._settings = settings
        if self._server is not None:
            self._built.methods.default_timeout_s = settings.call_timeout_s
            self._built.coordinator.reload()
            self._server.look_again()
        if self._upkeep is not None:
            self._upkeep.put_in_force(settings)

    def settings(self) -> dict[str, Any]:
        return describe(self._settings)

    async def backup(self, path: Path) -> None:
        await self._built.database.backup(path)

    async def metrics(self, *, plugins: bool) -> str:
        return await self._metrics.text(plugins=plugins)

    def _warnings(self) -> list[str]:
        return [*self._live.warnings, *self.warnings]

    def _publish(self, event: Recorded) -> None:
        self._bus.publish(event)
        self._metrics.note(event)

    # From start to end.

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Start, serve until asked to stop, drain, stop. Started means: the socket answers, and boot is under way.

        Raises:
            FailedPrecondition: the database or the socket cannot be used; nothing was started.
        """
        async with AsyncExitStack() as stack:
            database = await stack.enter_async_context(self._opened_database())
            listener = self._given.listener or stack.enter_context(
                bound_socket(Path(self._settings.socket), self._settings.socket_group)
            )
            self._metrics.listen(self._settings, stack)
            self._built = await assemble(self._given, database, self._bus)
            self._gate = await self._open_gate()
            stack.callback(self._built.alarm.close)
            await self._built.operator.holds.load()
            self.warnings += await clean_up_after_the_last_daemon(self._given, self._built, self._badge)
            await self._serve(listener, task_status)
            await kill_strays(except_pids=self._own_pids(), which=self._foreign.is_not_one)
        get_logger().info("daemon.stopped", uptime_s=round(trio.current_time() - self._started, 3))

    @asynccontextmanager
    async def _opened_database(self) -> AsyncIterator[Database]:
        path = self._given.state_dir.path / DATABASE_NAME
        database = await Database.open(path, clock=self._clock, publish=self._publish)
        self.warnings += database.warnings
        for warning in database.warnings:
            get_logger().error("database.warning", warning=warning)
        try:
            yield database
        finally:
            # The last rows are on their way; what is committed is safe already.
            with trio.CancelScope(shield=True, deadline=trio.current_time() + self._settings.drain_s):
                await database.aclose()

    async def _open_gate(self) -> Gate:
        """Once we are in our own control group, which tells where those of the workers are."""
        uid = os.geteuid()
        group = workers_group() if self._built.groups else None
        gate = Gate(uid, plugins=PluginTree(os.getpid(), uid, group, self._badge))
        await self._live.watch_over(gate)
        return gate

    async def _serve(self, listener: socket.socket, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as last:  # tells who asks what is going on, to the end
            last.start_soon(self._given.notifier.run)
            async with trio.open_nursery() as workers:  # child processes
                await workers.start(self._built.workers.run)
                workers.start_soon(reap_orphans, lambda pid: pid in self._own_pids())
                async with trio.open_nursery() as work:  # requests and runs in flight
                    self._work_scope = work.cancel_scope
                    await work.start(self._built.runner.run)
                    async with trio.open_nursery() as intake:  # accept loop, schedule, subscriptions
                        server = await self._start_services(intake, work, listener)
                        self._tell_ready()
                        task_status.started()
                        await self._stop.wait()
                        self._given.notifier.stopping("draining")
                        self._given.notifier.extend_timeout(self._longest_stop_s())
                        intake.cancel_scope.cancel(reason="stop requested")
                    if self._given.listener is None:
                        # On an inherited socket whoever connects now waits for the next daemon.
                        last.start_soon(server.run_while_stopping)
                    self._built.runner.close()
                    work.cancel_scope.deadline = trio.current_time() + self._settings.drain_s
                workers.cancel_scope.cancel(reason="drained")
            last.cancel_scope.cancel(reason="stopped")

    def _tell_ready(self) -> None:
        there = sum(plugin.status is not Status.UNINSTALLED for plugin in self._built.registry.all())
        self._given.notifier.ready(f"{there} plugins")
        get_logger().info("daemon.ready", version=VERSION, pid=os.getpid(), socket=self._socket_path)

    async def _start_services(self, intake: trio.Nursery, work: trio.Nursery, listener: socket.socket) -> ControlServer:
        built = self._built
        methods = Methods(parts_of(built, daemon=self, names=self._gate.names, bus=self._bus, clock=self._clock))
        service = Service(
            handlers=methods.handlers,
            operations=methods.operations,
            detached=Detached(work, built.requests, AuditTrail(built.audit)),
            gate=self._gate,
            bus=self._bus,
            journal=built.journal,
            registry=built.registry,
            job_name=built.operator.name,
            logs=built.logs,
            version=VERSION,
            phase_timeout_s=self._settings.phase_timeout_s,
            meters=self._metrics.meters,
        )
        self._server = server = ControlServer(listener, service, self._gate)
        await self._metrics.start(intake, built, server.statistics, lambda: len(self._warnings()))
        # In this order: a run that is due at once finds its worker wanted, and a command finds all in place.
        await intake.start(built.reconciler.run)
        await intake.start(built.editable.run)
        await intake.start(built.coordinator.run)
        intake.start_soon(self._schedule_jobs)
        await intake.start(server.run, work)
        self._upkeep = Upkeep(built, self._clock, lambda: self._settings)
        self._upkeep.start(intake)
        if self._given.watchdog_s:
            intake.start_soon(watchdog, self._given.notifier, self._given.watchdog_s, self._check_health)
        return server

    async def _schedule_jobs(self) -> None:
        """Once the jobs are what the manifests say: what was due before that is due then."""
        await self._built.coordinator.wait_looked()
        await self._built.scheduler.run()

    async def _check_health(self) -> None:
        """The event loop turns, or this would not run; and the database answers."""
        await self._built.database.read(lambda: None)

    def _own_pids(self) -> set[int]:
        """Of the children that a part of the daemon waits for."""
        return self._built.workers.pids() | self._built.commands.pids() | self._built.children.pids()

    def _longest_stop_s(self) -> float:
        """Runs and requests drain, what is left of commands is ended, workers stop one behind the other where one
        requires the other, rows are written."""
        built = self._built
        return 2 * self._settings.drain_s + built.commands.longest_stop_s() + built.workers.longest_stop_s() + 5.0


def _address(listener: socket.socket) -> str:
    """As people write it, with @ in front of an abstract one."""
    address = listener.getsockname()
    return address if isinstance(address, str) else f"@{address[1:].decode(errors='backslashreplace')}"
