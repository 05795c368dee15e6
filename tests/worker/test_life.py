"""A life with fake processes: why it ends, how it is stopped, and that it leaves nothing; `handshake_problem`."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from supervisor.core.errors import CallCancelled, PluginCrashed
from supervisor.core.plugin import Plugin
from supervisor.worker.crash import Crash, Reason
from supervisor.worker.ending import Ending, exit_crash, most_telling
from supervisor.worker.handshake import handshake_problem
from supervisor.worker.host import Stray
from supervisor.worker.launch import Launch
from supervisor.worker.life import Life
from supervisor.worker.logfile import LogFile
from supervisor.worker.process import Exit
from supervisor.worker.shutdown import Graces, Stage
from tests.logs import read_log
from tests.worker.fakes import NEVER, FakeHost, FakeProcess, Script, health, make_plugin

Clock = trio.testing.MockClock

MANIFEST = make_plugin(methods=("a", "b")).manifest


@pytest.mark.parametrize(
    "answer",
    [
        {"api_version": 1, "methods": ["a", "b"]},
        {"api_version": 1, "methods": ["b", "c", "a"], "more": 1},
    ],
)
def test_all_is_well(answer: Any) -> None:
    assert handshake_problem(answer, MANIFEST) is None


def test_methods_may_be_left_out_where_none_are_declared() -> None:
    assert handshake_problem({"api_version": 1}, make_plugin().manifest) is None


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (None, "answered initialize with rubbish: expected a map, got NoneType"),
        ([], "answered initialize with rubbish: expected a map, got list"),
        ("ok", "answered initialize with rubbish: expected a map, got str"),
        ({}, "speaks api_version None, its manifest says 1"),
        ({"api_version": 2}, "speaks api_version 2, its manifest says 1"),
        ({"api_version": "1"}, "speaks api_version '1', its manifest says 1"),
        ({"api_version": 1, "methods": "ab"}, "answered initialize with rubbish: `methods` is no list"),
        ({"api_version": 1, "methods": None}, "answered initialize with rubbish: `methods` is no list"),
        ({"api_version": 1, "methods": ["a", {}, 3]}, "lacks methods that its manifest declares: b"),
        ({"api_version": 1}, "lacks methods that its manifest declares: a, b"),
    ],
)
def test_problems(answer: Any, problem: str) -> None:
    assert handshake_problem(answer, MANIFEST) == problem


def test_a_hostile_answer_is_not_repeated_at_length() -> None:
    problem = handshake_problem({"api_version": "x" * 10**6}, MANIFEST)
    assert problem is not None
    assert len(problem) < 200


# Which cause is named.

SEGFAULT, KILLED = Exit(None, signal.SIGSEGV), Exit(None, signal.SIGKILL)
VIOLATION = Crash(Reason.PROTOCOL_VIOLATION, "broke the RPC protocol: the bytes are no msgpack")
OOM = Crash(Reason.OUT_OF_MEMORY, "ran out of memory")


@pytest.mark.parametrize(
    ("exit_", "violation", "sent_by_us", "crash"),
    [
        (Exit(0, None), None, False, Crash(Reason.EXITED, "exited with code 0")),
        (Exit(3, None), None, True, Crash(Reason.EXITED, "exited with code 3")),
        (SEGFAULT, None, False, Crash(Reason.KILLED, "was killed by SIGSEGV")),
        (KILLED, None, False, Crash(Reason.KILLED, "was killed by SIGKILL, which plugind did not send")),
        (Exit(None, 15), None, False, Crash(Reason.KILLED, "was killed by SIGTERM, which plugind did not send")),
        (KILLED, None, True, Crash(Reason.KILLED, "was killed by SIGKILL")),
        (Exit(1, None), VIOLATION, False, Crash(VIOLATION.reason, f"{VIOLATION.cause}; then it exited with code 1")),
        (SEGFAULT, VIOLATION, False, Crash(VIOLATION.reason, f"{VIOLATION.cause}; then it was killed by SIGSEGV")),
    ],
)
def test_exit_crash(exit_: Exit, violation: Crash | None, sent_by_us: bool, crash: Crash) -> None:
    assert exit_crash(exit_, violation=violation, sent_by_us=sent_by_us) == crash


@pytest.mark.parametrize("reason", Reason)
def test_the_post_mortem_explains_an_exit_and_nothing_else(reason: Reason) -> None:
    crash = Crash(reason, "x")
    assert most_telling(crash, None, last_words="", memory_mb=None) is crash
    explained = OOM if reason in {Reason.EXITED, Reason.KILLED} else crash
    assert most_telling(crash, OOM, last_words="MemoryError", memory_mb=50) is explained


def test_last_words_about_memory_count_where_memory_is_limited() -> None:
    crash = Crash(Reason.EXITED, "exited with code 1")
    told = partial(most_telling, crash, None)
    assert told(last_words="Traceback …\nMemoryError", memory_mb=None) is crash
    assert told(last_words="all is well", memory_mb=50) is crash
    assert told(last_words="Traceback …\nMemoryError", memory_mb=50) == Crash(
        Reason.OUT_OF_MEMORY, "ran out of memory (limit 50 MB) and exited with code 1"
    )


# Whole lives.


class Bench:
    """One life; the n-th spawn follows `scripts[n]`, what a manifest's command does included."""

    def __init__(self, tmp_path: Path, plugin: Plugin, *scripts: Script) -> None:
        self.plugin = plugin
        self.scripts = scripts
        self.host = FakeHost()
        self.processes: list[FakeProcess] = []
        self.launches: list[Launch] = []
        self.log_path = tmp_path / "x.log"
        self.up_at: float | None = None
        self.log = LogFile(self.log_path, max_bytes=10**7, files=2)
        self.life = Life(
            plugin,
            host=self.host,
            log=self.log,
            graces=Graces(),
            now_ms=lambda: int(trio.current_time() * 1000),
            came_up=self.came_up,
            stopping=lambda: None,
            stuck=lambda _: None,
        )
        rpc = plugin.manifest.worker.transport == "rpc"
        self.launch = Launch(argv=("/fake",), stop_argv=("/bye",), env={}, cwd=tmp_path, rpc=rpc)

    async def came_up(self) -> None:
        self.up_at = trio.current_time()

    def spawn(self, launch: Launch) -> FakeProcess:
        script = self.scripts[len(self.processes)]
        process = FakeProcess(2**30 + len(self.processes), replace(script, rpc=launch.rpc))
        self.processes.append(process)
        self.launches.append(launch)
        return process

    async def live(self, *acts: tuple[float, Callable[[], Any]]) -> Ending:
        """`acts`: what to do, and after how many seconds."""
        endings = []

        async def whole() -> None:
            endings.append(await self.life.live(self.launch, self.spawn))
            nursery.cancel_scope.cancel()

        async def later(after_s: float, act: Callable[[], Any]) -> None:
            await trio.sleep(after_s)
            act()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(whole)
            for after_s, act in acts:
                nursery.start_soon(later, after_s, act)
        self.check_clean()
        return endings[0]

    def check_clean(self) -> None:
        for process in self.processes:
            assert process.exit is not None
            assert process.closed
        self.log.close()

    def messages(self) -> list[str]:
        return [line["message"] for line in read_log(self.log_path) if line["stream"] == "plugind"]


