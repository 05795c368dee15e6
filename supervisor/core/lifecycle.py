"""Status x Command -> Status: what an operator may do with a plugin. Pure.

A plugin's status is what is wanted and is stored. Whether its worker lives is the business of `worker.phase`; only
`wants_worker` joins the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from supervisor.core.errors import InvalidTransition


class Status(StrEnum):
    INSTALLED = "installed"
    READY = "ready"
    DISABLED = "disabled"
    ERROR = "error"
    UPGRADE_PENDING = "upgrade_pending"
    UNINSTALLED = "uninstalled"


class Command(StrEnum):
    INSTALL = "install"
    LOAD = "load"
    ENABLE = "enable"
    DISABLE = "disable"
    UNLOAD = "unload"
    MARK_ERROR = "mark_error"
    MARK_UPGRADE_PENDING = "mark_upgrade_pending"
    UPGRADE = "upgrade"
    APPROVE = "approve"
    REJECT = "reject"
    ROLLBACK = "rollback"


# Every step that a status may ever take. A plugin is born `installed` and vanishes from `uninstalled`.
STEPS: Final[Mapping[Status, frozenset[Status]]] = {
    Status.INSTALLED: frozenset({Status.READY, Status.ERROR, Status.UNINSTALLED}),
    Status.READY: frozenset(
        {Status.READY, Status.DISABLED, Status.ERROR, Status.UPGRADE_PENDING, Status.UNINSTALLED},
    ),
    Status.DISABLED: frozenset({Status.READY, Status.UNINSTALLED}),
    Status.ERROR: frozenset({Status.READY, Status.UNINSTALLED}),
    Status.UPGRADE_PENDING: frozenset({Status.READY, Status.ERROR, Status.UNINSTALLED, Status.UPGRADE_PENDING}),
    Status.UNINSTALLED: frozenset({Status.INSTALLED}),
}

_S, _C = Status, Command

# Which command is allowed from which status, and where it leads.
TRANSITIONS: Final[Mapping[Status, Mapping[Command, Status]]] = {
    _S.INSTALLED: {_C.LOAD: _S.READY, _C.MARK_ERROR: _S.ERROR, _C.UNLOAD: _S.UNINSTALLED},
    _S.READY: {
        _C.DISABLE: _S.DISABLED,
        _C.MARK_ERROR: _S.ERROR,
        _C.MARK_UPGRADE_PENDING: _S.UPGRADE_PENDING,
        _C.UNLOAD: _S.UNINSTALLED,
    },
    _S.DISABLED: {_C.LOAD: _S.READY, _C.ENABLE: _S.READY, _C.UNLOAD: _S.UNINSTALLED},
    _S.ERROR: {_C.LOAD: _S.READY, _C.ENABLE: _S.READY, _C.UNLOAD: _S.UNINSTALLED},
    _S.UPGRADE_PENDING: {
        _C.ENABLE: _S.READY,
        _C.APPROVE: _S.READY,
        _C.REJECT: _S.READY,
        _C.MARK_ERROR: _S.ERROR,
        _C.UNLOAD: _S.UNINSTALLED,
    },
    _S.UNINSTALLED: {_C.INSTALL: _S.INSTALLED},
}

# Commands that change which version there is, and the status only on the way.
EXCHANGES: Final[Mapping[Command, frozenset[Status]]] = {
    _C.UPGRADE: frozenset({_S.READY, _S.DISABLED, _S.ERROR, _S.UPGRADE_PENDING}),
    _C.ROLLBACK: frozenset({_S.READY, _S.DISABLED, _S.ERROR}),
}


_DECISIONS: Final = frozenset({_C.APPROVE, _C.REJECT})


def next_status(key: str, status: Status, command: Command) -> Status:
    """Where `command` leads from `status`.

    Raises:
        InvalidTransition: the table has no such step; the message names the plugin, both ends and what is allowed.
    """
    target = TRANSITIONS[status].get(command)
    if target is None:
        raise _refusal(key, status, command)
    return target


def refuse_exchange(key: str, status: Status, command: Command) -> None:
    """
    Raises:
        InvalidTransition: `status` is none from which `command` exchanges the version; as `next_status`.
    """
    if status not in EXCHANGES[command]:
        raise _refusal(key, status, command)


def allowed(status: Status) -> list[Command]:
    """Every command that `status` allows."""
    return [*TRANSITIONS[status], *(command for command, sources in EXCHANGES.items() if status in sources)]


def can_transition(status: Status, to: Status) -> bool:
    """Whether any command may lead from `status` to `to`."""
    return to in STEPS[status]


def wants_worker(status: Status) -> bool:
    """Whether a plugin of this status is to have a worker: the one bridge between status and phase."""
    return status is Status.READY


def _refusal(key: str, status: Status, command: Command) -> InvalidTransition:
    return InvalidTransition(
        f"cannot {_spoken(command)} plugin {key!r} while it is {status}: {_what_helps(status, command)}",
        plugin=key,
        status=str(status),
        command=str(command),
        to=_target_names(command),
        allowed=[str(other) for other in allowed(status)],
    )


def _target_names(command: Command) -> list[str]:
    return sorted({str(row[command]) for row in TRANSITIONS.values() if command in row})


def _spoken(command: Command) -> str:
    """As people know it: `pluginctl` calls it uninstall, the protocol unload."""
    return "uninstall (unload)" if command is Command.UNLOAD else str(command)


def _is_way_on(status: Status, command: Command) -> bool:
    """Whether to name it to somebody who looks for one. Of what waits to be decided `approve` does all that `enable`
    does, which is refused for what asks for more; and the marks help nobody."""
    if command in {Command.MARK_ERROR, Command.MARK_UPGRADE_PENDING}:
        return False
    return not (status is Status.UPGRADE_PENDING and command is Command.ENABLE)


def _what_helps(status: Status, command: Command) -> str:
    targets = _target_names(command)
    if command in _DECISIONS:
        return f"no upgrade waits to be decided; {_spoken(command)} leads to {' or '.join(targets)}"
    if str(status) in targets:
        return f"it is {status} already"
    leads = f"leads to {' or '.join(targets)} and is" if targets else "is"
    allowed_from = [str(source) for source in Status if command in allowed(source)]
    allowed_now = [_spoken(other) for other in allowed(status) if _is_way_on(status, other)]
    return f"{_spoken(command)} {leads} allowed from {', '.join(allowed_from)}; allowed now: {', '.join(allowed_now)}"
