"""A worker without RPC: any program at all, seen from outside only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import TracebackType

import trio

from supervisor.core.worker_spec import WorkerSpec
from supervisor.worker.command import run_command
from supervisor.worker.crash import Crash
from supervisor.worker.health import Unwell
from supervisor.worker.launch import Launch
from supervisor.worker.notify import NOTIFY_VARIABLE, NotifySocket
from supervisor.worker.output import Line
from supervisor.worker.process import Process
from supervisor.worker.ready import wait_ready


class PlainProgram:
    """One life of it; made before the spawn, which is to be that of `launch`. Close it afterwards."""

    channel = None
    violation = None
    can_be_asked = True

    def __init__(
        self, spec: WorkerSpec, launch: Launch, spawn: Callable[[Launch], Process], note: Callable[[str], None]
    ) -> None:
        """`spawn` is for the commands of its manifest, `note` for its log.

        Raises:
            OSError: it cannot be given a socket for its READY=1.
        """
        self._spec = spec
        self._plain_launch = launch
        self._spawn = spawn
        self._note = note
        self._line_seen = trio.Event()
        self._notify = NotifySocket() if spec.ready and spec.ready.notify else None
        address = {NOTIFY_VARIABLE: self._notify.address} if self._notify else {}
        self.launch = replace(launch, env={**launch.env, **address})

    def __enter__(self) -> PlainProgram:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._notify:
            self._notify.close()

    async def run(self, pid: int) -> None:
        """For as long as it lives."""
        if self._notify:
            await self._notify.run(pid)

    def look(self, lines: list[Line]) -> None:
        """At what it prints on stdout, for the line that says that it is up."""
        probe = self._spec.ready
        if probe and probe.line is not None and not self._line_seen.is_set():
            text = probe.line
            if any(text in line.text for line in lines):
                self._line_seen.set()

    async def come_up(self) -> Crash | None:
        """Return None when it is up, else why it is not."""
        return await wait_ready(
            self._spec, self._plain_launch, line_seen=self._line_seen, notify=self._notify, spawn=self._spawn
        )

    async def wait_unwell(self) -> Unwell:
        """Never: nothing but its exit tells how it is."""
        while True:
            await trio.sleep_forever()

    async def wait_over(self) -> Crash:
        """Never."""
        while True:
            await trio.sleep_forever()

    async def hear_out(self) -> None:
        """It says nothing but what it prints."""

    async def ask_to_end(self) -> bool:
        """Run its stop command; False if that failed."""
        argv, timeout_s = self._plain_launch.stop_argv, self._spec.stop_timeout_s
        until = trio.current_time() + timeout_s
        result = None
        try:
            result = await run_command(self._spawn, self._plain_launch, argv, timeout_s)
        finally:
            # Cancelled when the stage's time is up, which is the command's too.
            if result is None and trio.current_time() >= until:
                self._note(f"the stop command did not end within {timeout_s:g} s")
        if result.problem:
            self._note(f"the stop command {': '.join(filter(None, [result.problem, result.last_line]))}")
            return False
        try:
            await trio.sleep_until(until)
        finally:
            # Cancelled earlier if the worker has ended.
            if trio.current_time() >= until:
                self._note(f"the stop command ended well, and the worker goes on after {timeout_s:g} s")
        return True