SLOW = Script(answers_after_s=2, drains_in_s=NEVER, ends_on_term_in_s=NEVER, ends_on_kill_in_s=1)


async def test_a_breach_ends_it(autojump_clock: Clock, tmp_path: Path) -> None:
    bench = Bench(tmp_path, make_plugin(), Script(breaches_after_s=7))
    ending = await bench.live()
    assert ending.crash == bench.scripts[0].breach
    assert (trio.current_time(), ending.stage, ending.exit) == (7, Stage.KILL, KILLED)


@pytest.mark.parametrize("exit_", [KILLED, Exit(1, None)])
async def test_out_of_memory_explains_the_exit(autojump_clock: Clock, tmp_path: Path, exit_: Exit) -> None:
    ending = await Bench(tmp_path, make_plugin(), Script(exits_after_s=3, exit=exit_, post_mortem=OOM)).live()
    assert (ending.crash, ending.exit, ending.stage) == (OOM, exit_, None)


async def test_what_was_killed_for_being_unwell_was_unwell(autojump_clock: Clock, tmp_path: Path) -> None:
    plugin = make_plugin(health=health(interval_s=1, timeout_s=1, failures=1))
    ending = await Bench(tmp_path, plugin, Script(healthy_for_s=0, post_mortem=OOM)).live()
    assert ending.crash == Crash(Reason.UNHEALTHY, "failed 1 health check in a row; the last one: no answer within 1 s")
    assert (ending.exit, ending.stage, ending.ran_s) == (KILLED, Stage.KILL, 0)


