"""A year of jobs under a mock clock, in which the daemon dies, the clock is set, workers fail and operators meddle.

For every job and due time there is one row in the end, as a plain model counts them; nothing runs twice.
"""

from __future__ import annotations

import os
import random
from bisect import bisect_left
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from supervisor.bus import EventBus
from supervisor.clock import from_ms, to_ms
from supervisor.core.errors import SupervisorError
from supervisor.core.lifecycle import Status
from supervisor.core.manifest import JobSpec
from supervisor.core.plugin import Capability
from supervisor.store.database import Database
from supervisor.store.plugins import PluginRegistry
from supervisor.store.tables import current
from tests.jobs.world import WallClock, World, job, manifest
from tests.jobs.year import (
    NEVER,
    Every,
    Fires,
    Ledger,
    Listed,
    Model,
    Mortal,
    State,
    Tempers,
    Timing,
    Wall,
    Workers,
    watch,
)
from tests.packages import a_package

CAPABILITIES = (Capability("jobs.schedule"),)
SEEDS = range(1, 1 + int(os.environ.get("PLUGIND_TEST_YEARS", "2")))
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
BERLIN = "Europe/Berlin"
FIRST, LAST = date(2025, 12, 30), date(2027, 6, 1)
"""Of the days whose due times are counted; beyond each end of what is simulated."""
ODD = timedelta(milliseconds=337)
"""Commands come between the seconds, never just when something is due."""


def cron(schedule: str, meant: Wall, zone: str = "UTC", **more: Any) -> Timing:
    return Timing({"schedule": schedule, "timezone": zone, **more}, replace(meant, zone=zone), _jitter(more))


