"""The transition table whole: every status with every command, written out by hand."""

from __future__ import annotations

import pytest

from supervisor.core.errors import InvalidTransition
from supervisor.core.lifecycle import (
    EXCHANGES,
    STEPS,
    TRANSITIONS,
    Command,
    Status,
    allowed,
    can_transition,
    next_status,
    refuse_exchange,
    wants_worker,
)

# Rows are statuses; a dash means that the command is refused.
COMMANDS = ["install", "load", "enable", "disable", "unload", "mark_error", "mark_upgrade_pending", "approve", "reject"]
TABLE = {
    "installed": "- ready - - uninstalled error - - -",
    "ready": "- - - disabled uninstalled error upgrade_pending - -",
    "disabled": "- ready ready - uninstalled - - - -",
    "error": "- ready ready - uninstalled - - - -",
    "upgrade_pending": "- - ready - uninstalled error - ready ready",
    "uninstalled": "installed - - - - - - - -",
}
# Commands that exchange the version, and from where.
EXCHANGING = {"upgrade": {"ready", "disabled", "error", "upgrade_pending"}, "rollback": {"ready", "disabled", "error"}}
CELLS = [
    (status, command, None if target == "-" else target)
    for status, row in TABLE.items()
    for command, target in zip(COMMANDS, row.split(), strict=True)
]
MAY_BECOME = {
    "installed": {"ready", "error", "uninstalled"},
    "ready": {"ready", "disabled", "error", "upgrade_pending", "uninstalled"},
    "disabled": {"ready", "uninstalled"},
    "error": {"ready", "uninstalled"},
    "upgrade_pending": {"ready", "error", "uninstalled", "upgrade_pending"},
    "uninstalled": {"installed"},
}


def test_the_table_here_is_whole() -> None:
    assert {*COMMANDS, *EXCHANGING} == set(Command)
    assert set(TABLE) == set(Status) == set(TRANSITIONS)
    assert len(CELLS) == len(Status) * len(COMMANDS)


@pytest.mark.parametrize(("status", "command", "target"), CELLS)
def test_every_status_with_every_command(status: str, command: str, target: str | None) -> None:
    if target is not None:
        assert next_status("acme.weather", Status(status), Command(command)) is Status(target)
        return
    with pytest.raises(InvalidTransition) as caught:
        next_status("acme.weather", Status(status), Command(command))
    error = caught.value
    leads_to = sorted({t for _, c, t in CELLS if c == command and t})
    assert "'acme.weather'" in error.message
    assert status in error.message
    assert all(name in error.message for name in leads_to)
    assert error.details["plugin"] == "acme.weather"
    assert error.details["status"] == status
    assert error.details["command"] == command
    assert error.details["to"] == leads_to
    assert set(error.details["allowed"]) == allowed_from(status)


def allowed_from(status: str) -> set[str]:
    exchanging = {command for command, sources in EXCHANGING.items() if status in sources}
    return {c for s, c, t in CELLS if s == status and t} | exchanging


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("command", EXCHANGING)
def test_what_exchanges_the_version_from_every_status(status: str, command: str) -> None:
    assert set(EXCHANGES) == {Command(name) for name in EXCHANGING}
    assert set(map(str, allowed(Status(status)))) == allowed_from(status)
    if status in EXCHANGING[command]:
        refuse_exchange("acme.weather", Status(status), Command(command))
        return
    with pytest.raises(InvalidTransition) as caught:
        refuse_exchange("acme.weather", Status(status), Command(command))
    assert f"cannot {command} plugin 'acme.weather' while it is {status}: " in caught.value.message
    assert all(source in caught.value.message for source in EXCHANGING[command])
    assert set(caught.value.details["allowed"]) == allowed_from(status)


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("to", Status)
def test_may_become(status: Status, to: Status) -> None:
    assert can_transition(status, to) is (to in MAY_BECOME[status])


def test_commands_take_only_steps_that_exist() -> None:
    assert all(target in STEPS[status] for status, row in TRANSITIONS.items() for target in row.values())


def test_what_is_so_already_is_said_so() -> None:
    with pytest.raises(InvalidTransition, match="it is disabled already"):
        next_status("k", Status.DISABLED, Command.DISABLE)


@pytest.mark.parametrize("command", [Command.APPROVE, Command.REJECT])
def test_where_nothing_waits_it_is_said_so(command: Command) -> None:
    with pytest.raises(InvalidTransition, match="no upgrade waits to be decided"):
        next_status("k", Status.READY, command)


@pytest.mark.parametrize(
    ("status", "command", "ways"),
    [
        (Status.UPGRADE_PENDING, Command.LOAD, "approve, reject, uninstall (unload), upgrade"),
        (Status.READY, Command.ENABLE, None),
        (Status.READY, Command.INSTALL, "disable, uninstall (unload), upgrade, rollback"),
        (Status.INSTALLED, Command.DISABLE, "load, uninstall (unload)"),
    ],
)
def test_only_what_helps_is_named(status: Status, command: Command, ways: str | None) -> None:
    """Marks do not, and `enable` is refused for what waits and asks for more."""
    with pytest.raises(InvalidTransition) as caught:
        next_status("k", status, command)
    if ways is None:
        assert "it is ready already" in caught.value.message
    else:
        assert caught.value.message.endswith(f"allowed now: {ways}")


@pytest.mark.parametrize("status", Status)
def test_only_ready_wants_a_worker(status: Status) -> None:
    assert wants_worker(status) is (status == "ready")