async def test_out_of_memory_while_it_stops_is_told(autojump_clock: Clock, tmp_path: Path) -> None:
    bench = Bench(tmp_path, make_plugin(), Script(drains_in_s=1, post_mortem=OOM))
    ending = await bench.live((5, bench.life.ask_to_stop))
    assert (ending.crash, ending.stage) == (None, Stage.DRAIN)
    assert bench.messages() == ["while it was being stopped, the worker ran out of memory"]


async def test_a_pipe_that_cannot_be_measured_and_does_not_end(autojump_clock: Clock, tmp_path: Path) -> None:
    bench = Bench(tmp_path, make_plugin(), Script(exits_after_s=3, stdout=b"one\nlast words"))

    def somebody_else_holds_its_stdout() -> None:
        bench.processes[0]._out, _ = trio.testing.memory_stream_one_way_pair()

    ending = await bench.live((1, somebody_else_holds_its_stdout))
    assert (ending.cause, trio.current_time()) == ("exited with code 5", 3 + 5)
    assert bench.messages() == [
        "gave up reading what the worker had written and sent before its end: 0 bytes of its output are not in this log"
    ]
    assert [line["message"] for line in read_log(bench.log_path) if line["stream"] == "stdout"] == ["one", "last words"]


async def test_strays_are_in_the_ending_and_in_the_plugins_log(autojump_clock: Clock, tmp_path: Path) -> None:
    bench = Bench(tmp_path, make_plugin(), Script(exits_after_s=1))
    bench.host.strays = [Stray(pid=77, name="sleep"), Stray(pid=78, name="")]
    ending = await bench.live()
    assert [stray.pid for stray in ending.strays] == [77, 78]
    assert bench.messages() == ["killed what the worker had left running outside its process group: pid 77 (sleep), 78"]


# Stops, in any phase and in any number.

STOP_AT = (0.0, 1.0, 2.0, 3.0, 12.0, 14.0, 17.5)


@pytest.mark.parametrize("second_s", [0.0, 4.0, 11.5])
@pytest.mark.parametrize("first_s", STOP_AT)
async def test_a_second_stop_joins_the_first(
    autojump_clock: Clock, tmp_path: Path, first_s: float, second_s: float
) -> None:
    bench = Bench(tmp_path, make_plugin(), SLOW)
    stop = bench.life.ask_to_stop
    ending = await bench.live((first_s, stop), (first_s + second_s, stop))
    up = first_s > 2
    assert ending.cause is None
    assert trio.current_time() == pytest.approx(first_s + (10 if up else 0) + 5 + 1)
    assert (ending.stage, ending.ran_s is not None) == (Stage.KILL, up or first_s == 2 == bench.up_at)


@pytest.mark.parametrize("hurry_s", [0.0, 0.5, 1.0, 6.0, 10.5, 15.5])
@pytest.mark.parametrize("stop_s", [0.0, 1.0, 3.0])
async def test_a_hurried_stop(autojump_clock: Clock, tmp_path: Path, stop_s: float, hurry_s: float) -> None:
    bench = Bench(tmp_path, make_plugin(), SLOW)
    ending = await bench.live((stop_s, bench.life.ask_to_stop), (stop_s + hurry_s, bench.life.kill))
    plain_end = stop_s + (10 if stop_s > 2 else 0) + 5 + 1
    assert trio.current_time() == pytest.approx(min(stop_s + hurry_s + 1, plain_end))
    assert (ending.cause, ending.stage) == (None, Stage.KILL)


