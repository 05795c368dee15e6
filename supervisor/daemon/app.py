"""The composition root: opens what the parts stand on and the nurseries they run in, and closes them in order."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from supervisor.bus import EventBus
from supervisor.clock import to_ms
from supervisor.control.access import Gate
from supervisor.control.audit import AuditTrail
from supervisor.control.connection import Service
from supervisor.control.detached import Detached
from supervisor.control.listen import bound_socket
from supervisor.control.methods import Methods, Parts, daemon_status
from supervisor.control.peers import PluginTree
from supervisor.control.server import ControlServer
from supervisor.core.errors import ResourceExhausted
from supervisor.core.event import Recorded
from supervisor.core.lifecycle import Status
from supervisor.daemon.assembly import Assembly, Surrounding, assemble
from supervisor.daemon.delegation import workers_group
from supervisor.daemon.foreign import ForeignChildren
from supervisor.daemon.leftovers import remove_leftovers
from supervisor.daemon.metrics_service import MetricsService
from supervisor.daemon.reaper import reap_orphans
from supervisor.daemon.reloading import LiveSettings
from supervisor.daemon.settings import Settings, describe
from supervisor.daemon.strays import kill_strays
from supervisor.daemon.systemd import watchdog
from supervisor.daemon.upkeep import Keep, keep_short, purge_uninstalled
from supervisor.faultpoints import FaultPoint
from supervisor.jobs.history import HistoryKeeper
from supervisor.jobs.plan import retry_interrupted
from supervisor.log import get_logger
from supervisor.store.database import Database
from supervisor.version import VERSION
from supervisor.wire.control import PROTOCOL_VERSION
from supervisor.wire.results import DaemonInfo, DaemonStatus, ReloadInfo

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
        self._foreign = ForeignChildren(given.state_dir.state_id)
        self._server: ControlServer | None = None
        self._live = LiveSettings(given.settings, given.reread)
        self._history: HistoryKeeper | None = None
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
        return {
            "name": "plugind",
            "version": VERSION,
            "pid": os.getpid(),
            "uid": os.geteuid(),
            "protocol": PROTOCOL_VERSION,
            "python": sys.version.split()[0],
            "state_dir": str(self._given.state_dir.path),
            "socket": self._socket_path,
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
        if self._history is not None:
            self._history.keep_runs, self._history.keep_ms = settings.run_keep, _ms(settings.run_keep_days)

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
            await self._clean_up_after_the_last_daemon()
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
        gate = Gate(uid, plugins=PluginTree(os.getpid(), uid, workers_group() if self._built.groups else None))
        await self._live.watch_over(gate)
        return gate

    async def _clean_up_after_the_last_daemon(self) -> None:
        """It may have been killed at any instant: end what it left running, before anything of ours starts."""
        built, state_dir = self._built, self._given.state_dir
        await remove_leftovers(
            state_dir.state_id,
            # Rows that came with a copy of a directory name the workers of the daemon on the original.
            await built.processes.all() if state_dir.id_was_kept else [],
            term_grace_s=self._settings.term_grace_s,
            kill_grace_s=self._settings.kill_grace_s,
        )
        if built.groups and (pids := await built.groups.remove_former(self._settings.kill_grace_s)):
            get_logger().warning("leftover.killed_in_cgroup", pids=pids)
        await built.processes.clear()
        interrupted = await built.runs.interrupt_leftovers(retry_interrupted)
        if interrupted:
            get_logger().warning("runs.interrupted", count=interrupted)
        built.faults.reach(FaultPoint.BOOT_LEFTOVERS_REMOVED)
        # Where the rows are gone, not the plugins, whoever restores them wants the files still there.
        damaged = bool(built.database.warnings or self._damaged_databases())
        try:
            # Once more: until now a pip that outlived its daemon may have been at work in there.
            await trio.to_thread.run_sync(state_dir.empty_staging)
            await built.audit.close_open()
            await built.lifecycle.end_what_was_begun(keep_unnamed=damaged)
            if not damaged:
                await built.packages.collect(built.registry.package_dirs())
                await built.places.collect({plugin.key for plugin in built.registry.all()})
                built.faults.reach(FaultPoint.BOOT_COLLECTED)
        except (ResourceExhausted, OSError) as error:
            # A full disk must not keep the workers from running; what is left over harms nobody.
            self.warnings.append(f"what the daemon before had begun could not all be cleaned up: {error}")
            get_logger().error("daemon.not_cleaned_up", why=str(error))

    def _damaged_databases(self) -> list[Path]:
        """Moved aside by this start or an earlier one, and not yet dealt with by an operator."""
        damaged = sorted(self._given.state_dir.path.glob(f"{DATABASE_NAME}.damaged-*"))
        if damaged:
            names = ", ".join(path.name for path in damaged)
            self.warnings.append(
                f"a damaged database was moved aside ({names}): packages and data that no plugin has are kept until "
                "you restore it, or move it out of the state directory"
            )
            get_logger().warning("database.damaged_before", files=names)
        return damaged

    async def _serve(self, listener: socket.socket, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as last:  # tells who asks what is going on, to the end
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
        methods = Methods(self._parts())
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
        self._start_upkeep(intake)
        if self._given.watchdog_s:
            intake.start_soon(watchdog, self._given.notifier, self._given.watchdog_s, self._check_health)
        return server

    async def _schedule_jobs(self) -> None:
        """Once the jobs are what the manifests say: what was due before that is due then."""
        await self._built.coordinator.wait_looked()
        await self._built.scheduler.run()

    def _start_upkeep(self, intake: trio.Nursery) -> None:
        settings, built = self._settings, self._built
        self._history = HistoryKeeper(
            built.runs, get_logger(), keep_runs=settings.run_keep, keep_ms=_ms(settings.run_keep_days)
        )
        intake.start_soon(self._history.run)
        intake.start_soon(keep_short, built.journal, built.requests, built.audit, self._keep)
        # Asked anew each time: a reload may have changed it.
        purge = partial(purge_uninstalled, after=lambda: timedelta(days=self._settings.purge_after_days))
        intake.start_soon(purge, built.lifecycle, self._clock)

    def _keep(self) -> Keep:
        settings = self._settings
        return Keep(
            events=settings.event_keep,
            events_age=timedelta(days=settings.event_keep_days),
            audit=settings.audit_keep,
            audit_age=timedelta(days=settings.audit_keep_days),
        )

    async def _check_health(self) -> None:
        """The event loop turns, or this would not run; and the database answers."""
        await self._built.database.read(lambda: None)

    def _parts(self) -> Parts:
        built = self._built
        return Parts(
            daemon=self,
            registry=built.registry,
            lifecycle=built.lifecycle,
            config=built.configurator,
            next_recovery_in_s=built.reconciler.next_recovery_in_s,
            workers=built.workers,
            jobs=built.operator,
            journal=built.journal,
            audit=built.audit,
            names=self._gate.names,
            bus=self._bus,
            state=built.state,
            metrics=built.metrics,
            containment=built.containment,
            places=built.places,
            logs=built.logs,
            clock=self._clock,
            methods=built.methods,
        )

    def _own_pids(self) -> set[int]:
        """Of the children that a part of the daemon waits for."""
        return self._built.workers.pids() | self._built.commands.pids() | self._built.children.pids()

    def _longest_stop_s(self) -> float:
        """Runs and requests drain, what is left of commands is ended, workers stop one behind the other where one
        requires the other, rows are written."""
        built = self._built
        return 2 * self._settings.drain_s + built.commands.longest_stop_s() + built.workers.longest_stop_s() + 5.0


def _ms(days: float) -> int:
    return int(timedelta(days=days) / timedelta(milliseconds=1))


def _address(listener: socket.socket) -> str:
    """As people write it, with @ in front of an abstract one."""
    address = listener.getsockname()
    return address if isinstance(address, str) else f"@{address[1:].decode(errors='backslashreplace')}"
