"""Runs from their submission to their end: starts, limits, deadlines, cancelling, workers that go, rows that fail."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from supervisor.core.errors import (
    CallCancelled,
    DeadlineExceeded,
    PluginCrashed,
    PluginError,
    ResourceExhausted,
    SupervisorError,
    Unavailable,
)
from supervisor.core.job import RunOutcome, RunState, Trigger
from supervisor.core.plugin import PluginId
from tests.jobs.runner_bench import RunnerBench, make_bench, open_bench
from tests.jobs.workers import Handler, never_answer

WEATHER = PluginId("acme.weather")
FULL = ResourceExhausted("the disk is full")


def answering(after_s: float, answer: Any = None) -> Handler:
    async def handler(_: dict[str, Any]) -> Any:
        await trio.sleep(after_s)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return handler


# --- how runs end ---


async def test_a_run_is_given_to_its_worker_and_its_result_kept(autojump_clock: Any) -> None:
    async with open_bench() as bench:
        bench.workers.handlers["refresh"] = answering(2, {"rows": 3})
        run = bench.submit(params={"city": "Oslo"}, attempt=2)
        await bench.runner.wait_ended(run.id)
        assert bench.row(run).outcome == RunOutcome(state=RunState.SUCCEEDED, result={"rows": 3})
        assert (bench.row(run).started_at, bench.row(run).ended_at) == (0, 2)
        [call] = bench.workers.calls
        assert call.params == {
            "job": "refresh",
            "run_id": run.id,
            "trigger": "schedule",
            "scheduled_at_ms": run.due_ms,
            "attempt": 2,
            "params": {"city": "Oslo"},
        }
        assert bench.is_empty()
        assert bench.nudges == []


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (PluginError("no network"), "PLUGIN_ERROR: no network"),
        (PluginCrashed("exit code 3", exit_code=3), "PLUGIN_CRASHED: exit code 3"),
        (Unavailable("stopping"), "UNAVAILABLE: stopping"),
        (DeadlineExceeded("its own call"), "DEADLINE_EXCEEDED: its own call"),
        (SupervisorError("strange"), "INTERNAL: strange"),
        (KeyError("ours"), "INTERNAL: KeyError('ours'); see the daemon's log"),
    ],
)
async def test_a_failure_is_named_and_tried_again(autojump_clock: Any, error: Exception, text: str) -> None:
    async with open_bench() as bench:
        bench.workers.handlers["refresh"] = answering(1, error)
        run = bench.submit(retries=1, retry_backoff_s=7)
        await bench.runner.wait_ended(run.id)
        assert bench.end(run) == ("failed", text)
        assert bench.row(run).retry_at_ms == run.created_ms + 8_000
        assert bench.nudges == [1]
        last = bench.submit(retries=1, attempt=2)
        await bench.runner.wait_ended(last.id)
        assert bench.row(last).retry_at_ms is None
        assert bench.nudges == [1]


async def test_a_worker_that_cancels_by_itself(autojump_clock: Any) -> None:
    async with open_bench() as bench:
        bench.workers.handlers["refresh"] = answering(1, CallCancelled("not today"))
        run = bench.submit(retries=3)
        await bench.runner.wait_ended(run.id)
        assert bench.end(run) == ("cancelled", "not today")
        assert bench.row(run).retry_at_ms is None


async def test_a_run_past_its_time_is_timed_out_and_the_worker_told(autojump_clock: Any) -> None:
    async with open_bench() as bench:
        bench.workers.handlers["refresh"] = never_answer
        run = bench.submit(timeout_s=42.0, retries=1)
        await bench.runner.wait_ended(run.id)
        assert bench.end(run) == ("timed_out", "no result within timeout_s = 42 s; the worker was told to cancel")
        assert bench.row(run).ended_at == 42
        assert bench.workers.cancelled == [run.id]
        assert bench.row(run).retry_at_ms == run.created_ms + 52_000


async def test_cut_by_a_restart_or_an_upgrade(autojump_clock: Any) -> None:
    error = CallCancelled("the worker was stopped")
    async with open_bench() as bench:

        async def cut(_: dict[str, Any]) -> None:
            await trio.sleep(1)
            bench.workers.replaced[WEATHER] = trio.current_time()
            raise error

        bench.workers.handlers["refresh"] = cut
        row = await bench.run_to_end(retries=1)
        text = f"its worker was restarted or replaced: {error.message}"
        assert row.outcome == RunOutcome(state=RunState.INTERRUPTED, error=text)
        assert row.retry_at_ms is not None
        assert bench.nudges == [1]


async def test_while_it_is_restarted_it_comes_back(autojump_clock: Any) -> None:
    async with open_bench() as bench:

        async def cut(_: dict[str, Any]) -> None:
            await trio.sleep(1)
            bench.workers.take_down(WEATHER)
            raise CallCancelled("the worker was stopped")

        bench.workers.handlers["refresh"] = cut
        row = await bench.run_to_end()
        assert row.state == "interrupted"


@pytest.mark.parametrize("error", [CallCancelled("the worker was stopped"), PluginError("I was told to stop")])
async def test_cut_because_somebody_stopped_the_worker(autojump_clock: Any, error: SupervisorError) -> None:
    async with open_bench() as bench:

        async def cut(_: dict[str, Any]) -> None:
            await trio.sleep(1)
            bench.workers.stopped.add(WEATHER)
            raise error

        bench.workers.handlers["refresh"] = cut
        row = await bench.run_to_end(retries=1)
        assert row.outcome == RunOutcome(state=RunState.CANCELLED, error=f"its worker was stopped: {error.message}")
        assert row.retry_at_ms is None


async def test_a_worker_that_crashed_and_was_given_up_has_failed_the_run(autojump_clock: Any) -> None:
    async with open_bench() as bench:

        async def crash(_: dict[str, Any]) -> None:
            await trio.sleep(1)
            bench.workers.refusing[WEATHER] = Unavailable("it crashed too often")
            raise PluginCrashed("exit code 3")

        bench.workers.handlers["refresh"] = crash
        row = await bench.run_to_end()
        assert row.outcome == RunOutcome(state=RunState.FAILED, error="PLUGIN_CRASHED: exit code 3")


async def test_a_command_needs_no_worker(autojump_clock: Any) -> None:
    async with open_bench() as bench:
        bench.workers.stopped.add(WEATHER)
        bench.commands.outcome = RunOutcome(state=RunState.FAILED, error="exited with 3", exit_code=3)
        bench.commands.takes_s = 400
        row = await bench.run_to_end(command=("backup",), timeout_s=300.0, retries=1)
        assert row.outcome == bench.commands.outcome  # it keeps its own time
        assert row.ended_at == 400
        assert row.retry_at_ms is not None
        assert bench.workers.calls == []


async def test_a_cancelled_command_is_killed_before_it_counts_as_ended(autojump_clock: Any) -> None:
    async with open_bench() as bench:
        bench.commands.takes_s, bench.commands.kill_s = 60, 5
        run = bench.submit(command=("backup",))
        await trio.sleep(10)
        bench.runner.cancel(run.id, "cancelled by an operator")
        await bench.runner.wait_ended(run.id)
        assert bench.end(run) == ("cancelled", "cancelled by an operator")
        assert bench.row(run).ended_at == 15
        assert bench.commands.killed == [run.id]


# --- who starts when ---


async def test_64_at_once_8_a_plugin(autojump_clock: Any) -> None:
    async with open_bench() as bench:
        bench.workers.handlers |= {f"j{m}": answering(20) for m in range(10)}
        runs = [bench.submit(f"p{n}/j{m}") for n in range(10) for m in range(10)]
        await trio.sleep(10)
        running = [run for run in runs if bench.row(run).state is RunState.RUNNING]
        assert len(running) == bench.runner.statistics().running == 64
        assert max(sum(run.plugin_key == f"p{n}" for run in running) for n in range(10)) <= 8
        assert bench.runner.statistics().waiting == 36
        await trio.sleep(50)
        assert set(bench.states()) == {"succeeded"}
        assert len(bench.workers.calls) == 100
        assert bench.is_empty()


async def test_what_may_start_at_once_is_started_in_one_transaction(autojump_clock: Any) -> None:
    async with open_bench() as bench:
        for n in range(100):
            bench.submit(f"p{n}/j")
        await trio.sleep(1)
        assert bench.runs.batches[0] == 64
        assert sum(bench.runs.batches) == 100


async def test_one_plugin_with_a_thousand_does_not_delay_anothers_single_run(autojump_clock: Any) -> None:
    async with open_bench() as bench:
        bench.runs.commit_s = 0.01
        busy = [bench.submit(f"busy/j{n}") for n in range(1000)]
        await trio.sleep(0.5)
        single = bench.submit("quick/j")
        await bench.runner.wait_ended(single.id)
        began = bench.row(single).started_at
        assert began is not None
        assert began <= 0.5 + 0.03
        await trio.sleep(20)
        assert all(bench.row(run).state is RunState.SUCCEEDED for run in busy)


async def test_runs_of_a_job_come_one_after_the_other_in_order(autojump_clock: Any) -> None:
    async with open_bench() as bench:
        bench.workers.handlers["refresh"] = answering(5)
        runs = [bench.submit(overlap="queue_one") for _ in range(3)]
        await trio.sleep(60)
        assert [bench.row(run).started_at for run in runs] == [0, 5, 10]


async def test_as_many_of_a_job_as_it_allows(autojump_clock: Any) -> None:
    async with open_bench() as bench:
        bench.workers.handlers["refresh"] = answering(5)
        runs = [bench.submit(overlap="allow", max_running=2) for _ in range(3)]
        await trio.sleep(60)
        assert [bench.row(run).started_at for run in runs] == [0, 0, 5]


async def test_a_job_stays_busy_until_its_worker_lets_go(autojump_clock: Any) -> None:
    async with open_bench() as bench:
        bench.workers.deaf = True
        bench.workers.handlers["refresh"] = never_answer
        first = bench.submit(timeout_s=3.0)
        await trio.sleep(5)
        assert bench.end(first)[0] == "timed_out"
        bench.workers.handlers["refresh"] = answering(0)
        second, other = bench.submit(), bench.submit("acme.weather/other")
        await trio.sleep(5)
        assert bench.row(other).state is RunState.SUCCEEDED
        assert bench.runner.waiting_for(second.id) == f"its worker has not let go of run {first.id} of the job"
        assert bench.runner.active.of_job(first.job_id) == (first.id, second.id)
        for let_go in bench.workers.unsettled:
            let_go()
        await bench.runner.wait_ended(second.id)
        assert bench.row(second).started_at == 10
        assert bench.is_empty()
        assert bench.runner.active.of_job(first.job_id) == ()


# --- workers that have gone when a run is handed to them ---


def gone(bench: RunnerBench, *, stopped: bool = False, given_up: bool = False) -> Handler:
    """The first that is asked has gone; nothing was sent."""

    async def handler(_: dict[str, Any]) -> Any:
        await trio.lowlevel.checkpoint()
        bench.workers.handlers["refresh"] = answering(5, "done")
        if stopped:
            bench.workers.stopped.add(WEATHER)
        elif given_up:
            bench.workers.refusing[WEATHER] = Unavailable("it crashed too often")
        else:
            bench.workers.take_down(WEATHER)
        raise Unavailable("it has just failed")

    return handler


async def test_what_was_given_to_nobody_waits_for_the_next_worker(autojump_clock: Any) -> None:
    async with open_bench() as bench:
        bench.workers.handlers["refresh"] = gone(bench)
        run = bench.submit(timeout_s=7.0)
        await trio.sleep(20)
        assert bench.row(run).state is RunState.RUNNING
        bench.workers.bring_up(WEATHER)
        await bench.runner.wait_ended(run.id)
        assert bench.row(run).outcome == RunOutcome(state=RunState.SUCCEEDED, result="done")
        assert (bench.row(run).ended_at, len(bench.workers.calls)) == (25, 2)
        assert bench.is_empty()


async def test_its_time_begins_when_it_is_given_to_one(autojump_clock: Any) -> None:
    async with open_bench() as bench:
        bench.workers.handlers["refresh"] = gone(bench)
        run = bench.submit(timeout_s=3.0)
        await trio.sleep(20)
        bench.workers.bring_up(WEATHER)
        await bench.runner.wait_ended(run.id)
        assert bench.end(run) == ("timed_out", "no result within timeout_s = 3 s; the worker was told to cancel")
        assert bench.row(run).ended_at == 23


async def test_a_next_worker_that_is_up_already_gets_it_at_once(autojump_clock: Any) -> None:
    async with open_bench() as bench:

        async def replaced(_: dict[str, Any]) -> Any:
            await trio.sleep(1)
            bench.workers.replaced[WEATHER] = trio.current_time()
            bench.workers.handlers["refresh"] = answering(0, "done")
            raise Unavailable("it has just failed")

        bench.workers.handlers["refresh"] = replaced
        row = await bench.run_to_end()
        assert (row.state, row.ended_at) == ("succeeded", 1)


async def test_no_worker_comes_for_it_in_time(autojump_clock: Any) -> None:
    async with open_bench() as bench:
        bench.workers.handlers["refresh"] = gone(bench)
        row = await bench.run_to_end(start_within_s=20.0, retries=1)
        why = f"it did not start within start_within_s = 20 s: {bench.workers.why_down(WEATHER)}"
        assert row.outcome == RunOutcome(state=RunState.FAILED, error=why)
        assert row.ended_at == 20
        assert row.retry_at_ms is not None
        assert bench.is_empty()


async def test_the_next_worker_never_comes_for_it(autojump_clock: Any) -> None:
    async with open_bench() as bench:
        bench.workers.handlers["refresh"] = gone(bench, given_up=True)
        row = await bench.run_to_end(retries=1)
        why = "it was given to no worker: its worker is not started any more: it crashed too often"
        assert row.outcome == RunOutcome(state=RunState.FAILED, error=why)
        assert row.retry_at_ms is not None


async def test_somebody_stops_the_worker_before_it_is_given_to_it(autojump_clock: Any) -> None:
    async with open_bench() as bench:
        bench.workers.handlers["refresh"] = gone(bench, stopped=True)
        row = await bench.run_to_end(retries=1)
        why = "its worker was stopped: nobody wants it up"
        assert row.outcome == RunOutcome(state=RunState.CANCELLED, error=why)
        assert row.retry_at_ms is None


async def test_cancelled_while_it_waits_for_the_next_worker(autojump_clock: Any) -> None:
    async with open_bench() as bench:
        bench.workers.handlers["refresh"] = gone(bench)
        run = bench.submit()
        await trio.sleep(5)
        bench.runner.cancel(run.id, "cancelled by an operator")
        await bench.runner.wait_ended(run.id)
        assert bench.end(run) == ("cancelled", "cancelled by an operator")
        assert bench.row(run).ended_at == 5
        assert bench.is_empty()


# --- workers that do not let go ---


@pytest.mark.parametrize(("on_timeout", "hung_at"), [("restart", 13), ("cancel", None)])
async def test_a_worker_that_does_not_let_go(autojump_clock: Any, on_timeout: str, hung_at: int | None) -> None:
    async with open_bench() as bench:
        bench.workers.deaf = True
        bench.workers.handlers["refresh"] = never_answer
        await trio.sleep(1)
        run = bench.submit(timeout_s=2.0, on_timeout=on_timeout)
        await trio.sleep(60)
        assert [(hung.at, hung.plugin_id, hung.since) for hung in bench.workers.hung] == (
            [(hung_at, WEATHER, 1)] if hung_at else []
        )
        assert all(run.id in hung.why for hung in bench.workers.hung)


async def test_one_that_lets_go_in_time_is_left_alone(autojump_clock: Any) -> None:
    async with open_bench() as bench:
        bench.workers.deaf = True
        bench.workers.handlers["refresh"] = never_answer
        run = bench.submit(on_timeout="restart")
        await trio.sleep(1)
        bench.runner.cancel(run.id, "cancelled by an operator")
        await trio.sleep(9)
        [let_go] = bench.workers.unsettled
        let_go()
        await trio.sleep(60)
        assert bench.workers.hung == []
        assert bench.is_empty()


# --- what waits, and why ---


async def test_a_worker_that_comes_up_in_time(autojump_clock: Any) -> None:
    async with open_bench() as bench:
        bench.workers.take_down(WEATHER)
        run, other = bench.submit(), bench.submit("acme.other/j")
        await trio.sleep(30)
        assert bench.runner.waiting_for(run.id) == bench.workers.why_down(WEATHER)
        assert bench.row(other).started_at == 0
        bench.workers.bring_up(WEATHER)
        await bench.runner.wait_ended(run.id)
        assert bench.row(run).started_at == 30
        assert bench.runner.waiting_for(run.id) is None


async def test_a_worker_that_does_not_come_up_in_time(autojump_clock: Any) -> None:
    async with open_bench() as bench:
        bench.workers.take_down(WEATHER)
        run = bench.submit(start_within_s=20.0, retries=3)
        await bench.runner.wait_ended(run.id)
        assert bench.end(run) == (
            "skipped",
            "it did not start within start_within_s = 20 s: its worker is in backoff after it exited with code 3; "
            "the next attempt is in 12 s",
        )
        assert (bench.row(run).ended_at, bench.row(run).started_at, bench.row(run).retry_at_ms) == (20, None, None)
        assert bench.is_empty()
        assert bench.workers.calls == []


@pytest.mark.parametrize(
    ("spec", "trigger", "age_s", "ended_at"),
    [
        ({"schedule": "* * * * *"}, Trigger.SCHEDULE, 0, 60),
        ({"schedule": "0 * * * *"}, Trigger.SCHEDULE, 0, 1800),
        ({"schedule": "0 0 * * *"}, Trigger.SCHEDULE, 0, 3600),
        ({"schedule": "* * * * *"}, Trigger.MANUAL, 0, 3600),
        ({"schedule": "* * * * *"}, Trigger.RETRY, 0, 60),
        ({"schedule": None}, Trigger.MANUAL, 0, 3600),
        ({"schedule": "* * * * *", "timezone": "Gone/Away"}, Trigger.SCHEDULE, 0, 3600),
        ({"start_within_s": 0.0}, Trigger.SCHEDULE, 0, 1),
        ({"start_within_s": 50.0}, Trigger.SCHEDULE, 30, 20),  # queued by the daemon before
        ({"start_within_s": 50.0}, Trigger.SCHEDULE, 90, 0),
        ({"start_within_s": 50.0}, Trigger.SCHEDULE, -90, 50),  # the clock was turned back
    ],
)
async def test_how_long_a_run_may_wait(
    autojump_clock: Any, spec: dict[str, Any], trigger: Trigger, age_s: float, ended_at: float
) -> None:
    async with open_bench() as bench:
        bench.workers.take_down(WEATHER)
        row = await bench.run_to_end(trigger=trigger, age_s=age_s, **spec)
        assert row.state == "skipped"
        assert row.ended_at == pytest.approx(ended_at)


async def test_what_a_daemon_before_left_queued_for_too_long_does_not_start(autojump_clock: Any) -> None:
    async with open_bench() as bench:
        late, command = bench.submit(age_s=61), bench.submit("acme.weather/b", age_s=7200, command=("backup",))
        in_time = bench.submit(age_s=59)
        await trio.sleep(1)
        why = "it did not start within start_within_s = 60 s: plugind was not running, or had too much to do"
        assert bench.end(late) == bench.end(command) == ("skipped", why)
        assert bench.end(in_time)[0] == "succeeded"
        assert len(bench.workers.calls) == 1
        assert bench.commands.begun == []
        assert bench.is_empty()


async def test_the_causes_of_waiting(autojump_clock: Any) -> None:
    async with open_bench(max_runs=2, max_runs_per_plugin=1) as bench:
        bench.workers.handlers |= dict.fromkeys(("a", "b"), never_answer)
        first = bench.submit("one/a")
        await trio.sleep(1)
        behind, plugin = bench.submit("one/a", start_within_s=1.0), bench.submit("one/b", start_within_s=2.0)
        behind_both = bench.submit("one/b", start_within_s=1.5)
        await trio.sleep(0.1)
        assert bench.runner.waiting_for(behind_both.id) == f"run {plugin.id} of the job is before it"
        second = bench.submit("two/a")
        await trio.sleep(0.1)
        overall = bench.submit("three/a", start_within_s=3.0)
        await trio.sleep(10)
        limits = "it did not start within start_within_s = {} s: {}"
        assert bench.end(behind) == ("skipped", limits.format(1, f"run {first.id} of the job has not ended"))
        assert bench.end(plugin) == ("skipped", limits.format(2, "its plugin's 1 places are taken"))
        assert bench.end(overall) == ("skipped", limits.format(3, "all 2 places are taken"))
        assert bench.runner.waiting_for(second.id) is None
        assert bench.runner.waiting_for("nobody") is None


async def test_what_was_missed_may_wait_for_its_turn_behind_its_own_kind(autojump_clock: Any) -> None:
    async with open_bench() as bench:
        bench.workers.handlers["refresh"] = answering(50)
        runs = [bench.submit(trigger=Trigger.CATCH_UP, catch_up="all") for _ in range(5)]
        await trio.sleep(300)
        assert [bench.row(run).started_at for run in runs] == [0, 50, 100, 150, 200]


@pytest.mark.parametrize("how", ["stopped", "refusing"])
async def test_where_there_is_to_be_no_worker_nothing_waits(autojump_clock: Any, how: str) -> None:
    async with open_bench() as bench:
        if how == "stopped":
            bench.workers.stopped.add(WEATHER)
        else:
            bench.workers.refusing[WEATHER] = Unavailable("it crashed too often")
        runs = [bench.submit(), bench.submit(), bench.submit("acme.weather/other")]
        command = bench.submit("acme.weather/backup", command=("backup",))
        await trio.sleep(1)
        why = (
            "its worker is stopped" if how == "stopped" else "its worker is not started any more: it crashed too often"
        )
        assert [bench.end(run) for run in runs] == [("skipped", why)] * 3
        assert bench.row(command).state is RunState.SUCCEEDED
        bench.workers.stopped.clear()
        bench.workers.refusing.clear()
        assert (await bench.run_to_end()).state == "succeeded"
        assert bench.is_empty()


async def test_a_worker_that_goes_again_before_it_is_asked(autojump_clock: Any) -> None:
    async with open_bench() as bench:
        bench.workers.take_down(WEATHER)
        run = bench.submit()
        await trio.sleep(5)
        bench.workers.bring_up(WEATHER)
        bench.workers.take_down(WEATHER)
        await trio.sleep(5)
        assert bench.row(run).state is RunState.QUEUED
        bench.workers.bring_up(WEATHER)
        await bench.runner.wait_ended(run.id)
        assert bench.end(run)[0] == "succeeded"


async def test_ten_thousand_may_wait_without_a_task_each(autojump_clock: Any) -> None:
    async with open_bench() as bench:
        bench.workers.take_down(WEATHER)
        before = trio.lowlevel.current_statistics().tasks_living
        runs = [bench.submit(f"acme.weather/j{n}", start_within_s=60.0) for n in range(10_000)]
        await trio.sleep(1)
        assert trio.lowlevel.current_statistics().tasks_living <= before + 1
        bench.runner.cancel_plugin(WEATHER, "the plugin is disabled")
        await trio.sleep(1)
        assert {bench.end(run) for run in runs} == {("cancelled", "the plugin is disabled")}
        assert bench.is_empty()
        await trio.sleep(100)
        assert bench.workers.calls == []


# --- cancelling ---


async def test_a_run_that_waits_is_cancelled_and_never_starts(autojump_clock: Any) -> None:
    async with open_bench() as bench:
        bench.workers.take_down(WEATHER)
        run = bench.submit(retries=2)
        bench.runner.cancel(run.id, "cancelled by an operator")
        bench.runner.cancel(run.id, "again")
        bench.runner.cancel("nobody", "no such run")
        await bench.runner.wait_ended(run.id)
        assert bench.end(run) == ("cancelled", "cancelled by an operator")
        bench.workers.bring_up(WEATHER)
        await trio.sleep(100)
        assert bench.workers.calls == []
        assert bench.row(run).retry_at_ms is None


async def test_a_row_that_ended_before_its_start_frees_its_place(autojump_clock: Any) -> None:
    async with open_bench(max_runs=1) as bench:
        lost = bench.submit()
        bench.runs.rows[lost.id].state = RunState.CANCELLED
        won = bench.submit("acme.other/j")
        await bench.runner.wait_ended(won.id)
        await bench.runner.wait_ended(lost.id)
        assert bench.end(won)[0] == "succeeded"
        assert [call.plugin_id for call in bench.workers.calls] == ["acme.other"]
        assert bench.is_empty()


async def test_cancelled_while_its_start_is_being_written(autojump_clock: Any) -> None:
    async with open_bench() as bench:
        bench.runs.commit_s = 2
        run = bench.submit()
        await trio.sleep(1)
        bench.runner.cancel(run.id, "cancelled by an operator")
        await bench.runner.wait_ended(run.id)
        assert bench.end(run) == ("cancelled", "cancelled by an operator")
        assert bench.workers.calls == []
        assert bench.is_empty()


async def test_an_operators_cancel_is_final(autojump_clock: Any) -> None:
    async with open_bench() as bench:

        async def stubborn(_: dict[str, Any]) -> str:
            with trio.CancelScope(shield=True):  # a worker that answers all the same
                await trio.sleep(5)
            return "too late"

        bench.workers.handlers["refresh"] = stubborn
        run = bench.submit()
        await trio.sleep(1)
        assert await bench.runs.finish(run, RunOutcome(state=RunState.CANCELLED, error="cancelled by an operator"))
        bench.runner.cancel(run.id, "cancelled by an operator")
        await bench.runner.wait_ended(run.id)
        assert bench.end(run) == ("cancelled", "cancelled by an operator")
        assert bench.row(run).ended_at == 1


async def test_a_plugin_that_leaves_takes_its_runs_with_it(autojump_clock: Any) -> None:
    async with open_bench() as bench:
        bench.workers.handlers["refresh"] = never_answer
        running, waiting, other = bench.submit(), bench.submit(), bench.submit("acme.other/j")
        await trio.sleep(1)
        bench.runner.cancel_plugin(WEATHER, "the plugin is disabled")
        await trio.sleep(1)
        assert bench.end(running) == bench.end(waiting) == ("cancelled", "the plugin is disabled")
        assert bench.workers.cancelled == [running.id]
        assert bench.end(other)[0] == "succeeded"
        assert bench.is_empty()


# --- a database that fails ---


async def test_a_start_that_cannot_be_written_is_written_later(autojump_clock: Any) -> None:
    async with open_bench() as bench:
        bench.runs.broken = FULL
        first, second = bench.submit(), bench.submit()
        cancelled, patient = bench.submit("acme.weather/b"), bench.submit("acme.weather/c", start_within_s=4.0)
        await trio.sleep(2)
        assert bench.runner.waiting_for(first.id) == "its start could not be recorded: the disk is full"
        bench.runner.cancel(cancelled.id, "cancelled by an operator")
        await trio.sleep(3)
        assert bench.workers.calls == []
        assert bench.runner.statistics().running == 0
        bench.runs.broken = None
        await bench.runner.wait_ended(second.id)
        assert (bench.row(first).started_at, bench.row(second).started_at) == (7, 7)  # after 1, 2 and 4 s
        assert [call.params["run_id"] for call in bench.workers.calls] == [first.id, second.id]
        await trio.sleep(30)
        assert bench.end(cancelled) == ("cancelled", "cancelled by an operator")
        assert bench.end(patient) == (
            "skipped",
            "it did not start within start_within_s = 4 s: its start could not be recorded: the disk is full",
        )
        assert bench.is_empty()


async def test_after_a_failure_of_which_nothing_is_left(autojump_clock: Any) -> None:
    async with open_bench() as bench:
        bench.runs.broken = FULL
        cancelled = bench.submit()
        await trio.sleep(0.5)
        bench.runner.cancel(cancelled.id, "cancelled by an operator")
        late = bench.submit("acme.weather/late", start_within_s=0.2)
        await trio.sleep(0.4)
        bench.runs.broken = None
        await trio.sleep(10)
        assert bench.end(late)[0] == "succeeded"  # a second is the least
        assert (await bench.run_to_end()).state == "succeeded"


async def test_cancelled_while_its_start_fails(autojump_clock: Any) -> None:
    async with open_bench() as bench:
        bench.runs.commit_s, bench.runs.broken = 2, FULL
        run = bench.submit()
        await trio.sleep(1)
        bench.runner.cancel(run.id, "cancelled by an operator")
        await trio.sleep(2)
        bench.runs.broken = None
        await bench.runner.wait_ended(run.id)
        assert bench.end(run) == ("cancelled", "cancelled by an operator")
        assert bench.workers.calls == []


async def test_an_end_that_cannot_be_written_is_written_later_and_holds_no_place(autojump_clock: Any) -> None:
    async with open_bench(max_runs=1) as bench:
        bench.workers.handlers["refresh"] = answering(1, "the result")
        run = bench.submit()
        await trio.sleep(0.5)
        bench.runs.broken = FULL
        await trio.sleep(60)
        assert bench.row(run).state is RunState.RUNNING
        assert bench.runner.statistics().running == 0
        bench.runs.broken = None
        await bench.runner.wait_ended(run.id)
        assert bench.row(run).outcome == RunOutcome(state=RunState.SUCCEEDED, result="the result")


# --- the daemon's stop ---


async def stop(bench: RunnerBench, *, after_s: float, drain_s: float) -> float:
    """Stop as the daemon does, and return how long that took."""
    async with trio.open_nursery() as work:
        await work.start(bench.runner.run)
        await trio.sleep(after_s)
        began = trio.current_time()
        bench.runner.close()
        work.cancel_scope.deadline = began + drain_s
    return trio.current_time() - began


def submit_soon(nursery: trio.Nursery, bench: RunnerBench, *submitted: Any, **spec: Any) -> None:
    async def submit() -> None:
        await trio.sleep(0.5)
        submitted[0].append(bench.submit(**spec))

    nursery.start_soon(submit)


@pytest.mark.parametrize(
    ("drain_s", "took_s", "state", "error"),
    [
        (10, 10, "interrupted", "the daemon stopped before the run had ended"),
        (60, 39.5, "timed_out", "no result within timeout_s = 40 s; the worker was told to cancel"),
    ],
)
async def test_draining(autojump_clock: Any, drain_s: float, took_s: float, state: str, error: str) -> None:
    bench, runs = make_bench(), list[Any]()
    bench.workers.handlers["refresh"] = never_answer
    async with trio.open_nursery() as nursery:
        submit_soon(nursery, bench, runs, timeout_s=40.0, retries=1)
        assert await stop(bench, after_s=1, drain_s=drain_s) == pytest.approx(took_s)
    [run] = runs
    assert bench.end(run) == (state, error)
    assert bench.row(run).retry_at_ms is not None
    assert bench.workers.cancelled == [run.id]
    after = bench.submit()  # nobody is there any more
    assert bench.row(after).state is RunState.QUEUED
    assert bench.is_empty()


async def test_what_waits_stays_queued_and_nobody_waits_for_it(autojump_clock: Any) -> None:
    bench, runs = make_bench(), list[Any]()
    bench.workers.take_down(WEATHER)
    ended: list[float] = []

    async def wait() -> None:
        await trio.sleep(0.7)
        await bench.runner.wait_ended(runs[0].id)
        ended.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        submit_soon(nursery, bench, runs)
        nursery.start_soon(wait)
        assert await stop(bench, after_s=1, drain_s=10) == 0
    assert ended == [1]
    assert bench.row(runs[0]).state is RunState.QUEUED
    assert bench.is_empty()


async def test_a_start_that_is_being_written_at_the_stop_is_carried_out_in_the_drain(autojump_clock: Any) -> None:
    bench, runs = make_bench(), list[Any]()
    bench.runs.commit_s = 2
    async with trio.open_nursery() as nursery:
        submit_soon(nursery, bench, runs)
        assert await stop(bench, after_s=1, drain_s=10) == pytest.approx(3.5)
    assert bench.end(runs[0]) == ("succeeded", None)


async def test_a_start_that_is_written_after_the_drain_is_interrupted(autojump_clock: Any) -> None:
    bench, runs = make_bench(), list[Any]()
    bench.workers.handlers["refresh"] = never_answer
    bench.runs.commit_s = 2
    async with trio.open_nursery() as nursery:
        submit_soon(nursery, bench, runs)
        assert await stop(bench, after_s=1, drain_s=0.5) == pytest.approx(3.5)
    assert bench.end(runs[0])[0] == "interrupted"
    assert bench.is_empty()


async def test_a_start_that_cannot_be_written_at_the_stop_stays_queued(autojump_clock: Any) -> None:
    bench, runs = make_bench(), list[Any]()
    bench.runs.broken = FULL
    async with trio.open_nursery() as nursery:
        submit_soon(nursery, bench, runs)
        assert await stop(bench, after_s=1, drain_s=10) == 0
    assert bench.row(runs[0]).state is RunState.QUEUED
    assert bench.is_empty()


async def test_a_last_row_that_is_not_written_does_not_hold_up_the_stop(autojump_clock: Any) -> None:
    bench, runs = make_bench(), list[Any]()
    bench.workers.handlers["refresh"] = never_answer

    async def fail() -> None:
        await trio.sleep(0.9)
        bench.runs.broken = FULL

    async with trio.open_nursery() as nursery:
        submit_soon(nursery, bench, runs)
        nursery.start_soon(fail)
        assert await stop(bench, after_s=1, drain_s=10) == 10
    assert bench.row(runs[0]).state is RunState.RUNNING  # and interrupted at the next start
    assert bench.is_empty()


@pytest.mark.parametrize("at_s", [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0])
async def test_cancelled_at_any_time_each_row_is_whole(autojump_clock: Any, at_s: float) -> None:
    """What has not started is queued, what has started has its end; never one that was asked without its row."""
    bench = make_bench(max_runs=2)
    bench.runs.commit_s = 1
    bench.workers.handlers |= {f"j{n}": answering(1) for n in range(4)}
    bench.workers.take_down(PluginId("down"))
    runs = []
    with trio.move_on_after(at_s):
        async with trio.open_nursery() as work:
            await work.start(bench.runner.run)
            runs += [bench.submit(f"p{n}/j{n}") for n in range(4)] + [bench.submit("down/j0", start_within_s=2.5)]
            await trio.sleep(1.25)
            bench.runner.cancel(runs[3].id, "cancelled by an operator")
    asked = {call.params["run_id"] for call in bench.workers.calls}
    assert len(runs) == (5 if at_s else 0)
    for run in runs:
        row = bench.row(run)
        assert (row.state is RunState.QUEUED) == (row.outcome is None)
        assert row.state is not RunState.RUNNING
        assert run.id not in asked or row.started_at is not None
    assert bench.is_empty()