@pytest.mark.parametrize("after_s", [0.0, 1.0, 3.0])
async def test_killed_in_a_hurry_without_a_stop(autojump_clock: Clock, tmp_path: Path, after_s: float) -> None:
    bench = Bench(tmp_path, make_plugin(), SLOW)
    ending = await bench.live((after_s, bench.life.kill))
    assert ending.crash == Crash(Reason.KILLED, "was killed by SIGKILL")
    assert trio.current_time() == after_s + 1


@pytest.mark.parametrize("after_s", [0.2, 1.0, 1.7, 2.0, 2.5])
async def test_a_stop_while_a_crash_is_cleared_up(autojump_clock: Clock, tmp_path: Path, after_s: float) -> None:
    """The kill takes a second: from 1 s to 2 s."""
    script = Script(breaches_after_s=1, ends_on_kill_in_s=1, drains_in_s=NEVER, ends_on_term_in_s=NEVER)
    bench = Bench(tmp_path, make_plugin(), script)
    ending = await bench.live((after_s, bench.life.ask_to_stop))
    if after_s > 1:
        assert (ending.crash, trio.current_time()) == (script.breach, 2)
    elif after_s < 1:
        assert (ending.crash, trio.current_time()) == (None, after_s + 16)
    assert ending.exit == KILLED


@pytest.mark.parametrize("transport", ["rpc", "none"])
@pytest.mark.parametrize("after_s", [0.0, 0.5, 2.5, 5.0, 13.5, 17.5, 18.5])
async def test_cancelled_from_outside_it_kills_and_closes(
    autojump_clock: Clock, tmp_path: Path, after_s: float, transport: str
) -> None:
    script = replace(SLOW, ends_on_kill_in_s=0.5)
    bench = Bench(tmp_path, make_plugin(transport=transport), script)

    async def stop() -> None:
        await trio.sleep(3)
        bench.life.ask_to_stop()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stop)
        with trio.move_on_after(after_s) as scope:
            await bench.life.live(bench.launch, bench.spawn)
        nursery.cancel_scope.cancel()
    bench.check_clean()
    # Stages shield themselves: a stop that is under way is not shortened.
    assert scope.cancelled_caught or trio.current_time() <= 3 + 10 + 5 + 0.5
    assert trio.current_time() <= max(after_s, 18.5) + 0.5


async def test_calls_fail_with_the_cause(autojump_clock: Clock, tmp_path: Path) -> None:
    bench, errors = Bench(tmp_path, make_plugin(), Script(exits_after_s=3, stderr=b"out of luck\n")), []

    async def call() -> None:
        await trio.sleep(1)
        assert bench.life.channel is not None
        with pytest.raises(PluginCrashed) as caught:
            await bench.life.channel.call("call", [{"method": "hang"}], timeout_s=None)
        errors.append(caught.value)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        await bench.live()
    assert errors[0].message == "the worker of 'test.fake' ended: exited with code 5"
    assert errors[0].details == {"exit_code": 5, "signal": None, "stderr_tail": "out of luck"}


async def test_calls_to_a_stopped_worker_are_cancelled(autojump_clock: Clock, tmp_path: Path) -> None:
    bench = Bench(tmp_path, make_plugin(), Script())

    async def call() -> None:
        await trio.sleep(1)
        assert bench.life.channel is not None
        with pytest.raises(CallCancelled, match="was stopped"):
            await bench.life.channel.call("call", [{"method": "hang"}], timeout_s=None)
        await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        await bench.live((2, bench.life.ask_to_stop))


# Programs without RPC.


def plain(**worker: Any) -> Plugin:
    return make_plugin(transport="none", stop_timeout_s=7, **worker)


STUBBORN = {"ends_on_term_in_s": NEVER}
BYE = Script(exits_after_s=1, exit=Exit(0, None))


