"""Pings: a worker that does not answer in time, or says that it is not well, several times in a row, is a crash."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import trio

from supervisor.channel import Channel
from supervisor.core.errors import MethodNotFound, SupervisorError
from supervisor.core.problem import shown
from supervisor.core.worker_spec import HealthPolicy
from supervisor.wire.worker import HEALTH
from supervisor.worker.crash import Crash, Reason

_MESSAGE_CHARACTERS: Final = 1000


@dataclass(frozen=True, slots=True)
class Unwell:
    """Why a worker is given up, and when (in trio's time) it was last known to be well."""

    crash: Crash
    well_at: float


async def wait_unwell(
    channel: Channel, policy: HealthPolicy, note: Callable[[str], None], is_read: Callable[[], bool]
) -> Unwell:
    """Return when the worker has failed as many checks in a row as the policy says; `note` is told of each.

    `is_read` says whether the worker has taken from its connection all that was sent to it.
    """
    missed, excused, well_at, problem = 0, 0, trio.current_time(), None
    while missed < policy.failures:
        await trio.sleep(policy.interval_s)
        problem = await _ask(channel, policy.timeout_s)
        if problem and excused < policy.failures and channel.statistics().held_back and is_read():
            # It has asked so much of us that we do not read it at present: its answer may stand there. But who never
            # ceases to ask shall not go unchecked.
            excused += 1
            continue
        missed = missed + 1 if problem else 0
        if problem:
            note(f"health check failed ({missed} of {policy.failures}): {problem}")
        else:
            excused, well_at = 0, trio.current_time()
    failed = f"failed {missed} health check{'s' if missed > 1 else ''} in a row; the last one: {problem}"
    if is_read():
        return Unwell(Crash(Reason.UNHEALTHY, failed), well_at)
    return Unwell(Crash(Reason.NOT_READING, f"does not read what it is sent on fd 3: it {failed}"), well_at)


async def _ask(channel: Channel, timeout_s: float) -> str | None:
    """What was wrong, if anything."""
    # Our own deadline: an error of that name may also be the worker's answer.
    with trio.move_on_after(timeout_s):
        try:
            answer = await channel.call(HEALTH, [{}], timeout_s=None)
        except MethodNotFound:
            return None  # It answers: that is health enough for a worker that knows no better.
        except SupervisorError as error:
            return f"{error.code}: {error.message[:_MESSAGE_CHARACTERS]}"
        return _problem(answer)
    return f"no answer within {timeout_s:g} s"


def _problem(answer: Any) -> str | None:
    status = answer.get("status") if isinstance(answer, dict) else None
    if status in ("ok", "degraded"):
        return None
    message = answer.get("message") if isinstance(answer, dict) else None
    said = f": {message[:_MESSAGE_CHARACTERS]}" if isinstance(message, str) and message else ""
    return f"status {shown(status)}{said}"
