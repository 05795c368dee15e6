"""Commands on plugins that require each other: what is refused, waits, follows; on the real worker manager."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import trio
import trio.testing

from supervisor.bus import EventBus
from supervisor.control.views import Outlook, summary
from supervisor.core.errors import (
    ActivationFailed,
    CallCancelled,
    FailedPrecondition,
    InvalidTransition,
    ResourceExhausted,
    SupervisorError,
)
from supervisor.core.event import Event, Recorded
from supervisor.core.lifecycle import Status
from supervisor.core.manifest import Manifest
from supervisor.core.plugin import Plugin, PluginKey
from supervisor.core.worker_spec import RestartPolicy
from supervisor.lifecycle.manager import LifecycleManager
from supervisor.lifecycle.reconcile import Reconciler
from supervisor.store.database import Database
from supervisor.store.journal import Journal
from supervisor.store.plugins import PluginRegistry
from supervisor.worker.phase import Phase
from supervisor.worker.process import Exit
from tests.fakes import FakeData, FakePackages, a_lifecycle
from tests.jobs.world import WallClock
from tests.packages import a_package, directory_source
from tests.worker.fakes import NEVER, Script, World, make_plugin

S = Status
DB, WEB, APP = "acme.db", "acme.web", "acme.app"
GOOD = Script(answers_after_s=1, drains_in_s=2)


class Packages(FakePackages):
    """Manifests as told by `requires` and `worker`, by key."""

    def __init__(self) -> None:
        super().__init__()
        self.requires: dict[str, tuple[str, ...]] = {}
        self.worker: dict[str, dict[str, Any]] = {}

    def manifest_of(self, key: str) -> Manifest:
        return make_plugin(key, requires=self.requires.get(key, ()), **self.worker.get(key, {})).manifest


@dataclass
class Site:
    """A lifecycle manager over a real store and a real worker manager; only processes and files are fakes."""

    registry: PluginRegistry
    database: Database
    bus: EventBus
    events: list[Recorded]
    world: World
    packages: Packages
    lifecycle: LifecycleManager
    reconciler: Reconciler

    async def install(self, key: str, *requires: str, **worker: Any) -> Plugin:
        self.packages.requires[key], self.packages.worker[key] = requires, worker
        self.world.by_key.setdefault(key, GOOD)
        return await self.lifecycle.install(directory_source(Path("/src") / key), uid=0)

    async def load(self, *keys: str) -> None:
        for key in keys:
            await self.lifecycle.load(key)

    async def break_down(self, *keys: str) -> None:
        """As the next boot finds those that were given up."""
        for key in keys:
            plugin = self.registry.get(key)
            await self.registry.set_status(
                plugin.id, expected=plugin.status, status=S.ERROR, recoverable=True, error="it broke"
            )

    def summary(self, key: str) -> str:
        plugin = self.registry.get(key)
        outlook = Outlook(recovery_in_s=self.reconciler.next_recovery_in_s(plugin.id))
        return summary(plugin, self.world.manager.view(plugin.id), outlook)

    async def chain(self) -> None:
        """acme.app requires acme.web requires acme.db; all run."""
        await self.install(DB)
        await self.install(WEB, DB)
        await self.install(APP, WEB)
        await self.load(DB, WEB, APP)
        self.events.clear()

    def phase(self, key: str) -> Phase:
        return self.world.manager.phase(self.registry.get(key).id)

    def status(self, key: str) -> Status:
        return self.registry.get(key).status

    def waits(self, key: str) -> tuple[str, ...]:
        return self.world.manager.view(self.registry.get(key).id).waiting_for

    def up(self) -> list[str]:
        return [plugin.key for plugin in self.registry.all() if self.phase(plugin.key) is Phase.RUNNING]

    def told(self) -> list[str]:
        """Such as "db -> disabled", "web worker_stopped"."""
        short = {"plugin.status_changed": "->"}
        return [
            f"{e.plugin_key[5:]} {short.get(e.type, e.type[7:])} {e.data.get('status', '')}".strip()
            for e in self.events
        ]


@asynccontextmanager
async def open_site(
    tmp_path: Path,
    *,
    start_concurrency: int = 8,
    recover_after_s: float | None = None,
    by_key: Mapping[str, Script] = MappingProxyType({}),
) -> AsyncIterator[Site]:
    """Opening the same directory again is the daemon's next start; with `recover_after_s` it boots."""
    bus, events = EventBus(), []

    def publish(event: Recorded) -> None:
        events.append(event)
        bus.publish(event)

    database = await Database.open(tmp_path / "site.db", clock=WallClock(), publish=publish, inline=True)
    bus.last_seq = await Journal(database).last_seq()
    registry = await PluginRegistry.load(database)
    world = World(tmp_path, GOOD, start_concurrency=start_concurrency)
    world.by_key.update(by_key)

    async def record(event: Event) -> None:
        await registry.record(event)

    world.host.record = record  # type: ignore[method-assign]
    packages = Packages()
    lifecycle = a_lifecycle(database, registry, world.manager, packages, FakeData())
    reconciler = Reconciler(
        registry,
        world.manager,
        lifecycle,
        bus,
        Journal(database),
        database.clock,
        recover_after_s=recover_after_s or 0,
    )
    async with trio.open_nursery() as workers:
        await workers.start(world.manager.run)
        async with trio.open_nursery() as nursery:
            if recover_after_s is not None:
                await nursery.start(reconciler.run)
            yield Site(registry, database, bus, events, world, packages, lifecycle, reconciler)
            nursery.cancel_scope.cancel()
        workers.cancel_scope.cancel()
    await database.aclose()


