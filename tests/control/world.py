"""A control server on a real socket over a real store, with workers that are fakes; and a client of few words."""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgpack
import trio

from supervisor.control.access import Gate
from supervisor.control.audit import AuditTrail
from supervisor.control.calls import MethodCaller
from supervisor.control.detached import Detached
from supervisor.control.listen import bound_socket
from supervisor.control.methods import Methods, Parts
from supervisor.control.room import Caps
from supervisor.control.server import ControlServer
from supervisor.control.service import Service
from supervisor.core.errors import NotFound
from supervisor.core.event import PluginEmitted, Recorded, RunStarted
from supervisor.core.lifecycle import Status
from supervisor.core.plugin import Plugin
from supervisor.daemon.places import PluginPlaces
from supervisor.faultpoints import FaultPoints
from supervisor.lifecycle.config import Configurator
from supervisor.lifecycle.config_references import References
from supervisor.lifecycle.locks import PluginLock, PluginLocks
from supervisor.lifecycle.packages import PackageStore
from supervisor.metrics import Metrics
from supervisor.store.audit import AuditLog
from supervisor.store.configs import ConfigStore
from supervisor.store.journal import Journal
from supervisor.store.requests import RequestLog
from supervisor.store.state import StateStore
from supervisor.worker.containment import Containment
from supervisor.worker.logs import PluginLogs
from tests.fakes import LifecycleWorld, Script, open_lifecycle_world

LOG_BYTES, LOG_FILES = 20_000, 3


class Wire:
    """One connection, by hand."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._unpacker = msgpack.Unpacker()
        self._read: deque[Any] = deque()
        self._last_id = 0

    @classmethod
    async def dial(cls, path: Path) -> Wire:
        return cls(await trio.open_unix_socket(str(path)))

    async def send(self, *messages: Any) -> None:
        """All in one segment."""
        await self.stream.send_all(b"".join(msgpack.packb(message) for message in messages))

    async def ask(self, method: str, /, **params: Any) -> int:
        """Send a request with named params and return its id."""
        self._last_id += 1
        await self.send([0, self._last_id, method, [params] if params else []])
        return self._last_id

    async def message(self) -> Any:
        """The next one; None at the end of the stream."""
        while True:
            if self._read:
                return self._read.popleft()
            data = await self.stream.receive_some(65536)
            if not data:
                return None
            self._unpacker.feed(data)
            self._read.extend(self._unpacker)

    async def answer(self, id_: int) -> tuple[Any, Any]:
        """(error, result) of request `id_`; notifications on the way are kept for later."""
        kept = []
        while (message := await self.message()) is not None:
            if message[:2] == [1, id_]:
                self._read.extendleft(reversed(kept))
                return message[2], message[3]
            kept.append(message)
        raise EOFError("the connection ended")

    async def call(self, method: str, /, **params: Any) -> Any:
        error, result = await self.answer(await self.ask(method, **params))
        assert error is None, error
        return result

    async def refused(self, method: str, /, **params: Any) -> Any:
        error, _ = await self.answer(await self.ask(method, **params))
        assert error is not None
        return error

    async def hello(self) -> Wire:
        await self.call("rpc.hello", client="test")
        return self

    async def rest(self) -> list[Any]:
        """Everything up to the end of the stream."""
        messages = []
        while (message := await self.message()) is not None:
            messages.append(message)
        return messages

    async def event(self) -> dict[str, Any]:
        """The next notification's param."""
        message = await self.message()
        assert message[:2] == [2, "rpc.event"], message
        found: dict[str, Any] = message[2][0]
        return found


@dataclass
class ControlWorld:
    lifecycle_world: LifecycleWorld
    path: Path
    journal: Journal
    server: ControlServer
    accepting: trio.CancelScope
    stop_asked: list[str]
    logs: PluginLogs
    containment: Containment
    gate: Gate

    async def dial(self) -> Wire:
        return await Wire.dial(self.path)

    def drain(self) -> None:
        """Take no more, as the daemon does when it stops."""
        self.accepting.cancel()

    async def plugin(self, key: str = "acme.one", status: Status = Status.DISABLED) -> Plugin:
        self.lifecycle_world.workers.scripts.setdefault(key, Script(up_after_s=0.01, stops_after_s=0.01))
        return await self.lifecycle_world.put(key, status)

    async def emit(self, plugin: Plugin, count: int, payload: Any = None) -> list[Recorded]:
        """In one transaction."""
        events = [PluginEmitted(plugin_id=plugin.id, plugin_key=plugin.key, name="n", payload=payload)] * count
        return await self.lifecycle_world.registry.record(*events)

    async def run_started(self, plugin: Plugin, job: str) -> None:
        event = RunStarted(
            plugin_id=plugin.id, plugin_key=plugin.key, job=job, run_id="r", trigger="manual", attempt=1, due_ms=0
        )
        await self.lifecycle_world.registry.record(event)


