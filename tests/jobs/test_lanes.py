"""Who may start next: limits, turns, order, and that each step costs the same however many wait."""

from __future__ import annotations

import random
import time
from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.core.plugin import PluginId
from supervisor.jobs.lanes import Blocker, Lanes, Standing, Ticket


class Named(Ticket):
    __slots__ = ("name",)

    def __init__(self, name: str, *, limit: int = 1, needs_worker: bool = True) -> None:
        """`name`: "plugin/job/whatever"."""
        plugin, job, *_ = name.split("/")
        super().__init__(PluginId(plugin), f"{plugin}/{job}", job_limit=limit, needs_worker=needs_worker)
        self.name = name

    def __repr__(self) -> str:
        return self.name


class Bench:
    def __init__(self, *, limit: int = 64, limit_per_plugin: int = 8) -> None:
        self.down: set[str] = set()
        self.told: list[str] = []
        self.lanes: Lanes[Named] = Lanes(
            limit=limit,
            limit_per_plugin=limit_per_plugin,
            is_up=lambda plugin_id: plugin_id not in self.down,
            on_down=self.told.append,
        )

    def add(self, *names: str, limit: int = 1, needs_worker: bool = True) -> list[Named]:
        tickets = [Named(name, limit=limit, needs_worker=needs_worker) for name in names]
        for ticket in tickets:
            self.lanes.add(ticket)
        return tickets

    def take_all(self) -> list[Named]:
        taken = []
        while (ticket := self.lanes.take()) is not None:
            taken.append(ticket)
        return taken

    def names(self) -> list[str]:
        return [ticket.name for ticket in self.take_all()]

    def finish(self, ticket: Named) -> None:
        self.lanes.leave(ticket)
        self.lanes.let_go(ticket)


def test_plugins_take_turns_and_so_do_jobs() -> None:
    bench = Bench()
    bench.add("a/1/x", "a/1/y", "a/2/x", "b/1/x", limit=8)
    bench.add("c/1/x")
    assert bench.names() == ["a/1/x", "b/1/x", "c/1/x", "a/2/x", "a/1/y"]


def test_a_jobs_runs_keep_their_order_and_come_one_at_a_time() -> None:
    bench = Bench()
    first, second, third = bench.add("a/1/x", "a/1/y", "a/1/z")
    assert bench.take_all() == [first]
    bench.finish(first)
    assert bench.take_all() == [second]
    bench.lanes.put_back(second)
    assert bench.lanes.blocker(third) is Blocker.JOB
    assert bench.lanes.ahead_of(third) is second
    assert bench.take_all() == [second]
    bench.finish(second)
    assert bench.take_all() == [third]
    bench.finish(third)
    assert (len(bench.lanes), bench.lanes.waiting, bench.lanes.taken) == (0, 0, 0)


def test_a_place_of_the_job_is_held_until_its_worker_lets_go() -> None:
    bench = Bench(limit_per_plugin=1)
    first, second = bench.add("a/1/x", "a/1/y")
    [other] = bench.add("a/2/x")
    assert bench.take_all() == [first]
    assert bench.lanes.blocker(other) is Blocker.PLUGIN
    bench.lanes.leave(first)
    assert bench.take_all() == [other]  # the plugin's place is free, the job's is not
    bench.finish(other)
    assert bench.lanes.blocker(second) is Blocker.JOB
    assert bench.lanes.ahead_of(second) is first
    bench.lanes.let_go(first)
    assert bench.take_all() == [second]


def test_dropping_one_that_waits_makes_room_for_what_is_behind() -> None:
    bench = Bench()
    [taken] = bench.add("a/1/x", limit=1)
    assert bench.take_all() == [taken]
    [narrow] = bench.add("a/1/y", limit=1)
    [wide] = bench.add("a/1/z", limit=2)  # the job was declared anew meanwhile
    assert bench.take_all() == []
    assert bench.lanes.drop(narrow)
    assert not bench.lanes.drop(narrow)
    assert not bench.lanes.drop(taken)
    assert bench.take_all() == [wide]