def every(text: str, period: timedelta, **more: Any) -> Timing:
    return Timing({"schedule": None, "every": text, **more}, Every(period // timedelta(milliseconds=1)), _jitter(more))


def _jitter(more: Mapping[str, Any]) -> int:
    return int(more.get("jitter_s", 0) * 1000)


ALL_HOURS, WEEKDAYS = tuple(range(24)), (0, 1, 2, 3, 4)
YEARLY = cron("@yearly", Wall("", (0,), (0,), days=(1,), months=(1,)), misfire_grace_s=5 * 86400)
MONTHLY = cron("0 4 1 * *", Wall("", (4,), (0,), days=(1,)), BERLIN, retries=3, catch_up="all", misfire_grace_s=86400)
WEEKLY = cron("30 2 * * 0", Wall("", (2,), (30,), weekdays=(6,)), BERLIN, overlap="queue_one", retries=1)
NIGHTLY = cron("30 2 * * *", Wall("", (2,), (30,)), BERLIN, retries=2, retry_backoff_s=600)
NIGHTLY_UTC = cron("15 3 * * *", Wall("", (3,), (15,)), retries=2, retry_backoff_s=600)
OFFICE = cron("0 9,17 * * 1-5", Wall("", (9, 17), (0,), weekdays=WEEKDAYS), BERLIN, overlap="queue_one")
OFFICE_UTC = cron("0 9,17 * * 1-5", Wall("", (9, 17), (0,), weekdays=WEEKDAYS), overlap="queue_one", jitter_s=600)
EVEN_HOURS = cron("45 */2 * * *", Wall("", ALL_HOURS[::2], (45,), elapsing=True), BERLIN, catch_up="skip")
FOUR_HOURS = every("4h", 4 * HOUR, overlap="cancel_previous", retries=1, jitter_s=300)
NINETY = every("90m", 90 * MINUTE, overlap="allow", max_running=2, catch_up="all", misfire_grace_s=86400)
ONCE = Timing(
    {"schedule": None, "at": "2026-06-01T12:00:00", "timezone": BERLIN},
    Listed((to_ms(datetime(2026, 6, 1, 10, tzinfo=UTC)),)),
)
BY_HAND = Timing({"schedule": None, "retries": 1}, NEVER)

Versions = Sequence[Mapping[str, Timing]]
A_YEAR: Mapping[str, Versions] = {
    "books": (
        {"yearly": YEARLY, "monthly": MONTHLY, "weekly": WEEKLY, "nightly": NIGHTLY, "once": ONCE, "by-hand": BY_HAND},
        {"yearly": YEARLY, "nightly": NIGHTLY_UTC, "weekly": WEEKLY},
        {"monthly": MONTHLY, "weekly": WEEKLY, "nightly": NIGHTLY, "once": ONCE},
    ),
    "shop": (
        {"even": EVEN_HOURS, "office": OFFICE},
        {"office": OFFICE_UTC, "four": FOUR_HOURS},
        {"office": OFFICE, "even": EVEN_HOURS, "ninety": NINETY},
    ),
}
SECONDS: Mapping[str, Versions] = {
    "ticks": (
        {"one": every("1s", timedelta(seconds=1)), "ten": every("10s", timedelta(seconds=10), retries=2)},
        {"one": every("2s", timedelta(seconds=2), catch_up="all", misfire_grace_s=60), "by-hand": BY_HAND},
        {
            "one": every("1s", timedelta(seconds=1), catch_up="skip"),
            "ten": every("10s", timedelta(seconds=10), overlap="cancel_previous", retries=2, jitter_s=5),
        },
    ),
    "tocks": (
        {
            "seven": every("7s", timedelta(seconds=7), overlap="allow", max_running=3, retries=5, retry_backoff_s=3),
            "thirty": every("30s", timedelta(seconds=30), overlap="queue_one", timeout_s=20, on_timeout="restart"),
        },
        {"thirty": every("30s", timedelta(seconds=30), overlap="queue_one", timeout_s=20, on_timeout="restart")},
    ),
}


@dataclass(frozen=True)
class Scenario:
    """How long it takes, and how much happens in it: seconds, at the most where it is drawn."""

    plugins: Mapping[str, Versions]
    length: timedelta
    rest_s: float
    """Between two commands."""
    down_s: float
    step_s: float
    slow_s: float
    drain_s: float


THE_YEAR = Scenario(A_YEAR, 365 * DAY, rest_s=4 * 86400, down_s=4 * 86400, step_s=86400, slow_s=9000, drain_s=2 * 86400)
A_STRETCH = Scenario(SECONDS, 2 * HOUR, rest_s=120, down_s=900, step_s=400, slow_s=40, drain_s=900)


@cache
def fires_of(meant: Wall | Every | Listed) -> Fires:
    return meant.all(FIRST, LAST) if isinstance(meant, Wall) else meant


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("scenario", [THE_YEAR, A_STRETCH], ids=["year", "stretch"])
async def test_every_due_time_has_one_row(scenario: Scenario, seed: int, tmp_path: Path, autojump_clock: Any) -> None:
    simulation = Simulation(scenario, random.Random(seed), tmp_path / "jobs.db")
    await simulation.run()
    found = "\n".join(simulation.wrong[:20])
    assert not simulation.wrong, f"seed {seed}: {len(simulation.wrong)} are wrong, such as\n{found}"
    assert simulation.happened >= simulation.must_happen, f"seed {seed}: {simulation.happened}"


@dataclass
class Simulation:
    """`wrong` is what it finds. The daemons' lives follow each other on one clock and one database."""

    scenario: Scenario
    dice: random.Random
    path: Path
    wrong: list[str] = field(default_factory=list)
    happened: Counter[str] = field(default_factory=Counter)
    must_happen: Counter[str] = field(default_factory=lambda: Counter(("death", "step forward", "step back", "pause")))
    in_flight: tuple[State, int] | None = None
    """The state that a command leads to, and when it began."""
    by_hand: bool = False
    tried_by_hand: Counter[tuple[str, int]] = field(default_factory=Counter)
    """Job and due time: how often an operator asked for one more attempt."""

    def __post_init__(self) -> None:
        self.clock = WallClock(datetime(2025, 12, 31, tzinfo=UTC) + ODD)
        self.end = self.clock.now() + self.scenario.length
        nobody = State(frozenset(), dict.fromkeys(self.scenario.plugins, 0))
        self.model = Model(nobody, self.now_ms(), self.scheduled)
        self.ledger = Ledger(self.may_run, self.may_overlap)
        self.tempers = Tempers(self.dice.randrange(10**9), self.scenario.slow_s)

    # What the model knows.

    def declared(self, state: State) -> Iterator[tuple[str, Timing]]:
        for plugin, versions in self.scenario.plugins.items():
            for key, timing in versions[state.versions[plugin]].items():
                yield f"{plugin}/{key}", timing

    def active(self, state: State) -> dict[str, Timing]:
        """Those that run without being asked to."""
        return {
            name: timing
            for name, timing in self.declared(state)
            if (plugin := name.partition("/")[0]) in state.ready
            and not state.held
            and not {name, plugin} & state.paused
        }

    def scheduled(self, state: State) -> dict[str, tuple[Fires, int]]:
        return {name: (fires_of(timing.meant), timing.jitter_ms) for name, timing in self.active(state).items()}

    def states(self) -> tuple[State, ...]:
        """Those that may hold now."""
        return (self.model.state,) if self.in_flight is None else (self.model.state, self.in_flight[0])

    def may_run(self, name: str) -> bool:
        return any(name.partition("/")[0] in state.ready for state in self.states())

    def may_overlap(self, name: str) -> bool:
        """In any version: a run may be older than the one in force."""
        plugin, _, key = name.partition("/")
        return any(v[key].said.get("overlap") == "allow" for v in self.scenario.plugins[plugin] if key in v)

    def born(self, name: str, trigger: str, state: str) -> str | None:
        if trigger == "manual" or self.by_hand or any(name in self.active(state) for state in self.states()):
            return None
        return f"{trigger} run of {name}, {state}, at {self.clock.now()}, when it is not scheduled"

    def now_ms(self) -> int:
        return to_ms(self.clock.now())

    # The lives.

    async def run(self) -> None:
        await self.live(self.settle_in)
        while self.clock.now() < self.end:
            await self.be_down()
            await self.live(self.meddle)
        self.tempers.good = True
        await self.live(self.drain)

    async def live(self, life: Callable[[World, Mortal], Awaitable[None]]) -> None:
        """One daemon's, until `life` is over or it is killed."""
        bus = EventBus()
        database = await Database.open(self.path, clock=self.clock, publish=bus.publish, inline=True)
        mortal = Mortal(database._writer, self.on_death)
        database._writer = mortal
        mortal.connection.raw.execute("PRAGMA synchronous = off")
        wrong = watch(mortal.connection.raw, self.born)
        registry = await PluginRegistry.load(database)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(end_with, mortal, nursery)
                names = {plugin.id: plugin.key for plugin in registry.all()}
                self.workers = Workers(names, self.ledger, self.tempers, nursery)
                world = World(database, bus, self.clock, registry, workers=self.workers)
                await world.serve(nursery)
                await self.come_back(world)
                await life(world, mortal)
                mortal.die()
        finally:
            await database.aclose()
            self.wrong += wrong

    def on_death(self) -> None:
        self.happened["death"] += 1
        self.model.advance(self.now_ms())
        self.ledger.all_end()

    async def come_back(self, world: World) -> None:
        """What was missed has its rows, and a command that was cut is done or was never begun."""
        await wait_all_tasks_blocked()
        now_ms = self.now_ms()
        if now_ms < self.model.now_ms:
            self.model.turn_back(now_ms)
        else:
            self.model.advance(now_ms)
        found = await observe(world, self.scenario)
        if self.in_flight is not None:
            (after, since_ms), self.in_flight = self.in_flight, None
            other = after
            if found == after:
                other = self.model.state
                self.model.change(after)
            self.model.blur(other, since_ms, now_ms)
        self.check(found == self.model.state, f"the daemon says {found}, and it is {self.model.state}")
        self.tend_workers()

    def tend_workers(self) -> None:
        for plugin_id, key in self.workers.keys.items():
            if key in self.model.state.ready:
                self.workers.start(plugin_id)
            else:
                self.workers.stop(plugin_id)

    async def be_down(self) -> None:
        await self.rest(self.dice.choice((0, 1, 30, self.dice.randint(0, int(self.scenario.down_s)))))
        if self.dice.random() < 0.3:
            self.step_clock()

    def step_clock(self) -> None:
        """By at least 2 s: less is no step."""
        by_s = self.dice.choice((2, 60, self.dice.randint(2, int(self.scenario.step_s)))) * self.dice.choice((1, -1))
        self.happened["step forward" if by_s > 0 else "step back"] += 1
        self.clock.step(timedelta(seconds=by_s))

    async def rest(self, for_s: int) -> None:
        """That long, and until the clock is between two seconds."""
        at = self.clock.now() + timedelta(seconds=for_s)
        wake = at.replace(microsecond=0) + ODD
        await trio.sleep((wake - self.clock.now() + timedelta(seconds=wake < at)).total_seconds())

    # What happens in a life.

    async def settle_in(self, world: World, mortal: Mortal) -> None:
        """The first one installs the plugins."""
        for key in self.scenario.plugins:
            plugin = await world.plugins.install(self.package(key, 0), approved=frozenset(CAPABILITIES), uid=0)
            self.workers.keys[plugin.id] = key
            await self.set_ready(world, key, ready=True)
        await self.rest(60)

    async def meddle(self, world: World, mortal: Mortal) -> None:
        """Until it is killed at the dice's instant, be it in the middle of something."""
        await self.rest(1)
        for _ in range(self.dice.randint(1, 12)):
            happening, weight = zip(*HAPPENINGS, strict=True)
            [happens] = self.dice.choices(happening, weight)
            await happens(self, world)
            await self.rest(self.dice.randint(1, int(self.scenario.rest_s)))
            if self.clock.now() >= self.end:
                return
        if self.dice.random() < 0.7:
            # At a transaction soon, whose ever it is; or at none, if nothing happens.
            mortal.die_at(self.dice.randint(1, 25), kept=self.dice.random() < 0.5)
            for _ in range(4):
                await self.dice.choice((Simulation.enable_or_disable, Simulation.upgrade, Simulation.pause))(
                    self, world
                )
                await self.rest(self.dice.randint(1, int(self.scenario.rest_s)))

    async def drain(self, world: World, mortal: Mortal) -> None:
        """Nothing happens any more, and what is under way ends."""
        if self.model.state.held:
            await self.hold_all(world)
        for name in sorted(self.model.state.paused):
            await self.hold(world, name)
        for key in self.scenario.plugins:
            if key not in self.model.state.ready:
                await self.set_ready(world, key, ready=True)
        await self.rest(int(self.scenario.drain_s))
        self.model.advance(self.now_ms())
        self.model.change(self.model.state)  # what waits for its jitter to pass may have no row yet
        self.judge(world)

    async def command(self, after: State, do: Awaitable[Any]) -> None:
        """Have it done, and told to whom it concerns; the daemon may die over it."""
        self.model.advance(self.now_ms())
        self.in_flight = after, self.now_ms()
        await do
        await wait_all_tasks_blocked()
        before, since_ms, self.in_flight = self.model.state, self.model.now_ms, None
        self.model.advance(self.now_ms())
        self.model.change(after)
        self.model.blur(before, since_ms, self.now_ms())

    async def enable_or_disable(self, world: World) -> None:
        key = self.dice.choice(list(self.scenario.plugins))
        await self.set_ready(world, key, ready=key not in self.model.state.ready)

    async def set_ready(self, world: World, key: str, *, ready: bool) -> None:
        self.happened["enable" if ready else "disable"] += 1
        state, plugin = self.model.state, world.plugins.find(key)
        assert plugin is not None
        status = Status.READY if ready else Status.DISABLED
        after = replace(state, ready=state.ready | {key} if ready else state.ready - {key})
        if ready:
            self.workers.start(plugin.id)
        await self.command(after, world.set_status(plugin, status))
        if not ready:
            self.workers.stop(plugin.id)

    async def upgrade(self, world: World) -> None:
        """To a version that has other jobs, or the same at other times."""
        self.happened["upgrade"] += 1
        key = self.dice.choice(list(self.scenario.plugins))
        state, plugin = self.model.state, world.plugins.find(key)
        assert plugin is not None
        number = self.dice.randrange(len(self.scenario.plugins[key]))
        package = self.package(key, number, serial=self.happened["upgrade"])
        after = replace(state, versions={**state.versions, key: number})
        await self.command(after, world.plugins.exchange(package, expected=plugin, status=plugin.status, forward=True))

    async def pause(self, world: World) -> None:
        """Or resume: a job, a plugin or all."""
        self.happened["pause"] += 1
        if self.dice.random() < 0.2:
            await self.hold_all(world)
            return
        ready = self.model.state.ready
        names = [name for name, _ in self.declared(self.model.state) if name.partition("/")[0] in ready]
        await self.hold(world, self.dice.choice([*names, *self.scenario.plugins, *self.model.state.paused]))

    async def hold(self, world: World, name: str) -> None:
        """Or release it, if it is held."""
        state, holds = self.model.state, world.operator.holds
        after = replace(state, paused=state.paused ^ {name})
        plugin = world.plugins.find(name)
        if plugin is not None:
            do = holds.resume_plugin(plugin) if name in state.paused else holds.pause_plugin(plugin, 0)
        else:
            do = holds.resume_job(name) if name in state.paused else holds.pause_job(name)
        await self.command(after, do)

    async def hold_all(self, world: World) -> None:
        state, holds = self.model.state, world.operator.holds
        await self.command(
            replace(state, held=not state.held), holds.resume_all() if state.held else holds.pause_all(0)
        )

    async def turn_clock(self, world: World) -> None:
        self.model.advance(self.now_ms())
        self.step_clock()
        if self.now_ms() < self.model.now_ms:
            self.model.turn_back(self.now_ms())
        await wait_all_tasks_blocked()

    async def crash_a_worker(self, world: World) -> None:
        self.happened["crash"] += 1
        plugin_id = self.dice.choice(list(self.workers.keys))
        self.workers.crash(plugin_id, self.dice.uniform(0, self.scenario.slow_s))

    async def by_operator(self, world: World) -> None:
        """A run by hand, one more attempt, or the end of a run; what is refused is refused."""
        rows = [run for run in await world.runs.list(limit=30) if run.plugin_id in self.workers.keys]
        self.by_hand = True
        try:
            if not rows or self.dice.random() < 0.4:
                name, _ = self.dice.choice(list(self.declared(self.model.state)))
                await world.operator.run(name)
            elif self.dice.random() < 0.5:
                run = self.dice.choice(rows)
                self.tried_by_hand[f"{run.plugin_key}/{run.job_key}", run.due_ms] += 1
                await world.operator.retry(run.id)
            else:
                await world.operator.cancel(self.dice.choice(rows).id)
            self.happened["by hand"] += 1
        except SupervisorError:
            self.happened["by hand, refused"] += 1
        finally:
            self.by_hand = False

    def package(self, key: str, number: int, *, serial: int = 0) -> Any:
        specs = [spec(name, timing) for name, timing in self.scenario.plugins[key][number].items()]
        return a_package(replace(manifest(key, *specs), version=f"{number}.{serial}"), f"{key}/{number}.{serial}")

    # The end.

    def judge(self, world: World) -> None:
        connection = world.database._writer.connection.raw  # type: ignore[attr-defined]
        self.wrong += self.ledger.wrong
        rows = connection.execute(
            "SELECT plugin_key || '/' || job_key, due_ms, times, \"trigger\", state, attempt, retry_at_ms FROM job_run"
            " ORDER BY due_ms, attempt"
        ).fetchall()
        self.happened.update(f"{row[3]} {row[4]}" for row in rows)
        names = {row[0] for row in rows} | set(self.model.expected)
        for name in sorted(names):
            of_job = [row[1:] for row in rows if row[0] == name]
            self.judge_due_times(name, [(due, times) for due, times, trigger, *_ in of_job if trigger in BY_CLOCK])
            self.judge_attempts(name, [(due, attempt) for due, _, _, _, attempt, _ in of_job])
            for due, _, _, state, _, retry_at_ms in of_job:
                self.check(state in ENDED, f"{name} due {due} is {state} in the end")
                self.check(retry_at_ms is None, f"{name} due {due} is to be tried again in the end")

    def judge_due_times(self, name: str, rows: list[tuple[int, int]]) -> None:
        expected, optional = self.model.expected.get(name, set()), self.model.optional.get(name, set())
        all_of_them = sorted(expected | optional)
        served: list[int] = []
        again = self.model.recurring.get(name, set()) & {due for due, times in rows if times == 1}
        for due, times in rows:
            at = bisect_left(all_of_them, due)
            self.check(all_of_them[at : at + 1] == [due], f"{name} was not due at {shown(due)}, and has a row")
            # A row that many share has the due time of the last.
            shared = all_of_them[at + 1 - times : at + 1]
            served += [due] if times == 1 else [each for each in shared if each not in again]
        twice = [due for due, count in Counter(served).items() if count > 1]
        self.check(
            not twice, f"{name} has several rows for {len(twice)} due times: {[shown(due) for due in twice[:3]]}"
        )
        forgotten = sorted(expected - set(served))
        told = [shown(due) for due in forgotten[:3]]
        self.check(not forgotten, f"{name} has no row for {len(forgotten)} of {len(expected)} due times: {told}")
        sure = sum(due in expected for due in served)
        self.check(sure == len(expected) or bool(forgotten), f"{name}: {sure} outcomes of {len(expected)} due times")

    def judge_attempts(self, name: str, attempts: list[tuple[int, int]]) -> None:
        """The attempts at a due time are counted from 1, by no number twice, and are no more than were asked for."""
        plugin, _, key = name.partition("/")
        retries = max(v[key].said.get("retries", 0) for v in self.scenario.plugins[plugin] if key in v)
        of_due: dict[int, list[int]] = {}
        for due, attempt in attempts:
            of_due.setdefault(due, []).append(attempt)
        for due, numbers in of_due.items():
            self.check(numbers == [*range(1, len(numbers) + 1)], f"{name} due {shown(due)} has attempts {numbers}")
            most = 1 + retries + self.tried_by_hand[name, due]
            self.check(len(numbers) <= most, f"{name} due {shown(due)} was tried {len(numbers)} times, not {most}")

    def check(self, holds: bool, what: str) -> None:
        if not holds:
            self.wrong.append(f"{self.clock.now():%m-%d %H:%M:%S}: {what}")


HAPPENINGS: Sequence[tuple[Callable[[Simulation, World], Awaitable[None]], int]] = (
    (Simulation.enable_or_disable, 2),
    (Simulation.upgrade, 2),
    (Simulation.pause, 3),
    (Simulation.turn_clock, 2),
    (Simulation.crash_a_worker, 2),
    (Simulation.by_operator, 3),
)
BY_CLOCK = {"schedule", "catch_up"}
ENDED = {"succeeded", "failed", "cancelled", "timed_out", "interrupted", "skipped", "missed"}


def spec(key: str, timing: Timing) -> JobSpec:
    return job(key, **{"timeout_s": 3600, **timing.said})


def shown(at_ms: int) -> str:
    return f"{from_ms(at_ms):%m-%d %H:%M:%S}"


async def end_with(mortal: Mortal, nursery: trio.Nursery) -> None:
    await mortal.died.wait()
    nursery.cancel_scope.cancel()


async def observe(world: World, scenario: Scenario) -> State:
    """As the database has it."""

    def read() -> State:
        def rows(sql: str) -> list[Any]:
            return current.execute_sql(sql).fetchall()

        plugins = rows("SELECT key, status, version FROM plugin")
        jobs = rows("SELECT plugin.key || '/' || job.key FROM job JOIN plugin ON plugin.id = plugin_id WHERE paused")
        held = rows("SELECT plugin.key FROM job_hold JOIN plugin ON plugin.id = plugin_id")
        return State(
            ready=frozenset(key for key, status, _ in plugins if status == "ready"),
            versions=dict.fromkeys(scenario.plugins, 0)
            | {key: int(version.split(".")[0]) for key, _, version in plugins},
            paused=frozenset(name for (name,) in [*jobs, *held]),
            held=rows("SELECT held_at_ms FROM scheduler") != [(None,)],
        )

    return await world.database.read(read)
