"""The stop stages: ask, then insist, then kill."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import trio

from supervisor.core.errors import SupervisorError


class Stage(StrEnum):
    """What ended a worker."""

    DRAIN = "drain"
    TERM = "term"
    KILL = "kill"


class WorkerUnkillable(SupervisorError):
    """A process outlived SIGKILL: it hangs in the kernel. Details: pid."""


class Stoppable(Protocol):
    @property
    def pid(self) -> int: ...

    async def wait(self) -> object:
        """Return when the process has been reaped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StopStep:
    """Ask in this way, then wait up to `grace_s` seconds. `act` must not raise."""

    stage: Stage
    act: Callable[[], Awaitable[None]]
    grace_s: float


async def stop_in_stages(process: Stoppable, steps: Sequence[StopStep]) -> Stage:
    """Escalate until the process is reaped and return the stage that ended it.

    Shielded, because it mostly runs while everything around it is being cancelled and a worker must be reaped even
    then. The shield is bounded: it lasts at most the sum of the steps' `grace_s`, in seconds. If a step could not ask,
    its grace period passes and the next one asks harder.

    Raises:
        WorkerUnkillable: the process outlived the last step; details: pid.
    """
    for step in steps:
        with trio.move_on_after(step.grace_s, shield=True):
            # The asking may block (a worker that does not read): it runs beside the waiting.
            async with trio.open_nursery() as asking:
                asking.start_soon(step.act)
                await process.wait()
                asking.cancel_scope.cancel(reason="the worker has ended")
            return step.stage
    raise WorkerUnkillable(f"pid {process.pid} outlived SIGKILL", pid=process.pid)
