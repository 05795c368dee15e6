"""Pings: a worker that does not answer in time, or says that it is not well, several times in a row, is a crash."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import trio

from supervisor.channel import Channel
from supervisor.core.errors import MethodNotFound, SupervisorError
from supervisor.core.reading import shown
from supervisor.core.worker_spec import HealthPolicy
from supervisor.wire.worker import HEALTH
from supervisor.worker.crash import Crash, Reason

_MESSAGE_CHARACTERS: Final = 1000


@dataclass(frozen=True, slots=True)
class Unwell:
    """Why a worker is given up, and when (in trio's time) it was last known to be well."""

    crash: Crash
    well_at: float


async def wait_unwell(channel: Channel, policy: HealthPolicy, note: Callable[[str], None]) -> Unwell:
    """Return when the worker has failed as many checks in a row as the policy says; `note` is told of each."""
    missed, well_at, problem = 0, trio.current_time(), None
    while missed < policy.failures:
        await trio.sleep(policy.interval_s)
        problem = await _ask(channel, policy.timeout_s)
        missed = missed + 1 if problem else 0
        if problem:
            note(f"health check failed ({missed} of {policy.failures}): {problem}")
        else:
            well_at = trio.current_time()
    cause = f"failed {missed} health checks in a row; the last one: {problem}"
    return Unwell(Crash(Reason.UNHEALTHY, cause), well_at)


async def _ask(channel: Channel, timeout_s: float) -> str | None:
    try:
        answer = await channel.call(HEALTH, [{}], timeout_s=timeout_s)
    except MethodNotFound:
        return None  # It answers: that is health enough for a worker that knows no better.
    except SupervisorError as error:
        return f"{error.code}: {error.message[:_MESSAGE_CHARACTERS]}"
    status = answer.get("status") if isinstance(answer, dict) else None
    return None if status in ("ok", "degraded") else f"status {shown(status)}"
