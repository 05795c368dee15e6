"""Run a short command beside a worker, as its `ready.command` and `stop_command`: bounded in time and in output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import trio

from supervisor.log import get_logger
from supervisor.worker.launch import Launch
from supervisor.worker.process import Exit, Process

OUTPUT_CHARACTERS: Final = 8000
_OUTPUT_BYTES: Final = 4 * OUTPUT_CHARACTERS
_READ_BYTES: Final = 16 * 1024
_KILL_S: Final = 2.0
_CLOSE_S: Final = 1.0
_LAST_OUTPUT_S: Final = 0.1
"""How long the rest of the output is read after the command's end: what left its group may keep the pipes open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandResult:
    """`exit` is None for a command that did not end in time, or could not be started."""

    exit: Exit | None
    problem: str | None
    """What follows "the command": "exited with code 1", "did not end within 5 s"; None: it exited with 0."""
    output: str
    """The last 8,000 characters of its stdout and stderr, as they came."""

    @property
    def last_line(self) -> str:
        """The last line of the output that is not blank."""
        lines = self.output.rstrip().splitlines()
        return lines[-1].strip() if lines else ""


async def run_command(
    spawn: Callable[[Launch], Process], launch: Launch, argv: Sequence[str], timeout_s: float
) -> CommandResult:
    """Run `argv`, with an absolute path at its head, in the environment, directory and limits of `launch`.

    When the time is up, or the caller is cancelled, it is killed with all that it has started, and reaped: up to 2 s.
    """
    try:
        process = spawn(replace(launch, argv=tuple(argv), rpc=False))
    except OSError as error:
        why = f"cannot be run: {argv[0]}: {error.strerror or error}"
        return CommandResult(exit=None, problem=why, output="")
    output = bytearray()
    exit_ = None
    try:
        async with trio.open_nursery() as body:
            reaping, read = trio.CancelScope(shield=True), trio.Event()
            body.start_soon(_watch, process, reaping)
            body.start_soon(_read_both, process, output, read)
            try:
                with trio.move_on_after(timeout_s):
                    exit_ = await process.wait()
            finally:
                if process.exit is None:
                    reaping.deadline = trio.current_time() + _KILL_S
                    process.kill()
            with trio.move_on_after(_LAST_OUTPUT_S):
                await read.wait()
            body.cancel_scope.cancel(reason="the command has ended")
    finally:
        if process.exit is None:
            get_logger().error("command.unkillable", pid=process.pid)
        # Shielded, since a cancelled close would stop at the first of the pipes. It does not wait for anything.
        with trio.move_on_after(_CLOSE_S, shield=True):
            await process.aclose()
    return CommandResult(
        exit=exit_,
        problem=_problem(exit_, timeout_s),
        output=output.decode("utf-8", "backslashreplace")[-OUTPUT_CHARACTERS:],
    )


def _problem(exit_: Exit | None, timeout_s: float) -> str | None:
    if exit_ is None:
        return f"did not end within {timeout_s:g} s"
    return None if exit_.code == 0 else str(exit_)


async def _watch(process: Process, reaping: trio.CancelScope) -> None:
    """Shielded, for it must be reaped whoever is cancelled, until a while after it was killed."""
    with reaping:
        await process.watch()


async def _read_both(process: Process, output: bytearray, finished: trio.Event) -> None:
    async with trio.open_nursery() as readers:
        for stream in (process.stdout, process.stderr):
            readers.start_soon(_read, stream, output)
    finished.set()


async def _read(stream: trio.abc.ReceiveStream, output: bytearray) -> None:
    while data := await stream.receive_some(_READ_BYTES):
        output += data
        del output[:-_OUTPUT_BYTES]
