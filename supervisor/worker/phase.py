"""Phase x Step -> Phase: what is observed of a worker. Pure; never stored."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class Phase(StrEnum):
    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    BACKOFF = "backoff"


class Step(StrEnum):
    """What happens to a worker."""

    SPAWN = "spawn"
    """A process is being made."""
    UP = "up"
    """It has shaken hands, or lived long enough where there is no handshake."""
    CRASH = "crash"
    """It ended, or failed, without having been asked to end; another attempt follows."""
    GIVE_UP = "give_up"
    """The same, and no attempt follows."""
    FINISH = "finish"
    """It ended by itself, and its restart policy is content with that."""
    STOP = "stop"
    """It was asked to end; or its next start has to wait for another plugin."""
    REAPED = "reaped"
    """It has ended as asked."""


PHASES: Final[Mapping[Phase, Mapping[Step, Phase]]] = {
    Phase.STOPPED: {Step.SPAWN: Phase.STARTING},
    Phase.STARTING: {
        Step.UP: Phase.RUNNING,
        Step.CRASH: Phase.BACKOFF,
        Step.GIVE_UP: Phase.STOPPED,
        Step.FINISH: Phase.STOPPED,
        Step.STOP: Phase.STOPPING,
    },
    Phase.RUNNING: {
        Step.CRASH: Phase.BACKOFF,
        Step.GIVE_UP: Phase.STOPPED,
        Step.FINISH: Phase.STOPPED,
        Step.STOP: Phase.STOPPING,
    },
    Phase.STOPPING: {Step.REAPED: Phase.STOPPED},
    Phase.BACKOFF: {Step.SPAWN: Phase.STARTING, Step.STOP: Phase.STOPPED},
}


def next_phase(phase: Phase, step: Step) -> Phase:
    """Where `step` leads.

    Raises:
        KeyError: the table has no such step; a mistake of ours, never of an operator's.
    """
    return PHASES[phase][step]
