"""Workers that require each other: started after, stopped before, with exact times under a fake clock."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import trio
import trio.testing

from supervisor.core.errors import ActivationFailed, CallCancelled, FailedPrecondition
from supervisor.core.event import WorkerCrashed
from supervisor.core.plugin import Plugin, PluginId
from supervisor.worker.phase import Phase
from supervisor.worker.process import Exit
from tests.worker.fakes import NEVER, FakeProcess, Script, World, make_plugin, policy

Clock = trio.testing.MockClock
LATER = 400.0
"""Longer than the longest backoff; an hour of seven healthy workers is thousands of questions how they are."""
SLOW = Script(answers_after_s=2, drains_in_s=3)


class Net:
    """A world with plugins `a`, `b`, … by their keys."""

    def __init__(self, tmp_path: Path, *, start_concurrency: int = 8, **requires: str) -> None:
        """`b="a"`: b requires a; `c="a b"`: both."""
        self.world = World(tmp_path, SLOW, start_concurrency=start_concurrency)
        self.manager = self.world.manager
        self.plugins = {key: self.plugin(key, *needed.split()) for key, needed in requires.items()}

    def plugin(self, key: str, *requires: str, **worker: object) -> Plugin:
        return make_plugin(key, id_=PluginId(f"id-{key}"), requires=requires, install_order=ord(key[0]), **worker)

    def want(self, *keys: str, **how: bool) -> None:
        for key in keys:
            self.manager.want(self.plugins[key], **how)

    def unwant(self, *keys: str) -> None:
        for key in keys:
            self.manager.unwant(PluginId(f"id-{key}"))

    def phases(self) -> str:
        """Such as "a:running b:stopped"."""
        return " ".join(f"{key}:{self.manager.phase(p.id)}" for key, p in self.plugins.items())

    def running(self) -> str:
        return "".join(key for key, p in self.plugins.items() if self.manager.phase(p.id) is Phase.RUNNING)

    def waiting_for(self, key: str) -> tuple[str, ...]:
        return self.manager.view(self.plugins[key].id).waiting_for

    def lives(self, key: str) -> list[FakeProcess]:
        return [process for process in self.world.processes if process.key == key]

    def starts(self) -> list[tuple[str, float]]:
        return [(p.key, round(at, 3)) for p, at in zip(self.world.processes, self.world.spawned_at, strict=True)]

    def ends(self) -> list[tuple[str, float]]:
        ended = [(p.key, round(p.reaped_at, 3)) for p in self.world.processes if p.reaped_at is not None]
        return sorted(ended, key=lambda pair: pair[1])

    async def serve(self, work: object) -> None:
        await self.world.serve(work)  # type: ignore[arg-type]


async def settle() -> None:
    await trio.testing.wait_all_tasks_blocked()


@pytest.mark.parametrize("order", ["abc", "cba", "bca"])
@pytest.mark.parametrize("queued", [False, True])
async def test_a_chain_starts_from_its_foot(autojump_clock: Clock, tmp_path: Path, order: str, queued: bool) -> None:
    net = Net(tmp_path, a="", b="a", c="b")

    async def work() -> None:
        net.want(*order, queued=queued)
        await settle()
        assert (net.waiting_for("b"), net.waiting_for("c")) == (("a",), ("b",))
        assert net.phases() == "a:starting b:stopped c:stopped"
        view = net.manager.view(net.plugins["c"].id)
        assert (view.wanted, view.crashes, view.pid) == (True, 0, None)
        await net.manager.wait_up(net.plugins["c"].id)
        assert net.starts() == [("a", 0), ("b", 2), ("c", 4)]
        assert (net.waiting_for("b"), net.running()) == ((), "abc")

    await net.serve(work)


async def test_all_that_it_requires_must_be_up(autojump_clock: Clock, tmp_path: Path) -> None:
    net = Net(tmp_path, a="", b="", c="a b")
    net.world.by_key["b"] = Script(answers_after_s=7)

    async def work() -> None:
        net.want("c", "a", "b")
        await trio.sleep(5)
        assert net.waiting_for("c") == ("b",)
        await net.manager.wait_up(net.plugins["c"].id)
        assert net.starts()[-1] == ("c", 7)

    await net.serve(work)


async def test_stopped_before_what_it_requires(autojump_clock: Clock, tmp_path: Path) -> None:
    """The far end first; what is required serves calls until the last that requires it is gone."""
    net = Net(tmp_path, a="", b="a", c="b", d="a", e="")

    async def work() -> None:
        net.want(*"abcde")
        await trio.sleep(10)
        net.unwant("a")
        await settle()
        assert net.phases() == "a:running b:running c:stopping d:stopping e:running"
        await net.manager.call(net.plugins["a"].id, "call", {"method": "echo"}, timeout_s=1)
        await net.manager.call(net.plugins["b"].id, "call", {"method": "echo"}, timeout_s=1)
        await net.manager.wait_stopped(net.plugins["a"].id)
        assert dict(net.ends()) == {"c": 13, "d": 13, "b": 16, "a": 19}
        assert [net.manager.wanted(net.plugins[key].id) for key in "abcd"] == [False, True, True, True]
        assert [net.waiting_for(key) for key in "abcd"] == [(), ("a",), ("b",), ("a",)]
        assert net.running() == "e"
        net.want("a")
        await trio.sleep(LATER)
        assert net.running() == "abcde"
        assert all(len(net.lives(key)) == 2 for key in "abcd")

    await net.serve(work)


async def test_a_crash_leaves_those_that_require_it_alone(autojump_clock: Clock, tmp_path: Path) -> None:
    net = Net(tmp_path, a="", b="a")
    net.world.by_key["a"] = Script(exits_after_s=5)
    net.plugins["a"] = net.plugin("a", restart=policy(max_restarts=2))

    async def work() -> None:
        net.want("a", "b")
        await trio.sleep(LATER)
        assert net.manager.view(net.plugins["a"].id).gave_up
        assert (net.running(), len(net.lives("b"))) == ("b", 1)

    await net.serve(work)


async def test_a_restart_waits_and_costs_no_crashes(autojump_clock: Clock, tmp_path: Path) -> None:
    """Both die; the one that requires the other comes back when that one is up, however long it takes."""
    net = Net(tmp_path, a="", b="a")
    net.plugins["a"] = net.plugin("a", restart=policy(backoff_s=100))
    net.world.by_key = {"a": Script(exits_after_s=5), "b": Script(exits_after_s=5.5)}

    async def work() -> None:
        net.want("a", "b")
        await trio.sleep(6)
        net.world.by_key.clear()
        assert net.phases() == "a:backoff b:backoff"
        await trio.sleep(51)
        assert net.phases() == "a:backoff b:stopped"
        assert net.waiting_for("b") == ("a",)
        assert net.manager.view(net.plugins["b"].id).crashes == 1
        await trio.sleep(60)
        assert net.running() == "ab"
        assert net.starts() == [("a", 0), ("b", 0), ("a", 105), ("b", 107)]
        assert net.manager.view(net.plugins["b"].id).crashes == 1

    await net.serve(work)


async def test_wanted_again_while_they_drain_goes_on(autojump_clock: Clock, tmp_path: Path) -> None:
    net = Net(tmp_path, a="", b="a", c="b")

    async def work() -> None:
        net.want(*"abc")
        await trio.sleep(10)
        net.unwant("a")
        await trio.sleep(1)
        net.want("a")
        await trio.sleep(LATER)
        assert net.running() == "abc"
        assert [len(net.lives(key)) for key in "abc"] == [1, 1, 2], "only what had been asked to stop began anew"
        assert net.ends() == [("c", 13)]
        assert net.starts()[-1] == ("c", 13)

    await net.serve(work)


async def test_one_that_cannot_be_stopped_holds_up_for_its_own_stages_only(
    autojump_clock: Clock, tmp_path: Path
) -> None:
    net = Net(tmp_path, a="", b="a")
    net.world.by_key["b"] = Script(drains_in_s=NEVER, ends_on_term_in_s=NEVER, ends_on_kill_in_s=600)

    async def work() -> None:
        net.want(*"ab")
        await trio.sleep(10)
        net.unwant("a")
        await net.manager.wait_stopped(net.plugins["a"].id)
        assert net.ends() == [("a", 10 + 17 + 3)]
        await trio.sleep(2 * LATER)

    await net.serve(work)


@pytest.mark.parametrize("what", ["never wanted", "unwanted", "given up", "finished"])
async def test_nobody_waits_in_vain(autojump_clock: Clock, tmp_path: Path, what: str) -> None:
    """Also not at the end of a chain, and not if it turns out only while they wait."""
    net = Net(tmp_path, a="", b="a", c="b")
    match what:
        case "given up":
            net.world.by_key["a"] = Script(answers_after_s=NEVER, exits_after_s=5)
            net.plugins["a"] = net.plugin("a", restart=policy(max_restarts=0))
        case "finished":
            net.world.by_key["a"] = Script(exits_after_s=5, exit=Exit(0, None))
            net.plugins["a"] = net.plugin("a", transport="none", start_grace_s=10, restart=policy(policy="on_failure"))
        case _:
            net.world.by_key["a"] = Script(answers_after_s=100)
    ended: dict[str, float] = {}

    async def wait(key: str) -> None:
        with pytest.raises(FailedPrecondition, match=f"plugin '{key}' waits for 'a'") as caught:
            await net.manager.wait_up(net.plugins[key].id)
        assert caught.value.details == {"plugin": key, "waiting_for": "a"}
        ended[key] = trio.current_time()

    async def work() -> None:
        if what == "never wanted":
            net.want("c", "b")
        else:
            net.want("c", "b", "a")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, "b")
            nursery.start_soon(wait, "c")
            if what == "unwanted":
                await trio.sleep(5)
                net.unwant("a")
        at = 0 if what == "never wanted" else 5
        assert ended == pytest.approx({"b": at, "c": at}, abs=0.2)
        assert net.manager.wanted(net.plugins["c"].id)
        net.world.by_key.clear()
        net.plugins["a"] = net.plugin("a")
        net.want("a")
        await net.manager.wait_up(net.plugins["c"].id)

    await net.serve(work)


async def test_a_start_of_its_own_is_not_in_vain(autojump_clock: Clock, tmp_path: Path) -> None:
    """What it requires is given up while it starts: it comes up all the same, and whoever waits for that is told so."""
    net = Net(tmp_path, a="", b="a")
    net.plugins["a"] = net.plugin("a", restart=policy(max_restarts=0))
    net.world.by_key = {"a": Script(exits_after_s=5), "b": Script(answers_after_s=8)}

    async def work() -> None:
        net.want(*"ab")
        await net.manager.wait_up(net.plugins["b"].id)
        assert trio.current_time() == pytest.approx(8)
        assert net.manager.view(net.plugins["a"].id).gave_up

    await net.serve(work)


@pytest.mark.parametrize("at_s", [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 9.0, 12.0])
async def test_unwanted_at_any_moment(autojump_clock: Clock, tmp_path: Path, at_s: float) -> None:
    """The foot of a chain goes while the rest waits, starts or runs: all end in order, and all come back."""
    net = Net(tmp_path, a="", b="a", c="b")

    async def work() -> None:
        net.want(*"cba")
        await trio.sleep(at_s)
        net.unwant("a")
        await net.manager.wait_stopped(net.plugins["a"].id)
        assert net.world.alive == []
        await trio.sleep(LATER)
        assert net.world.alive == [], "no ghost"
        check_order(net)
        net.want("a")
        await net.manager.wait_up(net.plugins["c"].id)
        assert net.running() == "abc"
        check_order(net)

    await net.serve(work)
    check_order(net)


def check_order(net: Net) -> None:
    """A worker was never started while what it requires was not up, nor outlived by less than it should be."""
    for process, began in zip(net.world.processes, net.world.spawned_at, strict=True):
        for needed in net.plugins[process.key].manifest.requires:
            lives = [
                (at, NEVER if p.reaped_at is None else p.reaped_at)
                for p, at in zip(net.world.processes, net.world.spawned_at, strict=True)
                if p.key == needed
            ]
            assert any(at <= began <= end for at, end in lives), f"{process.key} began at {began}: {needed} {lives}"
            assert any((process.reaped_at or NEVER) <= end for at, end in lives if at <= began <= end), (
                f"{process.key} ended at {process.reaped_at}: {needed} {lives}"
            )


async def test_the_end_of_all_is_in_order_and_in_parallel(autojump_clock: Clock, tmp_path: Path) -> None:
    net = Net(tmp_path, a="", b="a", c="a", d="b c", e="", f="")

    async def work() -> None:
        net.want(*"abcdef")
        await trio.sleep(10)

    await net.serve(work)
    ends = dict(net.ends())
    assert ends == {"d": 13, "e": 13, "f": 13, "b": 16, "c": 16, "a": 19}
    check_order(net)


async def test_the_end_of_all_is_bounded_by_the_longest_chain(autojump_clock: Clock, tmp_path: Path) -> None:
    """Processes that hang in the kernel: each is waited for as long as its stages last, one behind the other."""
    net = Net(tmp_path, a="", b="a", c="b", d="")
    net.world.scripts = (Script(drains_in_s=NEVER, ends_on_term_in_s=NEVER, ends_on_kill_in_s=NEVER),)
    async with trio.open_nursery() as nursery:
        await nursery.start(net.manager.run)
        net.want(*"abcd")
        await trio.sleep(1)
        assert net.manager.longest_stop_s() == 3 * (10 + 5 + 2 + 1)
        nursery.cancel_scope.cancel()
    assert 3 * 18 <= trio.current_time() - 1 <= 3 * 18 + 2, "and killed once more at most, all at once"


async def test_hurried_nobody_waits_for_anybody(autojump_clock: Clock, tmp_path: Path) -> None:
    net = Net(tmp_path, a="", b="a")
    net.world.scripts = (Script(drains_in_s=NEVER, ends_on_term_in_s=NEVER),)

    async def work() -> None:
        net.want(*"ab")
        await trio.sleep(1)
        net.manager.close()
        await trio.sleep(1)
        assert net.phases() == "a:running b:stopping"
        net.manager.kill_all()
        await trio.sleep(0.5)
        assert net.phases() == "a:stopped b:stopped"
        assert net.world.host.of(WorkerCrashed) == []

    await net.serve(work)


@pytest.mark.parametrize("most", [1, 3, 8])
async def test_many_that_wait_for_one_start_a_few_at_a_time(autojump_clock: Clock, tmp_path: Path, most: int) -> None:
    net = Net(tmp_path, start_concurrency=most, a="")
    keys = [f"b{n:03}" for n in range(100)]
    net.plugins |= {
        key: make_plugin(key, id_=PluginId(f"id-{key}"), requires=("a",), install_order=n)
        for n, key in enumerate(keys, 2)
    }
    net.world.by_key["a"] = Script(answers_after_s=50)
    net.plugins["a"] = net.plugin("a", start_timeout_s=60)

    async def work() -> None:
        net.want(*reversed(keys), "a", queued=True)
        await trio.sleep(50.5)
        starting = [key for key in keys if net.manager.phase(net.plugins[key].id) is Phase.STARTING]
        assert starting == keys[:most], "in install order"
        await net.manager.wait_up(net.plugins[keys[-1]].id)
        assert trio.current_time() == pytest.approx(50 + 2 * -(-100 // most))
        for n, (_, at) in enumerate(sorted(net.starts(), key=lambda pair: pair[1])[1:]):
            assert at == pytest.approx(50 + 2 * (n // most))

    await net.serve(work)


async def test_a_start_by_command_needs_no_turn(autojump_clock: Clock, tmp_path: Path) -> None:
    net = Net(tmp_path, start_concurrency=1, a="", b="", c="")

    async def work() -> None:
        net.want("a", "b", queued=True)
        net.want("c")
        await trio.sleep(1)
        assert net.phases() == "a:starting b:stopped c:starting"
        net.want("b")
        await settle()
        assert net.phases() == "a:starting b:starting c:starting"

    await net.serve(work)


@pytest.mark.parametrize("how", ["hangs", "crashes", "is unwanted in its turn", "is unwanted in the queue"])
async def test_a_turn_is_given_back(autojump_clock: Clock, tmp_path: Path, how: str) -> None:
    net = Net(tmp_path, start_concurrency=1, a="", b="", c="")
    net.world.by_key["a"] = Script(answers_after_s=NEVER, exits_after_s=1 if how == "crashes" else NEVER)

    async def work() -> None:
        net.want(*"abc", queued=True)
        await trio.sleep(0.5)
        if how == "is unwanted in its turn":
            net.unwant("a")
        if how == "is unwanted in the queue":
            net.unwant("b")
        await net.manager.wait_up(net.plugins["c"].id)
        expected = {"hangs": 15 + 4, "crashes": 1 + 4, "is unwanted in its turn": 0.5 + 4}
        assert trio.current_time() == pytest.approx(expected.get(how, 15 + 2), abs=0.2)

    await net.serve(work)


async def test_a_requirement_of_a_new_manifest_counts_from_the_next_start(
    autojump_clock: Clock, tmp_path: Path
) -> None:
    net = Net(tmp_path, a="", b="")

    async def work() -> None:
        net.want("b")
        await net.manager.wait_up(net.plugins["b"].id)
        net.manager.want(net.plugin("b", "a"))
        await trio.sleep(10)
        assert (net.running(), len(net.lives("b"))) == ("b", 1)
        net.lives("b")[0].end(Exit(3, None))
        await trio.sleep(10)
        assert net.waiting_for("b") == ("a",)
        net.want("a")
        await trio.sleep(10)
        assert net.running() == "ab"
        net.unwant("b")
        await net.manager.wait_stopped(net.plugins["b"].id)
        net.manager.forget(net.plugins["b"].id)
        net.unwant("a")
        await net.manager.wait_stopped(net.plugins["a"].id)
        assert net.ends()[-1][0] == "a"

    await net.serve(work)


@pytest.mark.parametrize("seed", range(60))
async def test_whatever_is_wished(autojump_clock: Clock, tmp_path: Path, seed: int) -> None:
    """Random graphs, wishes and crashes: never two alive of one, and in the end all is as wished."""
    dice = random.Random(seed)
    names = "abcdefg"
    requires = {key: " ".join(dice.sample(names[:n], dice.randint(0, min(n, 2)))) for n, key in enumerate(names)}
    net = Net(tmp_path, start_concurrency=dice.choice([1, 2, 8]), **requires)
    net.world.host.record_s = dice.choice([0, 0, 0.1])
    for key in names:
        net.world.by_key[key] = Script(answers_after_s=dice.choice([0, 1, 4]), drains_in_s=dice.choice([0, 1, 5]))

    async def work() -> None:
        for _ in range(60):
            key = dice.choice(names)
            act = dice.choice(["want", "want", "queue", "unwant", "crash", "again"])
            if act in {"want", "again"}:
                net.want(key)
            if act == "queue":
                net.want(key, queued=True)
            if act in {"unwant", "again"}:
                net.unwant(key)
            if act == "crash" and net.lives(key):
                net.lives(key)[-1].end(Exit(1, None))
            await trio.sleep(dice.choice([0, 0, 0.1, 1, 3]))
            for name in names:
                assert sum(process.exit is None for process in net.lives(name)) <= 1
        await trio.sleep(LATER)
        wished = {key for key in names if net.manager.wanted(net.plugins[key].id)}
        up = {key for key in wished if all_wished(net, key, wished)}
        assert set(net.running()) == up
        net.want(*names)
        async with trio.open_nursery() as nursery:
            for key in names:
                nursery.start_soon(net.manager.wait_running, net.plugins[key].id)
        assert net.running() == names
        net.unwant("a")
        await net.manager.wait_stopped(net.plugins["a"].id)

    await net.serve(work)


def all_wished(net: Net, key: str, wished: set[str]) -> bool:
    needed = net.plugins[key].manifest.requires
    return all(one in wished and all_wished(net, one, wished) for one in needed)


@pytest.mark.parametrize("instant_s", [0, 1, 2.5, 5, 11, 14])
async def test_who_is_cancelled_while_waiting_changes_nothing(
    autojump_clock: Clock, tmp_path: Path, instant_s: float
) -> None:
    net = Net(tmp_path, a="", b="a", c="b")

    async def work() -> None:
        with trio.move_on_after(instant_s):
            net.want(*"cba")
            await net.manager.wait_up(net.plugins["c"].id)
            net.unwant("a")
            await net.manager.wait_stopped(net.plugins["a"].id)
        await trio.sleep(LATER)
        stopped = instant_s > 6
        assert net.running() == ("" if stopped else "abc")

    await net.serve(work)


async def test_waiting_ends_with_what_was_meant(autojump_clock: Clock, tmp_path: Path) -> None:
    net = Net(tmp_path, a="", b="a")
    net.world.by_key["b"] = Script(answers_after_s=NEVER, exits_after_s=1)
    ended = []

    async def wait(class_: type[Exception]) -> None:
        with pytest.raises(class_):
            await net.manager.wait_up(net.plugins["b"].id)
        ended.append((class_, trio.current_time()))

    async def work() -> None:
        net.want(*"ab", first_try_only=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, ActivationFailed)
        net.want("b")
        net.unwant("a")
        net.want("a")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, CallCancelled)
            await trio.sleep(0.5)
            net.unwant("b")
        assert [class_ for class_, _ in ended] == [ActivationFailed, CallCancelled]

    await net.serve(work)


async def test_what_it_requires_crashes_while_its_files_are_looked_at(autojump_clock: Clock, tmp_path: Path) -> None:
    """It is not started then, nobody is told of a start or an end, and it counts as no crash."""
    net = Net(tmp_path, a="", b="a")
    net.world.by_key = {"a": Script(exits_after_s=3)}
    net.world.prepare_s["b"] = 3.5

    async def work() -> None:
        net.want("a")
        await net.manager.wait_up(net.plugins["a"].id)
        net.want("b", first_try_only=True)
        await trio.sleep(3.2)
        assert net.phases() == "a:backoff b:starting"
        net.world.by_key["a"] = Script()
        await trio.sleep(0.4)
        assert (net.phases(), net.waiting_for("b")) == ("a:backoff b:stopped", ("a",))
        await net.manager.wait_up(net.plugins["b"].id)
        assert net.starts() == [("a", 0), ("a", 4), ("b", 7.5)]
        assert net.manager.view(net.plugins["b"].id).crashes == 0
        assert [(e.type, e.plugin_key) for _, e in net.world.host.events if e.plugin_key == "b"] == [
            ("plugin.worker_started", "b")
        ]

    await net.serve(work)


async def test_a_stop_of_what_it_requires_ends_the_look_at_its_files(autojump_clock: Clock, tmp_path: Path) -> None:
    net = Net(tmp_path, a="", b="a")
    net.world.prepare_s["b"] = 10

    async def work() -> None:
        net.want("a")
        await net.manager.wait_up(net.plugins["a"].id)
        net.want("b")
        await trio.sleep(3)
        net.unwant("a")
        await net.manager.wait_stopped(net.plugins["a"].id)
        assert (net.starts(), net.waiting_for("b")) == ([("a", 0)], ("a",))
        net.want("a")
        await net.manager.wait_up(net.plugins["b"].id)
        assert [key for key, _ in net.starts()] == ["a", "a", "b"]

    await net.serve(work)
