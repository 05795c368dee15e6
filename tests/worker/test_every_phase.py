"""Every state a worker can be in x everything that may be asked of it or happen to it, written out by hand.

After each: the phase it ends in and how many processes that took; never two alive; nobody waits for ever; events in an
order that makes sense; no ghost.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from supervisor.core.errors import SupervisorError
from supervisor.core.plugin import Plugin, PluginId
from supervisor.worker.phase import Phase
from supervisor.worker.process import Exit
from tests.worker.fakes import NEVER, PLUGIN_ID, Script, World, make_plugin, policy

Clock = trio.testing.MockClock
LONG_S = 700.0
"""Longer than any of this takes: the slowest is a process that hangs in the kernel for ten minutes."""

GOOD = Script(answers_after_s=5, drains_in_s=4, ends_on_term_in_s=2)
STUBBORN = Script(answers_after_s=5, drains_in_s=NEVER, ends_on_term_in_s=NEVER, ends_on_kill_in_s=1)
STUCK = dataclasses.replace(STUBBORN, ends_on_kill_in_s=600)
OTHER = make_plugin("test.other", id_=PluginId("other"))

# State: script of its first process, what its plugin is made of, the phase that is then observed.
STATES: dict[str, tuple[Script, dict[str, Any], Phase]] = {
    "never wanted": (GOOD, {}, Phase.STOPPED),
    "wanted just now": (GOOD, {}, Phase.STOPPED),
    "in the queue": (GOOD, {}, Phase.STOPPED),
    "waiting": (GOOD, {"requires": ("test.db",)}, Phase.STOPPED),
    "starting": (GOOD, {}, Phase.STARTING),
    "running": (GOOD, {}, Phase.RUNNING),
    "leant on": (GOOD, {}, Phase.RUNNING),
    "draining": (GOOD, {}, Phase.STOPPING),
    "at SIGTERM": (STUBBORN, {}, Phase.STOPPING),
    "at SIGKILL": (STUBBORN, {}, Phase.STOPPING),
    "stuck": (STUCK, {}, Phase.STOPPING),
    "stopped": (GOOD, {}, Phase.STOPPED),
    "in backoff": (Script(exits_after_s=1), {"restart": policy(backoff_s=100)}, Phase.BACKOFF),
    "given up": (Script(exits_after_s=1), {"restart": policy(max_restarts=0)}, Phase.STOPPED),
    "finished": (
        Script(exits_after_s=3, exit=Exit(0, None)),
        {"transport": "none", "restart": policy(policy="on_failure")},
        Phase.STOPPED,
    ),
}
COMMANDS = [
    "want", "want first_try_only", "want another", "unwant", "want want", "unwant unwant", "unwant want",
    "want unwant", "kill", "close", "crash", "deaf",
]  # fmt: skip

# The phase it ends in (r: running, s: stopped) and the new processes. Only these hold: whoever is wanted runs, at once
# and only once; what ends while it is wanted comes back; what waits for another plugin waits on. Closed while
# stuck: the manager leaves before the process does, which test_manager looks at.
OUTCOMES = """
                 want first other unwant want2 unwant2 unwant+want want+unwant kill close crash deaf