@pytest.fixture
async def site(autojump_clock: Any, tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(tmp_path) as site:
        yield site


# Install and unload.


async def test_what_is_required_must_be_there(autojump_clock: Any, site: Site) -> None:
    await site.install(DB)
    await site.lifecycle.unload(DB)
    site.events.clear()
    with pytest.raises(FailedPrecondition, match=r"requires 'acme.db' and 'acme.x', which are not installed: inst"):
        await site.install(WEB, DB, "acme.x")
    assert (site.registry.find(WEB), site.packages.stored, site.events) == (None, set(), [])
    await site.install(DB)
    await site.install(WEB, DB)
    assert site.lifecycle.requirements.required_by(PluginKey(DB)) == [WEB]


async def test_a_cycle_is_refused_by_name(autojump_clock: Any, site: Site) -> None:
    """One can only come about where a row could not be read and its plugin is installed again."""
    for key, needed in ((DB, APP), (WEB, DB)):
        manifest = replace(site.packages.manifest_of(key), requires=(PluginKey(needed),))
        await site.registry.install(a_package(manifest, key), approved=frozenset(), uid=0)
    with pytest.raises(FailedPrecondition) as caught:
        await site.install(APP, WEB)
    assert "acme.app requires acme.web requires acme.db requires acme.app" in caught.value.message
    assert caught.value.details["cycle"] == [APP, WEB, DB, APP]
    assert (site.registry.find(APP), site.packages.stored) == (None, set())


@pytest.mark.parametrize("repeat", range(10))
async def test_two_installs_cannot_make_a_cycle(autojump_clock: Any, site: Site, repeat: int) -> None:
    outcomes = []

    async def install(key: str, needed: str) -> None:
        try:
            await site.install(key, needed)
            outcomes.append("done")
        except FailedPrecondition:
            outcomes.append("refused")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(install, WEB, DB)
        nursery.start_soon(install, DB, WEB)
    assert outcomes == ["refused", "refused"]


@pytest.mark.parametrize("repeat", range(10))
@pytest.mark.parametrize("remove_data", [False, True])
async def test_install_races_with_the_unload_of_what_it_requires(
    autojump_clock: Any, site: Site, repeat: int, remove_data: bool
) -> None:
    """Either the one or the other; the worker that was stopped in vain comes back."""
    await site.install(DB)
    await site.load(DB)
    outcomes: dict[str, bool] = {}
    whys: list[str] = []

    async def attempt(name: str, after_s: float, work: Callable[[], Awaitable[Any]]) -> None:
        await trio.sleep(after_s)
        try:
            await work()
            outcomes[name] = True
        except FailedPrecondition as error:
            outcomes[name] = False
            whys.append(error.message)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(attempt, "unload", 0, lambda: site.lifecycle.unload(DB, remove_data=remove_data))
        nursery.start_soon(attempt, "install", repeat / 4, lambda: site.install(WEB, DB))
    await trio.sleep(10)
    there = site.registry.find(DB)
    assert outcomes["install"] != outcomes["unload"]
    assert all("acme.web requires it" in why or "not installed" in why for why in whys)
    assert (there is not None and there.status is S.READY) == outcomes["install"]
    if outcomes["install"]:
        assert site.up() == [DB]


async def test_what_others_require_stays(autojump_clock: Any, site: Site) -> None:
    await site.chain()
    with pytest.raises(
        FailedPrecondition, match=r"'acme.web': acme.app requires it .* uninstall those first"
    ) as caught:
        await site.lifecycle.unload(WEB)
    assert caught.value.details["required_by"] == [APP]
    assert (site.up(), site.events) == ([DB, WEB, APP], [])
    await site.lifecycle.unload(APP)
    await site.lifecycle.unload(WEB, remove_data=True)
    assert site.up() == [DB]


# Commands on what requires.

DOWN: dict[str, tuple[Callable[[Site], Awaitable[Any]], str]] = {
    "disabled": (lambda site: site.lifecycle.disable(DB), "is disabled; enable that one first"),
    "in error": (lambda site: site.lifecycle.mark_error(DB, "x"), "is in error; enable that one first"),
    "upgrade": (
        lambda site: site.lifecycle.mark_upgrade_pending(DB),
        "has an upgrade that is to be decided; approve or reject",
    ),
    "stopped": (lambda site: site.lifecycle.stop_worker(DB), "has its worker stopped; start that one first"),
}
STARTS: dict[str, Callable[[Site], Awaitable[Any]]] = {
    "load": lambda site: site.lifecycle.load(WEB),
    "enable": lambda site: site.lifecycle.enable(WEB),
    "start": lambda site: site.lifecycle.start_worker(WEB),
    "restart": lambda site: site.lifecycle.restart_worker(WEB),
}


@pytest.mark.parametrize("command", STARTS)
@pytest.mark.parametrize("down", DOWN)
async def test_a_start_without_what_it_requires_is_refused(
    autojump_clock: Any, site: Site, down: str, command: str
) -> None:
    await site.chain()
    if command in {"load", "enable"}:
        await site.lifecycle.disable(WEB)
    await DOWN[down][0](site)
    await trio.sleep(10)
    site.events.clear()
    before = site.registry.get(WEB)
    with pytest.raises(FailedPrecondition) as caught:
        await STARTS[command](site)
    assert f"cannot {command} plugin 'acme.web': it requires 'acme.db', which {DOWN[down][1]}" in caught.value.message
    assert (site.events, site.registry.get(WEB)) == ([], before)


async def test_a_far_requirement_is_named_with_the_way_to_it(autojump_clock: Any, site: Site) -> None:
    await site.chain()
    await site.lifecycle.disable(DB)
    with pytest.raises(
        FailedPrecondition, match=r"it requires .acme.web., which requires .acme.db., which is disabled"
    ):
        await site.lifecycle.restart_worker(APP)


async def test_an_illegal_command_is_still_told_so(autojump_clock: Any, site: Site) -> None:
    await site.chain()
    await site.lifecycle.disable(DB)
    with pytest.raises(InvalidTransition, match="ready already"):
        await site.lifecycle.enable(WEB)


async def test_what_is_on_its_way_is_waited_for(autojump_clock: Any, site: Site) -> None:
    await site.install(DB)
    await site.install(WEB, DB)
    site.world.by_key[DB] = Script(answers_after_s=9)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(site.lifecycle.load, DB)
        await trio.sleep(1)
        began = trio.current_time()
        await site.lifecycle.load(WEB)
        assert trio.current_time() - began == pytest.approx(8 + 1)
    assert site.told() == [
        "db installed", "db -> installed", "web installed", "web -> installed", "db -> ready", "web -> ready",
        "db worker_started", "db loaded", "db enabled", "web worker_started", "web loaded", "web enabled",
    ]  # fmt: skip


@pytest.mark.parametrize("overtaker", ["disable", "unload", "stop", "mark_error"])
async def test_waiting_for_another_is_overtaken(autojump_clock: Any, site: Site, overtaker: str) -> None:
    await site.install(DB)
    await site.install(WEB, DB)
    site.world.by_key[DB] = Script(answers_after_s=9)
    commands: dict[str, Callable[[], Awaitable[Any]]] = {
        "disable": lambda: site.lifecycle.disable(WEB),
        "unload": lambda: site.lifecycle.unload(WEB),
        "stop": lambda: site.lifecycle.stop_worker(WEB),
        "mark_error": lambda: site.lifecycle.mark_error(WEB, "x"),
    }

    async def overtaken() -> None:
        with pytest.raises(CallCancelled, match=overtaker):
            await site.lifecycle.load(WEB)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(site.lifecycle.load, DB)
        await trio.sleep(1)
        nursery.start_soon(overtaken)
        await trio.sleep(1)
        began = trio.current_time()
        await commands[overtaker]()
        assert trio.current_time() == began
    assert site.up() == [DB]


@pytest.mark.parametrize("fate", ["disabled", "given up"])
async def test_who_waits_hears_that_it_is_in_vain(autojump_clock: Any, site: Site, fate: str) -> None:
    """Its own status stays ready: it is started when what it requires is up."""
    await site.install(DB)
    await site.install(WEB, DB)
    site.world.by_key[DB] = Script(answers_after_s=NEVER, exits_after_s=5 if fate == "given up" else NEVER)

    async def load(key: str, class_: type[SupervisorError]) -> None:
        with pytest.raises(class_):
            await site.lifecycle.load(key)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(load, DB, ActivationFailed if fate == "given up" else CallCancelled)
        await trio.sleep(1)
        nursery.start_soon(load, WEB, FailedPrecondition)
        await trio.sleep(2)
        if fate == "disabled":
            await site.lifecycle.disable(DB)
    assert (site.status(WEB), site.waits(WEB)) == (S.READY, (DB,))
    site.world.by_key[DB] = GOOD
    await site.lifecycle.enable(DB)
    await trio.sleep(5)
    assert site.up() == [DB, WEB]


async def refused_in_waiting(site: Site) -> None:
    """`load` of acme.web ends because what it waits for is not wanted any more."""
    site.world.by_key[DB] = Script(answers_after_s=NEVER)

    async def load(key: str, class_: type[SupervisorError]) -> None:
        with pytest.raises(class_):
            await site.lifecycle.load(key)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(load, DB, CallCancelled)
        await trio.sleep(1)
        nursery.start_soon(load, WEB, FailedPrecondition)
        await trio.sleep(2)
        await site.lifecycle.disable(DB)
    site.world.by_key[DB] = GOOD


async def overtaken_in_waiting(site: Site) -> None:
    site.world.by_key[DB] = Script(answers_after_s=5)

    async def load() -> None:
        with pytest.raises(CallCancelled):
            await site.lifecycle.load(WEB)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(site.lifecycle.load, DB)
        await trio.sleep(1)
        nursery.start_soon(load)
        await trio.sleep(1)
        await site.lifecycle.stop_worker(WEB)
    await site.lifecycle.disable(DB)


async def cancelled_in_waiting(site: Site) -> None:
    site.world.by_key[DB] = Script(answers_after_s=5)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(site.lifecycle.load, DB)
        await trio.sleep(1)
        with trio.move_on_after(1):
            await site.lifecycle.load(WEB)
        await site.lifecycle.stop_worker(WEB)
    await site.lifecycle.disable(DB)


@pytest.mark.parametrize("cut", [refused_in_waiting, overtaken_in_waiting, cancelled_in_waiting])
@pytest.mark.parametrize("boots", [0, 1, 2])
async def test_the_last_word_of_a_load_that_was_cut_follows_the_first_start(
    autojump_clock: Any, tmp_path: Path, cut: Callable[[Site], Awaitable[None]], boots: int
) -> None:
    """Once, and also where what it waits for comes up in the life of a later daemon."""
    async with AsyncExitStack() as stack:
        site = await stack.enter_async_context(open_site(tmp_path, recover_after_s=600))
        await site.install(DB)
        await site.install(WEB, DB)
        with trio.fail_after(30):
            await cut(site)
        for _ in range(boots):
            await stack.aclose()
            site = await stack.enter_async_context(open_site(tmp_path, recover_after_s=600))
            await trio.sleep(5)
        assert (site.status(DB), site.status(WEB)) == (S.DISABLED, S.READY)
        assert "web loaded" not in site.told()
        site.events.clear()
        await site.lifecycle.enable(DB)
        await trio.sleep(5)
        if site.phase(WEB) is not Phase.RUNNING:
            await site.lifecycle.start_worker(WEB)
            await trio.sleep(1)
        await site.lifecycle.restart_worker(WEB)
        await trio.sleep(5)
        assert [told for told in site.told() if told.startswith("web")] == [
            "web worker_started", "web loaded", "web enabled", "web worker_stopped", "web worker_started",
        ]  # fmt: skip
        assert site.lifecycle.owing == set()


# Commands on what is required.


@pytest.mark.parametrize("down", DOWN)
async def test_those_that_require_it_are_stopped_first_and_come_back(
    autojump_clock: Any, site: Site, down: str
) -> None:
    await site.chain()
    began = trio.current_time()
    await DOWN[down][0](site)
    assert trio.current_time() - began == pytest.approx(2 + 2 + 2), "one behind the other"
    stops = [told for told in site.told() if "worker_stopped" in told]
    assert stops == ["app worker_stopped", "web worker_stopped", "db worker_stopped"]
    assert [site.status(key) for key in (WEB, APP)] == [S.READY, S.READY]
    assert [site.waits(key) for key in (WEB, APP)] == [(DB,), (WEB,)]
    await (site.lifecycle.start_worker(DB) if down == "stopped" else site.lifecycle.enable(DB))
    await trio.sleep(5)
    assert site.up() == [DB, WEB, APP]


async def test_restart_takes_all_that_require_it_along(autojump_clock: Any, site: Site) -> None:
    await site.chain()
    await site.lifecycle.restart_worker(DB)
    await trio.sleep(5)
    kinds = [told.removesuffix(" worker_started") for told in site.told() if "started" in told]
    assert (kinds, site.up()) == (["db", "web", "app"], [DB, WEB, APP])


async def test_a_give_up_takes_nobody_along(autojump_clock: Any, tmp_path: Path) -> None:
    async with open_site(tmp_path, recover_after_s=600) as site:
        await site.install(DB, restart=RestartPolicy(max_restarts=0))
        await site.install(WEB, DB)
        await site.load(DB, WEB)
        site.events.clear()
        site.world.alive[0].end(Exit(9, None))
        await trio.sleep(60)
        assert site.told() == ["db worker_crashed", "db -> error", "db error"]
        assert site.up() == [WEB]
        await trio.sleep(600)
        assert site.up() == [DB, WEB]


# Boot and recovery.


async def test_boot_starts_what_is_required_first(autojump_clock: Any, tmp_path: Path) -> None:
    async with open_site(tmp_path) as site:
        await site.chain()
    async with open_site(tmp_path, start_concurrency=1, recover_after_s=600) as site:
        await trio.sleep(10)
        starts = [told for told in site.told() if "started" in told]
        assert starts == ["db worker_started", "web worker_started", "app worker_started"]


async def test_boot_without_what_is_required(autojump_clock: Any, tmp_path: Path) -> None:
    """Those that wait hold up nobody, and start when they can."""
    async with open_site(tmp_path) as site:
        await site.chain()
        await site.install("acme.z")
        await site.load("acme.z")
        await site.lifecycle.disable(DB)
    async with open_site(tmp_path, start_concurrency=1, recover_after_s=600) as site:
        await trio.sleep(10)
        assert (site.up(), site.waits(WEB), site.waits(APP)) == (["acme.z"], (DB,), (WEB,))
        await site.lifecycle.enable(DB)
        await trio.sleep(10)
        assert site.up() == [DB, WEB, APP, "acme.z"]


@pytest.mark.parametrize("recover_after_s", [0, 600])
async def test_boot_recovers_what_is_required_first(
    autojump_clock: Any, tmp_path: Path, recover_after_s: float
) -> None:
    async with open_site(tmp_path) as site:
        await site.chain()
        await site.break_down(APP, WEB, DB)
    async with open_site(tmp_path, recover_after_s=recover_after_s) as site:
        await trio.sleep(10)
        assert site.up() == [DB, WEB, APP]


async def test_recovery_at_boot_is_not_held_up_by_those_that_wait(autojump_clock: Any, tmp_path: Path) -> None:
    """More of them wait for one that crashes and crashes than may start at once."""
    async with open_site(tmp_path) as site:
        await site.chain()
        await site.install("acme.b", DB)
        await site.install("acme.good")
        await site.load("acme.b", "acme.good")
        await site.break_down(WEB, "acme.b", "acme.good")
    crashing = Script(answers_after_s=NEVER, exits_after_s=0.5)
    async with open_site(tmp_path, start_concurrency=2, recover_after_s=600, by_key={DB: crashing}) as site:
        await trio.sleep(5)
        assert (site.status("acme.good"), site.up()) == (S.READY, ["acme.good"])
        assert [site.waits(key) for key in (WEB, "acme.b")] == [(DB,), (DB,)]
        site.world.by_key.clear()
        await trio.sleep(30)
        assert site.up() == [DB, WEB, APP, "acme.b", "acme.good"]


async def test_recovery_at_boot_limits_the_starts(autojump_clock: Any, tmp_path: Path) -> None:
    keys = [f"acme.p{number}" for number in range(9)]
    async with open_site(tmp_path) as site:
        for key in keys:
            await site.install(key)
        await site.load(*keys)
        await site.break_down(*keys)
    slow = dict.fromkeys(keys, Script(answers_after_s=5))
    async with open_site(tmp_path, start_concurrency=2, recover_after_s=600, by_key=slow) as site:
        for second in range(1, 25):
            await trio.sleep(1)
            assert sum(site.phase(key) is Phase.STARTING for key in keys) <= 2, second
        assert len(site.up()) == 8
        await trio.sleep(5)
        assert site.up() == keys


@pytest.mark.parametrize("recover_after_s", [0, 600])
async def test_what_is_tried_right_now_is_said_to_be(
    autojump_clock: Any, tmp_path: Path, recover_after_s: float
) -> None:
    async with open_site(tmp_path) as site:
        await site.chain()
        await site.break_down(DB, WEB)
    hanging = Script(answers_after_s=NEVER, exits_after_s=5)
    async with open_site(tmp_path, recover_after_s=recover_after_s, by_key={DB: hanging}) as site:
        assert site.summary(DB) == "In error: it broke; it is tried again now."
        await trio.sleep(2)
        assert site.summary(DB).startswith("Starting")
        assert site.summary(WEB) == "In error: it broke; it is tried again once what it requires has been tried."
        await trio.sleep(4)
        later = "in 9 min" if recover_after_s else "at the next boot"
        assert site.summary(WEB) == f"In error: it broke; it is tried again {later}; enable it to try now."


async def test_when_it_is_tried_again_is_known(autojump_clock: Any, tmp_path: Path) -> None:
    async with open_site(tmp_path, recover_after_s=600) as site:
        plugin = await site.install(DB)
        site.world.by_key[DB] = Script(answers_after_s=NEVER, exits_after_s=1)
        with pytest.raises(ActivationFailed):
            await site.lifecycle.load(DB)
        await trio.sleep(100)
        assert site.reconciler.next_recovery_in_s(plugin.id) == pytest.approx(500)
        await trio.sleep(550)
        assert site.reconciler.next_recovery_in_s(plugin.id) == pytest.approx(551)
        site.world.by_key[DB] = GOOD
        await site.lifecycle.enable(DB)
        assert site.reconciler.next_recovery_in_s(plugin.id) is None
        await site.lifecycle.mark_error(DB, "by hand")
        assert site.reconciler.next_recovery_in_s(plugin.id) is None
        await trio.sleep(5000)
        assert site.status(DB) is S.ERROR


async def test_never_is_not_recovered(autojump_clock: Any, tmp_path: Path) -> None:
    async with open_site(tmp_path, recover_after_s=600) as site:
        plugin = await site.install(DB, transport="none", restart=RestartPolicy(policy="never"), start_grace_s=1)
        site.world.by_key[DB] = Script(exits_after_s=50)
        await site.load(DB)
        await trio.sleep(60)
        stored = site.registry.get(DB)
        assert (stored.status, stored.recoverable) == (S.ERROR, False)
        await trio.sleep(5000)
        assert (site.status(DB), site.reconciler.next_recovery_in_s(plugin.id)) == (S.ERROR, None)
    async with open_site(tmp_path, recover_after_s=600) as site:
        await trio.sleep(5000)
        assert site.status(DB) is S.ERROR


@pytest.mark.parametrize("policy", ["on_failure", "never"])
@pytest.mark.parametrize("exits_after_s", [0.5, 5])
async def test_a_program_that_finishes(autojump_clock: Any, tmp_path: Path, policy: str, exits_after_s: float) -> None:
    """Also before it counted as up: it is loaded, and stays ready; it runs again by hand, and at the next boot."""
    async with open_site(tmp_path, recover_after_s=600) as site:
        await site.install(DB, transport="none", restart=RestartPolicy(policy=policy), start_grace_s=1)
        site.world.by_key[DB] = Script(exits_after_s=exits_after_s, exit=Exit(0, None))
        await site.load(DB)
        await trio.sleep(100)
        told = site.told()[2:]
        assert sorted(told) == ["db -> ready", "db enabled", "db loaded", "db worker_started", "db worker_stopped"]
        assert told.index("db worker_started") < told.index("db worker_stopped")
        assert site.events[[e.type for e in site.events].index("plugin.worker_stopped")].data["stage"] == "exit"
        view = site.world.manager.view(site.registry.get(DB).id)
        assert (site.status(DB), view.finished, view.wanted) == (S.READY, "exited with code 0", False)
        await site.lifecycle.start_worker(DB)
        assert len(site.world.processes) == 2
    async with open_site(tmp_path, recover_after_s=600) as site:
        await trio.sleep(100)
        assert len(site.world.processes) == 1


# Races.


async def test_a_give_up_that_comes_late_changes_nothing(autojump_clock: Any, site: Site) -> None:
    plugin = await site.install(DB, restart=RestartPolicy(max_restarts=0))
    await site.load(DB)
    site.world.alive[0].end(Exit(9, None))
    await trio.sleep(1)
    await site.lifecycle.stop_worker(DB)
    await site.lifecycle.give_up(plugin.id)
    assert site.status(DB) is S.READY, "the operator's word came first"
    await site.lifecycle.start_worker(DB)
    await site.lifecycle.give_up(plugin.id)
    assert site.up() == [DB]


async def test_an_unload_that_cannot_be_stored_brings_back_what_it_stopped(autojump_clock: Any, site: Site) -> None:
    await site.chain()
    delete = site.registry.delete

    async def full(*args: Any, **how: Any) -> None:
        raise ResourceExhausted("the disk is full")

    site.registry.delete = full  # type: ignore[method-assign]
    with pytest.raises(ResourceExhausted):
        await site.lifecycle.unload(APP, remove_data=True)
    site.registry.delete = delete  # type: ignore[method-assign]
    await trio.sleep(5)
    assert site.up() == [DB, WEB, APP]


async def test_unload_of_one_that_waits(autojump_clock: Any, site: Site) -> None:
    await site.chain()
    await site.lifecycle.disable(DB)
    await site.lifecycle.unload(APP)
    await site.lifecycle.unload(WEB)
    await site.lifecycle.enable(DB)
    await trio.sleep(5)
    assert site.up() == [DB]
    await site.install(WEB)
    await site.load(WEB)
    await site.lifecycle.disable(DB)
    assert site.up() == [WEB], "the new manifest requires nothing"


COMMANDS: list[Callable[[LifecycleManager, str], Awaitable[Any]]] = [
    lambda it, key: it.load(key),
    lambda it, key: it.enable(key),
    lambda it, key: it.enable(key),
    lambda it, key: it.disable(key),
    lambda it, key: it.start_worker(key),
    lambda it, key: it.stop_worker(key),
    lambda it, key: it.restart_worker(key),
    lambda it, key: it.mark_error(key, "x"),
    lambda it, key: it.unload(key),
    lambda it, key: it.install(directory_source(Path("/src") / key), uid=0),
]


@pytest.mark.parametrize("seed", range(40))
async def test_any_commands_at_once(autojump_clock: Any, tmp_path: Path, seed: int) -> None:
    """Some are cancelled in the middle, some workers crash: in the end all is as the rows say, and nobody hangs."""
    dice, codes = random.Random(seed), set()
    keys = [DB, WEB, APP]

    async def one(site: Site) -> None:
        await trio.sleep(dice.choice([0, 0.5, 1, 2, 3, 5, 8, 13]))
        key, command = dice.choice(keys), dice.choice(COMMANDS)
        with trio.move_on_after(dice.choice([0.1, 1, 3, 60, 60, 60])):
            try:
                await command(site.lifecycle, key)
            except SupervisorError as error:
                codes.add(error.code)

    async with open_site(tmp_path, recover_after_s=600) as site:
        await site.chain()
        with trio.fail_after(200):
            async with trio.open_nursery() as nursery:
                for _ in range(25):
                    nursery.start_soon(one, site)
                for after_s in (1, 4, 9):
                    await trio.sleep(after_s)
                    for process in dice.sample(site.world.alive, min(1, len(site.world.alive))):
                        process.end(Exit(7, None))
        assert codes <= {
            "CANCELLED", "INVALID_TRANSITION", "FAILED_PRECONDITION", "ALREADY_EXISTS", "NOT_FOUND",
            "ACTIVATION_FAILED", "CONFLICT",
        }  # fmt: skip
        await trio.sleep(30)
        view = site.world.manager.view
        for plugin in site.registry.all():
            seen = view(plugin.id)
            if plugin.status is not S.READY:
                assert seen.phase is Phase.STOPPED, plugin.key
            elif seen.wanted:
                missing = [key for key in plugin.manifest.requires if site.phase(key) is not Phase.RUNNING]
                assert (seen.phase is Phase.RUNNING) or missing, plugin.key
            if plugin.status is not S.UNINSTALLED:
                assert all(site.status(key) is not S.UNINSTALLED for key in plugin.manifest.requires)
    for key in keys:
        lives = [p for p in site.world.processes if p.key == key]
        assert all(p.reaped_at is not None for p in lives)