@pytest.mark.parametrize(
    ("worker", "scripts", "stage", "took_s", "signals"),
    [
        ({}, [Script()], Stage.TERM, 0, [15]),
        ({}, [Script(ends_on_term_in_s=6.9)], Stage.TERM, 6.9, [15]),
        ({}, [Script(**STUBBORN)], Stage.KILL, 7, [15, 9]),
        ({"stop_signal": "SIGINT"}, [Script(ends_on={2: 6})], Stage.TERM, 6, [2]),
        ({"stop_signal": "SIGINT"}, [Script()], Stage.TERM, 7, [2, 15]),
        ({"stop_signal": "SIGINT"}, [Script(**STUBBORN)], Stage.KILL, 12, [2, 15, 9]),
        ({"stop_command": ("bye",)}, [Script(), BYE], Stage.TERM, 7, [15]),
        ({"stop_command": ("bye",)}, [Script(exits_after_s=6), BYE], Stage.COMMAND, 1, []),
        ({"stop_command": ("bye",)}, [Script(exits_after_s=5.5), BYE], Stage.COMMAND, 0.5, []),
        ({"stop_command": ("bye",)}, [Script(**STUBBORN), BYE], Stage.KILL, 12, [15, 9]),
        ({"stop_command": ("bye",)}, [Script(), Script(exits_after_s=1)], Stage.TERM, 1, [15]),
        ({"stop_command": ("bye",)}, [Script(), Script()], Stage.TERM, 7, [15]),
    ],
)
async def test_how_a_plain_program_is_stopped(
    autojump_clock: Clock,
    tmp_path: Path,
    worker: dict[str, Any],
    scripts: list[Script],
    stage: Stage,
    took_s: float,
    signals: list[int],
) -> None:
    bench = Bench(tmp_path, plain(**worker), *scripts)
    ending = await bench.live((5, bench.life.ask_to_stop))
    assert bench.up_at == 1
    assert (ending.cause, ending.stage, trio.current_time() - 5) == (None, stage, pytest.approx(took_s))
    assert bench.processes[0].signals == signals
    assert [launch.argv for launch in bench.launches[1:]] == [("/bye",)] * (len(scripts) - 1)


@pytest.mark.parametrize(
    ("script", "note"),
    [
        (
            Script(exits_after_s=1, stderr=b"oh\nno such server\n"),
            "the stop command exited with code 5: no such server",
        ),
        (Script(), "the stop command did not end within 7 s"),
    ],
)
async def test_a_stop_command_that_fails_is_in_the_log(
    autojump_clock: Clock, tmp_path: Path, script: Script, note: str
) -> None:
    bench = Bench(tmp_path, plain(stop_command=("bye",)), Script(), script)
    await bench.live((5, bench.life.ask_to_stop))
    assert bench.messages() == [note]


async def test_one_that_is_not_up_is_not_asked_by_command(autojump_clock: Clock, tmp_path: Path) -> None:
    bench = Bench(tmp_path, plain(stop_command=("bye",)), Script())
    ending = await bench.live((0.5, bench.life.ask_to_stop))
    assert (ending.stage, ending.ran_s, len(bench.processes)) == (Stage.TERM, None, 1)


# What fails on our side.


async def test_a_coming_up_that_is_never_recorded(autojump_clock: Clock, tmp_path: Path) -> None:
    """A shield that nothing ends would keep even the daemon from stopping."""
    bench = Bench(tmp_path, make_plugin(), Script())
    bench.came_up = trio.sleep_forever  # type: ignore[method-assign]
    bench.life._came_up = trio.sleep_forever
    ending = await bench.live((5, bench.life.ask_to_stop))
    assert (ending.cause, ending.exit, trio.current_time()) == (None, Exit(0, None), 30)


async def test_a_mistake_before_it_is_attended_to(
    autojump_clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, make_plugin(), Script())

    def fail(*_: object) -> None:
        raise ZeroDivisionError("a mistake")

    monkeypatch.setattr(bench.life, "_begin", fail)
    ending = await bench.live()
    assert ending.crash is not None
    assert (ending.crash.reason, ending.exit, bench.host.known) == (Reason.INTERNAL, KILLED, set())


async def test_a_kill_that_fails_costs_no_more_than_the_kill(
    autojump_clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is open is closed, and what is known of it is forgotten."""
    bench = Bench(tmp_path, make_plugin(), Script())
    bench.host.faults = {"config"}

    def fail(_: FakeProcess) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(FakeProcess, "kill", fail)
    with trio.fail_after(60):
        ending = await bench.life.live(bench.launch, bench.spawn)
    assert ending.crash is not None
    assert ending.crash.reason is Reason.INTERNAL
    assert (bench.processes[0].closed, bench.host.known) == (True, set())
    assert trio.current_time() <= 2 * Graces().kill_s
    bench.log.close()
