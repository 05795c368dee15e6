"""What whoever waits for a worker is told: that it has come up, or has stopped, or why it will not."""

from __future__ import annotations

from supervisor.core.errors import CallCancelled
from supervisor.worker.phase import Phase
from supervisor.worker.supervise import Supervisor


def has_come_up(supervisor: Supervisor, *, patient: bool = False) -> bool:
    """Whether the worker takes calls, or has finished its work. With `patient`, all is sat out that may pass.

    Raises:
        ActivationFailed: its latest attempt failed.
        FailedPrecondition: it waits for a plugin that nobody wants up (waiting_for), or what SIGKILL left (pid); or it
            was on trial, and has been stopped for a plugin that it requires.
        CallCancelled: nobody wants it any more.
    """
    wanted, history = supervisor.wanted, supervisor.history
    if supervisor.life is not None if wanted else history.finished is not None:
        return True
    if history.failure is not None and not (wanted and patient):
        raise history.failure
    if not wanted:
        raise CallCancelled("the worker is not wanted: it was stopped by another command, or never started")
    if not patient:
        supervisor.refuse_in_vain()
    return False


def has_stopped(supervisor: Supervisor) -> bool:
    """Whether there is no process.

    Raises:
        WorkerUnkillable: it outlived SIGKILL.
    """
    if supervisor.phase is not Phase.STOPPED and supervisor.stuck is not None:
        raise supervisor.stuck
    return supervisor.phase is Phase.STOPPED


async def wait_stopped(supervisor: Supervisor) -> None:
    """Return when `has_stopped`, and raise as it does."""
    while not has_stopped(supervisor):
        await supervisor.changed.wait()
