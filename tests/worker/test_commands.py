"""Commands of jobs, over processes that follow a script: their ends, their time, their stop, in exact seconds."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from supervisor.core.job import Run, RunOutcome, RunState, Trigger
from supervisor.core.lifecycle import Status
from supervisor.core.manifest import JobSpec
from supervisor.core.package import PackageChanged
from supervisor.core.plugin import Plugin, PluginId
from supervisor.core.worker_spec import Limits
from supervisor.worker.command_run import MAX_PARAMS_BYTES, CannotGive, as_program
from supervisor.worker.commands import Commands
from supervisor.worker.crash import Crash, Reason
from supervisor.worker.host import Stray
from supervisor.worker.process import Exit
from supervisor.worker.shutdown import Graces
from tests.logs import read_log
from tests.worker.fakes import NEVER, PLUGIN_ID, Script, World, make_plugin

SPEC = JobSpec(key="tidy", display_name="Tidy", command=("sh", "tidy.sh"), timeout_s=60)
GRACES = Graces(term_s=5, kill_s=2)
DONE = Script(rpc=False, exits_after_s=3, exit=Exit(0, None))
ENDLESS = Script(rpc=False)
DEAF = Script(rpc=False, ends_on_term_in_s=NEVER)


def make_run(**changes: Any) -> Run:
    run = Run(
        id="run-1",
        job_id="job-1",
        plugin_id=PLUGIN_ID,
        plugin_key=make_plugin().key,
        job_key=SPEC.key,
        trigger=Trigger.SCHEDULE,
        state=RunState.RUNNING,
        attempt=2,
        due_ms=1_774_746_000_000,
        created_ms=1_774_746_000_000,
    )
    return replace(run, **changes)


class Shell:
    """Commands of one plugin, whose processes follow scripts."""

    def __init__(self, tmp_path: Path, *scripts: Script, **worker: Any) -> None:
        self.world = World(tmp_path, *scripts, graces=GRACES)
        self.plugin: Plugin | None = make_plugin(transport="none", **worker)
        self.commands = Commands(self.world.tools, self.find)

    def find(self, plugin_id: PluginId) -> Plugin | None:
        assert plugin_id == PLUGIN_ID
        return self.plugin

    async def run(self, spec: JobSpec = SPEC, **run: Any) -> RunOutcome:
        outcome = await self.commands.run_command(PLUGIN_ID, make_run(**run), spec)
        self.check_clean()
        return outcome

    def check_clean(self) -> None:
        self.world.check_sound()
        assert self.world.host.events == [], "a command is no worker that anybody is told of"
        assert (self.commands.pids(), self.commands.longest_stop_s()) == (set(), 0)

    def log(self) -> list[tuple[str, str, str, str | None]]:
        entries = read_log(self.world.log_path)
        return [(e["stream"], e["level"], e["message"], e.get("run_id")) for e in entries]


async def test_success(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    shell = Shell(tmp_path, replace(DONE, stdout=b"one\ntwo", stderr=b"careful\n"))
    assert await shell.run() == RunOutcome(state=RunState.SUCCEEDED, exit_code=0)
    assert trio.current_time() == 3
    assert sorted(shell.log()) == [
        ("stderr", "warning", "careful", "run-1"),
        ("stdout", "info", "one", "run-1"),
        ("stdout", "info", "two", "run-1"),
    ]
    assert shell.world.processes[0].signals == []


HOW_IT_FAILS = [
    (Exit(3, None), b"", None, "exited with code 3", 3),
    (Exit(3, None), b"one\n\n  \ntwo\n", None, "exited with code 3: one\ntwo", 3),
    (Exit(1, None), b"".join(b"line %d\n" % i for i in range(9)), None, "exited with code 1: " + "\n".join(
        f"line {i}" for i in range(4, 9)
    ), 1),
    (Exit(None, signal.SIGSEGV), b"", None, "was killed by SIGSEGV", None),
    (Exit(None, signal.SIGKILL), b"", None, "was killed by SIGKILL, which plugind did not send", None),
    (
        Exit(None, signal.SIGKILL),
        b"last\n",
        Crash(Reason.OUT_OF_MEMORY, "ran out of memory (limit 64 MB) and was killed by SIGKILL"),
        "ran out of memory (limit 64 MB) and was killed by SIGKILL: last",
        None,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("exit_", "stderr", "post_mortem", "error", "exit_code"), HOW_IT_FAILS)
async def test_failure(
    tmp_path: Path,
    autojump_clock: trio.testing.MockClock,
    exit_: Exit,
    stderr: bytes,
    post_mortem: Crash | None,
    error: str,
    exit_code: int | None,
) -> None:
    shell = Shell(tmp_path, replace(DONE, exit=exit_, stderr=stderr, post_mortem=post_mortem))
    assert await shell.run() == RunOutcome(state=RunState.FAILED, error=error, exit_code=exit_code)


@pytest.mark.parametrize(("stderr", "words"), [(b"", "no such city"), (b"\n", "no such city"), (b"why\n", "why")])
async def test_who_says_nothing_on_stderr_has_its_last_words_on_stdout(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, stderr: bytes, words: str
) -> None:
    shell = Shell(tmp_path, replace(DONE, exit=Exit(3, None), stdout=b"no such city\n", stderr=stderr))
    assert (await shell.run()).error == f"exited with code 3: {words}"


async def test_exit_0_counts_whatever_it_said(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    shell = Shell(tmp_path, replace(DONE, stderr=b"MemoryError\n"), limits=Limits(memory_mb=64))
    assert await shell.run() == RunOutcome(state=RunState.SUCCEEDED, exit_code=0)


async def test_last_words_that_complain_of_memory(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    shell = Shell(tmp_path, replace(DONE, exit=Exit(1, None), stderr=b"MemoryError\n"), limits=Limits(memory_mb=64))
    told = "ran out of memory (limit 64 MB) and exited with code 1: MemoryError"
    assert await shell.run() == RunOutcome(state=RunState.FAILED, error=told, exit_code=1)


async def test_a_limit_that_it_exceeds(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    shell = Shell(tmp_path, replace(ENDLESS, breaches_after_s=4))
    assert await shell.run() == RunOutcome(state=RunState.FAILED, error="has more processes than it may")
    assert (trio.current_time(), shell.world.processes[0].signals) == (4, [signal.SIGKILL])


async def test_long_last_words_are_cut(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    shell = Shell(tmp_path, replace(DONE, exit=Exit(1, None), stderr=b"x" * 5000 + b" end\n"))
    outcome = await shell.run()
    assert outcome.error == "exited with code 1: " + ("x" * 5000 + " end")[-1000:]


@pytest.mark.parametrize(
    ("script", "ended_at", "how"),
    [
        (ENDLESS, 60, "it ended after SIGTERM"),
        (replace(ENDLESS, ends_on_term_in_s=4), 64, "it ended after SIGTERM"),
        (DEAF, 65, "it was killed"),
    ],
)
async def test_timeout(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, script: Script, ended_at: float, how: str
) -> None:
    shell = Shell(tmp_path, script)
    outcome = await shell.run()
    assert outcome == RunOutcome(state=RunState.TIMED_OUT, error=f"did not end within timeout_s = 60 s; {how}")
    assert trio.current_time() == ended_at
    sent = shell.world.processes[0].signals
    assert sent == [signal.SIGTERM, signal.SIGKILL] if how == "it was killed" else [signal.SIGTERM]


async def test_what_cannot_be_cleared_up_keeps_nobody_waiting_either(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def forget(plugin_id: PluginId, pid: int) -> list[Stray]:
        await trio.sleep_forever()

    shell = Shell(tmp_path, ENDLESS)
    monkeypatch.setattr(shell.world.host, "forget", forget)
    outcome = await shell.commands.run_command(PLUGIN_ID, make_run(), SPEC)
    assert outcome.error == "did not end within timeout_s = 60 s; its end took too long to be cleared up"
    assert trio.current_time() == 60 + 22
    assert shell.commands.pids() == set()


async def test_the_workers_own_ways_to_be_stopped_are_not_the_commands(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    shell = Shell(tmp_path, DEAF, stop_signal="SIGINT", stop_command=("stop",), stop_timeout_s=1000, start_grace_s=1000)
    assert (await shell.run()).state is RunState.TIMED_OUT
    assert shell.world.processes[0].signals == [signal.SIGTERM, signal.SIGKILL]
    assert trio.current_time() == 65


async def test_a_command_that_ends_as_its_time_is_up_has_ended(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    shell = Shell(tmp_path, replace(DONE, exits_after_s=59.999))
    assert await shell.run() == RunOutcome(state=RunState.SUCCEEDED, exit_code=0)


async def test_cancelled(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    shell = Shell(tmp_path, DEAF)
    with trio.move_on_after(7) as scope:
        await shell.run()
    assert scope.cancelled_caught
    assert trio.current_time() == 12
    assert shell.world.processes[0].signals == [signal.SIGTERM, signal.SIGKILL]
    shell.check_clean()


async def test_cancelled_before_it_has_begun(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    shell = Shell(tmp_path, ENDLESS)
    shell.world.prepare_s[make_plugin().key] = 100
    with trio.move_on_after(7) as scope:
        await shell.run()
    assert (scope.cancelled_caught, trio.current_time(), shell.world.processes) == (True, 7, [])
    shell.check_clean()


async def test_its_time_is_up_before_it_has_begun(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    shell = Shell(tmp_path, ENDLESS)
    shell.world.prepare_s[make_plugin().key] = 100
    outcome = await shell.run()
    assert outcome.state is RunState.TIMED_OUT
    assert outcome.error == "did not end within timeout_s = 60 s; it was not started yet"
    assert (trio.current_time(), shell.world.processes) == (60, [])


async def test_what_outlives_sigkill_keeps_nobody_waiting(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    shell = Shell(tmp_path, replace(DEAF, ends_on_kill_in_s=NEVER))
    outcome = await shell.commands.run_command(PLUGIN_ID, make_run(), SPEC)
    assert outcome.state is RunState.TIMED_OUT
    assert outcome.error == "did not end within timeout_s = 60 s; it hangs: pid 1000 outlived SIGKILL"
    assert trio.current_time() == 60 + GRACES.term_s + 2 * GRACES.kill_s
    assert shell.commands.pids() == set(), "whoever reaps orphans is to have it, should it ever end"
    assert shell.world.host.known == {1000}, "the next daemon would not find it"
    assert shell.world.processes[0].closed


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            OSError(2, "No such file or directory", "/bin/tidy"),
            "cannot be started: /bin/tidy: No such file or directory",
        ),
        (OSError(24, "Too many open files"), "cannot be started: /fake: Too many open files"),
    ],
)
async def test_cannot_be_started(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, error: OSError, told: str
) -> None:
    shell = Shell(tmp_path)
    shell.world.fail_spawn.append(error)
    assert await shell.run() == RunOutcome(state=RunState.FAILED, error=told)


async def test_a_package_that_was_changed_is_not_run(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    shell = Shell(tmp_path)
    shell.world.fail_prepare.append(PackageChanged("tidy.sh is not what was installed"))
    assert (await shell.run()).error == "was not started: tidy.sh is not what was installed"
    assert shell.world.processes == []


async def test_params_that_do_not_fit(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    shell = Shell(tmp_path)
    outcome = await shell.run(params={"text": "x" * MAX_PARAMS_BYTES})
    assert outcome.state is RunState.FAILED
    assert outcome.error == (
        "cannot be started: its params are 120012 bytes as JSON, and PLUGIND_PARAMS takes 120000: "
        "put them into a file, and give its name"
    )
    assert shell.world.processes == []


@pytest.mark.parametrize("params", [{"key": b"bytes"}, {"ratio": float("nan")}])
def test_params_that_are_no_json(params: Any) -> None:
    with pytest.raises(CannotGive, match="cannot be written as JSON for PLUGIND_PARAMS"):
        as_program(make_plugin(), make_run(params=params), SPEC, term_s=5)


def test_what_it_is_given() -> None:
    plugin = make_plugin(env={"CITY": "Ghent"}, ready=None, limits=make_plugin().manifest.worker.limits)
    program = as_program(plugin, make_run(params={"city": "Köln", "n": [1, None]}), SPEC, term_s=5)
    worker = program.manifest.worker
    assert (worker.command, worker.transport) == (("sh", "tidy.sh"), "none")
    assert worker.limits is plugin.manifest.worker.limits
    params = worker.env["PLUGIND_PARAMS"]
    assert json.loads(params) == {"city": "Köln", "n": [1, None]}
    assert worker.env == {
        "CITY": "Ghent",
        "PLUGIND_RUN_ID": "run-1",
        "PLUGIND_JOB": "tidy",
        "PLUGIND_ATTEMPT": "2",
        "PLUGIND_TRIGGER": "schedule",
        "PLUGIND_DUE": "2026-03-29T01:00:00+00:00",
        "PLUGIND_PARAMS": params,
    }
    assert "PLUGIND_PARAMS" not in as_program(plugin, make_run(), SPEC, term_s=5).manifest.worker.env


async def test_not_ready_any_more(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    gone = RunOutcome(state=RunState.CANCELLED, error="its plugin is not ready any more")
    shell = Shell(tmp_path)
    shell.plugin = replace(make_plugin(), status=Status.DISABLED)
    assert await shell.run() == gone
    shell.plugin = None
    assert await shell.run() == gone


async def test_not_ready_any_more_once_its_files_have_been_looked_at(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    shell = Shell(tmp_path)
    shell.world.prepare_s[make_plugin().key] = 1

    async def disable() -> None:
        await trio.sleep(0.5)
        shell.plugin = replace(make_plugin(), status=Status.DISABLED)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(disable)
        outcome = await shell.run()
    assert outcome.state is RunState.CANCELLED
    assert outcome.error == "its plugin is not ready any more; it was not started yet"
    assert shell.world.processes == []


class Several:
    """Runs of one plugin, beside each other."""

    def __init__(self, shell: Shell, ids: list[str]) -> None:
        self._shell = shell
        self._ids = ids
        self.outcomes: dict[str, RunOutcome] = {}

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            for id_ in self._ids:
                nursery.start_soon(self._run, id_)

    async def _run(self, id_: str) -> None:
        self.outcomes[id_] = await self._shell.commands.run_command(PLUGIN_ID, make_run(id=id_), SPEC)


async def test_the_end_of_all_that_a_plugin_has(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    shell = Shell(tmp_path, replace(ENDLESS, ends_on_term_in_s=1), DEAF)
    several = Several(shell, ["a", "b"])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(several.run)
        await trio.sleep(10)
        assert shell.commands.pids() == {1000, 1001}
        assert shell.commands.longest_stop_s() == 22
        await shell.commands.end(PluginId("99999999-9999-4999-8999-999999999999"))
        assert (trio.current_time(), len(shell.commands.pids())) == (10, 2)
        await shell.commands.end(PLUGIN_ID)
        assert trio.current_time() == 15
        assert shell.commands.pids() == set()
    shell.check_clean()
    assert {outcome.state for outcome in several.outcomes.values()} == {RunState.CANCELLED}
    assert sorted(outcome.error or "" for outcome in several.outcomes.values()) == [
        "its plugin is not ready any more; it ended after SIGTERM",
        "its plugin is not ready any more; it was killed",
    ]


async def test_in_a_hurry_all_are_killed(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    shell = Shell(tmp_path, DEAF)
    several = Several(shell, ["a", "b"])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(several.run)
        await trio.sleep(10)
        shell.commands.kill_all()
        nursery.cancel_scope.cancel()
    assert trio.current_time() == 10
    assert [process.exit for process in shell.world.processes] == [Exit(None, signal.SIGKILL)] * 2
    shell.check_clean()


async def test_killed_while_it_is_being_stopped(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    shell = Shell(tmp_path, DEAF)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(shell.run)
            await trio.sleep(10)
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await trio.sleep(2)
                shell.commands.kill_all()
            scope.cancel()
    assert trio.current_time() == 12
    shell.check_clean()


async def test_what_it_has_left_behind_is_told(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    shell = Shell(tmp_path, DONE)
    shell.world.host.strays = [Stray(pid=7, name="sleep")]
    assert (await shell.run()).state is RunState.SUCCEEDED
    note = "killed what the command had left running outside its process group: pid 7 (sleep)"
    assert shell.log() == [("plugind", "warning", note, "run-1")]


@pytest.mark.parametrize("fault", ["remember", "forget"])
async def test_a_mistake_of_ours_costs_this_run_only(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, fault: str
) -> None:
    shell = Shell(tmp_path, DONE)
    shell.world.host.faults.add(fault)
    outcome = await shell.commands.run_command(PLUGIN_ID, make_run(), SPEC)
    assert all(process.exit and process.closed for process in shell.world.processes)
    if fault == "forget":
        assert outcome == RunOutcome(state=RunState.SUCCEEDED, exit_code=0)
    else:
        assert outcome.state is RunState.FAILED
        assert (outcome.error or "").startswith("was lost to a mistake in plugind itself (log id ")
    assert shell.commands.pids() == set()
