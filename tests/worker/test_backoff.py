"""How long to wait after which crash, and when to give up."""

from __future__ import annotations

from itertools import pairwise

import pytest

from supervisor.core.worker_spec import RestartPolicy, WorkerSpec
from supervisor.worker.backoff import Verdict, after_crash, is_content
from supervisor.worker.crash import Crash, Reason

POLICY = RestartPolicy()


@pytest.mark.parametrize(
    ("crashes", "wait_s"),
    [(0, 1), (1, 2), (2, 4), (3, 8), (4, 16), (5, 32), (6, 64), (7, 128), (8, 246), (9, 262.5), (10, None), (11, None)],
)
@pytest.mark.parametrize("ran_s", [None, 0.0, 0.5, 59.999])
def test_the_promised_waits(crashes: int, wait_s: float | None, ran_s: float | None) -> None:
    verdict = after_crash(POLICY, crashes=crashes, ran_s=ran_s, spread=0)
    assert verdict == Verdict(crashes=crashes + 1, wait_s=wait_s)


@pytest.mark.parametrize("crashes", [0, 3, 10, 10**9])
@pytest.mark.parametrize("ran_s", [60.0, 60.001, 1e9])
def test_stable_running_restarts_at_once_and_the_count_begins_anew(crashes: int, ran_s: float) -> None:
    assert after_crash(POLICY, crashes=crashes, ran_s=ran_s, spread=1) == Verdict(crashes=0, wait_s=0.0)


@pytest.mark.parametrize(
    ("crashes", "spread", "wait_s"),
    [
        (0, -1, 0.75),
        (0, 1, 1.25),
        (0, 0.5, 1.125),
        (3, -1, 6.0),
        (3, 1, 10.0),
        (8, -1, 192.0),
        (8, 1, 300.0),
        (9, -1, 225.0),
        (9, 0, 262.5),
        (9, 1, 300.0),
    ],
)
def test_spread(crashes: int, spread: float, wait_s: float) -> None:
    assert after_crash(POLICY, crashes=crashes, ran_s=None, spread=spread).wait_s == pytest.approx(wait_s)


def test_the_cap_holds_with_the_spread() -> None:
    waits = [
        after_crash(RestartPolicy(max_restarts=10**6), crashes=n, ran_s=None, spread=s).wait_s
        for n in range(200)
        for s in (-1, 0, 1)
    ]
    assert all(wait is not None and 0.75 <= wait <= 300 for wait in waits)


@pytest.mark.parametrize("crashes", range(10))
def test_those_that_died_together_do_not_return_together(crashes: int) -> None:
    """At the longest wait no more than before it."""
    waits = [after_crash(POLICY, crashes=crashes, ran_s=None, spread=n / 50 - 1).wait_s or 0 for n in range(101)]
    steps = [later - sooner for sooner, later in pairwise(waits)]
    assert max(waits) <= POLICY.max_backoff_s
    assert min(steps) == pytest.approx(max(steps))
    assert min(steps) > 0


@pytest.mark.parametrize("crashes", [63, 64, 65, 1023, 1024, 5000, 999_999])
def test_huge_counts_do_not_overflow(crashes: int) -> None:
    policy = RestartPolicy(max_restarts=1_000_000)
    assert after_crash(policy, crashes=crashes, ran_s=None, spread=1) == Verdict(crashes=crashes + 1, wait_s=300.0)


@pytest.mark.parametrize("max_restarts", [0, 1, 3])
def test_so_many_restarts_and_no_more(max_restarts: int) -> None:
    policy, crashes, restarts = RestartPolicy(max_restarts=max_restarts), 0, 0
    while True:
        verdict = after_crash(policy, crashes=crashes, ran_s=1.0, spread=0)
        crashes = verdict.crashes
        if verdict.wait_s is None:
            break
        restarts += 1
    assert (restarts, crashes) == (max_restarts, max_restarts + 1)


def test_a_policy_of_ones_own() -> None:
    policy = RestartPolicy(backoff_s=0.5, max_backoff_s=3, max_restarts=99, stable_after_s=2)
    waits = [after_crash(policy, crashes=n, ran_s=1.9, spread=0).wait_s for n in range(5)]
    assert waits == [0.5, 1, (1.5 + 2.5) / 2, (2.25 + 3) / 2, (2.25 + 3) / 2]
    assert after_crash(policy, crashes=4, ran_s=2.0, spread=0) == Verdict(crashes=0, wait_s=0.0)


@pytest.mark.parametrize("ran_s", [None, 0.0, 1e9])
@pytest.mark.parametrize("crashes", [0, 5])
def test_never_means_never(crashes: int, ran_s: float | None) -> None:
    policy = RestartPolicy(policy="never")
    assert after_crash(policy, crashes=crashes, ran_s=ran_s, spread=0) == Verdict(crashes=crashes + 1, wait_s=None)


@pytest.mark.parametrize("ran_s", [None, 3.0, 60.0])
def test_on_failure_waits_as_always_does(ran_s: float | None) -> None:
    policies = [RestartPolicy(policy=name) for name in ("on_failure", "always")]
    on_failure, always = (after_crash(policy, crashes=4, ran_s=ran_s, spread=0.5) for policy in policies)
    assert on_failure == always


CONTENT = """
always      exited  0   no
on_failure  exited  0   yes
on_failure  exited  3   yes
on_failure  exited  4   no
on_failure  killed  -   no
on_failure  not_ready     0  no
on_failure  out_of_memory -  no
on_failure  cannot_start  -  no
never       exited  0   yes
never       exited  1   no
never       killed  -   no
"""


@pytest.mark.parametrize("line", CONTENT.strip().splitlines())
def test_which_ends_are_a_success(line: str) -> None:
    policy, reason, code, content = line.split()
    spec = WorkerSpec(command=("x",), transport="none", success_exit_codes=(0, 3), restart=RestartPolicy(policy=policy))
    exit_code = None if code == "-" else int(code)
    assert is_content(spec, Crash(Reason(reason), "…"), exit_code) is (content == "yes")
