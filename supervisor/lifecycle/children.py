"""Children: programs that an install runs, such as pip, each with all that it starts, to its end or ours."""

from __future__ import annotations

import resource
import secrets
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import trio

from supervisor.core.errors import ResourceExhausted
from supervisor.log import log
from supervisor.worker.containment import Containment
from supervisor.worker.kin import Identity, below, identity_of, send_signal
from supervisor.worker.launch import PLUGIN_ID_VARIABLE, Launch
from supervisor.worker.output import Line, LineSplitter
from supervisor.worker.process import ChildProcess, Exit, spawn
from supervisor.worker.procfs import children, has_variable, read_stat

_TERM_S: Final = 2.0
_KILL_S: Final = 2.0
_LAST_OUTPUT_S: Final = 2.0
"""A pipe may be held open by a process that has got away; what was written before is there at once."""
_READ_BYTES: Final = 64 * 1024
_MOST_LINES: Final = 1000
"""Of what is read at once, and in `_WINDOW_S`: who says more waits, and has what it said meanwhile left out."""
_WINDOW_S: Final = 0.5
_AT_A_TIME: Final = 50
"""Lines, before everybody else gets a turn."""
_LINE_COST_BYTES: Final = 4096
"""Long lines count for several."""
_NOTE_EVERY_S: Final = 0.2
_BADGE: Final = 1 << 52
"""Microseconds: a limit of more than a century, which stands in nobody's way."""
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
        """Run a program to its end. `argv[0]` is an absolute path; stdin is empty; `on_line` gets the lines of stdout
        and stderr, cut at 64 KiB, and does not wait or raise. Of a flood it gets the last of what was there at a time,
        and a line that tells how many were left out.

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
        badge = _pin_badge(process.pid)
        try:
            return await self._attend(process, _Marks(f"{PLUGIN_ID_VARIABLE}={mark}".encode(), badge), on_line)
        finally:
            self._pids.discard(process.pid)
            with trio.CancelScope(shield=True):  # closing waits for nothing
                await process.aclose()

    async def _attend(self, process: ChildProcess, marks: _Marks, on_line: Callable[[str], None]) -> Exit:
        async with trio.open_nursery() as nursery:
            watching = trio.CancelScope(shield=True)
            nursery.start_soon(_watch, process, watching)
            noting = trio.CancelScope(shield=True)
            nursery.start_soon(self._note, process.pid, noting)
            for stream in (process.stdout, process.stderr):
                nursery.start_soon(_relay, stream, on_line, lambda: process.exit is not None)
            try:
                ended = await process.wait()
            finally:
                await self._end(process, marks)
                noting.cancel()
                watching.cancel()  # By now it has been reaped, or cannot be.
            nursery.cancel_scope.deadline = trio.current_time() + _LAST_OUTPUT_S
        return ended

    async def _note(self, leader: int, scope: trio.CancelScope) -> None:
        """Who is below it now stays known, whatever becomes of its environment and its parents."""
        with scope:
            while ward := self._containment.ward(leader):
                try:
                    ward.note()
                except OSError as error:
                    log.warning("install.not_looked_at", pid=leader, error=str(error))
                await trio.sleep(_NOTE_EVERY_S)

    async def _end(self, process: ChildProcess, marks: _Marks) -> None:
        for number, grace_s in ((signal.SIGTERM, _TERM_S), (signal.SIGKILL, _KILL_S)):
            if process.exit is None:
                process.signal_group(number)
                with trio.move_on_after(grace_s, shield=True):
                    await process.wait()
        try:
            self._kill_the_rest(process.pid, marks)
        except OSError as error:
            log.error("install.strays_not_seen", pid=process.pid, error=str(error))
        if process.exit is None:
            log.error("install.child_unkillable", pid=process.pid)

    def _kill_the_rest(self, leader: int, marks: _Marks) -> None:
        """Who has left its process group: known as its descendant, or an orphan with its marks, which came to us."""
        if ward := self._containment.ward(leader):
            ward.kill()
        killed: set[Identity] = set()
        for _ in range(_ROUNDS):
            living = _marked_with_descendants(marks) - killed
            for identity in living:
                send_signal(identity, signal.SIGKILL)
            if not living:
                return
            killed |= living


class _Marks(NamedTuple):
    """By which a process is known as one that a child of ours has started."""

    variable: bytes
    """NAME=value in its environment, unless it was started with another one."""
    badge: int | None
    """Its limit of real-time CPU, which comes with it through every fork and exec."""

    def on(self, pid: int) -> bool:
        return has_variable(pid, self.variable) or (self.badge is not None and _badge_of(pid) == self.badge)


def _pin_badge(pid: int) -> int | None:
    """Something to know it by that an empty environment does not take off; None where the limit is a real one."""
    badge = _BADGE + secrets.randbits(48)
    try:
        if resource.prlimit(pid, resource.RLIMIT_RTTIME) != (resource.RLIM_INFINITY, resource.RLIM_INFINITY):
            return None
        resource.prlimit(pid, resource.RLIMIT_RTTIME, (badge, badge))
    except (OSError, ValueError) as error:
        log.warning("install.not_marked", pid=pid, error=str(error))
        return None
    return badge


def _badge_of(pid: int) -> int | None:
    try:
        return resource.prlimit(pid, resource.RLIMIT_RTTIME)[1]
    except (ProcessLookupError, PermissionError):
        return None


def _marked_with_descendants(marks: _Marks) -> set[Identity]:
    """Those below them too: as long as their parent lives they are no children of ours."""
    todo = [found for pid in children() if marks.on(pid) and (found := read_stat(pid)) and not found.is_dead]
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


async def _relay(stream: trio.abc.ReceiveStream, on_line: Callable[[str], None], has_ended: Callable[[], bool]) -> None:
    """A flood is held up by its full pipe, and nobody else by the flood."""
    splitter = LineSplitter()
    left, until = _MOST_LINES, trio.current_time() + _WINDOW_S
    while data := await stream.receive_some(_READ_BYTES):
        lines = _few_lines(splitter, bytes(data))
        for start in range(0, len(lines), _AT_A_TIME):
            for line in lines[start : start + _AT_A_TIME]:
                on_line(line.text)
            await trio.lowlevel.checkpoint()
        now = trio.current_time()
        if now >= until:
            left, until = _MOST_LINES, now + _WINDOW_S
        left -= max(1, len(lines), len(data) // _LINE_COST_BYTES)
        if left <= 0 and not has_ended():  # What is in the pipe then is the end of it.
            await trio.sleep_until(until)
    for line in splitter.flush():
        on_line(line.text)


def _few_lines(splitter: LineSplitter, data: bytes) -> list[Line]:
    """The last of them, if there are too many, behind one that says so."""
    if (many := data.count(b"\n") - _MOST_LINES) <= 0:
        return splitter.feed(data)
    kept = data.split(b"\n", many)[many]
    splitter.feed(b"\n")  # What it had begun is left out too.
    return [Line(f"({many} lines left out)"), *splitter.feed(kept)]