def test_a_worker_that_is_down_is_told_once_and_costs_commands_nothing() -> None:
    bench = Bench()
    bench.down = {"a"}
    runs = bench.add("a/1/x", "a/2/x")
    [command] = bench.add("a/3/x", needs_worker=False)
    [elsewhere] = bench.add("b/1/x")
    assert bench.take_all() == [command, elsewhere]
    assert bench.told == ["a"]
    assert bench.lanes.blocker(runs[0]) is Blocker.WORKER
    assert bench.lanes.waiting_for_worker(PluginId("a")) == runs
    bench.add("a/4/x")
    assert bench.take_all() == []
    assert bench.told == ["a"]
    bench.down = set()
    bench.lanes.worker_is_up(PluginId("a"))
    assert bench.names() == ["a/1/x", "a/2/x", "a/4/x"]
    bench.lanes.worker_is_up(PluginId("nobody"))


def test_runs_and_commands_of_a_plugin_come_in_the_order_in_which_they_were_asked_for() -> None:
    bench = Bench()
    bench.add("a/1/x")
    bench.add("a/2/x", needs_worker=False)
    bench.add("a/3/x")
    bench.add("a/4/x", needs_worker=False)
    assert bench.names() == ["a/1/x", "a/2/x", "a/3/x", "a/4/x"]


def test_the_first_in_line_decides_whether_a_worker_is_needed() -> None:
    bench = Bench()
    bench.down = {"a"}
    [by_worker] = bench.add("a/1/x")
    [by_command] = bench.add("a/1/y", needs_worker=False)
    assert bench.take_all() == []
    bench.lanes.drop(by_worker)
    assert bench.take_all() == [by_command]


def test_one_plugin_with_a_thousand_delays_anothers_single_run_by_one_at_most() -> None:
    bench = Bench(limit=1)
    bench.add(*(f"busy/{n}/x" for n in range(1000)))
    running = bench.lanes.take()
    [single] = bench.add("quick/1/x")
    assert running is not None
    bench.finish(running)
    nearest = [bench.lanes.take()]
    while nearest[-1] is not single:
        assert nearest[-1] is not None
        bench.finish(nearest[-1])
        nearest.append(bench.lanes.take())
    assert len(nearest) <= 2


STEPS = st.lists(st.integers(0, 2**32 - 1), min_size=20, max_size=300)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 6), st.integers(1, 3), STEPS)
def test_whatever_happens(limit: int, per_plugin: int, steps: list[int]) -> None:
    """Random steps against the rules themselves: limits hold, order is kept, what may start does."""
    bench, model = Bench(limit=limit, limit_per_plugin=per_plugin), Model(limit, per_plugin)
    for number, step in enumerate(steps):
        model.step(bench, random.Random(step), number)
        model.check(bench)
    bench.down.clear()
    for plugin in "abcd":
        bench.lanes.worker_is_up(PluginId(plugin))
    for _ in range(10 * len(steps)):
        model.taken += bench.take_all()
        if not model.taken and not model.held:
            break
        for ticket in model.taken:
            bench.lanes.leave(ticket)
        for ticket in model.taken + model.held:
            bench.lanes.let_go(ticket)
        model.taken, model.held = [], []
    assert (len(bench.lanes), bench.lanes.waiting, bench.lanes.taken) == (0, 0, 0)


