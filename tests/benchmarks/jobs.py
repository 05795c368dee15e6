"""Jobs against a bare heap, sqlite3 and trio, and against APScheduler 3.11 on SQLite where that is installed.

Each part runs in a process of its own, ours and the floor in turns: `--only due,start` for some of them.
"""

from __future__ import annotations

import argparse
import gc
import heapq
import importlib.util
import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
import uuid
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import trio

sys.path.insert(0, str(Path(__file__).parents[2]))
from supervisor.bus import EventBus
from supervisor.clock import SystemClock
from supervisor.core.job import Due, Job
from supervisor.core.lifecycle import Status
from supervisor.core.manifest import JobSpec, Manifest
from supervisor.core.plugin import Capability, Plugin, PluginId, PluginKey
from supervisor.core.worker_spec import WorkerSpec
from supervisor.jobs.alarm import Alarm, open_alarm
from supervisor.jobs.coordinator import JobCoordinator
from supervisor.jobs.cron import parse_schedule
from supervisor.jobs.cron_zones import zone_fingerprint
from supervisor.jobs.due import first_due, schedule_of, timing
from supervisor.jobs.runner import Runner
from supervisor.jobs.scheduler import JobScheduler
from supervisor.log import configure, get_logger
from supervisor.store.claims import ClaimStore
from supervisor.store.database import Database
from supervisor.store.job_sync import FirstDue
from supervisor.store.jobs import JobStore
from supervisor.store.plugins import PluginRegistry
from supervisor.store.runs import RunStore
from supervisor.store.tables import current
from tests.benchmarks.harness import timed
from tests.packages import a_package

HERE = Path(__file__).resolve()
DAY_MS = 86_400_000
SCHEDULES = ("*/5 * * * *", "30 3 * * *", "0 9-17 * * 1-5", "15 4 1 * *", "@hourly", "7,37 * * * *")
ZONES = ("UTC", "Europe/Berlin")
Row = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """How much of it is measured."""

    rounds: int = 3
    calls: int = 200_000
    declared: int = 10_000
    each: int = 1_000
    burst: int = 1_000
    many: int = 10_000
    stored: int = 100_000
    plugins: int = 1_000
    quiet_s: float = 10.0
    at_once: int = 32


TINY = Size(1, 200, 20, 10, 16, 32, 40, 4, 0.2)


def row(
    what: str, unit: str, ours: float, floor: float | None = None, peer: float | None = None, goal: str = ""
) -> Row:
    return {"what": what, "unit": unit, "ours": ours, "floor": floor, "peer": peer, "goal": goal}


def now_ms() -> int:
    return time.time_ns() // 1_000_000


# --- the floor: what nobody can do without ---


def bare_next(after_s: int, minutes: Sequence[int], hours: int, weekdays: int) -> int:
    """A bitmask for hours and one for weekdays, a bisection for minutes: the next time in UTC of a plain expression."""
    day, second = divmod(after_s, 86_400)
    minute = second // 60 + 1
    while True:
        if weekdays >> (day + 3) % 7 & 1:
            while minute < 1440:
                if hours >> minute // 60 & 1 and (at := bisect_right(minutes, minute % 60 - 1)) < len(minutes):
                    return day * 86_400 + (minute - minute % 60 + minutes[at]) * 60
                minute += 60 - minute % 60
        day, minute = day + 1, 0


def bare_database(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None)
    database.executescript(
        "PRAGMA journal_mode = wal; PRAGMA synchronous = full;"
        "CREATE TABLE IF NOT EXISTS job (id TEXT PRIMARY KEY, plugin TEXT, spec TEXT, next_ms INTEGER);"
        "CREATE TABLE IF NOT EXISTS run (id TEXT PRIMARY KEY, job TEXT, due_ms INTEGER, state TEXT)"
    )
    return database


