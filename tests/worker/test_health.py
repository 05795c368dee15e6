"""wait_unwell: which answers count as well, and to the second when a worker is given up."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from supervisor.core.errors import DeadlineExceeded, MethodNotFound, PluginError, SupervisorError, Unavailable
from supervisor.worker.crash import Reason
from supervisor.worker.health import Unwell, wait_unwell
from tests.worker.fakes import NEVER, health

Clock = trio.testing.MockClock
OK = {"status": "ok"}


class Asked:
    """A channel whose n-th `health` is answered by `answers[n]` after `takes_s[n]`, the last ones for ever."""

    def __init__(self, *answers: Any, takes_s: tuple[float, ...] = (0.0,)) -> None:
        self.answers, self.takes_s = answers, takes_s
        self.asked_at: list[float] = []
        self.held_back = False

    async def call(self, method: str, params: Any, *, timeout_s: float | None) -> Any:
        assert (method, params) == ("health", [{}])
        n = len(self.asked_at)
        self.asked_at.append(trio.current_time())
        await trio.sleep(self.takes_s[min(n, len(self.takes_s) - 1)])
        answer = self.answers[min(n, len(self.answers) - 1)]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def statistics(self) -> Any:
        return SimpleNamespace(held_back=self.held_back)


async def watch(asked: Asked, *, reads: Callable[[], bool] = lambda: True, **policy: Any) -> tuple[Unwell, list[str]]:
    notes: list[str] = []
    return await wait_unwell(asked, health(**policy), notes.append, reads), notes  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ({"status": "error"}, "status 'error'"),
        ({"status": "error", "message": "no disk"}, "status 'error': no disk"),
        ({"status": "error", "message": 7}, "status 'error'"),
        ({"status": "fine"}, "status 'fine'"),
        ({"status": ["ok"]}, 'status ["ok"]'),
        ({}, "status None"),
        (None, "status None"),
        ("ok", "status None"),
        (PluginError("the database is away"), "PLUGIN_ERROR: the database is away"),
        (SupervisorError("x" * 5000), "INTERNAL: " + "x" * 1000),
        (DeadlineExceeded("upstream took too long"), "DEADLINE_EXCEEDED: upstream took too long"),
        (Unavailable("gone"), "UNAVAILABLE: gone"),
    ],
)
async def test_what_is_a_miss(autojump_clock: Clock, answer: Any, problem: str) -> None:
    unwell, notes = await watch(Asked(answer))
    problem = problem.replace('["ok"]', "['ok']")
    assert trio.current_time() == pytest.approx(3 * 15)
    assert unwell.crash.reason is Reason.UNHEALTHY
    assert unwell.crash.cause == f"failed 3 health checks in a row; the last one: {problem}"
    assert notes == [f"health check failed ({n} of 3): {problem}" for n in (1, 2, 3)]
    assert unwell.well_at == 0


@pytest.mark.parametrize(
    "answer", [OK, {"status": "degraded", "message": "slow"}, {"status": "ok", "more": 1}, MethodNotFound("no")]
)
async def test_what_is_well_enough(autojump_clock: Clock, answer: Any) -> None:
    asked = Asked(answer)
    with trio.move_on_after(3600) as scope:
        await watch(asked)
    assert scope.cancelled_caught
    assert len(asked.asked_at) in {239, 240}


async def test_no_answer_in_time(autojump_clock: Clock) -> None:
    asked = Asked(OK, takes_s=(0, NEVER))
    unwell, _ = await watch(asked)
    assert asked.asked_at == [15, 30, 50, 70]
    assert trio.current_time() == pytest.approx(75)
    assert unwell.crash.cause == "failed 3 health checks in a row; the last one: no answer within 5 s"
    assert unwell.well_at == 15


async def test_an_answer_at_the_last_moment_counts(autojump_clock: Clock) -> None:
    with trio.move_on_after(3600) as scope:
        await watch(Asked(OK, takes_s=(4.99,)))
    assert scope.cancelled_caught


async def test_only_misses_in_a_row_count(autojump_clock: Clock) -> None:
    bad = {"status": "error"}
    unwell, notes = await watch(Asked(bad, bad, OK, bad, OK, bad, bad, bad))
    assert trio.current_time() == 8 * 15
    assert [note[:28] for note in notes] == [f"health check failed ({n} of 3)" for n in (1, 2, 1, 1, 2, 3)]
    assert unwell.well_at == 5 * 15


async def test_the_policy_is_the_manifests(autojump_clock: Clock) -> None:
    unwell, _ = await watch(Asked(OK, takes_s=(NEVER,)), interval_s=2, timeout_s=0.5, failures=1)
    assert trio.current_time() == 2.5
    assert unwell.crash.cause == "failed 1 health check in a row; the last one: no answer within 0.5 s"


async def test_one_that_does_not_even_read(autojump_clock: Clock) -> None:
    unwell, _ = await watch(Asked(OK, takes_s=(NEVER,)), reads=lambda: False, failures=2)
    assert unwell.crash.reason is Reason.NOT_READING
    assert unwell.crash.cause == (
        "does not read what it is sent on fd 3: it failed 2 health checks in a row; the last one: no answer within 5 s"
    )


async def test_what_we_do_not_hear_ourselves_is_nobodys_fault(autojump_clock: Clock) -> None:
    """A worker that has asked for very much is not read for a while: its answer may stand in the socket."""
    bad = {"status": "error"}
    asked = Asked(*[bad, bad, bad, OK] * 10)
    asked.held_back = True
    with trio.move_on_after(600) as scope:
        await watch(asked)
    assert scope.cancelled_caught


async def test_one_that_never_ceases_to_ask_is_given_up(autojump_clock: Clock) -> None:
    asked = Asked(OK, takes_s=(NEVER,))
    asked.held_back = True
    unwell, notes = await watch(asked)
    assert unwell.crash.reason is Reason.UNHEALTHY
    assert len(notes) == 3
    assert trio.current_time() == 2 * 60


async def test_one_that_asks_very_much_and_reads_no_answers_is_given_up(autojump_clock: Clock) -> None:
    """It would not be read before it has been answered, which it does not let us do."""
    asked = Asked(OK, takes_s=(NEVER,))
    asked.held_back = True
    unwell, _ = await watch(asked, reads=lambda: False)
    assert unwell.crash.reason is Reason.NOT_READING
    assert trio.current_time() == 60
