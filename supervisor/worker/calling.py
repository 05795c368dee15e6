"""A call to a worker: which connection it goes to, and what its answer means for the caller."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Final

import trio

from supervisor.channel import Channel, TurnedAway
from supervisor.core.errors import (
    InvalidParams,
    PluginError,
    ResourceExhausted,
    SupervisorError,
    Unavailable,
    error_from_code,
)
from supervisor.wire.limits import CALLS_PER_WORKER
from supervisor.worker.discretion import Discretion
from supervisor.worker.phase import Phase
from supervisor.worker.supervise import Supervisor

_PASSED_ON: Final = frozenset(
    {"CANCELLED", "DEADLINE_EXCEEDED", "INVALID_PARAMS", "METHOD_NOT_FOUND", "PLUGIN_CRASHED"}
)
"""Codes of a worker's answer that keep their meaning for the caller; any other is its own affair: PLUGIN_ERROR."""


async def call_worker(
    channel_now: Callable[[], tuple[Channel, Discretion]],
    method: str,
    params: dict[str, Any],
    *,
    timeout_s: float | None,
    on_settled: Callable[[], None],
    secrets: Collection[str] = (),
) -> Any:
    """Ask the worker whose channel it is now, and no other once it has been asked; see `WorkerManager.call`."""
    began, left_s = trio.current_time(), timeout_s
    former: Channel | None = None
    while True:
        try:
            channel, discretion = channel_now()
            if channel is former:
                raise Unavailable("the worker takes no calls any more: its connection is closed")
            former = channel
        except SupervisorError:
            on_settled()
            raise
        discretion.learn(secrets)
        try:
            return await channel.call(method, [params], timeout_s=left_s, on_settled=on_settled, movable=True)
        except TurnedAway:
            # It waited to be sent, and another worker has taken over, or this one has gone.
            left_s = None if timeout_s is None else max(0.0, began + timeout_s - trio.current_time())
        except SupervisorError as error:
            # A result is for the caller alone; an error is stored and logged too.
            message, data = discretion.hide(error.message), discretion.hide(dict(error.details))
            if error.code not in _PASSED_ON:
                raise PluginError(message, name=discretion.hide(error.code), data=data) from None
            if not discretion:
                raise
            raise error_from_code(error.code, message, data) from None


def channel_for_calls(supervisor: Supervisor | None) -> tuple[Channel, Discretion]:
    """And what keeps the secrets of the life that it belongs to.

    Raises:
        Unavailable: its worker is not running.
        InvalidParams: it takes no calls.
        ResourceExhausted: it is at too many already.
    """
    life = supervisor.life if supervisor else None
    if life is None:
        phase = supervisor.phase if supervisor else Phase.STOPPED
        why = "it has just failed" if supervisor and supervisor.ending else f"its phase is {phase}"
        raise Unavailable(f"the worker is not running ({why})", phase=str(phase))
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
    return life.channel, life.discretion
