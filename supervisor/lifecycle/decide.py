"""What an exchange of versions comes to: who is tried, what waits for approval, what is refused. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from supervisor.core.lifecycle import TRANSITIONS, Command, Status
from supervisor.core.package import Version, prunable
from supervisor.worker.view import WorkerView


class Way(StrEnum):
    OVERLAP = "overlap"
    """The new version's worker comes up beside the old one's, then takes over."""
    STOP_FIRST = "stop_first"
    """The old worker ends, the new one comes up, then the versions are exchanged."""
    STAGE = "stage"
    """It waits for approval."""
    EXCHANGE = "exchange"
    """There is no worker to try it with: the next start does."""
    REFUSE = "refuse"
    """It asks for more than was approved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    command: Command
    """UPGRADE, APPROVE, ENABLE (of what waits) or ROLLBACK; the table of statuses allows it."""
    status: Status
    more: bool
    """The version to come asks for capabilities that were not approved."""
    approving: bool
    """Whoever asks approves them."""
    exclusive: bool
    """One of the two versions owns something that two workers cannot share."""


_LEAST_DIGITS: Final = 4
"""Of a digest, to name a version by."""
_WAITS_FOR_APPROVAL: Final = frozenset({Status.READY, Status.UPGRADE_PENDING})


def decide(case: Case) -> Way:
    if case.more and not case.approving:
        may_wait = case.command is Command.UPGRADE and case.status in _WAITS_FOR_APPROVAL
        return Way.STAGE if may_wait else Way.REFUSE
    if case.status is Status.DISABLED or (case.status is Status.ERROR and case.command is Command.UPGRADE):
        return Way.EXCHANGE
    return Way.STOP_FIRST if case.exclusive else Way.OVERLAP


def overtakers(status: Status) -> frozenset[str]:
    """The commands that may cut short a trial which leaves the status as it is: those that would not be refused."""
    stopping = {Command.DISABLE, Command.UNLOAD, Command.MARK_ERROR, Command.MARK_UPGRADE_PENDING} & set(
        TRANSITIONS[status]
    )
    return frozenset(map(str, stopping)) | (frozenset({"stop"}) if status is Status.READY else frozenset())


def earlier(versions: Sequence[Version], active_dir: str, version: str | None) -> Version | None:
    """Where a rollback leads: to the kept `version`, the one stored last; or to the one before the active one. Of two
    builds of one version, `<version>-<digest>` or the digest alone tells which, as far as it takes."""
    active = next((v for v in versions if v.package_dir == active_dir), None)
    if version is not None:
        others = [v for v in versions if v is not active]
        named = [v for v in others if v.version == version]
        return named[-1] if named else _by_digest(others, version)
    before = active.previous_dir if active else None
    return next((v for v in versions if v.package_dir == before), None)


def _by_digest(versions: Sequence[Version], name: str) -> Version | None:
    found = []
    for version in versions:
        digest = name.removeprefix(f"{version.version}-")
        if len(digest) >= _LEAST_DIGITS and version.digest.startswith(digest.lower()):
            found.append(version)
    return found[0] if len(found) == 1 else None


def superfluous(versions: Sequence[Version], *, active_dir: str, staged_dir: str | None, keep: int) -> tuple[str, ...]:
    """The packages that are kept for nothing: what never ran and waits for nobody, and the oldest beyond `keep`."""
    active = next((v for v in versions if v.package_dir == active_dir), None)
    unwanted = [v for v in versions if v.activated_at is None and v.package_dir not in {active_dir, staged_dir}]
    wanted = [v for v in versions if v not in unwanted]
    previous = active.previous_dir if active else None
    beyond = prunable(wanted, active=active_dir, previous=previous, staged=staged_dir, keep=keep)
    return (*(v.package_dir for v in unwanted), *beyond)


def probation_failed(worker: WorkerView) -> str | None:
    """Why a worker has not stood its probation, now that it is over; None: it has."""
    if worker.wanted is False and not worker.gave_up:
        return None  # An operator stopped it, or it has done its work.
    if worker.phase == "running" or worker.waiting_for:
        return None  # Or it waits for another plugin, which is not its own doing.
    return worker.last_failure or f"its worker is {worker.phase} at the end of its probation"