async def bare_burst(path: Path, count: int, due_ms: int) -> list[float]:
    """Lateness in ms of each of `count` jobs, claimed in one commit; a task each."""
    late: list[float] = []

    async def work(due: int) -> None:
        late.append(time.time() * 1000 - due)

    with closing(bare_database(path)) as database:
        ids = [str(uuid.uuid4()) for _ in range(count)]
        database.execute("BEGIN")
        database.executemany("INSERT INTO job VALUES (?, '', '', ?)", [(id_, due_ms) for id_ in ids])
        database.execute("COMMIT")
        heap = [(due_ms, id_) for id_ in ids]
        heapq.heapify(heap)
        await trio.sleep(max(0.0, heap[0][0] / 1000 - time.time()))
        async with trio.open_nursery() as nursery:
            due, now = [], now_ms()
            while heap and heap[0][0] <= now:
                due.append(heapq.heappop(heap))
            database.execute("BEGIN IMMEDIATE")
            for at_ms, id_ in due:
                next_ms = bare_next(at_ms // 1000, range(0, 60, 5), 2**24 - 1, 127) * 1000
                database.execute("INSERT INTO run VALUES (?, ?, ?, 'running')", (str(uuid.uuid4()), id_, at_ms))
                database.execute("UPDATE job SET next_ms = ? WHERE id = ? AND next_ms = ?", (next_ms, id_, at_ms))
                heapq.heappush(heap, (next_ms, id_))
            database.execute("COMMIT")
            for at_ms, _ in due:
                nursery.start_soon(work, at_ms)
    return late


# --- the peer ---

HAS_PEER = all(importlib.util.find_spec(name) for name in ("apscheduler", "sqlalchemy"))
_peer_late: list[float] = []


def note_peer(due_ms: int) -> None:
    """APScheduler finds a job by its name in a module, and runs it in a thread."""
    _peer_late.append(time.time() * 1000 - due_ms)


@contextmanager
def peer(path: Path) -> Iterator[Any]:
    from apscheduler.executors.pool import ThreadPoolExecutor
    from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
    from apscheduler.schedulers.background import BackgroundScheduler

    scheduler = BackgroundScheduler(
        jobstores={"default": SQLAlchemyJobStore(url=f"sqlite:///{path}")},
        executors={"default": ThreadPoolExecutor(64)},
        job_defaults={"misfire_grace_time": 3600},
        timezone="UTC",
    )
    scheduler.start(paused=True)
    try:
        yield scheduler
    finally:
        scheduler.shutdown()


def peer_declare(scheduler: Any, count: int, due_ms: int) -> float:
    """Seconds to declare so many daily jobs, the first time at `due_ms`."""
    from datetime import UTC, datetime

    from apscheduler.triggers.interval import IntervalTrigger

    trigger = IntervalTrigger(days=1, start_date=datetime.fromtimestamp(due_ms / 1000, UTC), timezone="UTC")
    started = time.perf_counter()
    for number in range(count):
        scheduler.add_job("__main__:note_peer", trigger, args=[due_ms], id=str(number))
    return time.perf_counter() - started


def peer_burst(directory: Path, count: int) -> list[float] | None:
    if not HAS_PEER:
        return None
    _peer_late.clear()
    with peer(directory / "peer.db") as scheduler:
        lead_ms = 10 * count + 3000  # it declares a job in a commit of its own
        due_ms = now_ms() + lead_ms
        peer_declare(scheduler, count, due_ms)
        scheduler.resume()
        while len(_peer_late) < count and now_ms() < due_ms + 120_000:
            time.sleep(0.02)
        return sorted(_peer_late)


# --- ours ---


class Workers:
    """Up, and done with a run in `takes_s`; they note how late each call was, in ms."""

    def __init__(self) -> None:
        self.late: list[float] = []
        self.late_of: dict[str, list[float]] = {}
        self.enough, self.second_plugin = trio.Event(), trio.Event()
        self.want = self.due_ms = 0
        self.takes_s = 0.0

    def comes_back(self, _: PluginId) -> bool:
        return True

    def up_since(self, _: PluginId) -> float | None:
        return 0.0

    def why_down(self, _: PluginId) -> str:
        return ""

    async def wait_running(self, _: PluginId) -> None:
        await trio.lowlevel.checkpoint()

    def hang(self, *_: Any, **__: Any) -> None:
        raise AssertionError("nobody hangs here")

    async def call(self, plugin_id: PluginId, _: str, params: Any, *, on_settled: Any, **__: Any) -> None:
        if params["scheduled_at_ms"] == self.due_ms:  # or it is due again meanwhile
            late = time.time() * 1000 - self.due_ms
            self.late.append(late)
            self.late_of.setdefault(plugin_id, []).append(late)
            if len(self.late_of) == 2:
                self.second_plugin.set()
            if len(self.late) == self.want:
                self.enough.set()
        await trio.sleep(self.takes_s)
        on_settled()


class Rig:
    """The jobs' part of a daemon on a database file, with workers that are none."""

    def __init__(self, database: Database, bus: EventBus, plugins: PluginRegistry, limits: dict[str, int]) -> None:
        self.database, self.plugins = database, plugins
        self.commits = 0
        clock, log = SystemClock(), get_logger()
        self.workers, self.alarm = Workers(), NotingAlarm(open_alarm(clock))
        self.jobs, runs, claims = JobStore(database), RunStore(database), ClaimStore(database)
        self.runner = Runner(
            runs,
            self.workers,
            None,  # type: ignore[arg-type]  # no command jobs
            clock,
            log,
            timezone="UTC",
            nudge=self.alarm.nudge,
            **limits,
        )
        self.scheduler = JobScheduler(self.jobs, claims, self.runner, self.alarm, clock, log, timezone="UTC")
        self.coordinator = JobCoordinator(
            bus, plugins, self.jobs, runs, self.scheduler, self.runner, clock, log, timezone="UTC"
        )
        self._count_commits(database._writer._connection)  # type: ignore[attr-defined]

    async def install(self, plugins: int, each: int, due_ms: int | None = None, key: str = "bench.p") -> float:
        """Seconds that it took to declare so many plugins' jobs, the plugins themselves apart."""
        took = 0.0
        for number in range(plugins):
            package = a_package(a_manifest(PluginKey(f"{key}{number}"), each), f"{key}{number}/1")
            plugin = await self.plugins.install(package, approved=frozenset(CAPABILITIES), uid=0)
            await self.plugins.set_status(plugin.id, expected=Status.INSTALLED, status=Status.READY)
            started = time.perf_counter()
            due = first_due_of(plugin, due_ms)
            await self.jobs.sync(plugin.id, plugin.key, plugin.manifest.jobs, due, source="")
            took += time.perf_counter() - started
        return took

    async def serve(self, nursery: trio.Nursery, *, coordinated: bool = False) -> None:
        """Until the scheduler sleeps for the first time; `coordinated`: as at the daemon's start."""
        await nursery.start(self.runner.run)
        if coordinated:
            await nursery.start(self.coordinator.run)
            await self.coordinator.wait_settled()
        await nursery.start(self.scheduler.run)
        await self.alarm.slept.wait()

    async def start(self, then: Callable[[], None] = lambda: None) -> None:
        """As the daemon does, and end again."""
        async with trio.open_nursery() as nursery:
            await self.serve(nursery, coordinated=True)
            then()
            nursery.cancel_scope.cancel()

    def _count_commits(self, connection: Any) -> None:
        """Those that wrote something."""
        commit = connection.commit
        changes = 0

        def counted() -> None:
            nonlocal changes
            self.commits += connection.raw.total_changes > changes
            changes = connection.raw.total_changes
            commit()

        connection.commit = counted


class NotingAlarm:
    """Tells when it is waited with for the first time."""

    def __init__(self, alarm: Alarm) -> None:
        self._alarm = alarm
        self.nudge, self.close = alarm.nudge, alarm.close
        self.slept = trio.Event()

    async def wait_until(self, at_ms: int | None) -> None:
        self.slept.set()
        await self._alarm.wait_until(at_ms)


CAPABILITIES = (Capability("jobs.schedule"),)


def a_manifest(key: PluginKey, jobs: int) -> Manifest:
    return Manifest(
        key=key,
        version="1",
        api_version=1,
        display_name=key,
        description="For benchmarks",
        author="bench",
        categories=("automation",),
        capabilities=CAPABILITIES,
        min_supervisor_version=None,
        worker=WorkerSpec(command=("worker",)),
        jobs=tuple(
            JobSpec(
                key=f"job-{number}",
                display_name=f"Job {number}",
                schedule=SCHEDULES[number % len(SCHEDULES)],
                timezone=ZONES[number % len(ZONES)],
            )
            for number in range(jobs)
        ),
        methods=(),
        config_schema={},
    )


def first_due_of(plugin: Plugin, due_ms: int | None) -> FirstDue:
    """As the coordinator computes it; `due_ms`: that time instead."""
    at_ms = now_ms()

    def first(spec: JobSpec, stored: Job | None) -> tuple[Due | None, str]:
        schedule, zone = schedule_of(spec, plugin.key, "UTC"), spec.timezone or "UTC"
        said = timing(spec, zone, zone_fingerprint(zone))
        if due_ms is not None:
            return Due(due_ms, due_ms), said
        return first_due(spec, schedule, stored, plugin.id, timing=said, now_ms=at_ms), said

    return first


@asynccontextmanager
async def rig(path: Path, **limits: int) -> AsyncIterator[Rig]:
    bus = EventBus()
    database = await Database.open(path, clock=SystemClock(), publish=bus.publish)
    try:
        yield Rig(database, bus, await PluginRegistry.load(database), limits)
    finally:
        await database.aclose()


@asynccontextmanager
async def loaded(
    directory: Path, plugins: int, each: int, *, lonely: bool = False, takes_s: float = 0.0, **limits: int
) -> AsyncIterator[Rig]:
    """With `each` jobs of so many plugins, and maybe a `lonely` one, that are due soon, in the same second."""
    async with rig(directory / f"{uuid.uuid4()}.db", **limits) as ours:
        await ours.install(plugins, each, now_ms() + DAY_MS)
        if lonely:
            await ours.install(1, 1, now_ms() + DAY_MS, key="lonely")
        ours.workers.due_ms = due_ms = soon_ms()
        await ours.database.transact(
            lambda tx: tx.execute("UPDATE job SET next_due_ms = ?, next_fire_ms = ?", (due_ms, due_ms)).rowcount
        )
        ours.workers.takes_s = takes_s
        yield ours


def soon_ms() -> int:
    """By then all is set up."""
    return now_ms() + 500


async def burst(directory: Path, plugins: int, each: int, **limits: int) -> list[float]:
    """Lateness in ms of each call."""
    async with loaded(directory, plugins, each, **limits) as ours, trio.open_nursery() as nursery:
        ours.workers.want = plugins * each
        await ours.serve(nursery)
        with trio.fail_after(120):
            await ours.workers.enough.wait()
        nursery.cancel_scope.cancel()
    assert len(ours.workers.late) == plugins * each
    return ours.workers.late


# --- the parts ---


def part_next(size: Size, _: Path) -> list[Row]:
    kinds = [(text, zone) for text in SCHEDULES for zone in ZONES]
    at = [1_772_323_200 + 7919 * n for n in range(size.calls)]
    schedules = [parse_schedule(text, zone=zone) for text, zone in kinds]

    def ours() -> None:
        for n, second in enumerate(at):
            schedules[n % len(schedules)].next_ms(second * 1000)

    def ours_parsed() -> None:
        for n, second in enumerate(at):
            text, zone = kinds[n % len(kinds)]
            parse_schedule(text, zone=zone).next_ms(second * 1000)

    def floor() -> None:
        minutes = range(0, 60, 5)
        for second in at:
            bare_next(second, minutes, 2**24 - 1, 127)

    def croniter_s() -> float:
        from croniter import croniter

        few = at[: max(1, len(at) // 50)]
        return timed(lambda: [croniter("*/5 * * * *", second).get_next(float) for second in few]) / len(few)

    ours()  # the caches fill
    each = [[timed(work) / len(at) * 1e6 for work in (ours, ours_parsed, floor)] for _ in range(size.rounds)]
    mine, parsed, bare = (statistics.median(column) for column in zip(*each, strict=True))
    return [
        row("next time of a job", "µs", mine, bare, peer_next(at), "10 µs"),
        row("… with its parsing, from the cache", "µs", parsed, bare, None, "10 µs"),
        row("croniter alone, for comparison", "µs", croniter_s() * 1e6, bare),
    ]


def peer_next(at: Sequence[int]) -> float | None:
    if not HAS_PEER:
        return None
    from datetime import UTC, datetime

    from apscheduler.triggers.cron import CronTrigger

    few = [datetime.fromtimestamp(second, UTC) for second in at[: max(1, len(at) // 50)]]
    trigger = CronTrigger.from_crontab("*/5 * * * *", timezone="UTC")
    return timed(lambda: [trigger.get_next_fire_time(None, when) for when in few]) / len(few) * 1e6


def part_declare(size: Size, directory: Path) -> list[Row]:
    plugins, each = size.declared // size.each, size.each

    async def ours() -> float:
        async with rig(directory / f"{uuid.uuid4()}.db") as one:
            return await one.install(plugins, each)

    def floor() -> float:
        with closing(bare_database(directory / f"{uuid.uuid4()}.db")) as database:
            started = time.perf_counter()
            for number in range(plugins):
                database.execute("BEGIN IMMEDIATE")
                database.executemany(
                    "INSERT INTO job VALUES (?, ?, '*/5 * * * *', ?)",
                    [(str(uuid.uuid4()), number, bare_next(n, range(60), -1, 127)) for n in range(each)],
                )
                database.execute("COMMIT")
            return time.perf_counter() - started

    pairs = [(trio.run(ours), floor()) for _ in range(size.rounds)]
    mine, bare = (statistics.median(column) for column in zip(*pairs, strict=True))
    other = None
    if HAS_PEER:
        few = max(1, plugins * each // 20)
        with peer(directory / "peer.db") as scheduler:
            other = peer_declare(scheduler, few, now_ms() + 86_400_000) / few * plugins * each
    what = f"declare {plugins * each:,} jobs, {each:,} a plugin, durably"
    return [row(what, "s", mine, bare, other, f"{2 * plugins * each / 10_000:g} s")]


def part_due(size: Size, directory: Path) -> list[Row]:
    rows, wide = [], {"max_runs": size.many, "max_runs_per_plugin": size.many}
    cases = (
        (size.burst, 1, wide, f"{size.burst:,} due at once, limits {size.many:,}", 2),
        (size.burst, max(1, size.burst // 8), {}, f"{size.burst:,} due at once, limits 64 and 8", 2),
        (size.many, max(1, size.many // 1000), wide, f"{size.many:,} due at once, limits {size.many:,}", 2.5),
        (size.many, max(1, size.many // 8), {}, f"{size.many:,} due at once, limits 64 and 8", 2.5),
    )
    peers = peer_burst(directory, size.burst)
    for count, plugins, limits, what, most in cases:
        columns: dict[str, list[tuple[float, float, float]]] = {"ours": [], "floor": []}
        for _ in range(size.rounds):
            columns["ours"].append(shape(trio.run(partial(burst, directory, plugins, count // plugins, **limits))))
            columns["floor"].append(shape(trio.run(bare_burst, directory / f"{uuid.uuid4()}.db", count, soon_ms())))
        mine, bare = ([statistics.median(of) for of in zip(*rounds, strict=True)] for rounds in columns.values())
        other = shape(peers) if peers is not None and count == size.burst else (None, None, None)
        for n, name in enumerate(("p50", "p99", "all")):
            goal = f"{most:g} x floor" if (name == "p99") == (count == size.burst) and name != "p50" else ""
            rows.append(row(f"{what}: {name}", "ms", mine[n], bare[n], other[n], goal))
    return rows


def shape(late: Sequence[float]) -> tuple[float, float, float]:
    """p50, p99 and the last."""
    ordered = sorted(late)
    return ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)], ordered[-1]


def part_fsync(size: Size, directory: Path) -> list[Row]:
    """By the kernel's word where strace is there, else by the commits that wrote something."""
    rows = []
    for at_once in (32, 64, size.burst):
        command = [sys.executable, str(HERE), "--part", "count", "--dir", str(directory), "--burst", str(size.burst)]
        command += ["--at-once", str(at_once)]
        trace = directory / f"trace-{at_once}"
        if shutil.which("strace"):
            command = ["strace", "-f", "-qq", "-e", "trace=fsync,fdatasync,mkdir", "-o", str(trace), *command]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr)
        counted = json.loads(done.stdout)["commits"]
        by = "commits"
        if trace.exists():
            lines = trace.read_text().splitlines()
            ours = lines[first(lines, "measure-begins") : first(lines, "measure-ends")]
            counted, by = sum("sync(" in line for line in ours), "fsyncs"
        # The floor makes one commit for all of them.
        rows.append(row(f"{by} a run, {at_once:,} at once", "", counted / size.burst, None, None, "0.1"))
    return rows


def first(lines: Sequence[str], word: str) -> int:
    return next(number for number, line in enumerate(lines) if word in line)


@contextmanager
def mark(directory: Path) -> Iterator[None]:
    """For who reads the trace of our system calls."""
    (directory / "measure-begins").mkdir(exist_ok=True)
    yield
    (directory / "measure-ends").mkdir(exist_ok=True)


def part_count(size: Size, directory: Path) -> list[Row]:
    """What `part_fsync` looks at; prints the number of commits that wrote."""
    limits = {"max_runs": size.at_once, "max_runs_per_plugin": size.at_once}

    async def count() -> int:
        async with loaded(directory, 1, size.burst, takes_s=0.02, **limits) as ours, trio.open_nursery() as nursery:
            ours.workers.want = size.burst
            before = ours.commits
            with mark(directory):
                await ours.serve(nursery)
                await ours.workers.enough.wait()
                while await ours.database.read(lambda: current.execute_sql(_OPEN).fetchone()[0]):  # noqa: ASYNC110
                    await trio.sleep(0.02)
            nursery.cancel_scope.cancel()
            return ours.commits - before

    print(json.dumps({"commits": trio.run(count)}))
    return []


_OPEN = "SELECT count(*) FROM job_run WHERE state IN ('queued', 'running')"


def part_idle(size: Size, directory: Path) -> list[Row]:
    class Loops(trio.abc.Instrument):
        count = 0

        def after_io_wait(self, timeout: float) -> None:
            self.count += 1

    def switches() -> int:
        tasks = Path("/proc/self/task").iterdir()
        lines = [line for task in tasks for line in (task / "status").read_text().splitlines()]
        return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))

    async def rest() -> tuple[int, int]:
        async with rig(directory / "idle.db") as ours, trio.open_nursery() as nursery:
            await ours.install(10, size.each // 10, now_ms() + DAY_MS)
            await ours.serve(nursery)
            await trio.sleep(0.2)  # what has started has come to rest
            loops, before = Loops(), switches()
            trio.lowlevel.add_instrument(loops)
            await trio.sleep(size.quiet_s)
            nursery.cancel_scope.cancel()
            return loops.count - 1, max(0, switches() - before - 1)  # an idle thread of trio's may end

    loops, switched = trio.run(rest)  # one of each is the sleep itself
    what = f"in {size.quiet_s:g} s with nothing due"
    return [row(f"wake-ups {what}", "", loops, None, None, "0"), row(f"context switches {what}", "", switched)]


def part_fair(size: Size, directory: Path) -> list[Row]:
    async def head_of_line() -> float:
        async with loaded(directory, 1, size.burst, lonely=True, takes_s=0.05) as ours, trio.open_nursery() as nursery:
            await ours.serve(nursery)
            await ours.workers.second_plugin.wait()
            nursery.cancel_scope.cancel()
            return list(ours.workers.late_of.values())[-1][0]

    late = [trio.run(head_of_line) for _ in range(size.rounds)]
    return [row(f"delay of one job beside {size.burst:,} of another plugin", "ms", max(late), None, None, "1000 ms")]


def part_start(size: Size, directory: Path) -> list[Row]:
    path = directory / "stored.db"
    trio.run(fill, path, size)
    parts = [json.loads(again("--part", "started", "--dir", str(directory))) for _ in range(size.rounds)]
    times = {name: statistics.median(part[name] for part in parts) for name in parts[0]}
    what = f"{size.stored:,} jobs of {size.plugins:,} plugins"
    return [
        row(f"jobs start with {what}", "ms", times["jobs"], times["raw"], None, "4 x floor"),
        row("… and PluginRegistry.load before it", "ms", times["registry"], times["raw manifests"]),
        row("… both, against raw jobs and manifests", "ms", times["both"], times["raw both"]),
    ]


async def fill(path: Path, size: Size) -> None:
    """As a daemon leaves it that has declared them all."""
    async with rig(path) as one:
        await one.install(size.plugins, size.stored // size.plugins)
        await one.start()


def part_started(_: Size, directory: Path) -> list[Row]:
    """One start, in a process of its own; prints milliseconds."""
    path, times = directory / "stored.db", {}

    def note(name: str, since: float) -> None:
        times[name] = (time.perf_counter() - since) * 1000

    def raw(name: str, sql: str) -> None:
        with closing(sqlite3.connect(path)) as database:
            started = time.perf_counter()
            database.execute(sql).fetchall()
            note(name, started)

    async def ours() -> None:
        started = time.perf_counter()
        async with rig(path) as one:
            note("registry", started)
            started = time.perf_counter()
            await one.start(lambda: note("jobs", started))

    raw("raw", "SELECT * FROM job")
    raw("raw manifests", "SELECT * FROM plugin")
    trio.run(ours)
    times["both"], times["raw both"] = times["jobs"] + times["registry"], times["raw"] + times["raw manifests"]
    print(json.dumps(times))
    return []


def part_memory(size: Size, directory: Path) -> list[Row]:
    trio.run(fill, directory / "stored.db", size)
    empty = replace(size, plugins=1, stored=1)
    (directory / "empty").mkdir()
    trio.run(fill, directory / "empty" / "stored.db", empty)
    rows = []
    for kind, name in (("rss", "resident"), ("traced", "traced by tracemalloc")):
        full = json.loads(again("--part", kind, "--dir", str(directory)))
        none = json.loads(again("--part", kind, "--dir", str(directory / "empty")))
        jobs, registry = ((full[part] - none[part]) / size.stored / 1000 for part in ("jobs", "registry"))
        rows.append(row(f"memory a job, registry and jobs, {name}", "kB", jobs + registry, None, None, "0.6 kB"))
        rows.append(row("… of which jobs", "kB", jobs))
    return rows


def part_rss(_: Size, directory: Path) -> list[Row]:
    return grown(directory, lambda: int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))


def part_traced(_: Size, directory: Path) -> list[Row]:
    tracemalloc.start()
    return grown(directory, lambda: tracemalloc.get_traced_memory()[0])


def grown(directory: Path, measure: Callable[[], int]) -> list[Row]:
    """Prints by how many bytes each part grows this process."""

    def settled() -> int:
        gc.collect()
        return measure()

    async def load() -> Row:
        before = settled()
        async with rig(directory / "stored.db") as one:
            registry = settled()
            jobs = 0

            def look() -> None:
                nonlocal jobs
                jobs = settled() - registry

            await one.start(look)
            return {"registry": registry - before, "jobs": jobs}

    print(json.dumps(trio.run(load)))
    return []


# --- the table ---

PARTS: dict[str, Callable[[Size, Path], list[Row]]] = {
    "next": part_next,
    "declare": part_declare,
    "start": part_start,
    "memory": part_memory,
    "due": part_due,
    "fsync": part_fsync,
    "idle": part_idle,
    "fair": part_fair,
}
WITHIN: dict[str, Callable[[Size, Path], list[Row]]] = {
    "count": part_count,
    "started": part_started,
    "rss": part_rss,
    "traced": part_traced,
}
"""What parts start as processes of their own."""


def again(*arguments: str) -> str:
    """Run this program with other arguments; what it printed."""
    done = subprocess.run([sys.executable, str(HERE), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout


def shown(value: float | None, unit: str) -> str:
    return f"{'-':>14}" if value is None else f"{value:>10,.3f} {unit:<3}"


def show(rows: Sequence[Row]) -> None:
    for each in rows:
        ours, floor = each["ours"], each["floor"]
        ratio = f"{ours / floor:>8.2f} x floor" if floor else " " * 16
        columns = (shown(each[name], each["unit"]) for name in ("ours", "floor", "peer"))
        print(f"  {each['what']:<58} {' '.join(columns)} {ratio}  {each['goal']}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {', '.join(PARTS)}")
    parser.add_argument("--tiny", action="store_true", help="so small that it only shows that it works")
    parser.add_argument("--rounds", type=int)
    for hidden in ("--part", "--dir", "--burst", "--at-once"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    given = parser.parse_args()
    size = TINY if given.tiny else Size()
    if given.rounds:
        size = replace(size, rounds=given.rounds)
    configure("console", "warning")
    if given.part in WITHIN:
        burst = int(given.burst or size.burst)
        WITHIN[given.part](replace(size, burst=burst, at_once=int(given.at_once or size.at_once)), Path(given.dir))
    elif given.part:
        with tempfile.TemporaryDirectory(prefix="plugind-bench-") as directory:
            print(json.dumps(PARTS[given.part](size, Path(directory))))
    else:
        head = " ".join(f"{name:>14}" for name in ("ours", "floor", "APScheduler"))
        print(f"  {'jobs':<58} {head} {'ratio':>16}  goal")
        flags = (["--tiny"] if given.tiny else []) + ["--rounds", str(size.rounds)]
        for part in given.only.split(","):
            show(json.loads(again("--part", part, *flags)))


if __name__ == "__main__":
    main()
