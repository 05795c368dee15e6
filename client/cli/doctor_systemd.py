"""The units of plugind for `pluginctl doctor`: installed, enabled, active, and how the last start ended."""

from __future__ import annotations

import os
import shutil
import subprocess

from client.cli.doctor_finding import PROBLEM, WARNING, Finding, well

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

RUNS_HERE = "/run/systemd/system"
_PATIENCE_S = 5.0
_ASKED = "LoadState,ActiveState,SubState,UnitFileState,Result,NeedDaemonReload,Delegate,NRestarts"


def units(*, own: bool) -> Iterator[Finding]:
    """`own`: the units of this user, not the system's."""
    systemctl = shutil.which("systemctl")
    if systemctl is None or not os.path.isdir(RUNS_HERE):
        yield well("systemd", "it does not run here: whoever starts plugind keeps it alive")
        return
    user = ["--user"] if own else []
    service = _asked([systemctl, *user, "show", "plugind.service", f"--property={_ASKED}"])
    socket = _asked([systemctl, *user, "show", "plugind.socket", f"--property={_ASKED}"])
    if service is None or socket is None:
        yield Finding("systemd", WARNING, "systemctl does not answer", "`systemctl status plugind` by hand")
        return
    yield from judged(service, socket, " ".join(["systemctl", *user]))
    yield from _synchronized()


def judged(service: Mapping[str, str], socket: Mapping[str, str], systemctl: str = "systemctl") -> Iterator[Finding]:
    """By what `systemctl show` tells of both."""
    if service.get("LoadState") != "loaded":
        text = f"plugind.service is not installed ({service.get('LoadState', 'unknown')})"
        yield Finding("systemd", WARNING, text, "the README of systemd/ says how, so that it starts with the machine")
        return
    active = f"{service.get('ActiveState')} ({service.get('SubState')})"
    if service.get("ActiveState") == "failed" or service.get("Result", "success") != "success":
        text = f"plugind.service is {active}; its last start or run ended with {service.get('Result')}"
        yield Finding("systemd", PROBLEM, text, "`journalctl -u plugind -n 50` says why")
    elif service.get("ActiveState") != "active":
        yield Finding("systemd", WARNING, f"plugind.service is {active}", f"`{systemctl} start plugind`")
    else:
        yield well("systemd", f"plugind.service is {active}, restarted {service.get('NRestarts', '0')} times by itself")
    if service.get("UnitFileState") not in {"enabled", "static", "linked"}:
        text = f"plugind.service is {service.get('UnitFileState') or 'not enabled'}: it does not start with the machine"
        yield Finding("systemd", WARNING, text, f"`{systemctl} enable plugind`")
    if service.get("NeedDaemonReload") == "yes":
        text = "the unit file has changed on disk since systemd read it"
        yield Finding("systemd", WARNING, text, f"`{systemctl} daemon-reload`, and restart plugind")
    if service.get("Delegate") == "no":
        yield Finding("systemd", WARNING, "the unit delegates no control group", "Delegate=cpu memory pids in the unit")
    if socket.get("LoadState") == "loaded" and socket.get("ActiveState") != "active":
        text = f"plugind.socket is {socket.get('ActiveState')}: nobody listens while plugind starts"
        yield Finding("systemd", WARNING, text, f"`{systemctl} enable --now plugind.socket`")


def _synchronized() -> Iterator[Finding]:
    told = _asked(["timedatectl", "show", "--property=NTPSynchronized"])
    if told is not None and told.get("NTPSynchronized") == "no":
        yield Finding("clock", WARNING, "it is not kept right by any time server", "`timedatectl set-ntp true`")


def _asked(command: Sequence[str]) -> dict[str, str] | None:
    """What a command tells, as NAME=VALUE a line; None: nothing."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
