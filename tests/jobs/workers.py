"""Workers and commands that do as told: what the jobs' tests have in place of processes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import trio

from supervisor.clock import Clock
from supervisor.core.errors import CallCancelled, SupervisorError
from supervisor.core.job import Run, RunOutcome, RunState
from supervisor.core.manifest import JobSpec
from supervisor.core.plugin import PluginId

Handler = Callable[[dict[str, Any]], Awaitable[Any]]


@dataclass(frozen=True)
class Call:
    at: datetime
    plugin_id: str
    params: dict[str, Any]


@dataclass(frozen=True)
class Hung:
    at: float
    plugin_id: str
    why: str
    since: float


class FakeWorkers:
    """Workers that are up unless told otherwise, and answer with what `handlers[job]` returns.

    `down`: a plugin's worker is not up until the event is set. `refusing`: nor will it be, for that reason. `stopped`:
    somebody wants it so. `replaced`: it came up at that time, on trio's clock. `deaf`: what is told to cancel a run
    goes on with it; calling one of `unsettled` lets go.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.calls: list[Call] = []
        self.cancelled: list[str] = []
        self.handlers: dict[str, Handler] = {}
        self.down: dict[str, trio.Event] = {}
        self.refusing: dict[str, SupervisorError] = {}
        self.stopped: set[str] = set()
        self.replaced: dict[str, float] = {}
        self.deaf = False
        self.unsettled: list[Callable[[], None]] = []
        self.hung: list[Hung] = []

    # What the runner sees.

    def comes_back(self, plugin_id: PluginId) -> bool:
        return plugin_id not in self.stopped and plugin_id not in self.refusing

    def up_since(self, plugin_id: PluginId) -> float | None:
        down = plugin_id in self.down or plugin_id in self.refusing or plugin_id in self.stopped
        return None if down else self.replaced.get(plugin_id, float("-inf"))

    def is_up(self, plugin_id: PluginId) -> bool:
        return self.up_since(plugin_id) is not None

    def why_down(self, plugin_id: PluginId) -> str:
        if plugin_id in self.refusing:
            return f"its worker is not started any more: {self.refusing[plugin_id].message}"
        if plugin_id in self.stopped:
            return "its worker is stopped"
        return "its worker is in backoff after it exited with code 3; the next attempt is in 12 s"

    async def wait_running(self, plugin_id: PluginId) -> None:
        await trio.lowlevel.checkpoint()
        if plugin_id in self.refusing:
            raise self.refusing[plugin_id]
        if plugin_id in self.stopped:
            raise CallCancelled("nobody wants it up")
        if plugin_id in self.down:
            await self.down[plugin_id].wait()

    async def call(
        self,
        plugin_id: PluginId,
        method: str,
        params: dict[str, Any],
        *,
        timeout_s: float | None,
        on_settled: Callable[[], None],
    ) -> Any:
        assert (method, timeout_s) == ("run_job", None)
        self.calls.append(Call(self.clock.now(), plugin_id, params))
        handler = self.handlers.get(params["job"], answer_none)
        try:
            answer = await handler(params)
        except trio.Cancelled:
            self.cancelled.append(params["run_id"])
            # A deaf one goes on with what it was told to cancel.
            if self.deaf:
                self.unsettled.append(on_settled)
            else:
                on_settled()
            raise
        except BaseException:
            on_settled()
            raise
        on_settled()
        return answer

    def hang(self, plugin_id: PluginId, why: str, *, since: float) -> None:
        self.hung.append(Hung(trio.current_time(), plugin_id, why, since))

    # What tests do.

    def take_down(self, plugin_id: PluginId) -> None:
        self.down[plugin_id] = trio.Event()

    def bring_up(self, plugin_id: PluginId) -> None:
        self.down.pop(plugin_id).set()

    def times(self, job: str) -> list[datetime]:
        return [call.at for call in self.calls if call.params["job"] == job]


class FakeCommands:
    """Commands that end after `takes_s` with `outcome`, and take `kill_s` to be killed."""

    def __init__(self) -> None:
        self.begun: list[Run] = []
        self.killed: list[str] = []
        self.takes_s = 0.0
        self.kill_s = 0.0
        self.outcome = RunOutcome(state=RunState.SUCCEEDED, exit_code=0)

    async def run_command(self, plugin_id: PluginId, run: Run, spec: JobSpec) -> RunOutcome:
        assert spec.command
        self.begun.append(run)
        try:
            await trio.sleep(self.takes_s)
        except trio.Cancelled:
            self.killed.append(run.id)
            with trio.CancelScope(shield=True):
                await trio.sleep(self.kill_s)
            raise
        return self.outcome


async def answer_none(_: dict[str, Any]) -> Any:
    await trio.lowlevel.checkpoint()


async def never_answer(_: dict[str, Any]) -> Any:
    await trio.sleep_forever()