never wanted     r1   r1    r1    s0     r1    s0      r1          s0          s0   s0    s0    s0
wanted just now  r1   r1    r1    s0     r1    s0      r1          s0          r1   s0    r1    r1
in the queue     r1   r1    r1    s0     r1    s0      r1          s0          r1   s0    r1    r1
waiting          s0   s0    s0    s0     s0    s0      s0          s0          s0   s0    s0    s0
starting         r0   r0    r0    s0     r0    s0      r1          s0          r1   s0    r1    r1
running          r0   r0    r0    s0     r0    s0      r1          s0          r1   s0    r1    r1
leant on         r0   r0    r0    s0     r0    s0      r0          s0          s0   s0    s0    s0
draining         r1   r1    r1    s0     r1    s0      r1          s0          s0   s0    s0    s0
at SIGTERM       r1   r1    r1    s0     r1    s0      r1          s0          s0   s0    s0    s0
at SIGKILL       r1   r1    r1    s0     r1    s0      r1          s0          s0   s0    s0    s0
stuck            r1   r1    r1    s0     r1    s0      r1          s0          s0   --    s0    s0
stopped          r1   r1    r1    s0     r1    s0      r1          s0          s0   s0    s0    s0
in backoff       r1   r1    r1    s0     r1    s0      r1          s0          r1   s0    r1    r1
given up         r1   r1    r1    s0     r1    s0      r1          s0          s0   s0    s0    s0
finished         r1   r1    r1    s0     r1    s0      r1          s0          s0   s0    s0    s0
"""
ROWS = {line[:17].strip(): line[17:].split() for line in OUTCOMES.strip("\n").splitlines()[1:]}
CASES = [
    (state, command, outcome)
    for state, outcomes in ROWS.items()
    for command, outcome in zip(COMMANDS, outcomes, strict=True)
    if outcome != "--"
]


def test_the_table_is_whole() -> None:
    assert set(ROWS) == set(STATES)
    assert {phase for _, _, phase in STATES.values()} == set(Phase)


class Stage:
    """A world in which one plugin's worker has been brought into a state."""

    def __init__(self, tmp_path: Path, state: str) -> None:
        script, made_of, self.phase = STATES[state]
        self.state = state
        self.world = World(tmp_path, GOOD, start_concurrency=1)
        self.manager = self.world.manager
        self.plugin = make_plugin(**made_of)
        self.world.by_key[self.plugin.key] = script
        self.leaning = make_plugin("test.leaning", id_=PluginId("leaning"), requires=(self.plugin.key,))
        self.waits: dict[str, Any] = {}

    async def enter(self) -> None:
        match self.state:
            case "never wanted":
                return
            case "in the queue":
                self.world.by_key[OTHER.key] = Script(answers_after_s=10)
                self.manager.want(OTHER, queued=True)
                self.manager.want(self.plugin, queued=True)
                await trio.sleep(1)
            case _:
                self.manager.want(self.plugin)
        match self.state:
            case "starting" | "waiting":
                await trio.sleep(1)
            case "in backoff" | "given up":
                await trio.sleep(2)
            case "wanted just now" | "in the queue":
                pass
            case _:
                await trio.sleep(8)
        await self._leave_again()

    async def _leave_again(self) -> None:
        if self.state == "leant on":
            self.world.by_key[self.leaning.key] = Script(drains_in_s=9)
            self.manager.want(self.leaning)
            await self.manager.wait_up(self.leaning.id)
        after_s = {"draining": 1, "at SIGTERM": 11, "at SIGKILL": 15.5, "stuck": 20, "stopped": 20, "leant on": 1}
        if self.state in after_s:
            self.manager.unwant(PLUGIN_ID)
            await trio.sleep(after_s[self.state])

    def act(self, command: str) -> None:
        process = next((p for p in self.world.alive if p.key == self.plugin.key), None)
        match command:
            case "kill":
                self.manager.kill_all()
            case "close":
                self.manager.close()
            case "crash":
                if process:
                    process.end(Exit(5, None))
            case "deaf":
                if process:
                    process.script = dataclasses.replace(process.script, healthy_for_s=0)
            case "want first_try_only":
                self.manager.want(self.plugin, first_try_only=True)
            case "want another":
                self.manager.want(another(self.plugin))
            case _:
                for word in command.split():
                    if word == "want":
                        self.manager.want(self.plugin)
                    else:
                        self.manager.unwant(PLUGIN_ID)

    def watch(self, nursery: trio.Nursery) -> None:
        for name, wait in (
            ("up", self.manager.wait_up),
            ("running", self.manager.wait_running),
            ("stopped", self.manager.wait_stopped),
        ):
            nursery.start_soon(self._wait, name, wait)

    async def _wait(self, name: str, wait: Callable[[PluginId], Coroutine[Any, Any, None]]) -> None:
        self.waits[name] = None
        try:
            await wait(PLUGIN_ID)
            self.waits[name] = "done"
        except SupervisorError as error:
            self.waits[name] = error.message

    def spawned(self) -> int:
        return sum(process.key == self.plugin.key for process in self.world.processes)

    def alive(self) -> int:
        return sum(process.key == self.plugin.key for process in self.world.alive)


def another(plugin: Plugin) -> Plugin:
    worker = dataclasses.replace(plugin.manifest.worker, stop_timeout_s=3)
    return dataclasses.replace(plugin, manifest=dataclasses.replace(plugin.manifest, worker=worker))


@pytest.mark.parametrize(("state", "command", "outcome"), CASES)
async def test_state_and_command(autojump_clock: Clock, tmp_path: Path, state: str, command: str, outcome: str) -> None:
    stage = Stage(tmp_path, state)
    most = 0

    async def work() -> None:
        nonlocal most
        await stage.enter()
        assert stage.manager.phase(PLUGIN_ID) is stage.phase
        async with trio.open_nursery() as nursery:
            stage.watch(nursery)
            if state != "wanted just now":
                await trio.testing.wait_all_tasks_blocked()
            before = stage.spawned()
            stage.world.by_key[stage.plugin.key] = GOOD
            stage.act(command)
            for _ in range(70):
                await trio.sleep(LONG_S / 70)
                most = max(most, stage.alive())
            phase, new = stage.manager.phase(PLUGIN_ID), stage.spawned() - before
            assert (str(phase)[0], new) == (outcome[0], int(outcome[1]))
            assert most <= 1
            assert stage.alive() == (phase is Phase.RUNNING)
            check_waits(stage, phase)
            nursery.cancel_scope.cancel()

    await stage.world.serve(work)
    check_events(stage)


def check_waits(stage: Stage, phase: Phase) -> None:
    """Who waits for what has not come, and may still come, waits on; nobody else does."""
    waits = {name for name, end in stage.waits.items() if end is None}
    if phase is Phase.RUNNING:
        assert waits <= {"stopped"}
    elif stage.manager.wanted(PLUGIN_ID):
        assert waits <= {"running"}, "for what it requires"
        assert stage.manager.view(PLUGIN_ID).waiting_for == ("test.db",)
    else:
        assert waits == set()


def check_events(stage: Stage) -> None:
    up = False
    for _, event in stage.world.host.events:
        if event.plugin_id != PLUGIN_ID:
            continue
        match event.type:
            case "plugin.worker_started":
                assert not up
                up = True
            case "plugin.worker_stopped":
                assert up
                up = False
            case "plugin.worker_crashed":
                up = False
    assert not up


@pytest.mark.parametrize("command", ["want", "want want", "unwant want", "want first_try_only", "want another"])
async def test_what_waits_and_is_wanted_comes_up_in_the_end(
    autojump_clock: Clock, tmp_path: Path, command: str
) -> None:
    stage = Stage(tmp_path, "waiting")

    async def work() -> None:
        await stage.enter()
        stage.act(command)
        await trio.sleep(10)
        stage.manager.want(make_plugin("test.db", id_=PluginId("db")))
        await stage.manager.wait_up(PLUGIN_ID)
        assert (stage.spawned(), trio.current_time()) == (1, 11 + 5 + 5)

    await stage.world.serve(work)
