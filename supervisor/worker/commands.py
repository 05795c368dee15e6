"""Commands: the programs of jobs, one process for each run, as well kept as a worker without RPC is."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import trio

from supervisor.core.job import Run, RunOutcome, RunState
from supervisor.core.lifecycle import wants_worker
from supervisor.core.manifest import JobSpec
from supervisor.core.plugin import Plugin, PluginId
from supervisor.log import get_logger
from supervisor.worker.command_run import CannotGive, as_program, ended, stopped
from supervisor.worker.ending import Ending
from supervisor.worker.life import Life
from supervisor.worker.shutdown import WorkerUnkillable
from supervisor.worker.tools import Tools

_CLEARING_S: Final = 15.0
"""From a command's end to ours, generously: its cgroup, its last words, what it has left behind, and its row."""


class Commands:
    """A command lives as a worker does, in the same bounds and watched in the same way; only its end is expected."""

    def __init__(self, tools: Tools, find: Callable[[PluginId], Plugin | None]) -> None:
        self._tools = tools
        self._find = find
        self._running: dict[_Command, PluginId] = {}

    def pids(self) -> set[int]:
        """Of all children that are reaped here."""
        return {command.life.pid for command in self._running if command.life.pid is not None}

    def kill_all(self) -> None:
        """Without asking; each is reaped as if it had ended by itself."""
        for command in self._running:
            command.life.kill()

    def longest_stop_s(self) -> float:
        """Seconds from the cancelling of all to the last one's end, at most; they are stopped beside each other."""
        graces = self._tools.graces
        return graces.term_s + graces.kill_s + _CLEARING_S if self._running else 0.0

    async def end(self, plugin_id: PluginId) -> None:
        """End what the plugin has, for its data are being removed; none begins while it is not ready.

        Shielded; lasts as long as a stop.
        """
        own = [command for command, owner in self._running.items() if owner == plugin_id]
        for command in own:
            command.life.ask_to_stop()
        with trio.move_on_after(self.longest_stop_s(), shield=True):
            for command in own:
                await command.gone.wait()

    async def run_command(self, plugin_id: PluginId, run: Run, spec: JobSpec) -> RunOutcome:
        """Run a job's command in its plugin's environment and limits, until it ends or `spec.timeout_s` is over.

        What it prints is in the plugin's log, under the run's id. When the time is up, or the caller is cancelled, its
        process group gets SIGTERM, and SIGKILL after a grace period; what it leaves behind at its end is killed too.
        That is shielded, and bounded: see `longest_stop_s`.
        """
        plugin = self._find(plugin_id)
        if plugin is None or not wants_worker(plugin.status):
            return RunOutcome(state=RunState.CANCELLED, error="its plugin is not ready any more")
        try:
            program = as_program(plugin, run, spec, term_s=self._tools.graces.term_s)
        except CannotGive as error:
            return RunOutcome(state=RunState.FAILED, error=f"cannot be started: {error}")
        command = _Command(program, run, self._tools)
        self._running[command] = plugin_id
        try:
            return await command.run(spec.timeout_s, partial(self._may_start, plugin_id))
        finally:
            del self._running[command]
            command.gone.set()

    def _may_start(self, plugin_id: PluginId) -> bool:
        plugin = self._find(plugin_id)
        return plugin is not None and wants_worker(plugin.status)


class _Command:
    """One run's process; `run` it once."""

    def __init__(self, program: Plugin, run: Run, tools: Tools) -> None:
        self._program = program
        self._tools = tools
        self._log = tools.open_log(program)
        self._living = trio.CancelScope(shield=True)
        self._stuck: WorkerUnkillable | None = None
        self.gone = trio.Event()
        self.life: Final[Life] = tools.new_life(
            program, self._log, came_up=_do_nothing, stopping=lambda: None, stuck=self._note_stuck, run_id=run.id
        )

    async def run(self, timeout_s: float, may_start: Callable[[], bool]) -> RunOutcome:
        ending: Ending | None = None
        out_of_time = False

        async def live() -> None:
            nonlocal ending
            with self._living:
                ending = await self._tools.live(self._program, self.life, may_start)
            body.cancel_scope.cancel(reason="the command has ended")

        try:
            async with trio.open_nursery() as body:
                body.start_soon(live)
                try:
                    with trio.move_on_after(timeout_s) as patience:
                        await trio.sleep_forever()
                    out_of_time = patience.cancelled_caught
                finally:
                    self._ask_to_stop()
        finally:
            # Its next line opens it again, also that of the worker, or of another run.
            self._log.close()
        if ending is None:
            return stopped(out_of_time, timeout_s, how=self._what_is_left())
        return ended(ending, out_of_time, timeout_s)

    def _ask_to_stop(self) -> None:
        self.life.ask_to_stop()
        graces = self._tools.graces
        self._living.deadline = trio.current_time() + graces.term_s + graces.kill_s + _CLEARING_S

    def _note_stuck(self, error: WorkerUnkillable) -> None:
        """Nobody is to wait for a disk that does not answer. Its row stays: the next daemon looks for it again."""
        get_logger().error("command.unkillable", plugin=self._program.key, pid=error.details.get("pid"))
        self._stuck = error
        self._living.cancel(reason="the command cannot be killed")

    def _what_is_left(self) -> str:
        return f"it hangs: {self._stuck.message}" if self._stuck else "its end took too long to be cleared up"


async def _do_nothing() -> None:
    """Nobody waits for a command to come up."""
