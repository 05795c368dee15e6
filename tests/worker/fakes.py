"""What the workers' tests share: processes that follow a script, a host that remembers, and a supervisor's tools."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgpack
import trio
import trio.testing

from supervisor.core.event import Event
from supervisor.core.lifecycle import Status
from supervisor.core.manifest import Manifest, MethodSpec
from supervisor.core.plugin import Capability, Plugin, PluginId, PluginKey
from supervisor.core.worker_spec import HealthPolicy, RestartPolicy, WorkerSpec
from supervisor.wire.message import Notification
from supervisor.wire.worker import HostRequest
from supervisor.worker.crash import Crash, Reason
from supervisor.worker.host import GivenConfig, Stray
from supervisor.worker.launch import Launch
from supervisor.worker.link import WorkerLink
from supervisor.worker.logfile import LogFile
from supervisor.worker.manager import WorkerManager
from supervisor.worker.process import Exit
from supervisor.worker.shutdown import Graces
from supervisor.worker.tools import Tools

SPAWNED_AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
PLUGIN_ID = PluginId("11111111-1111-4111-8111-111111111111")
NEVER = float("inf")
HANDSHAKE = {"api_version": 1, "methods": []}


def make_plugin(
    key: str = "test.fake",
    *,
    id_: PluginId = PLUGIN_ID,
    requires: tuple[str, ...] = (),
    install_order: int = 1,
    capabilities: tuple[str, ...] = (),
    methods: tuple[str, ...] = (),
    **worker: Any,
) -> Plugin:
    granted = tuple(Capability(name) for name in capabilities)
    manifest = Manifest(
        key=PluginKey(key),
        version="1.0.0",
        api_version=1,
        display_name=key,
        description="a fake",
        author="tests",
        categories=("automation",),
        capabilities=granted,
        min_supervisor_version=None,
        requires=tuple(map(PluginKey, requires)),
        worker=WorkerSpec(**{"command": ("python", "main.py"), **worker}),
        jobs=(),
        methods=tuple(MethodSpec(name=name) for name in methods),
        config_schema={},
    )
    return Plugin(
        id=id_,
        key=PluginKey(key),
        version="1.0.0",
        status=Status.READY,
        manifest=manifest,
        approved=frozenset(granted),
        install_order=install_order,
        package_dir=key,
        last_error=None,
        disable_reason=None,
        installed_at=SPAWNED_AT,
        updated_at=SPAWNED_AT,
    )


@dataclass(frozen=True, kw_only=True)
class Script:
    """How a fake worker behaves; seconds, NEVER for what it does not do."""

    answers_after_s: float = 0.0
    """`initialize`; NEVER: it hangs."""
    handshake: Any = field(default_factory=lambda: dict(HANDSHAKE))
    refusal: Any = None
    health: Any = field(default_factory=lambda: {"status": "ok"})
    healthy_for_s: float = NEVER
    """Afterwards it does not answer `health`."""
    exits_after_s: float = NEVER
    exit: Exit = field(default_factory=lambda: Exit(5, None))
    stderr: bytes = b""
    hangs_up_after_s: float = NEVER
    sends_after_handshake: bytes = b""
    drains_in_s: float = 0.0
    ends_on_term_in_s: float = 0.0
    ends_on_kill_in_s: float = 0.0
    ends_on: dict[int, float] = field(default_factory=dict)
    """Other signals, and how long after them it ends."""
    stdout: bytes = b""
    breaches_after_s: float = NEVER
    breach: Crash = field(default_factory=lambda: Crash(Reason.LIMIT_EXCEEDED, "has more processes than it may"))
    post_mortem: Crash | None = None
    rpc: bool = True
    does_runs: bool = False
    """Else it sits in each for ever."""


class FakeProcess:
    """Implements `Process`. It lives while `watch` runs; `call`s are answered with their params, save `hang`."""

    def __init__(self, pid: int, script: Script, key: str = "") -> None:
        self.pid = pid
        self.key = key
        self.script = script
        self.exit: Exit | None = None
        self.signals: list[int] = []
        self.asked: list[str] = []
        self.closed = False
        self.reaped_at: float | None = None
        self.rpc, self._far = trio.testing.memory_stream_pair() if script.rpc else (None, None)
        self._out, self.stdout = trio.testing.memory_stream_one_way_pair()
        self._err, self.stderr = trio.testing.memory_stream_one_way_pair()
        self._ended = trio.Event()
        self._reaped = trio.Event()
        self._how = script.exit
        self._born = trio.current_time()
        self._body: trio.Nursery | None = None
        self._early: list[tuple[float, Callable[[], None]]] = []
        """What befell it before it was watched."""

    async def watch(self) -> None:
        async with trio.open_nursery() as self._body:
            for after_s, act in self._early:
                self._later(after_s, act)
            self._later(self.script.exits_after_s, lambda: self.end(self.script.exit))
            self._later(self.script.hangs_up_after_s, self._hang_up)
            if self._far is not None:
                self._body.start_soon(self._talk)
            if self.script.stderr:
                self._body.start_soon(self._err.send_all, self.script.stderr)
            if self.script.stdout:
                self._body.start_soon(self._out.send_all, self.script.stdout)
            await self._ended.wait()
            self._body.cancel_scope.cancel()
        self.exit = self._how
        self.reaped_at = trio.current_time()
        self._hang_up()
        self._out.close()
        self._err.close()
        self._reaped.set()

    async def wait(self) -> Exit:
        await self._reaped.wait()
        assert self.exit is not None
        return self.exit

    def end(self, how: Exit) -> None:
        if not self._ended.is_set():
            self._how = how
            self._ended.set()

    def signal_group(self, number: int) -> None:
        if self.exit is not None:
            return
        self.signals.append(number)
        after_s = {
            signal.SIGTERM: self.script.ends_on_term_in_s,
            signal.SIGKILL: self.script.ends_on_kill_in_s,
            **self.script.ends_on,
        }.get(number, NEVER)
        self._later(after_s, lambda: self.end(Exit(None, number)))

    def kill(self) -> None:
        self.signal_group(signal.SIGKILL)

    def note_kin(self) -> None:
        """It has none."""

    def post_mortem(self) -> Crash | None:
        return self.script.post_mortem

    async def wait_breach(self) -> Crash:
        await trio.sleep(self.script.breaches_after_s)
        return self.script.breach

    async def aclose(self) -> None:
        self.closed = True
        for stream in (self.rpc, self.stdout, self.stderr):
            if stream is not None:
                await trio.aclose_forcefully(stream)

    def _later(self, after_s: float, act: Callable[[], None]) -> None:
        async def wait() -> None:
            await trio.sleep(after_s)
            act()

        if after_s == 0:
            act()
        elif self._body is None:
            self._early.append((after_s, act))
        elif after_s != NEVER:
            self._body.start_soon(wait)

    def _hang_up(self) -> None:
        if self._far is not None:
            self._far.send_stream.close()
            self._far.receive_stream.close()

    async def _talk(self) -> None:
        assert self._far is not None
        unpacker = msgpack.Unpacker()
        try:
            while data := await self._far.receive_some():
                unpacker.feed(data)
                for message in unpacker:
                    if message[0] == 0:
                        await self._serve(*message[1:])
        except trio.ClosedResourceError:
            await trio.sleep_forever()  # It hung up, and lives on.

    async def _serve(self, id_: int, method: str, params: list[Any]) -> None:
        script = self.script
        self.asked.append(method)
        match method:
            case "initialize" if script.answers_after_s != NEVER:
                await trio.sleep(script.answers_after_s)
                await self._answer(id_, script.refusal, None if script.refusal else script.handshake)
                if script.sends_after_handshake:
                    assert self._far is not None
                    await self._far.send_all(script.sends_after_handshake)
            case "health" if trio.current_time() < self._born + script.healthy_for_s:
                await self._answer(id_, None, script.health)
            case "shutdown":
                self._later(script.drains_in_s, lambda: self.end(Exit(0, None)))
            case "run_job" if script.does_runs:
                await self._answer(id_, None, params[0]["attempt"])
            case "call" if params[0].get("method") != "hang":
                await self._answer(id_, None, params[0])

    async def _answer(self, id_: int, error: Any, result: Any) -> None:
        assert self._far is not None
        await self._far.send_all(msgpack.packb([1, id_, error, result]))


class FakeHost:
    """Implements `Host`. What is named in `faults` raises; `record` takes `record_s` seconds."""

    def __init__(self) -> None:
        self.events: list[tuple[float, Event]] = []
        self.known: set[int] = set()
        self.faults: set[str] = set()
        self.record_s = 0.0
        self.notifications: list[Notification] = []
        self.strays: list[Stray] = []
        """What the next worker leaves behind."""

    async def config(self, plugin: Plugin) -> GivenConfig:
        self._fail("config")
        return GivenConfig()

    async def config_taken(self, plugin_id: PluginId, revision: int) -> None:
        raise AssertionError("no configuration is new")

    def told(self, plugin: Plugin, notification: Notification) -> None:
        self.notifications.append(notification)

    async def serve(self, plugin: Plugin, request: HostRequest, link: WorkerLink) -> Any:
        self._fail("serve")
        return {"config": {}}

    async def record(self, event: Event) -> None:
        await trio.sleep(self.record_s)
        self._fail(f"record {event.type}")
        self.events.append((trio.current_time(), event))

    async def remember(self, plugin_id: PluginId, pid: int) -> None:
        self._fail("remember")
        self.known.add(pid)

    async def forget(self, plugin_id: PluginId, pid: int) -> list[Stray]:
        self._fail("forget")
        self.known.discard(pid)
        strays, self.strays = self.strays, []
        return strays

    def types(self) -> list[str]:
        return [event.type.removeprefix("plugin.worker_") for _, event in self.events]

    def of(self, class_: type[Event]) -> list[Any]:
        return [event for _, event in self.events if isinstance(event, class_)]

    def _fail(self, what: str) -> None:
        if what in self.faults:
            raise ZeroDivisionError(f"a mistake in {what}")


class Even(random.Random):
    """No jitter."""

    def uniform(self, a: float, b: float) -> float:
        return 0.0


class World:
    """A manager over fake processes: the n-th spawn follows `scripts[n]`, the last one for ever. A plugin in `by_key`
    or `key@version` has a script of its own."""

    def __init__(
        self, tmp_path: Path, *scripts: Script, graces: Graces | None = None, start_concurrency: int = 8
    ) -> None:
        self.scripts = scripts or (Script(),)
        self.by_key: dict[str, Script] = {}
        self.host = FakeHost()
        self.processes: list[FakeProcess] = []
        self.spawned_at: list[float] = []
        self.most_alive = 0
        self.fail_spawn: list[Exception] = []
        self.log_path = tmp_path / "plugin.log"
        self.log = LogFile(self.log_path, max_bytes=10**7, files=5)
        self.cwd = tmp_path
        self.prepare_s: dict[str, float] = {}
        """How long it takes to get a plugin ready, where it takes any time."""
        self.fail_prepare: list[Exception] = []
        self.tools = Tools(
            host=self.host,
            graces=graces or Graces(),
            prepare=self.prepare,
            spawn=self.spawn,
            open_log=lambda _: self.log,
            now_ms=lambda: int(trio.current_time() * 1000),
            random=Even(),
        )
        self.manager = WorkerManager(self.tools, start_concurrency=start_concurrency)

    @property
    def alive(self) -> list[FakeProcess]:
        return [process for process in self.processes if process.exit is None]

    async def prepare(self, plugin: Plugin) -> Launch:
        if seconds := self.prepare_s.get(plugin.key):
            await trio.sleep(seconds)
        if self.fail_prepare:
            raise self.fail_prepare.pop(0)
        return Launch(
            argv=("/fake", plugin.key, plugin.version),
            env={},
            cwd=self.cwd,
            rpc=plugin.manifest.worker.transport == "rpc",
        )

    def spawn(self, launch: Launch) -> FakeProcess:
        if self.fail_spawn:
            raise self.fail_spawn.pop(0)
        key = launch.argv[1]
        own = self.by_key.get(f"{key}@{launch.argv[2]}") or self.by_key.get(key)
        script = own or self.scripts[min(len(self.processes), len(self.scripts) - 1)]
        process = FakeProcess(1000 + len(self.processes), replace(script, rpc=launch.rpc), key)
        self.processes.append(process)
        self.spawned_at.append(trio.current_time())
        self.most_alive = max(self.most_alive, len(self.alive))
        return process

    async def serve(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run the manager around `work`; afterwards all are reaped, closed and forgotten, and the journal is sound."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.manager.run)
            await work()
            nursery.cancel_scope.cancel()
        self.check_sound()

    def check_sound(self) -> None:
        assert self.alive == []
        assert all(process.closed for process in self.processes)
        if "forget" not in self.host.faults:
            assert self.host.known == set()
        started = set()
        for _, event in self.host.events:
            if event.type == "plugin.worker_started":
                started.add(event.pid)  # type: ignore[attr-defined]
            if event.type == "plugin.worker_stopped":
                assert event.pid in started  # type: ignore[attr-defined]


def policy(**changes: Any) -> RestartPolicy:
    return RestartPolicy(**changes)


def health(**changes: Any) -> HealthPolicy:
    return HealthPolicy(**changes)