class Model:
    """What waits in each job's line, what is taken, what is held."""

    def __init__(self, limit: int, per_plugin: int) -> None:
        self.limit, self.per_plugin = limit, per_plugin
        self.lines: dict[str, list[Named]] = defaultdict(list)
        self.taken: list[Named] = []
        self.held: list[Named] = []
        self.passed_over: Counter[PluginId] = Counter()

    def step(self, bench: Bench, dice: random.Random, number: int) -> None:
        waiting = [ticket for line in self.lines.values() for ticket in line]
        match dice.randrange(9):
            case 0 | 1 | 2 | 3:
                job, kind = f"{dice.choice('abcd')}/{dice.randrange(3)}", dice.randrange(4)
                [ticket] = bench.add(f"{job}/{number}", limit=1 if kind else 2, needs_worker=kind != 1)
                self.lines[job].append(ticket)
            case 4 if waiting:
                ticket = dice.choice(waiting)
                assert bench.lanes.drop(ticket)
                self.lines[ticket.job_id].remove(ticket)
            case 5 if self.taken:
                ticket = dice.choice(self.taken)
                self.taken.remove(ticket)
                bench.lanes.leave(ticket)
                self.held.append(ticket)
            case 6 if self.held:
                ticket = dice.choice(self.held)
                self.held.remove(ticket)
                bench.lanes.let_go(ticket)
            case 7 if self.taken:
                ticket = self.taken.pop(dice.randrange(len(self.taken)))
                bench.lanes.put_back(ticket)
                self.lines[ticket.job_id].insert(0, ticket)
            case 8:
                plugin = dice.choice("abcd")
                if plugin in bench.down:
                    bench.down.discard(plugin)
                    bench.lanes.worker_is_up(PluginId(plugin))
                else:
                    bench.down.add(plugin)
        if dice.randrange(3):
            self.take(bench)

    def take(self, bench: Bench) -> None:
        could = {ticket.plugin_id for ticket in self.startable(bench)}
        ticket = bench.lanes.take()
        assert (ticket is None) == (not could), f"took {ticket} where {could} could"
        if ticket is None:
            return
        assert ticket.plugin_id in could
        line = self.lines[ticket.job_id]
        assert line[0] is ticket, "out of order"
        line.pop(0)
        self.taken.append(ticket)
        for plugin in could - {ticket.plugin_id}:
            self.passed_over[plugin] += 1
            assert self.passed_over[plugin] <= 3, f"{plugin} starves"  # each of the others once
        self.passed_over[ticket.plugin_id] = 0

    def startable(self, bench: Bench, *, overall: bool = True) -> list[Named]:
        holding = Counter(ticket.job_id for ticket in self.taken + self.held)
        of_plugin = Counter(ticket.plugin_id for ticket in self.taken)
        return [
            line[0]
            for job, line in self.lines.items()
            if line
            and (len(self.taken) < self.limit or not overall)
            and of_plugin[line[0].plugin_id] < self.per_plugin
            and holding[job] < line[0].job_limit
            and not (line[0].needs_worker and line[0].plugin_id in bench.down)
        ]

    def check(self, bench: Bench) -> None:
        lanes = bench.lanes
        assert lanes.taken == len(self.taken) <= self.limit
        assert lanes.waiting == sum(map(len, self.lines.values()))
        for plugin in "abcd":
            assert sum(ticket.plugin_id == plugin for ticket in self.taken) <= self.per_plugin
        for plugin in set(self.passed_over) - {ticket.plugin_id for ticket in self.startable(bench, overall=False)}:
            self.passed_over[plugin] = 0  # it could not have started, and stands in line anew
        startable = self.startable(bench)
        for line in self.lines.values():
            for ticket in line:
                assert ticket.standing is Standing.WAITING
                assert (lanes.blocker(ticket) is Blocker.NOTHING) == (ticket in startable)
                assert lanes.ahead_of(ticket) is not ticket


@pytest.mark.parametrize("one_job", [False, True])
def test_ten_thousand_cost_no_more_each_than_a_hundred(one_job: bool) -> None:
    def cost_s(count: int) -> float:
        bench = Bench(limit=8, limit_per_plugin=8)
        tickets = [Named(f"a/{0 if one_job else n}/{n}") for n in range(count)]
        began = time.perf_counter()
        for ticket in tickets:
            bench.lanes.add(ticket)
        for ticket in tickets[1::2]:
            bench.lanes.drop(ticket)
        done = 0
        while (ticket_ := bench.lanes.take()) is not None:
            bench.finish(ticket_)
            done += 1
        assert done == count // 2
        return (time.perf_counter() - began) / count

    # Generously: a step that looks at all that wait would be a hundred times as slow.
    assert min(cost_s(10_000) for _ in range(3)) < 10 * min(cost_s(100) for _ in range(10))
