"""Why a worker takes no calls now, in words for people."""

from __future__ import annotations

import math

from supervisor.worker.phase import Phase
from supervisor.worker.supervise import Supervisor


def why_down(supervisor: Supervisor | None) -> str:
    """What follows "the run waits:"; for one that has just come up, that it is up."""
    if supervisor is None:
        return "its worker is stopped"
    if supervisor.stuck is not None:
        return f"its worker hangs: {supervisor.stuck.message}"
    match supervisor.phase:
        case Phase.BACKOFF:
            return f"its worker is in backoff{_after(supervisor)}; {_next_attempt(supervisor)}"
        case Phase.STARTING:
            return "its worker is starting"
        case Phase.STOPPING:
            return "its worker is being stopped"
        case Phase.RUNNING if supervisor.life is not None:
            return "its worker is up"
        case Phase.RUNNING if supervisor.ending:
            return "its worker has failed, and is being ended"
        case Phase.RUNNING:
            return "its worker is about to be stopped"
    return _why_stopped(supervisor)


def _why_stopped(supervisor: Supervisor) -> str:
    view = supervisor.view()
    if view.waiting_for:
        return f"its worker waits until {', '.join(view.waiting_for)} is up"
    if supervisor.wanted:
        return "its worker waits for its turn to start"
    if view.gave_up:
        return f"its worker is not started any more{_after(supervisor)}"
    return "its worker is stopped" if view.finished is None else f"its worker has finished: it {view.finished}"


def _after(supervisor: Supervisor) -> str:
    failure = supervisor.history.failure
    return f" after it {failure.details['cause']}" if failure and failure.details.get("cause") else ""


def _next_attempt(supervisor: Supervisor) -> str:
    in_s = math.ceil(supervisor.history.next_start_in_s or 0.0)
    return f"the next attempt is in {in_s} s" if in_s else "the next attempt is about to begin"
