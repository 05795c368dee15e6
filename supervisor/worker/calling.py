"""A call to a worker: which connection it goes to, and what its answer means for the caller."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import trio

from supervisor.channel import Channel, TurnedAway
from supervisor.core.errors import InvalidParams, PluginError, ResourceExhausted, SupervisorError, Unavailable
from supervisor.wire.limits import CALLS_PER_WORKER
from supervisor.worker.phase import Phase
from supervisor.worker.supervise import Supervisor

_PASSED_ON: Final = frozenset(
    {"CANCELLED", "DEADLINE_EXCEEDED", "INVALID_PARAMS", "METHOD_NOT_FOUND", "PLUGIN_CRASHED"}
)
"""Codes of a worker's answer that keep their meaning for the caller; any other is its own affair: PLUGIN_ERROR."""


async def call_worker(
    channel_now: Callable[[], Channel],
    method: str,
    params: dict[str, Any],
    *,
    timeout_s: float | None,
    on_settled: Callable[[], None],
) -> Any:
    """Ask the worker whose channel it is now, and no other once it has been asked; see `WorkerManager.call`."""
    began, left_s = trio.current_time(), timeout_s
    while True:
        try:
            channel = channel_now()
        except SupervisorError:
            on_settled()
            raise
        try:
            return await channel.call(method, [params], timeout_s=left_s, on_settled=on_settled, movable=True)
        except TurnedAway:
            # It waited to be sent, and another worker has taken over.
            left_s = None if timeout_s is None else max(0.0, began + timeout_s - trio.current_time())
        except SupervisorError as error:
            if error.code in _PASSED_ON:
                raise
            raise PluginError(error.message, name=error.code, data=dict(error.details)) from error


def channel_for_calls(supervisor: Supervisor | None) -> Channel:
    """
    Raises:
        Unavailable: its worker is not running.
        InvalidParams: it takes no calls.
        ResourceExhausted: it is at too many already.
    """
    life = supervisor.life if supervisor else None
    if life is None:
        phase = supervisor.phase if supervisor else Phase.STOPPED
        raise Unavailable(f"the worker is not running (its phase is {phase})", phase=str(phase))
    if life.channel is None:
        raise InvalidParams('the worker takes no calls: its manifest says worker.transport = "none"')
    now = life.channel.statistics()
    # Those given up count until they are answered: the worker may still be at them, and health checks need room.
    if now.requests_out + now.unanswered_cancels >= CALLS_PER_WORKER:
        raise ResourceExhausted(
            f"{now.requests_out} calls to the worker are in flight and {now.unanswered_cancels} given up but "
            f"unanswered; at most {CALLS_PER_WORKER} may be",
            limit=CALLS_PER_WORKER,
        )
    return life.channel
