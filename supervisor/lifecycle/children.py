"""Children: programs that an install runs, such as pip, each with all that it starts, to its end or ours."""

from __future__ import annotations

import secrets
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import trio

from supervisor.core.errors import ResourceExhausted
from supervisor.log import log
from supervisor.worker.containment import Containment
from supervisor.worker.kin import Identity, below, identity_of, send_signal
from supervisor.worker.launch import PLUGIN_ID_VARIABLE, Launch
from supervisor.worker.output import LineSplitter
from supervisor.worker.process import ChildProcess, Exit, spawn
from supervisor.worker.procfs import children, has_variable, read_stat

_TERM_S: Final = 2.0
_KILL_S: Final = 2.0
_LAST_OUTPUT_S: Final = 2.0
"""A pipe may be held open by a process that has got away; what was written before is there at once."""
_READ_BYTES: Final = 64 * 1024
_ROUNDS: Final = 10
"""Who forks faster than that is ended with the daemon."""


class Children:
    """Of the whole daemon: whoever reaps orphans leaves `pids()` alone."""

    def __init__(self, containment: Containment | None = None) -> None:
        """`containment`: the daemon's, which has cgroups where they are delegated; then nothing can get away."""
        self._containment = containment or Containment()
        self._pids: set[int] = set()

    def pids(self) -> frozenset[int]:
        """Of the children that `run` waits for."""
        return frozenset(self._pids)

    async def run(
        self, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, on_line: Callable[[str], None]
    ) -> Exit:
        """Run a program to its end. `argv[0]` is an absolute path; stdin is empty; `on_line` gets each line of stdout
        and stderr, cut at 64 KiB, and does not wait or raise.

        It leads a session of its own. Cancelled, its group gets SIGTERM and 2 s later SIGKILL; when this returns or
        raises, all that it has started is killed too. That is shielded, and takes 4 s at most.

        Raises:
            ResourceExhausted: it cannot be started.
        """
        mark = f"install-{secrets.token_hex(8)}"
        launch = Launch(argv=tuple(argv), env={**env, PLUGIN_ID_VARIABLE: mark}, cwd=cwd, rpc=False, plugin_id=mark)
        try:
            process = spawn(launch, self._containment)
        except OSError as error:
            raise ResourceExhausted(f"cannot start {argv[0]}: {error.strerror}") from error
        self._pids.add(process.pid)
        try:
            return await self._attend(process, mark, on_line)
        finally:
            self._pids.discard(process.pid)
            with trio.CancelScope(shield=True):  # closing waits for nothing
                await process.aclose()

    async def _attend(self, process: ChildProcess, mark: str, on_line: Callable[[str], None]) -> Exit:
        async with trio.open_nursery() as nursery:
            watching = trio.CancelScope(shield=True)
            nursery.start_soon(_watch, process, watching)
            for stream in (process.stdout, process.stderr):
                nursery.start_soon(_relay, stream, on_line)
            try:
                ended = await process.wait()
            finally:
                await self._end(process, mark)
                watching.cancel()  # By now it has been reaped, or cannot be.
            nursery.cancel_scope.deadline = trio.current_time() + _LAST_OUTPUT_S
        return ended

    async def _end(self, process: ChildProcess, mark: str) -> None:
        for number, grace_s in ((signal.SIGTERM, _TERM_S), (signal.SIGKILL, _KILL_S)):
            if process.exit is None:
                process.signal_group(number)
                with trio.move_on_after(grace_s, shield=True):
                    await process.wait()
        try:
            self._kill_the_rest(process.pid, mark)
        except OSError as error:
            log.error("install.strays_not_seen", pid=process.pid, error=str(error))
        if process.exit is None:
            log.error("install.child_unkillable", pid=process.pid)

    def _kill_the_rest(self, leader: int, mark: str) -> None:
        """Who has left its process group: known as its descendant, or an orphan with its mark, which came to us."""
        if ward := self._containment.ward(leader):
            ward.kill()
        killed: set[Identity] = set()
        for _ in range(_ROUNDS):
            living = _marked_with_descendants(f"{PLUGIN_ID_VARIABLE}={mark}".encode()) - killed
            for identity in living:
                send_signal(identity, signal.SIGKILL)
            if not living:
                return
            killed |= living


def _marked_with_descendants(mark: bytes) -> set[Identity]:
    """Those below them too: as long as their parent lives they are no children of ours."""
    todo = [found for pid in children() if has_variable(pid, mark) and (found := read_stat(pid)) and not found.is_dead]
    seen: dict[int, Identity] = {}
    while todo:
        process = todo.pop()
        if process.pid not in seen:
            seen[process.pid] = identity_of(process)
            todo += below(process)
    return set(seen.values())


async def _watch(process: ChildProcess, scope: trio.CancelScope) -> None:
    with scope:
        await process.watch()


async def _relay(stream: trio.abc.ReceiveStream, on_line: Callable[[str], None]) -> None:
    splitter = LineSplitter()
    while data := await stream.receive_some(_READ_BYTES):
        for line in splitter.feed(data):
            on_line(line.text)
    for line in splitter.flush():
        on_line(line.text)
