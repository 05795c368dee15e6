"""How a life ended, and the crashes before it -> it is done, or wait so long, or give up. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from supervisor.core.worker_spec import RestartPolicy, WorkerSpec
from supervisor.worker.crash import Crash, Reason

JITTER: Final = 0.25
"""Waits are spread by up to this share to either side, so that workers that died together do not return together; but
never beyond the longest wait: there they are spread to the lower side alone."""

_LEAST_WAIT_S: Final = 1.0
"""For descriptors or memory to come free; a policy may have no wait at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`wait_s` is None when there is to be no further attempt; `crashes` is the count to go on with."""

    crashes: int
    wait_s: float | None


def is_content(spec: WorkerSpec, crash: Crash, exit_code: int | None) -> bool:
    """Whether the restart policy takes that end, which nobody asked for, for a success: then nothing follows."""
    return spec.restart.policy != "always" and crash.reason is Reason.EXITED and exit_code in spec.success_exit_codes


def after_crash(policy: RestartPolicy, *, crashes: int, ran_s: float | None, spread: float) -> Verdict:
    """What to do after a crash.

    `crashes` counts those in a row before this one; only stable running ends the row, a mere handshake does not.
    `ran_s` is how long the worker had been up, None if it never was. `spread`, from -1 to 1, is the place between
    the shortest and the longest such wait: chosen by the caller, so that this stays a function.
    """
    if policy.policy == "never":
        return Verdict(crashes=crashes + 1, wait_s=None)
    if ran_s is not None and ran_s >= policy.stable_after_s:
        return Verdict(crashes=0, wait_s=0.0)
    crashes += 1
    if crashes > policy.max_restarts:
        return Verdict(crashes=crashes, wait_s=None)
    return Verdict(crashes=crashes, wait_s=_wait_s(policy, crashes, spread))


def after_shortage(policy: RestartPolicy, *, crashes: int, times: int, spread: float) -> Verdict:
    """What to do when the daemon could not even try, for the `times`th time in a row: it counts as no crash."""
    return Verdict(crashes=crashes, wait_s=max(_LEAST_WAIT_S, _wait_s(policy, times, spread)))


def _wait_s(policy: RestartPolicy, crashes: int, spread: float) -> float:
    # The exponent is capped: 2.0 ** 1024 is an OverflowError, and max_restarts may be a million.
    wait_s = min(policy.backoff_s * 2.0 ** min(crashes - 1, 64), policy.max_backoff_s)
    shortest_s, longest_s = wait_s * (1 - JITTER), min(wait_s * (1 + JITTER), policy.max_backoff_s)
    return shortest_s + (longest_s - shortest_s) * (1 + spread) / 2
