"""How a worker's life ended, and what is told of it. Pure."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Final

from supervisor.core.errors import ActivationFailed, CallCancelled, PluginCrashed, SupervisorError
from supervisor.core.event import WorkerCrashed, WorkerStopped
from supervisor.core.plugin import Plugin
from supervisor.worker.crash import Crash, Reason
from supervisor.worker.host import Stray
from supervisor.worker.limits import out_of_memory_words
from supervisor.worker.process import Exit
from supervisor.worker.shutdown import Stage

_EXITS: Final = frozenset({Reason.EXITED, Reason.KILLED})
_SENT_BY_SOMEBODY: Final = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP})
"""Signals that do not come from a fault of the program's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """`crash` is None if it was asked to end. `ran_s`, the seconds that it was up and well, is None if it never came
    up. `pid` and `exit` are None if there never was a process."""

    pid: int | None
    crash: Crash | None
    exit: Exit | None
    stage: Stage | None
    ran_s: float | None
    last_words: str
    strays: tuple[Stray, ...] = ()

    @property
    def cause(self) -> str | None:
        return self.crash.cause if self.crash else None

    @property
    def exit_code(self) -> int | None:
        return self.exit.code if self.exit else None

    @property
    def signal(self) -> int | None:
        return self.exit.signal if self.exit else None


def never_lived(crash: Crash | None) -> Ending:
    """The ending of what could not even be started; without a crash it was asked to stop before that."""
    return Ending(pid=None, crash=crash, exit=None, stage=None, ran_s=None, last_words="")


def exit_crash(exit_: Exit, *, violation: Crash | None, sent_by_us: bool) -> Crash:
    """Why a process ended that was to run on, as far as its exit tells.

    A worker that broke the protocol was told so, and its exit is what it made of that: the violation is the cause.
    """
    if violation:
        return Crash(violation.reason, f"{violation.cause}; then it {exit_}")
    if exit_.signal is None:
        return Crash(Reason.EXITED, str(exit_))
    stranger = exit_.signal in _SENT_BY_SOMEBODY and not sent_by_us
    return Crash(Reason.KILLED, f"{exit_}, which plugind did not send" if stranger else str(exit_))


def most_telling(crash: Crash, post_mortem: Crash | None, *, last_words: str, memory_mb: int | None) -> Crash:
    """The one cause to name, where several things came together.

    What made us give a worker up stands: that it was killed then is our doing. An exit is explained by what the kernel
    knows of it, and where its memory is limited by last words that complain of that. (That a worker which hangs up and
    exits within a second has exited, and that an answer which it sent before its exit counts, is decided where they
    are waited for.)
    """
    if crash.reason not in _EXITS:
        return crash
    if post_mortem:
        return post_mortem
    if memory_mb is not None and out_of_memory_words(last_words):
        return Crash(Reason.OUT_OF_MEMORY, f"ran out of memory (limit {memory_mb} MB) and {crash.cause}")
    return crash


def call_error(plugin: Plugin, ending: Ending) -> SupervisorError:
    """What a call in flight gets when the life ends."""
    if ending.cause is None:
        return CallCancelled(f"the worker of {plugin.key!r} was stopped")
    return PluginCrashed(
        f"the worker of {plugin.key!r} ended: {ending.cause}",
        exit_code=ending.exit_code,
        signal=ending.signal,
        stderr_tail=ending.last_words,
    )


def activation_failure(plugin: Plugin, ending: Ending) -> ActivationFailed:
    """What a failed life tells whoever waited for it."""
    words = f"{ending.cause}\n{ending.last_words}" if ending.last_words else str(ending.cause)
    return ActivationFailed(
        f"the worker of {plugin.key!r} {words}",
        plugin=plugin.key,
        cause=ending.cause,
        exit_code=ending.exit_code,
        signal=ending.signal,
        stderr_tail=ending.last_words,
    )


def crash_event(plugin: Plugin, ending: Ending, crashes: int, restart_in_s: float | None) -> WorkerCrashed:
    return WorkerCrashed(
        plugin_id=plugin.id,
        plugin_key=plugin.key,
        reason=str(ending.crash.reason if ending.crash else Reason.INTERNAL),
        cause=str(ending.cause),
        pid=ending.pid,
        exit_code=ending.exit_code,
        signal=ending.signal,
        stderr_tail=ending.last_words,
        crashes=crashes,
        restart_in_s=restart_in_s,
        strays=[stray.pid for stray in ending.strays],
    )


def stop_event(plugin: Plugin, ending: Ending) -> WorkerStopped | None:
    """None for a worker that had never started, as far as anybody was told."""
    if ending.ran_s is None or ending.pid is None:
        return None
    return WorkerStopped(
        plugin_id=plugin.id,
        plugin_key=plugin.key,
        pid=ending.pid,
        stage=str(ending.stage or Stage.EXIT),
        exit_code=ending.exit_code,
        signal=ending.signal,
        strays=[stray.pid for stray in ending.strays],
    )
