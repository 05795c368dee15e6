"""What ends a life that was not asked to end: the ways a worker can fail, and which of them to name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from supervisor.worker.conversation import Conversation
from supervisor.worker.crash import Crash
from supervisor.worker.ending import exit_crash
from supervisor.worker.plain import PlainProgram
from supervisor.worker.process import Process
from supervisor.worker.procfs import read_stat

LAST_WORDS_S: Final = 5.0
"""How long what a worker has written and sent is read after its end. It is there already: only a machine that has far
too much to do takes so long."""
_EXIT_AFTER_EOF_S: Final = 1.0
"""A worker that closes its RPC connection is given so long to exit before it counts as deaf."""

Worker = Conversation | PlainProgram


async def wait_exit(process: Process, worker: Worker, sent_by_us: Callable[[], bool]) -> Crash:
    """Return when it has been reaped, and what it sent before has been handled: that may tell more than its exit, such
    as why it refuses to start."""
    exit_ = await process.wait()
    with trio.move_on_after(LAST_WORDS_S):
        await worker.hear_out()
    return exit_crash(exit_, violation=worker.violation, sent_by_us=sent_by_us())


async def wait_deaf(process: Process, worker: Worker, sent_by_us: Callable[[], bool]) -> Crash:
    """Return when its RPC connection is over, though it lives: if it exits within a second, that is what counts."""
    deaf = await worker.wait_over()
    with trio.move_on_after(_EXIT_AFTER_EOF_S):
        return exit_crash(await process.wait(), violation=worker.violation, sent_by_us=sent_by_us())
    return deaf


def with_state(crash: Crash, pid: int) -> Crash:
    """A process that was stopped cannot answer: the first thing that an operator would look for."""
    found = read_stat(pid)
    if found is None or found.state not in "Tt":
        return crash
    return Crash(crash.reason, f"{crash.cause}; its process is stopped, as by SIGSTOP")
