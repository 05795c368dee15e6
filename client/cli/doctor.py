"""pluginctl doctor: what is wrong here, each with its remedy; with and without a daemon."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, TypeVar

from client.address import socket_path
from client.cli import doctor_checks as checks
from client.cli import doctor_daemon as told
from client.cli.command import Command, Commands, Options
from client.cli.doctor_finding import OK, PROBLEM, WARNING, Finding, megabytes, well
from client.cli.doctor_settings import settings
from client.cli.doctor_systemd import units
from client.cli.exits import FAILED
from client.cli.output import Context
from client.cli.render import counted, escaped, wrapped
from client.errors import SupervisorError
from client.version import VERSION
from supervisor.wire.address import default_socket_path

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from client.sync_client import Client
    from supervisor.wire.results import DaemonInfo, JobInfo

_T = TypeVar("_T")
_PATIENCE_S = 10.0
_PAGE = 1000
_COLOURS = {OK: "32", WARNING: "33", PROBLEM: "31"}


def _doctor(context: Context, options: Options) -> int:
    found = []
    for finding in _findings(context):
        found.append(finding)
        if not context.json:
            context.say(_shown(context, finding))
            sys.stdout.flush()
    problems = sum(finding.state == PROBLEM for finding in found)
    warnings = sum(finding.state == WARNING for finding in found)
    if context.json:
        context.show([finding._asdict() for finding in found], "")
    elif problems or warnings:
        context.say(f"\n{counted(problems, 'problem')}, {counted(warnings, 'warning')}")
    else:
        context.say("\nall is well")
    return FAILED if problems else 0


def _shown(context: Context, finding: Finding) -> str:
    state = f"{finding.state:<7}"
    if context.colour:
        state = f"\x1b[{_COLOURS[finding.state]}m{state}\x1b[0m"
    room = context.width and context.width - 26
    first, *more = wrapped(escaped(finding.text), room)
    rest = [*more, *(wrapped(f"→ {escaped(finding.remedy)}", room) if finding.remedy else [])]
    return "\n".join([f"{state}  {finding.check:<15}  {first}", *(" " * 26 + line for line in rest)])


def _findings(context: Context) -> Iterator[Finding]:
    yield checks.python()
    yield from checks.packages()
    path = socket_path(context.socket)
    yield from units(own=os.getuid() != 0 and path != default_socket_path({}, 0))
    file = checks.socket_file(path, context.socket)
    yield file
    zones: set[str] = set()
    if file.state == PROBLEM:
        yield from _without_daemon()
    else:
        zones = yield from _of_daemon(_Asking(context.client.within(_PATIENCE_S)))
    yield from checks.time_zones(zones)
    yield checks.clock()


def _without_daemon() -> Iterator[Finding]:
    """What a daemon of this user would find if it was started now."""
    uid = os.getuid()
    found, values = settings(None, uid)
    yield from found
    for what in ("state_dir", "log_dir"):
        if what in values:
            yield checks.permissions(what, values[what], uid)
    if "state_dir" in values:
        yield _database_file(values["state_dir"])
        yield from _disk(values["state_dir"])


def _database_file(state_dir: str) -> Finding:
    try:
        size = os.stat(f"{state_dir}/plugind.db").st_size
    except FileNotFoundError:
        return well("database", "there is none yet")
    except OSError as error:
        return well("database", f"it is closed to you ({error.strerror})")
    return well("database", f"{megabytes(size)}; plugind checks it as it starts")


def _disk(state_dir: str) -> Iterator[Finding]:
    try:
        found = os.statvfs(state_dir)
    except OSError:
        return  # It is not there yet, or closed to us: told already.
    if finding := checks.disk("disk of state", found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize):
        yield finding


class _Asking:
    """Asks the daemon; what it refuses is a finding too."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.refused: list[Finding] = []

    def ask(self, what: str, act: Callable[[Client], _T]) -> _T | None:
        try:
            return act(self.client)
        except SupervisorError as error:
            remedy = "`sudo pluginctl doctor` sees more" if error.code == "PERMISSION_DENIED" else "try again"
            self.refused.append(Finding(what, PROBLEM, error.message or error.code, remedy))
            return None

    def told(self) -> Iterator[Finding]:
        yield from self.refused
        self.refused.clear()


def _of_daemon(asking: _Asking) -> Generator[Finding, None, set[str]]:
    """All that a daemon tells; returns the names of time zones that are in use."""
    hello = asking.ask("answer", lambda client: client.hello())
    yield from asking.told()
    if hello is None:
        yield from _without_daemon()
        return set()
    yield from told.answer(hello, VERSION)
    info = asking.ask("plugind", lambda client: client.daemon.info())
    status = asking.ask("plugind", lambda client: client.daemon.status())
    values = asking.ask("settings", lambda client: client.daemon.settings()) or {}
    yield from asking.told()
    if info is None or status is None:
        return set()  # Whoever may not even ask that learns nothing more.
    yield from _files(info, values)
    yield from told.process(info, status)
    plugins = asking.ask("plugins", lambda client: client.plugins.list()) or []
    yield from told.plugins(plugins)
    ready = [plugin["key"] for plugin in plugins if plugin["status"] == "ready"]
    yield from told.limits(asking.ask("sandbox", lambda client: [client.plugins.get(key) for key in ready]) or [])
    jobs = asking.ask("jobs", _all_jobs) or []
    yield told.jobs(jobs, status["jobs_held_since_ms"])
    yield from asking.told()
    return {str(values.get("timezone", "UTC")), *(job["timezone"] for job in jobs)}


def _files(info: DaemonInfo, values: dict[str, object]) -> Iterator[Finding]:
    uid, config = info["uid"], info.get("config_file")
    if config is not None:
        yield checks.permissions("config_file", config, uid)
        yield from settings(config, uid)[0]
    else:
        yield well("settings", "there is no file: all are defaults, variables or flags")
    yield checks.permissions("state_dir", info["state_dir"], uid)
    if isinstance(log_dir := values.get("log_dir"), str):
        yield checks.permissions("log_dir", log_dir, uid)


def _all_jobs(client: Client) -> list[JobInfo]:
    jobs = page = client.jobs.list(limit=_PAGE)
    while len(page) == _PAGE:
        page = client.jobs.list(after=page[-1]["job"], limit=_PAGE)
        jobs = jobs + page
    return jobs


COMMANDS: Commands = {
    "doctor": Command(
        _doctor,
        "Look at all that plugind needs, one thing after the other: each is ok, a warning or a problem, with the "
        "remedy. Works without plugind too. The exit code is 1 if there is a problem.",
        "doctor",
    ),
}