async def _job_name(name: str) -> str:
    """Any `<plugin>/<key>` is a job here, and `id-of-<name>` its id."""
    await trio.lowlevel.checkpoint()
    name = name.removeprefix("id-of-")
    if "/" not in name:
        raise NotFound(f"there is no job {name!r}", job=name)
    return name


def _configurator(world: LifecycleWorld) -> Configurator:
    """A real one; what it would restart is restarted."""

    async def restart(plugin: Plugin, _: PluginLock) -> Plugin:
        world.workers.unwant(plugin.id)
        await world.workers.wait_stopped(plugin.id)
        world.workers.want(plugin)
        await world.workers.wait_up(plugin.id)
        return plugin

    return Configurator(
        world.registry,
        ConfigStore(world.database),
        world.workers,  # type: ignore[arg-type]
        PluginLocks(),
        References(None, uid=os.geteuid()),
        FaultPoints({}),
        restart=restart,
    )


@asynccontextmanager
async def open_control_world(
    directory: Path, *, listener: socket.socket | None = None, gate: Gate | None = None, **limits: int
) -> AsyncIterator[ControlWorld]:
    """Leaving the block drains; opening the same directory again is the daemon's next start."""
    path, stop_asked = directory / "control.sock", []
    async with open_lifecycle_world(directory / "control.db") as world:
        journal = Journal(world.database)
        world.bus.last_seq = await journal.last_seq()
        gate, audit = gate or Gate(os.geteuid()), AuditLog(world.database)
        await audit.close_open()
        daemon = SimpleNamespace(info=dict, status=dict, settings=dict, request_stop=stop_asked.append)
        logs = PluginLogs(directory, max_bytes=LOG_BYTES, files=LOG_FILES)
        parts = Parts(
            daemon=daemon,  # type: ignore[arg-type]
            registry=world.registry,
            lifecycle=world.lifecycle,
            next_recovery_in_s=lambda _: None,
            workers=world.workers,  # type: ignore[arg-type]
            jobs=SimpleNamespace(name=_job_name),  # type: ignore[arg-type]
            journal=journal,
            audit=audit,
            names=gate.names,
            bus=world.bus,
            state=StateStore(world.database),
            metrics=Metrics(lambda: 0),
            containment=Containment(),
            places=PluginPlaces(
                PackageStore(directory / "packages", directory / "staging", lambda job, key: None),
                directory / "data",
                logs,
            ),
            logs=logs,
            clock=world.database.clock,
            methods=MethodCaller(world.registry, world.workers, 5),  # type: ignore[arg-type]
            config=_configurator(world),
        )
        with bound_socket(path) as own:
            async with trio.open_nursery() as work:
                methods = Methods(parts)
                service = Service(
                    handlers=methods.handlers,
                    operations=methods.operations,
                    detached=Detached(work, RequestLog(world.database), AuditTrail(audit)),
                    gate=gate,
                    bus=world.bus,
                    journal=journal,
                    registry=world.registry,
                    job_name=parts.jobs.name,
                    logs=logs,
                    version="1.2.3",
                )
                server = ControlServer(listener or own, service, gate, Caps(**limits))
                accepting = trio.CancelScope()

                async def accept(*, task_status: trio.TaskStatus[None]) -> None:
                    with accepting:
                        await server.run(work, task_status=task_status)

                async with trio.open_nursery() as intake:
                    await intake.start(accept)
                    yield ControlWorld(
                        world, path, journal, server, accepting, stop_asked, logs, parts.containment, gate
                    )
                    intake.cancel_scope.cancel()
                work.cancel_scope.deadline = trio.current_time() + 1
