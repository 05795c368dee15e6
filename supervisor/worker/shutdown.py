"""The stop stages: ask, then insist, then kill."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

import trio

from supervisor.core.errors import SupervisorError
from supervisor.core.plugin import Plugin, PluginKey
from supervisor.core.requires import heaviest_chain
from supervisor.core.worker_spec import WorkerSpec

_REAPING_S: Final = 1.0
"""From the end of a worker's process to the next thing that is done about it, generously."""
Act = Callable[[], Awaitable[bool]]
"""Asks a worker to end; False if that could not be done. Must not raise."""


class Stage(StrEnum):
    """What ended a worker."""

    COMMAND = "command"
    """Its `stop_command`."""
    DRAIN = "drain"
    """The `shutdown` request."""
    TERM = "term"
    """Its `stop_signal`, or SIGTERM where that is another one."""
    KILL = "kill"
    EXIT = "exit"
    """Nothing: it ended by itself, as its restart policy allows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Graces:
    """Seconds that a worker is given after SIGTERM and after SIGKILL."""

    term_s: float = 5.0
    kill_s: float = 2.0


class WorkerUnkillable(SupervisorError):
    """A process outlived SIGKILL: it hangs in the kernel. Details: pid."""


class Stoppable(Protocol):
    @property
    def pid(self) -> int: ...

    async def wait(self) -> object:
        """Return when the process has been reaped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StopStep:
    """Ask in this way, then wait up to `grace_s` seconds; if it could not be asked, the next step follows at once."""

    stage: Stage
    act: Act
    grace_s: float


@dataclass(frozen=True, slots=True)
class Way:
    """One way to end a worker; `number` is the signal that is sent to its group, if that is the way."""

    stage: Stage
    grace_s: float
    number: int | None = None


def plan_stop(spec: WorkerSpec, graces: Graces, *, up: bool) -> list[Way]:
    """How to stop a worker, gently first; `up` says whether it can be asked to end.

    Who can be asked is given `stop_timeout_s` for that, and after a signal no more than everybody. A program without
    RPC that nothing but a signal asks is given `stop_timeout_s` after it. Pure.
    """
    ways = []
    if up and spec.transport == "rpc":
        ways.append(Way(Stage.DRAIN, spec.stop_timeout_s))
    elif up and spec.stop_command:
        ways.append(Way(Stage.COMMAND, spec.stop_timeout_s))
    is_the_asking = spec.transport == "none" and not ways
    chosen = signal.Signals[spec.stop_signal]
    ways.append(Way(Stage.TERM, spec.stop_timeout_s if is_the_asking else graces.term_s, chosen))
    if spec.transport == "none" and chosen is not signal.SIGTERM:
        ways.append(Way(Stage.TERM, graces.term_s, signal.SIGTERM))
    return [*ways, Way(Stage.KILL, graces.kill_s)]


def longest_stop_s(spec: WorkerSpec, graces: Graces) -> float:
    """Seconds from being asked to end to being reaped, at most."""
    return sum(way.grace_s for way in plan_stop(spec, graces, up=True))


def longest_stop_of_all_s(plugins: Iterable[Plugin], graces: Graces) -> float:
    """Seconds until the workers of all these are stopped and reaped, at most: one behind the other where one requires
    the other, two of one plugin at the same time. Pure."""
    stops_s: dict[PluginKey, float] = {}
    requires: dict[PluginKey, set[PluginKey]] = {}
    for plugin in plugins:
        stop_s = longest_stop_s(plugin.manifest.worker, graces) + _REAPING_S
        stops_s[plugin.key] = max(stops_s.get(plugin.key, 0.0), stop_s)
        requires.setdefault(plugin.key, set()).update(plugin.manifest.requires)
    return heaviest_chain(stops_s, requires)


async def stop_in_stages(process: Stoppable, steps: Sequence[StopStep]) -> Stage:
    """Escalate until the process is reaped and return the stage that ended it.

    Shielded, because it mostly runs while everything around it is being cancelled and a worker must be reaped even
    then. The shield is bounded: it lasts at most the sum of the steps' `grace_s`, in seconds.

    Raises:
        WorkerUnkillable: the process outlived the last step; details: pid.
    """
    for step in steps:
        if await _ended_in(process, step):
            return step.stage
    raise WorkerUnkillable(f"pid {process.pid} outlived SIGKILL", pid=process.pid)


async def _ended_in(process: Stoppable, step: StopStep) -> bool:
    ended = False

    async def ask() -> None:
        if not await step.act():
            waiting.cancel_scope.cancel(reason="it could not be asked")

    with trio.move_on_after(step.grace_s, shield=True):
        # The asking may block (a worker that does not read): it runs beside the waiting.
        async with trio.open_nursery() as waiting:
            waiting.start_soon(ask)
            await process.wait()
            ended = True
            waiting.cancel_scope.cancel(reason="the worker has ended")
    return ended
