"""What the simulated year is made of: a plain model of when jobs are due, and a daemon's world that can die.

The model knows nothing of the program: it counts due times by hand over the stretches in which a job is scheduled.
"""

from __future__ import annotations

import random
import sqlite3
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Any, Protocol
from zoneinfo import ZoneInfo

import trio

from supervisor.core.errors import PluginCrashed, PluginError, Unavailable
from supervisor.core.plugin import PluginId
from supervisor.store.runner import Work, run_batch

QUARTER = timedelta(minutes=15)
EVERY_DAY = range(7)


class Fires(Protocol):
    def between(self, after_ms: int, until_ms: int) -> Sequence[int]:
        """Due times in (after, until], in UTC ms."""


@dataclass(frozen=True)
class Every:
    period_ms: int

    def between(self, after_ms: int, until_ms: int) -> Sequence[int]:
        return range((after_ms // self.period_ms + 1) * self.period_ms, until_ms + 1, self.period_ms)


@dataclass(frozen=True)
class Listed:
    """All there are, in order."""

    times: Sequence[int]

    def between(self, after_ms: int, until_ms: int) -> Sequence[int]:
        return self.times[bisect_right(self.times, after_ms) : bisect_right(self.times, until_ms)]


NEVER = Listed(())


@dataclass(frozen=True)
class Wall:
    """Times of day in a zone, on the days that match; minutes are quarters of an hour.

    `elapsing`: its minute or hour field starts with a star, so it follows elapsed time; others are made up for after a
    gap, and run in the first pass of an hour that repeats.
    """

    zone: str
    hours: tuple[int, ...]
    minutes: tuple[int, ...]
    weekdays: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6)
    days: tuple[int, ...] = tuple(range(1, 32))
    months: tuple[int, ...] = tuple(range(1, 13))
    elapsing: bool = False

    def all(self, first: date, last: date) -> Listed:
        return Listed(sorted(_elapsing(self, first, last) if self.elapsing else _fixed(self, first, last)))

    def on(self, day: date) -> bool:
        return day.weekday() in self.weekdays and day.day in self.days and day.month in self.months


def ms(instant: datetime) -> int:
    return int(instant.timestamp()) * 1000


def _elapsing(wall: Wall, first: date, last: date) -> Iterable[int]:
    """Each quarter of an hour is looked at."""
    zone = ZoneInfo(wall.zone)
    instant, end = datetime.combine(first, time(), UTC), datetime.combine(last, time(), UTC)
    while instant < end:
        local = instant.astimezone(zone)
        if local.minute in wall.minutes and local.hour in wall.hours and wall.on(local.date()):
            yield ms(instant)
        instant += QUARTER


def _fixed(wall: Wall, first: date, last: date) -> Iterable[int]:
    """Each wall time is looked up; those that several lead to are one."""
    zone, found, day = ZoneInfo(wall.zone), set(), first
    while day < last:
        if wall.on(day):
            found |= {
                ms(_first_pass(datetime.combine(day, time(hour, minute)), zone))
                for hour in wall.hours
                for minute in wall.minutes
            }
        day += timedelta(days=1)
    return found


def _first_pass(wall: datetime, zone: ZoneInfo) -> datetime:
    """The instant of a wall time; of one that is skipped, the first instant after the gap."""
    instant = wall.replace(tzinfo=zone).astimezone(UTC)
    if instant.astimezone(zone).replace(tzinfo=None) == wall:
        return instant
    # Read as before the gap, it lies beyond it: back to where the wall clock jumps.
    minute = timedelta(minutes=1)
    while (instant - minute).astimezone(zone).utcoffset() == instant.astimezone(zone).utcoffset():
        instant -= minute
    return instant


@dataclass(frozen=True)
class Timing:
    """The same times twice: as a manifest says it, and as the model does."""

    said: Mapping[str, Any]
    meant: Wall | Every | Listed
    jitter_ms: int = 0


@dataclass(frozen=True)
class State:
    """What decides who is scheduled. `versions`: plugin -> number of its manifest."""

    ready: frozenset[str]
    versions: Mapping[str, int]
    paused: frozenset[str] = frozenset()
    """Names of jobs and keys of plugins."""
    held: bool = False


@dataclass
class Model:
    """Which due times have a row, each exactly one. Instants are UTC ms.

    `scheduled` says who is, in a state: job name -> when it is due, in (after, until], and its jitter in ms.
    """

    state: State
    now_ms: int
    scheduled: Callable[[State], Mapping[str, tuple[Fires, int]]]
    expected: dict[str, set[int]] = field(default_factory=dict)
    optional: dict[str, set[int]] = field(default_factory=dict)
    """Those that may have a row or none: the daemon died over the command that decides, or the clock went back."""
    recurring: dict[str, set[int]] = field(default_factory=dict)
    """Those that the clock went back before: a row that many share may count one that has a row of its own by now."""

    def advance(self, now_ms: int) -> None:
        """The wall clock has got there, at its own pace or by a step forward."""
        for name, (fires, _) in self.scheduled(self.state).items():
            new = fires.between(self.now_ms, now_ms)
            self.expected.setdefault(name, set()).update(new)
            self.optional.setdefault(name, set()).difference_update(new)
        self.now_ms = max(self.now_ms, now_ms)

    def turn_back(self, now_ms: int) -> None:
        """What has a row after that keeps it, and comes again for those scheduled then: what was missed may run."""
        for name, due in self.expected.items():
            future = {due_ms for due_ms in due if due_ms > now_ms}
            due -= future
            self.optional.setdefault(name, set()).update(future)
        for name, due in self.optional.items():
            self.recurring.setdefault(name, set()).update(due_ms for due_ms in due if due_ms > now_ms)
        self._blur_jitter(self.state, now_ms)
        self.now_ms = now_ms

    def change(self, after: State) -> None:
        """By a command that is done, now."""
        before, self.state = self.state, after
        for state in (before, after):
            self._blur_jitter(state, self.now_ms)

    def blur(self, other: State, since_ms: int, now_ms: int) -> None:
        """A command was cut: from then until now it was the state, or the `other`."""
        ours, theirs = self.scheduled(self.state), self.scheduled(other)
        for name in {*ours, *theirs}:
            if ours.get(name) != theirs.get(name):
                for fires, jitter_ms in filter(None, (ours.get(name), theirs.get(name))):
                    self._allow(name, fires.between(since_ms - jitter_ms, now_ms))

    def _blur_jitter(self, state: State, now_ms: int) -> None:
        """What is due, and waits for its jitter to pass, depends on the dice of the program."""
        for name, (fires, jitter_ms) in self.scheduled(state).items():
            if jitter_ms:
                self._allow(name, fires.between(now_ms - jitter_ms, now_ms))

    def _allow(self, name: str, due: Iterable[int]) -> None:
        self.optional.setdefault(name, set()).update(due)
        self.expected.setdefault(name, set()).difference_update(due)


class Mortal:
    """A database's runner that can die: from then on nothing is written, and nobody is told of what was.

    Dying at a transaction, it is lost whole, or durable without anybody having heard of it.
    """

    def __init__(self, runner: Any, on_death: Callable[[], None]) -> None:
        self._runner = runner
        self._on_death = on_death
        self.connection = runner._connection
        self.died = trio.Event()
        self.left = 0
        self.last_is_kept = False

    def die_at(self, transaction: int, *, kept: bool) -> None:
        """Of those from now on."""
        self.left, self.last_is_kept = transaction, kept

    def die(self) -> None:
        if not self.died.is_set():
            self.died.set()
            self._on_death()

    async def open(self) -> None:
        await self._runner.open()

    async def run(self, work: Work[Any], *, owner: str | None = None, size: int = 0) -> Any:
        if self.left and not self.died.is_set():
            self.left -= 1
            if not self.left:
                if self.last_is_kept:
                    run_batch(self.connection, [work])
                self.die()
        if self.died.is_set():
            await trio.sleep_forever()
        return await self._runner.run(work, owner=owner, size=size)

    async def aclose(self) -> None:
        await self._runner.aclose()


class Ledger:
    """What all the workers of all the daemons were given, and what is wrong with it. Times are trio's."""

    def __init__(self, may_run: Callable[[str], bool], may_overlap: Callable[[str], bool]) -> None:
        self.wrong: list[str] = []
        self.given: set[tuple[str, int, int]] = set()
        self.runs: set[str] = set()
        self._may_run = may_run
        self._may_overlap = may_overlap
        self._at_work: dict[str, list[str]] = {}

    def begin(self, name: str, params: Mapping[str, Any]) -> None:
        run, what = params["run_id"], f"{name} due {params['scheduled_at_ms']} attempt {params['attempt']}"
        key = (name, params["scheduled_at_ms"], params["attempt"])
        beside = self._at_work.setdefault(name, [])
        if run in self.runs or (params["trigger"] != "manual" and key in self.given):
            self.wrong.append(f"{what} was given to the worker twice")
        if beside and not self._may_overlap(name):
            self.wrong.append(f"{what} was given to the worker beside {beside}")
        if not self._may_run(name):
            self.wrong.append(f"{what} was given to the worker of a plugin that is not ready")
        self.runs.add(run)
        self.given.add(key)
        beside.append(run)

    def end(self, name: str, run: str) -> None:
        if run in self._at_work.get(name, ()):
            self._at_work[name].remove(run)

    def all_end(self, plugin_key: str | None = None) -> None:
        """The worker is gone, or with the daemon all of them."""
        for name, runs in self._at_work.items():
            if plugin_key in {None, name.partition("/")[0]}:
                runs.clear()


class Behaviour(StrEnum):
    FAST = "fast"
    SLOW = "slow"
    FAILS = "fails"
    HANGS = "hangs"
    """It lets go when it is told to."""
    DEAF = "deaf"
    """It hangs, and lets go long after it was told to."""
    CRASHES = "crashes"


@dataclass
class Tempers:
    """How a worker behaves on a run; the same whenever it is asked about the same one."""

    seed: int
    slow_s: float
    good: bool = False

    def of(self, name: str, params: Mapping[str, Any]) -> tuple[Behaviour, float]:
        """And for how many seconds."""
        dice = random.Random(f"{self.seed} {name} {params['scheduled_at_ms']} {params['attempt']}")
        if self.good:
            return Behaviour.FAST, 0.0
        if dice.random() < 0.7:
            return Behaviour.FAST, dice.choice((0.0, 0.0, 0.4))
        return dice.choice(list(Behaviour)), dice.uniform(0, self.slow_s)


class Workers:
    """One worker for each plugin; it is up until it crashes, is stopped or restarted."""

    def __init__(self, names: Mapping[PluginId, str], ledger: Ledger, tempers: Tempers, nursery: trio.Nursery) -> None:
        self.keys = names
        self._ledger = ledger
        self._tempers = tempers
        self._nursery = nursery
        self._lives: dict[str, set[trio.CancelScope]] = {}
        self._down: dict[str, trio.Event] = {}
        self._stopped: set[str] = set()
        self._up_since: dict[str, float] = {}

    # The runner's side.

    def comes_back(self, plugin_id: PluginId) -> bool:
        return plugin_id not in self._stopped

    def up_since(self, plugin_id: PluginId) -> float | None:
        down = plugin_id in self._down or plugin_id in self._stopped
        return None if down else self._up_since.setdefault(plugin_id, trio.current_time())

    def why_down(self, plugin_id: PluginId) -> str:
        return "its worker is in backoff" if plugin_id in self._down else "its worker is stopped"

    async def wait_running(self, plugin_id: PluginId) -> None:
        await trio.lowlevel.checkpoint()
        while self.up_since(plugin_id) is None:
            if plugin_id in self._stopped:
                raise Unavailable("the worker is stopped")
            await self._down[plugin_id].wait()

    async def call(
        self,
        plugin_id: PluginId,
        method: str,
        params: dict[str, Any],
        *,
        timeout_s: float | None,
        on_settled: Callable[[], None],
    ) -> Any:
        assert method == "run_job"
        assert timeout_s is None
        name = f"{self.keys[plugin_id]}/{params['job']}"
        behaviour, for_s = self._tempers.of(name, params)
        if self.up_since(plugin_id) is None:
            on_settled()
            raise Unavailable("the worker is not up")
        self._ledger.begin(name, params)
        let_go = self._letting_go(plugin_id, name, params["run_id"], on_settled)
        try:
            with self._life(plugin_id) as life:
                await self._behave(plugin_id, behaviour, for_s)
        except trio.Cancelled:
            let_go(for_s if behaviour is Behaviour.DEAF else 0)
            raise
        let_go(0)
        if life.cancelled_caught:
            raise PluginCrashed("the worker ended")
        if behaviour is Behaviour.FAILS:
            raise PluginError("it failed")
        return None

    def hang(self, plugin_id: PluginId, why: str, *, since: float) -> None:
        up_since = self.up_since(plugin_id)
        if up_since is not None and up_since <= since:
            self.crash(plugin_id, 1)

    # The test's side.

    def crash(self, plugin_id: PluginId, backoff_s: float) -> None:
        """It is started again after a while."""
        if self.up_since(plugin_id) is not None:
            self._down[plugin_id] = trio.Event()
            self._end(plugin_id)
            self._nursery.start_soon(self._back_off, plugin_id, backoff_s)

    def stop(self, plugin_id: PluginId) -> None:
        self._stopped.add(plugin_id)
        self._end(plugin_id)
        if plugin_id in self._down:
            self._down[plugin_id].set()

    def start(self, plugin_id: PluginId) -> None:
        self._stopped.discard(plugin_id)

    def _end(self, plugin_id: PluginId) -> None:
        self._up_since.pop(plugin_id, None)
        for life in self._lives.get(plugin_id, set()):
            life.cancel()
        self._ledger.all_end(self.keys[plugin_id])

    async def _back_off(self, plugin_id: PluginId, backoff_s: float) -> None:
        await trio.sleep(backoff_s)
        self._down.pop(plugin_id).set()

    @contextmanager
    def _life(self, plugin_id: PluginId) -> Iterator[trio.CancelScope]:
        """Within it, the worker's end ends the block."""
        lives = self._lives.setdefault(plugin_id, set())
        with trio.CancelScope() as life:
            lives.add(life)
            try:
                yield life
            finally:
                lives.discard(life)

    async def _behave(self, plugin_id: PluginId, behaviour: Behaviour, for_s: float) -> None:
        if behaviour in {Behaviour.HANGS, Behaviour.DEAF}:
            await trio.sleep_forever()
        await trio.sleep(for_s)
        if behaviour is Behaviour.CRASHES:
            self.crash(plugin_id, for_s)
            await trio.sleep_forever()

    def _letting_go(
        self, plugin_id: PluginId, name: str, run: str, on_settled: Callable[[], None]
    ) -> Callable[[float], None]:
        """What is called once the call has ended, with the seconds for which the worker is still at it."""

        async def later(for_s: float) -> None:
            with self._life(plugin_id):
                await trio.sleep(for_s)
            now()

        def now() -> None:
            self._ledger.end(name, run)
            on_settled()

        def let_go(for_s: float) -> None:
            if for_s:
                self._nursery.start_soon(later, for_s)
            else:
                now()

        return let_go


def watch(connection: sqlite3.Connection, born: Callable[..., str | None]) -> list[str]:
    """What is wrong with the changes of `job_run` on this connection, as they are made: a list that grows.

    `born` is asked about each new row: job, trigger, state -> what is wrong with it.
    """
    wrong: list[str] = []

    def note(what: str | None) -> None:
        if what:
            wrong.append(what)

    def changed(run: str, trigger: str, before: str, after: str) -> None:
        if (before, after) == ("missed", "queued") and trigger in {"schedule", "catch_up"}:
            return  # its due time came again, since the clock was turned back
        allowed = {"queued": ("running", "cancelled", "skipped", "failed"), "running": ENDS}.get(before, ())
        note(None if after in allowed else f"run {run} was {before} and became {after}")

    def deleted(run: str, state: str, due_ms: int) -> None:
        note(f"run {run}, {state}, due {due_ms}, was deleted")

    connection.create_function("test_born", 3, lambda *row: note(born(*row)))
    connection.create_function("test_changed", 4, changed)
    connection.create_function("test_deleted", 3, deleted)
    for when, call in (
        ("AFTER INSERT", """test_born(NEW.plugin_key || '/' || NEW.job_key, NEW."trigger", NEW.state)"""),
        ("BEFORE UPDATE OF state", 'test_changed(OLD.id, OLD."trigger", OLD.state, NEW.state)'),
        ("BEFORE DELETE", "test_deleted(OLD.id, OLD.state, OLD.due_ms)"),
    ):
        name = call.partition("(")[0]
        connection.execute(f"CREATE TEMP TRIGGER {name} {when} ON job_run BEGIN SELECT {call}; END")
    return wrong


ENDS = ("succeeded", "failed", "cancelled", "timed_out", "interrupted")
